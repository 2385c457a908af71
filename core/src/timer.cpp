#include <magpie/core/timer.hpp>

#include <magpie/core/error.hpp>

#include <utility>

namespace magpie {

bool timer::try_complete() noexcept {
    timer_service* const timers = owner().where_it_runs().timers();
    if (timers == nullptr) {
        no_timers_ = true;
        return true;
    }
    if (single_ && relative_)
        return clock::duration(duration_) <= clock::duration(0);
    const clock::time_point now = timers->now();
    count_from(now);
    return deadline_ <= now;
}

bool timer::publish() noexcept {
    waiting_ = true;
    entry_.waiter = this;
    timer_service& timers = *owner().where_it_runs().timers();
    if (relative_)
        timers.arm_after(entry_, clock::duration(duration_));
    else
        timers.arm(entry_, deadline_);
    return true;
}

void timer::await_resume() {
    waiting_ = false;
    if (no_timers_)
        detail::throw_usage_error("this task's executor has no timers: run it on a magpie::runtime");
}

cancel_answer timer::cancel() noexcept {
    waiting_ = false;
    return owner().where_it_runs().timers()->disarm(entry_);
}

void timer::reset(clock::time_point deadline) noexcept {
    relative_ = false;
    deadline_ = deadline;
    if (!waiting_)
        return;
    timer_service& timers = *owner().where_it_runs().timers();
    if (timers.disarm(entry_) == cancel_answer::quiet)
        timers.arm(entry_, deadline);
    else
        retry_ = true; // it is surfacing: it then looks at the new deadline
}

} // namespace magpie
