#pragma once

#include <magpie/core/timer.hpp>

#include <chrono>

namespace magpie {

/// What an interval does when ticks were missed because its task came too late.
enum class missed_tick : unsigned char {
    burst, ///< ticks at once until it has caught up; the default
    delay, ///< goes on from the late tick, a period later
    skip,  ///< goes on with the next multiple of the period
};

/// Ticks with a fixed period. The first tick is at once, or at the given start.
///
/// @par Thread safety
/// Belongs to one task.
/// @par Example
/// @code
/// magpie::interval every(10ms);
/// for (;;) {
///     co_await every.tick();
///     poll_sensor();
/// }
/// @endcode
class interval {
public:
    class [[nodiscard("co_await it")]] tick_operation;

    /// @param period  above zero
    /// @throws std::logic_error otherwise
    explicit interval(clock::duration period, missed_tick policy = missed_tick::burst);

    /// The same with its first tick at `start`.
    interval(clock::time_point start, clock::duration period, missed_tick policy = missed_tick::burst);

    /// Waits for the next tick; gives the time for which it was due.
    ///
    /// @par Cancellation
    /// Cancel-safe: a dropped wait has used up no tick.
    tick_operation tick() noexcept;

    void reset() noexcept;                            ///< The next tick is a period from now.
    void reset_immediately() noexcept;                ///< The next tick is now.
    void reset_after(clock::duration after) noexcept; ///< The next tick is `after` from now.
    void reset_at(clock::time_point at) noexcept;     ///< The next tick is at `at`.

    clock::duration period() const noexcept { return period_; }
    missed_tick policy() const noexcept { return policy_; }
    void set_policy(missed_tick policy) noexcept { policy_ = policy; }

private:
    clock::time_point take(clock::time_point now) noexcept;

    clock::time_point next_;
    clock::duration period_;
    missed_tick policy_;
};

/// The wait for one tick: a timer that moves the interval on when it has ended.
class interval::tick_operation : public timer {
public:
    static constexpr bool reusable = false; // for one tick; the interval is what lasts

    explicit tick_operation(interval& i) noexcept : timer(i.next_), interval_(&i) {}

    clock::time_point await_resume() {
        timer::await_resume();
        return interval_->take(clock::now());
    }

private:
    interval* interval_;
};

inline interval::tick_operation interval::tick() noexcept { return tick_operation(*this); }

} // namespace magpie
