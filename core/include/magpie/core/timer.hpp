#pragma once

#include <magpie/core/operation.hpp>

#include <chrono>
#include <cstdint>
#include <utility>

namespace magpie {

template <class Body>
class deadline_operation;

/// The time by which tasks wait: the steady clock, or what a paused clock says (`runtime::builder`,
/// `pause_clock`). Its time points are the steady clock's.
struct clock {
    using duration = std::chrono::steady_clock::duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::steady_clock::time_point;
    static constexpr bool is_steady = true;

    /// The time of the runtime that the caller is in, or the steady clock's outside of any.
    static time_point now() noexcept;
};

namespace detail {

/// A deadline in a timer service's lists. The service owns all fields but `waiter`.
struct timer_entry {
    timer_entry* previous = nullptr;
    timer_entry* next = nullptr;
    std::uint64_t tick = 0; // milliseconds since the service began, rounded up; unstamped: the duration
    void* wheel = nullptr;  // where it was armed; written by arm alone
    leaf* waiter = nullptr;
    static constexpr std::uint16_t unstamped = 0xFFFF;
    std::uint16_t list = 0; // which of the wheel's lists it is in, or unstamped: in none of them
    bool armed = false;     // guarded by the wheel's lock
};

/// `base + d` without overflow: durations too long for the clock mean the end of time.
inline clock::time_point add_saturated(clock::time_point base, clock::duration d) noexcept {
    clock::rep sum;
    if (d <= clock::duration(0))
        return base;
    return __builtin_add_overflow(base.time_since_epoch().count(), d.count(), &sum)
               ? clock::time_point::max()
               : clock::time_point(clock::duration(sum));
}
template <class Rep, class Period>
clock::time_point add_saturated(clock::time_point base, std::chrono::duration<Rep, Period> d) noexcept {
    using wide = std::chrono::duration<long double, clock::period>;
    const wide w = std::chrono::duration_cast<wide>(d);
    const auto most = wide(clock::time_point::max() -
                           (base < clock::time_point() ? clock::time_point() : base));
    if (w >= most)
        return clock::time_point::max();
    if (w <= wide(0))
        return base;
    const auto whole = std::chrono::duration_cast<clock::duration>(d);
    return base + (whole < d ? whole + clock::duration(1) : whole); // never early
}

} // namespace detail

/// What a task needs of its executor to wait for a time. The scheduler implements it.
///
/// @par Thread safety
/// From any thread; `arm` on the turn of the strand that waits.
class timer_service {
public:
    timer_service(const timer_service&) = delete;
    timer_service& operator=(const timer_service&) = delete;

    virtual clock::time_point now() noexcept = 0;

    /// Wakes `entry.waiter` at `deadline`, rounded up to the next millisecond.
    virtual void arm(detail::timer_entry& entry, clock::time_point deadline) noexcept = 0;

    /// The same `d` from now on. A service may take the time a little later, together with others': so
    /// long waits that are mostly taken back need not read the clock.
    virtual void arm_after(detail::timer_entry& entry, clock::duration d) noexcept {
        arm(entry, detail::add_saturated(now(), d));
    }

    /// Takes an armed entry back: `quiet`, or `coming` if its wake is on its way.
    virtual cancel_answer disarm(detail::timer_entry& entry) noexcept = 0;

protected:
    timer_service() noexcept = default;
    ~timer_service() = default;
};

namespace detail {
struct single_wait {}; ///< of a timer that is awaited once and asked nothing
} // namespace detail

/// A wait until a point of time. Never early; late by at most a millisecond and the queueing.
///
/// One object may be awaited again and again (as an lvalue): once its deadline has passed it is
/// ready. `sleep_for` and `sleep_until` make one for a single wait.
///
/// @throws std::logic_error (when awaited) if the task's executor has no timers
/// @par Cancellation
/// Cancel-safe.
/// @par Thread safety
/// Belongs to one task.
/// @par Complexity
/// O(1), also to cancel; no allocation. A deadline that has passed does not suspend.
class [[nodiscard("co_await it")]] timer : public operation<timer> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;
    static constexpr bool reusable = true; ///< composites take it as an lvalue

    /// Waits until `deadline`.
    explicit timer(clock::time_point deadline) noexcept : deadline_(deadline) {}

    /// Waits for `duration` (zero or less: not at all) from the moment in which it is awaited.
    template <class Rep, class Period>
    explicit timer(std::chrono::duration<Rep, Period> duration) noexcept
        : duration_(detail::add_saturated(clock::time_point(), duration).time_since_epoch()),
          relative_(true) {}

    template <class Rep, class Period>
    timer(detail::single_wait, std::chrono::duration<Rep, Period> duration) noexcept : timer(duration) {
        single_ = true;
    }

    timer(timer&& other) noexcept
        : operation<timer>(std::move(other)), deadline_(), relative_(other.relative_),
          single_(other.single_) {
        if (relative_)
            duration_ = other.duration_;
        else
            deadline_ = other.deadline_;
    }

    /// When it ends; of a relative one that was not awaited yet, the end of time.
    clock::time_point deadline() const noexcept {
        return relative_ ? clock::time_point::max() : deadline_;
    }

    /// Whether the deadline has passed on the clock of the calling task.
    bool is_elapsed() const noexcept { return !relative_ && clock::now() >= deadline_; }

    /// Moves the deadline, earlier or later, before, during or after a wait. On the task's own
    /// turn; a wait under way takes the new deadline.
    void reset(clock::time_point deadline) noexcept;

    bool try_complete() noexcept;
    bool publish() noexcept;
    void await_resume();

private:
    template <class Body>
    friend class deadline_operation;

    cancel_answer cancel() noexcept override;

    /// Counts the duration from `now` on. Nothing for one that has a deadline.
    void count_from(clock::time_point now) noexcept {
        if (std::exchange(relative_, false))
            deadline_ = detail::add_saturated(now, clock::duration(duration_));
    }

    union {
        clock::time_point deadline_;
        clock::duration duration_;
    };
    detail::timer_entry entry_;
    bool relative_ = false;
    bool single_ = false; // stays relative: its deadline is the timer service's affair
    bool no_timers_ = false;
    bool waiting_ = false;
};

/// Waits for `duration`, counted from the await. @see timer
template <class Rep, class Period>
timer sleep_for(std::chrono::duration<Rep, Period> duration) noexcept {
    return timer(duration);
}

/// Waits until `deadline`. @see timer
inline timer sleep_until(clock::time_point deadline) noexcept { return timer(deadline); }

} // namespace magpie
