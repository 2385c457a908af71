#pragma once

#include <magpie/core/spawn.hpp>
#include <magpie/scheduler/runtime.hpp>

#include <cstddef>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

/// Where the tasks run that stay on that worker, of the runtime of the calling task or of the one entered on
/// this thread.
/// @throws std::logic_error if there is no runtime; std::out_of_range if there is no such worker
executor& worker_here(std::size_t worker, std::source_location where);
/// The same of a given runtime.
executor& worker_of(const runtime_handle& on, std::size_t worker, std::source_location where);

} // namespace detail

/// Spawns a task that stays on one worker of the caller's runtime: no other one ever runs it. @see spawn
///
/// For what is better off in one place though the pool steals: a part of a cache, a library that may not be
/// called from two threads at once. What such a task spawns, by `spawn`, in a scope or in a set, stays there
/// too; `runtime_handle::current().spawn` gives it to the whole pool. It takes turns with the worker's other
/// tasks. Nobody helps: while one of them runs long it waits.
///
/// The worker, not the thread: `block_in_place` of another task may bring the worker, with the tasks that are
/// pinned to it, to another thread, between two turns. A pinned task may not call that itself, and its
/// `fork_join` runs on the worker alone. On `thread_per_core` it is `spawn_on`; `current_thread` has worker 0.
///
/// @param worker  0 to `worker_threads() - 1`; `worker_index()` is the caller's
/// @return the handle, as `spawn` gives it
/// @throws std::out_of_range if there is no such worker; std::logic_error outside of a runtime; std::bad_alloc
/// @par Thread safety
/// From a task, or from a thread that has entered a runtime.
/// @par Complexity
/// As `spawn`; from another thread a lock, and that worker is woken. A wake from another thread goes through
/// the worker's inbox, one on its own thread uses no locked instruction.
/// @par Example
/// @code
/// for (std::size_t w = 0; w < magpie::runtime_handle::current().worker_threads(); ++w)
///     magpie::spawn_on_worker(w, own_a_part(parts[w])).detach();
/// @endcode
template <class T>
join_handle<T> spawn_on_worker(std::size_t worker, task<T> t,
                               std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::worker_here(worker, where), std::move(t), where);
}
/// The same with a name that logs, reports and `this_task::name` show.
template <class T>
join_handle<T> spawn_on_worker(std::size_t worker, std::string name, task<T> t,
                               std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::worker_here(worker, where), std::move(t), where, std::move(name));
}
/// On a worker of a given runtime, from anywhere.
template <class T>
join_handle<T> spawn_on_worker(const runtime_handle& on, std::size_t worker, task<T> t,
                               std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::worker_of(on, worker, where), std::move(t), where);
}
/// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
template <class F>
    requires task_callable<F>
auto spawn_on_worker(std::size_t worker, F&& f,
                     std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::worker_here(worker, where),
                            detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
}

} // namespace magpie
