#pragma once

#include <magpie/core/detail/bound_branch.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/detail/race.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/timer.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace magpie {

/// A timeout whose limit its body can see. @see deadline
template <class Body>
class [[nodiscard("co_await it")]] deadline_operation
    : private detail::dated_context,
      public detail::race_operation<deadline_operation<Body>, Body, timer> {
public:
    static constexpr errc::errc_t lost = errc::timed_out;

    /// Of what makes the two branches.
    template <class MakeBody, class MakeLimit>
    deadline_operation(MakeBody body, MakeLimit limit)
        : detail::race_operation<deadline_operation, Body, timer>(body, limit) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        timer& t = this->limit().operation();
        t.count_from(clock::now()); // before the body, which is to see when it ends
        this->body().bind(this->enter(std::min(detail::current_deadline(), t.deadline())));
        return this->body().start(*this->where(), *this);
    }
};

/// Waits for `body`, but not longer than `limit` (counted from the await; zero or less: only if it is
/// ready at once), and lets everything in it see when that is: by `this_task::deadline()`.
///
/// A deadline is a `timeout` that covers a piece of work rather than one wait: code below asks how much
/// time it has, passes it on to a peer, or does not begin what it could not end. Deadlines compose: an
/// inner one can only shorten what is seen, and the outer one drops the inner with all that is in it. So
/// no operation has to look at the deadline itself: what waits, also one that tries again and again, is
/// dropped when it passes.
///
/// Gives what `timeout` gives: a `std::optional` of the value (`bool` for void), empty if time ran out;
/// `as_result(deadline(...))` gives `errc::timed_out` then. Of nested ones that run out at the same
/// time the inner may be the one to say so.
///
/// A task that `body` spawns goes on when `body` is dropped, so it does not see the deadline; the children
/// of a composite that waits for them do.
///
/// @throws what the body throws; std::logic_error if the executor has no timers
/// @par Cancellation
/// As safe as the body. It takes operations that lose something when they are dropped, for what it drops
/// is not continued.
/// @par Complexity
/// As `timeout`, and one step a `deadline`, however many are nested, to see the nearest.
/// @par Example
/// @code
/// magpie::task<std::optional<reply>> ask(connection& c, request r) {
///     co_return co_await magpie::deadline(2s, exchange(c, std::move(r)));
/// }
/// magpie::task<reply> exchange(connection& c, request r) {
///     if (const auto until = magpie::this_task::deadline())
///         r.set_time_left(*until - magpie::clock::now()); // the peer need not work longer than we wait
///     co_await c.send(r);
///     co_return co_await c.receive();
/// }
/// @endcode
template <class Rep, class Period, class Awaitable>
auto deadline(std::chrono::duration<Rep, Period> limit, Awaitable&& body) {
    using limited = detail::bound_branch_for<Awaitable>;
    return deadline_operation<limited>(
        detail::branch_maker<detail::bound_branch>(std::forward<Awaitable>(body)),
        detail::branch_maker(timer(limit)));
}

/// The same until a point of time.
template <class Awaitable>
auto deadline_at(clock::time_point limit, Awaitable&& body) {
    using limited = detail::bound_branch_for<Awaitable>;
    return deadline_operation<limited>(
        detail::branch_maker<detail::bound_branch>(std::forward<Awaitable>(body)),
        detail::branch_maker(timer(limit)));
}

} // namespace magpie
