#pragma once

#include "inbox.hpp"
#include "injector.hpp"
#include "strand_queue.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/strand.hpp>

#include <cstddef>

namespace magpie::detail {

class runtime_core;
class worker;

/// Where those tasks run that stay on one worker of a pool that steals: an executor of the worker's own.
///
/// Its strands are pinned (R36): the thread that runs the worker alone touches them, and the queue here.
/// What other threads have for them comes through the inbox, new tasks by a queue of arrivals. No thief looks
/// here. The thread changes between two turns (block_in_place hands the worker over), never within one: a pinned
/// task may not do that, and no other turn runs inside of its own (run_now).
class worker_seat final : public executor {
public:
    explicit worker_seat(worker& w) noexcept;

    void schedule(strand& s, placement where) noexcept override; ///< on the worker's thread
    void adopt(cell& c) noexcept override;
    bool enroll(cell& c) noexcept override;
    void retire(cell& c) noexcept override;
    void run_blocking(blocking_job& job) override;
    void send(parcel p) noexcept override;

    runtime_core& core() const noexcept;

    // --- on the worker's thread ---

    /// Takes in what has come, and gives who is next; or null.
    strand* next() noexcept;

    // --- from any thread ---

    std::size_t ready() const noexcept {
        return ready_.load(std::memory_order_relaxed);
    } // see has_any()
    /// Whether there is something to do. By the worker, when it has left the idle word (R39); by who moves a
    /// paused clock, and has the lock of what this worker has last written it under.
    bool has_any() const noexcept { return ready() > 0 || inbox_.has_any() || arrivals_.size() > 0; }

private:
    void push(strand& s) noexcept;

    worker& worker_;
    // The worker's own.
    strand_queue queue_;
    atomic<std::size_t> ready_{0}; // how many those are; written by the worker's thread alone
    // What the others have for it.
    inbox inbox_;
    injector arrivals_;
};

} // namespace magpie::detail
