#pragma once

#include <magpie/core/detail/composite.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace magpie {

/// An awaitable below which no operation takes budget. @see unconstrained
template <class Body>
class [[nodiscard("co_await it")]] unconstrained_operation
    : public operation<unconstrained_operation<Body>>,
      private detail::branch_owner {
public:
    using value_type = typename Body::value_type;
    static constexpr cancel_safety safety = Body::safety;

    explicit unconstrained_operation(Body&& body) noexcept : body_(std::move(body)) {
        body_.unconstrained = true;
    }
    unconstrained_operation(unconstrained_operation&&) = default;

    bool await_ready() noexcept { return try_complete(); } // needs no budget itself
    bool try_complete() noexcept { return body_.start(*this->where(), *this); }
    bool publish() noexcept { return true; }
    value_type await_resume() { return body_.take(); }

private:
    std::coroutine_handle<> branch_ended(branch&) noexcept override { return this->surface(); }
    std::coroutine_handle<> branch_gone(branch&) noexcept override { return this->surface(); }
    cancel_answer cancel() noexcept override { return body_.request_cancel(); }
    std::exception_ptr discard() noexcept override { return body_.discard(); }

    Body body_;
};

/// Awaits `awaitable` without taking budget: it may keep its worker as long as it is ready.
///
/// @par Cancellation
/// As safe as the awaitable.
template <class Awaitable>
auto unconstrained(Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return unconstrained_operation<body>(detail::make_branch(std::forward<Awaitable>(awaitable)));
}

} // namespace magpie
