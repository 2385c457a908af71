#pragma once

#include <magpie/core/detail/scope_state.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>

#include <cstddef>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace magpie {

/// The handle of a task in a scope: a `join_handle` that may be dropped, for the scope waits for the task
/// in any case.
///
/// `co_await handle` gives the task's value, throws its exception, or throws `task_cancelled`. What the
/// task throws belongs to the scope, whether it is received here or not: under `fail_fast` the body that
/// waits here is dropped soon.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe, `is_finished` and `id` aside.
template <class T = void>
class child_handle : public join_handle<T> {
public:
    using join_handle<T>::join_handle;
};

template <class Scope, class T>
class spawn_operation;
template <class Policy, class F>
class scope_operation;

namespace detail {

/// How tasks are spawned into a scope of any policy.
class scope_base : private scope_state {
public:
    /// How many tasks of the scope have not ended.
    /// @par Thread safety
    /// From any thread.
    std::size_t size() const noexcept { return live(); }

    /// Asks for the tasks of the scope to be dropped at their next suspension, the calling one among them.
    /// What is spawned afterwards is destroyed at once. The body goes on to its end.
    /// @par Thread safety
    /// From any thread, as `spawn`.
    /// @par Complexity
    /// O(tasks).
    void abort_all() noexcept { scope_state::abort_all(); }

protected:
    scope_base(scope_rule rule, std::size_t limit) noexcept : scope_state(rule, limit) {}
    ~scope_base() = default;

    template <class T, class... Name>
    child_handle<T> start(task<T>&& t, bool reserved, std::source_location where, Name&&... name) {
        const auto root = task_access::release(std::move(t));
        scope_cell<T>* c;
        try {
            c = new scope_cell<T>(where_children_run(), root, where, std::forward<Name>(name)...);
        } catch (...) {
            root.destroy();
            throw;
        }
        child_handle<T> handle(*c);
        if (deadline() != task_context::no_deadline) [[unlikely]] {
            try {
                c->set_deadline(deadline());
            } catch (...) {
                c->refuse();
                throw;
            }
        }
        if (enter(*c, reserved))
            where_children_run().adopt(*c);
        else
            c->refuse();
        return handle;
    }

private:
    template <class Scope, class T>
    friend class magpie::spawn_operation;
    friend struct scope_access;
};

struct scope_access {
    static scope_state& state(scope_base& s) noexcept { return s; }

    /// Spawns a task in a place that was reserved for it.
    template <class T>
    static child_handle<T> start_reserved(scope_base& s, task<T>&& t, std::source_location where) {
        return s.start(std::move(t), true, where);
    }
};

} // namespace detail

/// What the body of a `scope` spawns its tasks through. It stands in the frame of the task that awaits
/// the scope; the tasks may refer to it.
///
/// @par Thread safety
/// Every member may be called from any thread, as long as the scope is not left: by the body, by its
/// tasks, and by whatever the two of them wait for. The tasks run where the scope's own does.
class task_scope : public detail::scope_base {
public:
    task_scope(const task_scope&) = delete;
    task_scope& operator=(const task_scope&) = delete;

    /// Spawns a task into the scope. It runs concurrently with the body, on any worker.
    ///
    /// Never waits, whatever the limit: it takes a place even if there is none.
    ///
    /// @param t  the task. It may refer to what stands outside of the scope, and to what the body has
    ///           captured, not to locals of the body
    /// @param where  the place that logs, reports and failures name
    /// @return a handle that may be dropped. If the scope takes no more, because it is being cancelled,
    ///         has failed, or is over, the task is destroyed at once, and its handle says cancelled
    /// @throws std::logic_error if `t` is empty; std::bad_alloc
    /// @par Complexity
    /// O(1). One allocation beside the task's frame.
    template <class T>
    child_handle<T> spawn(task<T> t, std::source_location where = std::source_location::current()) {
        return start(std::move(t), false, where);
    }
    /// The same with a name that logs, reports and failures show.
    template <class T>
    child_handle<T> spawn(std::string name, task<T> t,
                          std::source_location where = std::source_location::current()) {
        return start(std::move(t), false, where, std::move(name));
    }
    /// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
    template <class F>
        requires task_callable<F>
    auto spawn(F&& f, std::source_location where = std::source_location::current()) {
        return start(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), false, where);
    }

    /// The same when fewer tasks of the scope run than its policy's limit says: `co_await` it. Places are
    /// given in the order of the waits.
    ///
    /// @par Cancellation
    /// Cancel-safe: dropped, it has spawned nothing (the task is destroyed), and a place that it was
    /// given goes to the next.
    template <class T>
    spawn_operation<task_scope, T> spawn_when_free(
        task<T> t, std::source_location where = std::source_location::current()) {
        return {*this, std::move(t), where, {}};
    }
    template <class T>
    spawn_operation<task_scope, T> spawn_when_free(
        std::string name, task<T> t, std::source_location where = std::source_location::current()) {
        return {*this, std::move(t), where, std::move(name)};
    }
    template <class F>
        requires task_callable<F>
    spawn_operation<task_scope, detail::spawned_type<F>> spawn_when_free(
        F&& f, std::source_location where = std::source_location::current()) {
        return {*this, detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where, {}};
    }

private:
    template <class Policy, class F>
    friend class scope_operation;
    task_scope(detail::scope_rule rule, std::size_t limit) noexcept : scope_base(rule, limit) {}
};

/// The same under `first_success<T>`: each task is a try to get the value.
template <class T>
class first_success_scope : public detail::scope_base {
public:
    first_success_scope(const first_success_scope&) = delete;
    first_success_scope& operator=(const first_success_scope&) = delete;

    /// Spawns a task that may give the scope's value. @see task_scope::spawn
    abort_handle spawn(task<T> t, std::source_location where = std::source_location::current()) {
        return start(std::move(t), false, where).abort_handle();
    }
    abort_handle spawn(std::string name, task<T> t,
                       std::source_location where = std::source_location::current()) {
        return start(std::move(t), false, where, std::move(name)).abort_handle();
    }
    template <class F>
        requires task_callable<F>
    abort_handle spawn(F&& f, std::source_location where = std::source_location::current()) {
        return start(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), false, where)
            .abort_handle();
    }

    /// The same when there is a place. @see task_scope::spawn_when_free
    spawn_operation<first_success_scope, T> spawn_when_free(
        task<T> t, std::source_location where = std::source_location::current()) {
        return {*this, std::move(t), where, {}};
    }
    spawn_operation<first_success_scope, T> spawn_when_free(
        std::string name, task<T> t, std::source_location where = std::source_location::current()) {
        return {*this, std::move(t), where, std::move(name)};
    }
    template <class F>
        requires task_callable<F>
    spawn_operation<first_success_scope, T> spawn_when_free(
        F&& f, std::source_location where = std::source_location::current()) {
        return {*this, detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where, {}};
    }

private:
    template <class Policy, class F>
    friend class scope_operation;
    first_success_scope(detail::scope_rule rule, std::size_t limit) noexcept
        : scope_base(rule, limit) {}
};

/// The wait for a place in a scope, and the spawn. @see task_scope::spawn_when_free
template <class Scope, class T>
class [[nodiscard("co_await it")]] spawn_operation : public detail::place_operation {
public:
    spawn_operation(Scope& s, task<T>&& t, std::source_location where, std::string name) noexcept
        : place_operation(detail::scope_access::state(s)), spawns_(&s), task_(std::move(t)),
          where_(where), name_(std::move(name)) {}

    auto await_resume() {
        detail::scope_base& s = *spawns_;
        // What it throws, it throws before it has used the place.
        child_handle<T> h = name_.empty() ? s.start(std::move(task_), true, where_)
                                          : s.start(std::move(task_), true, where_, std::move(name_));
        has_place_ = false;
        if constexpr (std::is_same_v<Scope, task_scope>)
            return h;
        else
            return h.abort_handle();
    }

private:
    Scope* spawns_;
    task<T> task_;
    std::source_location where_;
    std::string name_;
};

} // namespace magpie
