#pragma once

#include <magpie/core/detail/race.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/timer.hpp>

#include <chrono>
#include <utility>

namespace magpie {

/// The race of a body against a timer. @see timeout
template <class Body>
class [[nodiscard("co_await it")]] timeout_operation
    : public detail::race_operation<timeout_operation<Body>, Body, timer> {
public:
    static constexpr errc::errc_t lost = errc::timed_out;

    /// Of what makes the two branches.
    template <class MakeBody, class MakeLimit>
    timeout_operation(MakeBody body, MakeLimit limit)
        : detail::race_operation<timeout_operation, Body, timer>(body, limit) {}
};

/// Waits for `awaitable`, but not longer than `limit` (counted from the await; zero or less: only
/// if it is ready at once).
///
/// Gives a `std::optional` of its value (`bool` for void). When time runs out the awaitable is
/// dropped: its frames are destroyed before this returns. One that is ready at the deadline wins.
/// `as_result(timeout(...))` gives `errc::timed_out` instead of an empty optional.
///
/// @throws what the awaitable throws; std::logic_error if the executor has no timers
/// @par Cancellation
/// As safe as the awaitable. It takes operations that lose something when they are dropped, for
/// what it drops is not continued.
template <class Rep, class Period, class Awaitable>
auto timeout(std::chrono::duration<Rep, Period> limit, Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return timeout_operation<body>(detail::branch_maker(std::forward<Awaitable>(awaitable)),
                                   detail::branch_maker(timer(detail::single_wait(), limit)));
}

/// The same until a point of time.
template <class Awaitable>
auto timeout_at(clock::time_point deadline, Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return timeout_operation<body>(detail::branch_maker(std::forward<Awaitable>(awaitable)),
                                   detail::branch_maker(timer(deadline)));
}

} // namespace magpie
