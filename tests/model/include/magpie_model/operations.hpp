#pragma once

#include <magpie_model/clock.hpp>

#include <atomic> // std::memory_order
#include <cstdint>
#include <source_location>
#include <string_view>
#include <type_traits>

// What the seam asks of the explorer. Each operation waits for its turn in the schedule and then
// happens in one step, together with the plain code behind it up to the thread's next operation.

namespace magpie_model {

using source = std::source_location;

/// What stands in an object that exists: freed memory and old stack have something else there.
inline constexpr std::uint64_t alive_mark = 0xa11e'a70d'1c0f'fee5;

/// The memory of one atomic: its value as 64 bits, and whether it still exists.
class location {
public:
    constexpr location(std::uint64_t value, std::string_view type) noexcept
        : value_(value), initial_(value), type_(type) {}
    location(const location&) = delete;
    location& operator=(const location&) = delete;
    constexpr ~location() {
        if (!std::is_constant_evaluated())
            end();
    }

    std::uint64_t load(std::memory_order order, source at) const noexcept;
    void store(std::uint64_t desired, std::memory_order order, source at) noexcept;
    std::uint64_t exchange(std::uint64_t desired, std::memory_order order, source at) noexcept;
    bool compare_exchange(std::uint64_t& expected, std::uint64_t desired, std::memory_order success,
                          std::memory_order failure, source at) noexcept;

    void wait_until(bool (*ready)(std::uint64_t), source at) const noexcept;

    enum class arithmetic : unsigned char { add, subtract, set_bits, keep_bits };
    /// `mask` has the bits that the atomic's type has.
    std::uint64_t modify(arithmetic what, std::uint64_t operand, std::uint64_t mask,
                         std::memory_order order, source at) noexcept;

    /// The value without a step: for what waits on it.
    std::uint64_t peek() const noexcept { return value_; }
    std::string_view type() const noexcept { return type_; }
    bool is_alive() const noexcept { return alive_ == alive_mark; }

    /// The kernel has looked at it, in the calling thread: what was there before is not seen any more.
    void show_latest() const noexcept;

private:
    friend class turn;

    template <class Compute>
    std::uint64_t replace(const char* what, const Compute& compute, std::memory_order order,
                          source at) noexcept;
    void end() noexcept; // out of line: no compiler may drop what a destructor writes

    std::uint64_t value_;
    std::uint64_t initial_;
    std::string_view type_;
    std::uint64_t alive_ = alive_mark;
    /// The execution in which it has a history, and the number of that. (One word, so that an atomic is made by whole
    /// words: a part of one has a price in races.cpp.)
    mutable std::uint64_t history_ = 0;
};

class mutex {
public:
    constexpr mutex() noexcept = default;
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    ~mutex() { end(); }

    void lock(source at = source::current()) noexcept;
    bool try_lock(source at = source::current()) noexcept;
    void unlock(source at = source::current()) noexcept;

private:
    void enter() noexcept;
    void end() noexcept;

    bool locked_ = false;
    std::uint64_t alive_ = alive_mark;
    std::uint32_t execution_ = 0; // the one in which it was unlocked last ...
    knowledge known_;             // ... and what was known then
};

/// When a wait times out: in some milliseconds, some day, or never.
enum class time_limit : unsigned char { never, soon, late };

/// Sleeps while the value at `address` is `expected`. Returns false if it timed out: with a limit
/// (and unless the scenario rules that out), time runs out when nothing else can run, or earlier for the price of a preemption. Nobody wakes
/// early; sleepers are woken first come first.
bool futex_wait(const void* address, const location& word, std::uint64_t expected, time_limit limit,
                source at) noexcept;

/// Wakes at most `count` sleepers at `address`, and does not look at what is there.
void futex_wake(const void* address, int count, source at) noexcept;

/// Every thread passes a full barrier: what any of them has done so far, all know.
void heavy_barrier(source at) noexcept;

} // namespace magpie_model
