#pragma once

#include <cstdint>
#include <string>

namespace magpie {

class executor;

namespace detail {

class cell;

/// Something to run on a thread of the pool: `run` and then `finish`, or `refuse`; exactly once.
class blocking_job {
public:
    blocking_job() noexcept = default;
    blocking_job(const blocking_job&) = delete;
    blocking_job& operator=(const blocking_job&) = delete;

    virtual void run() noexcept = 0;
    virtual void finish() noexcept = 0;       ///< publishes the result; the job may be gone afterwards
    virtual void refuse() noexcept = 0;       ///< the pool is closed; the job may be gone afterwards
    virtual std::string describe() const = 0; ///< for reports
    virtual bool mandatory() const noexcept { return false; } ///< runs even when the pool closes

protected:
    ~blocking_job() = default;

private:
    friend class blocking_pool;
    blocking_job* next_ = nullptr;
};

/// The id of a blocking call's cell, from the same numbers as tasks'.
std::uint64_t next_blocking_id(executor& e) noexcept;

/// "blocking call 17, spawned at file:line".
std::string describe_blocking(const cell& c);

} // namespace detail
} // namespace magpie
