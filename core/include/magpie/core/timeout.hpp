#pragma once

#include <magpie/core/detail/composite.hpp>
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

/// The race of a body against a timer. @see timeout
template <class Body>
class [[nodiscard("co_await it")]] timeout_operation : public operation<timeout_operation<Body>>,
                                                       private detail::branch_owner {
    using base = operation<timeout_operation>;
    using body_value = typename Body::value_type;

public:
    using value_type = typename detail::timeout_value<body_value>::type;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    template <class Awaitable>
    timeout_operation(Awaitable&& body, timer limit) noexcept
        : body_(std::move(body)), timer_(std::in_place, std::move(limit)) {}
    timeout_operation(timeout_operation&&) = default;

    bool try_complete() noexcept { return body_.start(*this->where(), *this); }

    bool publish() noexcept {
        // The body has started and waits; now the timer, which may have run out already.
        if (!timer_.start(*this->where(), *this))
            return true;
        return body_.request_cancel() == cancel_answer::coming;
    }

    /// The body's value, or nothing if the time ran out first.
    value_type await_resume() {
        const bool in_time = settle();
        if constexpr (std::is_void_v<body_value>) {
            if (in_time)
                body_.take();
            return in_time;
        } else {
            return in_time ? value_type(body_.take()) : value_type();
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
            body_.take();
            return result<void>(boost::system::in_place_value);
        } else {
            return result<body_value>(boost::system::in_place_value, body_.take());
        }
    }

    /// For a composite above: destroys what stands, when this has ended and nobody will resume.
    std::exception_ptr discard() noexcept {
        timer_.discard();
        return body_.discard();
    }

private:
    /// Destroys the loser. Whether the body has won.
    bool settle() {
        if (body_.has_ended()) {
            timer_.discard();
            return true;
        }
        if (std::exception_ptr error = body_.discard())
            std::rethrow_exception(std::move(error));
        timer_.take(); // throws where there are no timers
        return false;
    }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        const bool body_won = &b == static_cast<branch*>(&body_);
        const cancel_answer loser = body_won ? timer_.request_cancel() : body_.request_cancel();
        return loser == cancel_answer::quiet ? this->surface() : std::noop_coroutine();
    }

    std::coroutine_handle<> branch_gone(branch&) noexcept override {
        if (body_.is_coming() || timer_.is_coming())
            return std::noop_coroutine();
        if (this->is_dropped())
            drop_body();
        return this->surface();
    }

    cancel_answer cancel() noexcept override {
        const cancel_answer body = body_.request_cancel();
        const cancel_answer timer = timer_.request_cancel();
        if (body == cancel_answer::quiet)
            drop_body();
        return body == timer ? body : cancel_answer::coming;
    }

    void drop_body() noexcept {
        if (std::exception_ptr error = body_.discard())
            detail::leaf_access::note(*this->where(), std::move(error));
    }

    Body body_;
    detail::operation_branch<timer> timer_;
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
                                   timer(limit));
}

/// The same until a point of time.
template <class Awaitable>
auto timeout_at(clock::time_point deadline, Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return timeout_operation<body>(detail::make_branch(std::forward<Awaitable>(awaitable)),
                                   timer(deadline));
}

} // namespace magpie
