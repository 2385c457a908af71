#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/timer.hpp>

#include <chrono>
#include <coroutine>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

template <class T>
struct timeout_value {
    using type = std::optional<T>;
};
template <>
struct timeout_value<void> {
    using type = bool;
};
template <class T>
struct timeout_value<T&> {
    using type = std::optional<std::reference_wrapper<T>>;
};

} // namespace detail

/// The race of a body against a timer: a biased select of two branches. @see timeout
template <class Body>
class [[nodiscard("co_await it")]] timeout_operation
    : public detail::composite_operation<timeout_operation<Body>,
                                         detail::branch_tuple<Body, detail::operation_branch<timer>>> {
    using limit = detail::operation_branch<timer>;
    using branches = detail::branch_tuple<Body, limit>;
    using base = detail::composite_operation<timeout_operation, branches>;
    using body_value = typename Body::value_type;

public:
    using value_type = typename detail::timeout_value<body_value>::type;
    static constexpr cancel_safety safety = Body::safety;

    timeout_operation(Body&& body, timer t) noexcept
        : base(branches(std::move(body), limit(std::in_place, std::move(t)))) {}

    bool try_complete() noexcept { return !this->begin() || body().start(*this->where(), *this); }

    bool publish() noexcept {
        // The body has started and waits; now the timer, which may have run out already.
        return !time().start(*this->where(), *this) || !this->cancel_running();
    }

    /// The body's value, or nothing if the time ran out first.
    value_type await_resume() {
        const bool in_time = settle();
        if constexpr (std::is_void_v<body_value>) {
            if (in_time)
                body().take();
            return in_time;
        } else {
            return in_time ? value_type(body().take()) : value_type();
        }
    }

    /// The same for `as_result`: `errc::timed_out` if the time ran out.
    auto take_result() {
        if (!settle()) {
            if constexpr (std::is_void_v<body_value>)
                return result<void>(boost::system::in_place_error,
                                    errc::make_error_code(errc::timed_out));
            else
                return result<body_value>(boost::system::in_place_error,
                                          errc::make_error_code(errc::timed_out));
        }
        if constexpr (std::is_void_v<body_value>) {
            body().take();
            return result<void>(boost::system::in_place_value);
        } else {
            return result<body_value>(boost::system::in_place_value, body().take());
        }
    }

private:
    Body& body() noexcept { return this->branches_.template get<0>(); }
    limit& time() noexcept { return this->branches_.template get<1>(); }

    /// Destroys the loser. Whether the body has won.
    bool settle() {
        this->check();
        if (body().has_ended()) {
            time().discard();
            return true;
        }
        if (std::exception_ptr error = body().discard())
            std::rethrow_exception(std::move(error));
        time().take(); // throws where there are no timers
        return false;
    }

    std::coroutine_handle<> branch_ended(branch&) noexcept override {
        return this->cancel_running() ? this->surface() : std::noop_coroutine();
    }
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
    return timeout_operation<body>(detail::make_branch(std::forward<Awaitable>(awaitable)),
                                   timer(detail::single_wait(), limit));
}

/// The same until a point of time.
template <class Awaitable>
auto timeout_at(clock::time_point deadline, Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return timeout_operation<body>(detail::make_branch(std::forward<Awaitable>(awaitable)),
                                   timer(deadline));
}

} // namespace magpie
