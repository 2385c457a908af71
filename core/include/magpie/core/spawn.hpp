#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/task.hpp>

#include <concepts>
#include <functional>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

/// The executor of the calling task, or the one entered on this thread.
/// @throws std::logic_error if there is neither
executor& current_executor(std::source_location where);

template <class T>
concept task_type = is_task<std::remove_cvref_t<T>>::value;

template <class F, class... Args>
using spawned_type = typename std::remove_cvref_t<
    std::invoke_result_t<std::decay_t<F>&, std::decay_t<Args>...>>::value_type;

/// Holds callable and arguments in a frame of its own for as long as what they return runs.
template <class F, class... Args>
task<spawned_type<F, Args...>> own_and_run(F f, Args... args) {
    co_return co_await std::invoke(f, std::move(args)...);
}

template <class T, class... Name>
join_handle<T> spawn_on(executor& e, task<T>&& t, std::source_location where, Name&&... name) {
    const auto root = task_access::release(std::move(t));
    task_cell<T>* c;
    try {
        c = new task_cell<T>(e, root, where, std::forward<Name>(name)...);
    } catch (...) {
        root.destroy();
        throw;
    }
    join_handle<T> handle(*c);
    e.adopt(*c);
    return handle;
}

} // namespace detail

/// A callable that makes a task when it is called with `Args`.
template <class F, class... Args>
concept task_callable =
    !detail::task_type<F> && std::invocable<std::decay_t<F>&, std::decay_t<Args>...> &&
    detail::task_type<std::invoke_result_t<std::decay_t<F>&, std::decay_t<Args>...>>;

/// Starts a task that runs concurrently with the caller, on the caller's runtime.
///
/// @param t  the task; its parameters by value live as long as it does
/// @param where  the place that logs and reports name
/// @return the handle to join or abort it; dropping the handle lets the task run on
/// @throws std::logic_error outside of a runtime, or if `t` is empty; std::bad_alloc
/// @par Thread safety
/// From a task, or from a thread that has entered a runtime.
/// @par Complexity
/// One allocation, from the thread's free lists, beside the task's own frame.
template <class T>
join_handle<T> spawn(task<T> t, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::current_executor(where), std::move(t), where);
}

/// The same with a name that logs, reports and `this_task::name` show.
template <class T>
join_handle<T> spawn(std::string name, task<T> t,
                     std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::current_executor(where), std::move(t), where, std::move(name));
}

/// Calls `f(args...)`, which gives a task, and spawns that. Callable and arguments are copied or
/// moved into the spawned task and live as long as it does: a lambda with captures is safe. Use
/// `std::ref` to pass a reference. (With more than two arguments reports name this header.)
template <class F>
    requires task_callable<F>
auto spawn(F&& f, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::current_executor(where),
                            detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
}
template <class F, class A>
    requires task_callable<F, A>
auto spawn(F&& f, A&& a, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(
        detail::current_executor(where),
        detail::own_and_run<std::decay_t<F>, std::decay_t<A>>(std::forward<F>(f), std::forward<A>(a)),
        where);
}
template <class F, class A, class B>
    requires task_callable<F, A, B>
auto spawn(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::current_executor(where),
                            detail::own_and_run<std::decay_t<F>, std::decay_t<A>, std::decay_t<B>>(
                                std::forward<F>(f), std::forward<A>(a), std::forward<B>(b)),
                            where);
}
template <class F, class... Args>
    requires(sizeof...(Args) > 2) && task_callable<F, Args...>
auto spawn(F&& f, Args&&... args) {
    const auto where = std::source_location::current();
    return detail::spawn_on(detail::current_executor(where),
                            detail::own_and_run<std::decay_t<F>, std::decay_t<Args>...>(
                                std::forward<F>(f), std::forward<Args>(args)...),
                            where);
}

} // namespace magpie
