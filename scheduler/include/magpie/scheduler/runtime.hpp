#pragma once

#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/timer.hpp>
#include <magpie/scheduler/builder.hpp>
#include <magpie/scheduler/metrics.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace magpie {

class runtime;

namespace detail {

class runtime_group;

/// Lends the calling thread to a current_thread runtime until the task has ended.
void drive_until_finished(runtime_group& group, const abort_handle& root);

/// @throws std::logic_error in a child of the process that has the runtime
executor& executor_of(runtime_group& group);

/// @throws std::logic_error when the calling thread runs a task and may not block
void require_no_task(const char* what);

/// The executor of the calling task, if that is on a current_thread runtime.
executor& local_executor();

} // namespace detail

/// Makes a runtime the one that `spawn` and the clock refer to on this thread, until it goes.
/// Guards nest: the last one made goes first. On `thread_per_core` it enters one shard, each guard the
/// next one. @see runtime::enter
class [[nodiscard("the runtime is entered for as long as the guard lives")]] enter_guard {
public:
    explicit enter_guard(std::shared_ptr<detail::runtime_group> group);
    enter_guard(const enter_guard&) = delete;
    enter_guard& operator=(const enter_guard&) = delete;
    /// Terminates, with a sentence, if a guard that was made later still lives.
    ~enter_guard();

private:
    std::shared_ptr<detail::runtime_group> group_;
    executor* entered_;
    executor* outer_;
};

namespace detail {
struct group_access; // shard.hpp
}

/// A runtime from anywhere: spawns on it, waits on it. Cheap to copy; does not keep it running.
///
/// A process that is forked from one with a runtime has none of its threads: there, every use of the runtime
/// throws std::logic_error, or terminates with the same sentence where it cannot throw (the destructor, a
/// wake or an abort of one of its tasks, a task that goes on in the child and suspends). The child may only
/// exec or _exit.
///
/// @par Thread safety
/// Safe, also for one object from several threads.
class runtime_handle {
public:
    /// The runtime of the calling task, or the one entered on this thread.
    /// @throws std::logic_error if there is none
    static runtime_handle current(std::source_location where = std::source_location::current());

    /// Spawns on the runtime. After its shutdown the task is destroyed at once, and the handle
    /// says that it was cancelled. On `thread_per_core` it goes to the shard of the calling task; from
    /// elsewhere to each shard in turn.
    template <class T>
    join_handle<T> spawn(task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return detail::spawn_on(detail::executor_of(*group_), std::move(t), where);
    }
    template <class T>
    join_handle<T> spawn(std::string name, task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return detail::spawn_on(detail::executor_of(*group_), std::move(t), where, std::move(name));
    }
    template <class F>
        requires task_callable<F>
    auto spawn(F&& f, std::source_location where = std::source_location::current()) const {
        return spawn(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
    }
    template <class F, class... Args>
        requires(sizeof...(Args) > 0) && task_callable<F, Args...>
    auto spawn(F&& f, Args&&... args) const {
        return spawn(detail::own_and_run<std::decay_t<F>, std::decay_t<Args>...>(
            std::forward<F>(f), std::forward<Args>(args)...));
    }

    /// Runs a task to its end while the calling thread waits.
    ///
    /// Any number of threads may do so at once. On `current_thread` one of them runs the tasks.
    /// @throws what the task throws; task_cancelled if the runtime is shut down meanwhile;
    ///         std::logic_error inside a task
    template <class T>
    T block_on(task<T> t, std::source_location where = std::source_location::current()) const {
        detail::require_no_task("block_on");
        join_handle<T> root = spawn(std::move(t), where);
        if (layout() == magpie::layout::current_thread)
            detail::drive_until_finished(*group_, root.abort_handle());
        return root.blocking_join();
    }

    [[nodiscard]] enter_guard enter() const { return enter_guard(group_); }

    runtime_metrics metrics() const;             ///< What it has done and has to do.
    std::string_view name() const noexcept;      ///< The builder's name; empty without one.
    std::uint64_t id() const noexcept;           ///< Different for each runtime of the process.
    magpie::layout layout() const noexcept;      ///< How it is laid out.
    std::size_t worker_threads() const noexcept; ///< How many workers it has.
    std::size_t shards() const noexcept;         ///< How many shards: 1, or one a worker.
    friend bool operator==(const runtime_handle& a, const runtime_handle& b) noexcept {
        return a.group_ == b.group_;
    }

private:
    friend class runtime;
    friend struct detail::group_access;
    explicit runtime_handle(std::shared_ptr<detail::runtime_group> group) noexcept
        : group_(std::move(group)) {}

    std::shared_ptr<detail::runtime_group> group_;
};

/// Workers, queues, timers and blocking threads: what tasks run on.
///
/// Destroying it shuts it down: every task is dropped on its own turn, every thread joined.
/// That waits for blocking calls that run, and for a task that does not suspend.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: everything but the destructor, moves and shutdowns.
class runtime {
public:
    using builder = runtime_builder;

    /// The default layout with as many workers as the process may use.
    runtime();
    runtime(runtime&& other) noexcept = default;
    runtime& operator=(runtime&& other) noexcept;
    /// Shuts down and waits. In a task, and on the runtime's own threads (in its blocking calls and
    /// hooks), it logs where the runtime was made and terminates: use `shutdown_background` there.
    ~runtime();

    runtime_handle handle() const noexcept { return handle_; }

    // As runtime_handle's.
    template <class T>
    join_handle<T> spawn(task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return handle_.spawn(std::move(t), where);
    }
    template <class T>
    join_handle<T> spawn(std::string name, task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return handle_.spawn(std::move(name), std::move(t), where);
    }
    template <class F>
        requires task_callable<F>
    auto spawn(F&& f, std::source_location where = std::source_location::current()) const {
        return handle_.spawn(std::forward<F>(f), where);
    }
    template <class F, class... Args>
        requires(sizeof...(Args) > 0) && task_callable<F, Args...>
    auto spawn(F&& f, Args&&... args) const {
        return handle_.spawn(std::forward<F>(f), std::forward<Args>(args)...);
    }
    template <class T>
    T block_on(task<T> t, std::source_location where = std::source_location::current()) const {
        return handle_.block_on(std::move(t), where);
    }
    [[nodiscard]] enter_guard enter() const { return handle_.enter(); }
    runtime_metrics metrics() const { return handle_.metrics(); }
    std::string_view name() const noexcept { return handle_.name(); }
    std::uint64_t id() const noexcept { return handle_.id(); }
    magpie::layout layout() const noexcept { return handle_.layout(); }
    std::size_t worker_threads() const noexcept { return handle_.worker_threads(); }
    std::size_t shards() const noexcept { return handle_.shards(); }

    /// Shuts down and waits for at most `limit`. What then still runs is reported at warning level,
    /// by name and place of spawn, and goes on by itself: nothing that runs is freed. In a task, and
    /// on the runtime's own threads, it does not wait.
    /// (A `current_thread` runtime has no thread on which it could: such tasks stay as they are.)
    /// @return whether everything has ended
    bool shutdown_timeout(std::chrono::nanoseconds limit);

    /// Shuts down without waiting. May be called in a task of the same runtime. A `current_thread`
    /// runtime that nobody drives drops its tasks here; one that cannot be dropped yet, for foreign
    /// code has still to resume it, is reported at warning level and stays as it is.
    void shutdown_background() noexcept;

private:
    friend class runtime_builder;
    explicit runtime(std::shared_ptr<detail::runtime_group> group) noexcept;

    runtime_handle handle_;
};

/// Runs a task to its end on a runtime of its own: for `main`.
template <class T>
T run(task<T> t, std::source_location where = std::source_location::current()) {
    const runtime rt;
    return rt.block_on(std::move(t), where);
}

/// Spawns a task that never leaves the calling thread: for values that no other thread may touch.
/// @throws std::logic_error outside of a task of a `current_thread` or `thread_per_core` runtime
template <class T>
join_handle<T> spawn_local(task<T> t, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::local_executor(), std::move(t), where);
}

/// The index of the worker that runs on this thread, 0 to `worker_threads() - 1`; none elsewhere. On
/// `thread_per_core` it is the shard's.
std::optional<std::size_t> worker_index() noexcept;

} // namespace magpie
