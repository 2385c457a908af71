#pragma once

#include <magpie/core/declared_task.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/operation.hpp>

#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

/// An operation whose caller knows what it loses.
template <class Operation>
class [[nodiscard("co_await it")]] may_lose_operation : public Operation {
public:
    static constexpr cancel_safety safety = cancel_safety::unknown;
    explicit may_lose_operation(Operation&& op) noexcept : Operation(std::move(op)) {}
};

} // namespace detail

/// Whether something may lose to a sibling: what its type says, `unknown` for a coroutine.
template <class Awaitable>
inline constexpr cancel_safety safety_of = detail::branch_for<Awaitable>::safety;

/// Lets `select` take an operation that loses a part of its effect when it is dropped half-way, as
/// `read_exact` and `write_all` do: who writes this does not go on with what was lost.
template <class Operation>
    requires(detail::leaf_operation<Operation> && !std::is_lvalue_reference_v<Operation>)
detail::may_lose_operation<Operation> may_lose(Operation&& op) noexcept {
    return detail::may_lose_operation<Operation>(std::move(op));
}

/// The same for a task whose author has declared that it loses something. @see lossy_task
template <class T>
task<T> may_lose(lossy_task<T>&& t) noexcept {
    return std::move(t);
}

} // namespace magpie
