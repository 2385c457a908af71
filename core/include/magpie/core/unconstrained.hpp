#pragma once

#include <magpie/core/detail/composite_operation.hpp>

#include <coroutine>
#include <utility>

namespace magpie {

/// An awaitable below which no operation takes budget. @see unconstrained
template <class Body>
class [[nodiscard("co_await it")]] unconstrained_operation
    : public detail::composite_operation<unconstrained_operation<Body>, detail::branch_tuple<Body>> {
    using base = detail::composite_operation<unconstrained_operation, detail::branch_tuple<Body>>;

public:
    using value_type = typename Body::value_type;
    static constexpr cancel_safety safety = Body::safety;

    template <class MakeBody>
    explicit unconstrained_operation(std::in_place_t at, MakeBody make) : base(at, make) {
        body().unconstrained = true;
    }

    bool await_ready() noexcept { return try_complete(); } // needs no budget itself
    bool try_complete() noexcept { return !this->begin() || body().start(*this->where(), *this); }
    value_type await_resume() {
        this->check();
        return body().take();
    }

private:
    Body& body() noexcept { return this->branches_.template get<0>(); }

    std::coroutine_handle<> branch_ended(branch&) noexcept override { return this->surface(); }
};

/// Awaits `awaitable` without taking budget: it may keep its worker as long as it is ready.
///
/// @par Cancellation
/// As safe as the awaitable.
template <class Awaitable>
auto unconstrained(Awaitable&& awaitable) {
    using body = detail::branch_for<Awaitable>;
    return unconstrained_operation<body>(std::in_place,
                                         detail::branch_maker(std::forward<Awaitable>(awaitable)));
}

} // namespace magpie
