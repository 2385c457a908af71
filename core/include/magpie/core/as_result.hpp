#pragma once

#include <magpie/core/error.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/task.hpp>

#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

template <class Operation>
concept has_take_result = requires(Operation& o) { o.take_result(); };

/// An operation whose result comes out as a value.
template <class Operation>
class [[nodiscard("co_await it")]] result_operation : public Operation {
public:
    explicit result_operation(Operation&& op) noexcept : Operation(std::move(op)) {}

    auto await_resume() {
        if constexpr (has_take_result<Operation>) {
            return this->take_result();
        } else {
            using value = decltype(Operation::await_resume());
            if constexpr (std::is_void_v<value>) {
                Operation::await_resume();
                return result<void>(boost::system::in_place_value);
            } else {
                return result<value>(boost::system::in_place_value, Operation::await_resume());
            }
        }
    }
};

/// The same for an operation that stays where it is, to be waited for again.
template <class Operation>
class [[nodiscard("co_await it")]] result_source {
public:
    explicit result_source(Operation source) noexcept : source_(std::forward<Operation>(source)) {}
    auto operation() {
        using made = decltype(std::forward<Operation>(source_).operation());
        return result_operation<made>(std::forward<Operation>(source_).operation());
    }

private:
    Operation source_;
};

template <class T>
class task_result_awaiter : public task_awaiter<T> {
public:
    using task_awaiter<T>::task_awaiter;

    task_result<T> await_resume() {
        this->destroy_child();
        if (this->result_.has_error())
            return {boost::system::in_place_error, this->result_.take_error()};
        if constexpr (std::is_void_v<T>)
            return {boost::system::in_place_value};
        else
            return {boost::system::in_place_value, this->result_.take()};
    }
};

} // namespace detail

template <class T>
class [[nodiscard("co_await it")]] task_result_awaitable {
public:
    using value_type = task_result<T>;
    explicit task_result_awaitable(task<T>&& t) noexcept : task_(std::move(t)) {}
    detail::task_result_awaiter<T> awaiter() && {
        return detail::task_result_awaiter<T>(task_.release());
    }

private:
    task<T> task_;
};

/// Gives the result of an operation as a `result<T>`: its error code is a value, nothing is thrown
/// on the way. What is not an error code of that operation is still thrown.
template <class Operation>
    requires(detail::leaf_operation<Operation> && !std::is_lvalue_reference_v<Operation>)
[[nodiscard("co_await it")]] detail::result_operation<Operation> as_result(Operation&& op) noexcept {
    return detail::result_operation<Operation>(std::move(op));
}

/// Gives the result of a task as a `task_result<T>`: the value or the exception.
template <class T>
task_result_awaitable<T> as_result(task<T>&& t) noexcept {
    return task_result_awaitable<T>(std::move(t));
}

/// Gives the result of a spawned task as a `task_result<T>`; one that was cancelled gives an
/// exception_ptr to `task_cancelled` that was made once.
template <class T>
detail::result_source<join_handle<T>&> as_result(join_handle<T>& handle) noexcept {
    return detail::result_source<join_handle<T>&>(handle);
}
template <class T>
detail::result_source<join_handle<T>> as_result(join_handle<T>&& handle) noexcept {
    return detail::result_source<join_handle<T>>(std::move(handle));
}

} // namespace magpie
