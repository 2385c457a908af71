#include <magpie/scheduler/interval.hpp>

#include <magpie/core/error.hpp>

namespace magpie {

interval::interval(clock::duration period, missed_tick policy)
    : interval(clock::now(), period, policy) {}

interval::interval(clock::time_point start, clock::duration period, missed_tick policy)
    : next_(start), period_(period), policy_(policy) {
    if (period <= clock::duration::zero())
        detail::throw_usage_error("an interval's period must be above zero");
}

void interval::reset() noexcept { reset_after(period_); }
void interval::reset_immediately() noexcept { next_ = clock::now(); }
void interval::reset_after(clock::duration after) noexcept {
    next_ = detail::add_saturated(clock::now(), after);
}
void interval::reset_at(clock::time_point at) noexcept { next_ = at; }

clock::time_point interval::take(clock::time_point now) noexcept {
    // Timers are up to a millisecond late: that is no missed tick.
    constexpr auto tolerance = std::chrono::milliseconds(5);
    const clock::time_point due = next_;
    if (now <= detail::add_saturated(due, tolerance)) {
        next_ = detail::add_saturated(due, period_);
        return due;
    }
    switch (policy_) {
    case missed_tick::burst: next_ = detail::add_saturated(due, period_); break;
    case missed_tick::delay: next_ = detail::add_saturated(now, period_); break;
    case missed_tick::skip: next_ = detail::add_saturated(now, period_ - (now - due) % period_); break;
    }
    return due;
}

} // namespace magpie
