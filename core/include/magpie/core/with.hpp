#pragma once

#include <magpie/core/detail/bound_branch.hpp>
#include <magpie/core/detail/cleanup_operation.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/error.hpp>

#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie {

/// A body, and a teardown behind it on every way out. @see with
template <class Resource, class Body, class Teardown>
class [[nodiscard("co_await it")]] with_operation
    : private detail::dated_context,
      public detail::cleanup_operation<
          with_operation<Resource, Body, Teardown>,
          detail::branch_tuple<detail::task_branch<detail::called_type<Body, Resource>>,
                               detail::bound_task_branch<detail::called_type<Teardown, Resource>>>> {
    using body_branch = detail::task_branch<detail::called_type<Body, Resource>>;
    using teardown_branch = detail::bound_task_branch<detail::called_type<Teardown, Resource>>;
    using branches = detail::branch_tuple<body_branch, teardown_branch>;
    using base = detail::cleanup_operation<with_operation, branches>;

public:
    using value_type = typename body_branch::value_type;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    with_operation(Resource&& resource, Body&& body, Teardown&& teardown)
        : resource_(std::forward<Resource>(resource)), make_body_(std::move(body)),
          make_teardown_(std::move(teardown)) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        auto make = [this] { return detail::call_as_task(make_body_, resource_); };
        return body().start_made(*this->where(), *this, make) && tear_down();
    }

    value_type await_resume() {
        if (std::exception_ptr error = take_failure()) [[unlikely]]
            std::rethrow_exception(std::move(error));
        return body().take();
    }

    /// The same for `as_result`.
    task_result<value_type> take_result() {
        if (std::exception_ptr error = take_failure())
            return {boost::system::in_place_error, std::move(error)};
        if constexpr (std::is_void_v<value_type>) {
            body().take();
            return {boost::system::in_place_value};
        } else {
            return {boost::system::in_place_value, body().take()};
        }
    }

private:
    body_branch& body() noexcept { return this->branches_.template get<0>(); }
    teardown_branch& teardown() noexcept { return this->branches_.template get<1>(); }

    /// The body is over: destroys its frames and starts the teardown. Whether that is over, too.
    bool tear_down() noexcept {
        body().leave();
        torn_down_ = true;
        teardown().bind(this->enter(detail::task_context::no_deadline)); // none would drop it
        auto make = [this] { return detail::call_as_task(make_teardown_, resource_); };
        return teardown().start_made(*this->where(), *this, make);
    }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        if (&b == static_cast<branch*>(&teardown()) && !this->is_dropped())
            return this->surface();
        this->step_later(); // it is in its final suspend, and frames are destroyed after it
        return std::noop_coroutine();
    }
    std::coroutine_handle<> branch_gone(branch&) noexcept override { return step(); }
    std::coroutine_handle<> step() noexcept override {
        return torn_down_ || tear_down() ? this->surface() : std::noop_coroutine();
    }

    cancel_answer cancel() noexcept override {
        if (body().is_running() && body().request_cancel() == cancel_answer::quiet)
            this->step_later();
        return cancel_answer::coming; // when the teardown is over
    }

    /// What is thrown: the body's exception, or else the teardown's.
    std::exception_ptr take_failure() {
        this->check();
        std::exception_ptr late = end_of(teardown());
        std::exception_ptr first = body().take_error();
        if (late) [[unlikely]] {
            this->keep_first(first, std::move(late));
            if (std::exception_ptr of_value = body().discard())
                this->keep_first(first, std::move(of_value));
        }
        return first;
    }

    std::exception_ptr discard() noexcept override {
        std::exception_ptr first = end_of(body());
        if (std::exception_ptr late = end_of(teardown()))
            this->keep_first(first, std::move(late));
        return first;
    }

    /// The exception of a branch that is over; a value is dropped.
    template <class Branch>
    static std::exception_ptr end_of(Branch& b) noexcept {
        std::exception_ptr error = b.take_error();
        return error ? error : b.discard();
    }

    Resource resource_; // a reference, if it was passed as an lvalue
    Body make_body_;
    Teardown make_teardown_;
    bool torn_down_ = false; // or at it
};

/// Awaits `body(resource)`, and behind it, on every way out, `teardown(resource)`: after a value,
/// after an exception, and when it is cancelled. Gives the body's value.
///
/// What a destructor does for what can be undone at once, this does for what has to be waited for: a
/// transaction is rolled back, a connection is closed with a farewell. When the teardown begins, the
/// body's frames are gone; the resource, and the frames around the `with`, still stand. Cancelling
/// drops the body and waits for the teardown, which it does not touch; `timeout` inside of it limits
/// how long that takes.
///
/// An rvalue is kept in the operation, an lvalue is used where it is. Both functions are kept as
/// well, so coroutine lambdas may have captures. (With g++ 12 name them first: docs/compilers.md.) The
/// body begins as soon as the `with` is awaited, whatever is left of the turn's budget. If it was
/// never awaited, neither of the two runs.
///
/// @throws what the body throws, when the teardown is over; else what the teardown throws. If both
///         do, the teardown's is attached (`attached_failures()`) and reported as unhandled. If it was
///         cancelled, what is thrown makes that which drops it fail, as a destructor that throws does.
/// @par Cancellation
/// Nobody can say: body and teardown are coroutines.
/// @par Thread safety
/// Belongs to one task.
/// @par Complexity
/// No allocation but the frames of the two.
/// @par Example
/// @code
/// const int rows = co_await magpie::with(
///     co_await pool.acquire(), [](connection& c) -> magpie::task<int> { co_return co_await c.count(); },
///     [](connection& c) -> magpie::task<> { co_await c.reset(); });
/// @endcode
template <class Resource, class Body, class Teardown>
auto with(Resource&& resource, Body body, Teardown teardown) {
    return with_operation<Resource, Body, Teardown>(std::forward<Resource>(resource), std::move(body),
                                                    std::move(teardown));
}

} // namespace magpie
