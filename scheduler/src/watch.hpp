#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <chrono>
#include <cstdint>

namespace magpie::detail {

/// What one of the sleepers sleeps on, so that a worker that got up from an all-asleep runtime is
/// not alone with a task that does not come back. Whoever gets up first sets it to go off in a
/// millisecond; who lies down last takes that back. Nobody wakes up for it in between.
///
/// It is a timerfd: setting it costs a system call and no thread.
class watch_timer {
public:
    using clock = std::chrono::steady_clock;

    /// @param used  false where there is nobody to watch (one worker)
    explicit watch_timer(bool used);
    watch_timer(const watch_timer&) = delete;
    watch_timer& operator=(const watch_timer&) = delete;
    ~watch_timer();

    /// One thread at a time may sleep here.
    bool try_occupy() noexcept;
    void vacate() noexcept;
    bool occupied() const noexcept { return occupied_.load(std::memory_order_seq_cst); }

    /// Sleeps until it goes off, is woken, or `limit` is over (max: no limit).
    void sleep(clock::time_point limit) noexcept;

    /// Ends the sleep, or the next one.
    void wake() noexcept;

    /// Somebody is up: it shall go off soon, unless it is set already.
    void set() noexcept;

    /// Nobody is up any more. Under the idle set's lock.
    void unset() noexcept;

private:
    void arm(std::chrono::nanoseconds from_now) noexcept;
    void close_both() noexcept;

    int timer_ = -1; // a timerfd
    int event_ = -1; // an eventfd, for wake(): setting the timer anew would take back its going off
    atomic<bool> occupied_{false};
    atomic<bool> set_{false};
    atomic<clock::rep> set_at_{0}; // when it was set last; a heuristic, as the next
    atomic<bool> frequent_{false}; // it was set shortly after the last time: leave it set
};

} // namespace magpie::detail
