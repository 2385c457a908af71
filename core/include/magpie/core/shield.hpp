#pragma once

#include <magpie/core/detail/bound_branch.hpp>
#include <magpie/core/detail/cleanup_operation.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/timer.hpp>

#include <chrono>
#include <coroutine>
#include <exception>
#include <utility>

namespace magpie {

/// A body that goes on when it is cancelled. @see shield
template <class Body, class... Limit>
class [[nodiscard("co_await it")]] shield_operation
    : private detail::dated_context,
      public detail::cleanup_operation<shield_operation<Body, Limit...>,
                                       detail::branch_tuple<Body, Limit...>> {
    using base = detail::cleanup_operation<shield_operation, detail::branch_tuple<Body, Limit...>>;
    static constexpr bool limited = sizeof...(Limit) > 0;

public:
    using value_type = typename Body::value_type;
    static constexpr cancel_safety safety = Body::safety;

    /// Each of `make` gives a branch: the body, and the limit.
    template <class... Make>
    explicit shield_operation(std::in_place_t at, Make... make) : base(at, make...) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        no_timers_ = limited && this->owner().where_it_runs().timers() == nullptr;
        body().bind(this->enter(detail::task_context::no_deadline)); // none would drop it
        return no_timers_ || body().start(*this->where(), *this);
    }

    value_type await_resume() {
        this->check();
        if (no_timers_)
            detail::throw_usage_error("this task's executor has no timers, so a shield has no limit "
                                      "there: run it on a magpie::runtime");
        return body().take();
    }

private:
    Body& body() noexcept { return this->branches_.template get<0>(); }

    /// Whether neither the body nor the timer is going to be heard of.
    bool is_over() noexcept {
        return !this->branches_.any([](auto& b) { return b.is_running() || b.is_coming(); });
    }

    // From here on the body's end is waited for, and no longer than the limit.
    cancel_answer cancel() noexcept override {
        if constexpr (limited)
            if (this->branches_.template get<1>().start(*this->where(), *this))
                return body().request_cancel(); // no time at all
        return cancel_answer::coming;
    }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        if (!this->is_dropped())
            return this->surface();
        if (&b == static_cast<branch*>(&body())) {
            if constexpr (limited)
                this->branches_.template get<1>().request_cancel();
            if (is_over())
                this->step_later(); // the body is in its final suspend, and is destroyed after it
            return std::noop_coroutine();
        }
        body().request_cancel(); // the time has run out
        return is_over() ? this->surface() : std::noop_coroutine();
    }
    std::coroutine_handle<> branch_gone(branch&) noexcept override {
        return is_over() ? this->surface() : std::noop_coroutine();
    }
    std::coroutine_handle<> step() noexcept override { return this->surface(); }

    std::exception_ptr discard() noexcept override {
        std::exception_ptr first;
        if constexpr (requires(Body& b) { b.take_error(); }) // a cleanup's failure is not dropped
            first = body().take_error();
        if (std::exception_ptr error = base::discard())
            this->keep_first(first, std::move(error));
        return first;
    }

    bool no_timers_ = false;
};

/// Awaits `awaitable`, and lets it come to its end even if it is cancelled: what drops the `shield`,
/// an abort, a timeout, a lost `select`, the end of the runtime, waits for it. Then its value is
/// dropped; the code behind the `shield` does not run, and the frames around it are destroyed.
///
/// It is for the end of something that has to be brought to one: a commit, a farewell to a peer. To
/// do that on every way out of a block, see `with`. No `deadline` outside of it is seen inside. A `shield` that is awaited begins, whatever is
/// left of the turn's budget; one that is never reached does nothing.
///
/// @param limit how long cancelling waits for it at most, counted from the cancelling: then it is
///              dropped after all. Zero or less: it is not waited for. Without a limit cancelling
///              waits for ever: the end of the program may depend on it.
/// @throws what the awaitable throws; std::logic_error if it has a limit and the executor no timers.
///         A task that fails when it was cancelled already makes that which drops it fail, as a
///         destructor that throws does.
/// @par Cancellation
/// As safe as the awaitable. Cancelled, it ends when the awaitable does. An operation that is handed
/// something then gives it back.
/// @par Thread safety
/// Belongs to one task.
/// @par Complexity
/// No allocation.
/// @par Example
/// @code
/// const bool in_time = co_await magpie::timeout(1s, magpie::shield(2s, log.write(entry))); // whole
/// @endcode
template <class Awaitable>
auto shield(Awaitable&& awaitable) {
    using body = detail::bound_branch_for<Awaitable>;
    return shield_operation<body>(
        std::in_place, detail::branch_maker<detail::bound_branch>(std::forward<Awaitable>(awaitable)));
}
template <class Rep, class Period, class Awaitable>
auto shield(std::chrono::duration<Rep, Period> limit, Awaitable&& awaitable) {
    using body = detail::bound_branch_for<Awaitable>;
    using timer_branch = detail::operation_branch<timer>;
    return shield_operation<body, timer_branch>(
        std::in_place, detail::branch_maker<detail::bound_branch>(std::forward<Awaitable>(awaitable)),
        detail::branch_maker(timer(limit)));
}

} // namespace magpie
