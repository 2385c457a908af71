#pragma once

#include <magpie/core/unhandled.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

namespace magpie {

class runtime;

/// How workers, queues and the reactor are laid out. The program that runs on it is the same.
enum class layout : unsigned char {
    multi_thread,   ///< workers that steal from each other; the default
    current_thread, ///< one worker: whoever calls `block_on`
    /// One shard a core: a worker bound to it, with its own queues, reactor and timers. A task stays on the
    /// shard on which it was spawned, and nothing is stolen.
    thread_per_core,
};

/// What happens when a task ends with an exception that nobody can receive.
enum class unhandled_policy : unsigned char {
    report,   ///< the hook is called, or it is logged at error level; the default
    shutdown, ///< the same, and the runtime shuts down: each `block_on` throws `task_cancelled`
};

namespace detail {

/// Everything that can be set. The builder checks it.
struct runtime_options {
    magpie::layout layout = magpie::layout::multi_thread;
    std::size_t worker_threads = 0; // 0: what the process may use
    std::string name;
    bool has_name = false;
    std::string thread_name = "magpie";
    std::size_t thread_stack_size = 0; // 0: the system's
    std::size_t max_blocking_threads = 512;
    std::chrono::nanoseconds thread_keep_alive = std::chrono::seconds(10);
    std::uint32_t global_queue_interval = 31;
    std::uint32_t event_interval = 61;
    std::uint16_t budget = 128;
    bool lifo_slot = true;
    std::chrono::nanoseconds move_cost = std::chrono::microseconds(1); // of a stolen task
    std::optional<std::uint64_t> seed;
    bool paused_clock = false;
    bool io = true;
    std::vector<std::size_t> affinity;
    bool has_affinity = false;
    std::vector<std::size_t> skip_cpus;
    bool has_skip_cpus = false;
    std::size_t reserve_cores = 0;
    bool reactor_per_worker = false;
    unhandled_policy unhandled = unhandled_policy::report;
    std::chrono::nanoseconds stuck_limit = std::chrono::seconds(1);
    std::function<void()> on_thread_start, on_thread_stop, on_thread_park, on_thread_unpark;
    std::function<void(std::uint64_t id)> on_task_spawn, on_task_end;
    std::function<void(const unhandled_exception&)> on_unhandled_exception;
};

} // namespace detail

/// Sets up a runtime: `magpie::runtime::builder().worker_threads(4).build()`.
///
/// Hooks are called on the thread that they speak of, must not throw, and may be called on several
/// threads at once.
class runtime_builder {
public:
    runtime_builder() = default;

    /// @param which  how the runtime is laid out; default `multi_thread`
    runtime_builder& layout(magpie::layout which);
    /// @param n  1 to 4096; default: what affinity mask and cgroup quota allow. Ignored by
    ///           `current_thread`, which has one. With `thread_per_core` the number of shards: no more than
    ///           the process may use cores, or as many as `affinity` names.
    runtime_builder& worker_threads(std::size_t n);
    /// @param text  the runtime's name in logs and reports; not blank; default none
    runtime_builder& name(std::string text);
    /// @param text  what threads are called, a number is added; 1 to 12 characters; "magpie"
    runtime_builder& thread_name(std::string text);
    /// @param bytes  of each thread's stack, at least 64 KiB; default the system's
    runtime_builder& thread_stack_size(std::size_t bytes);
    /// @param n  at most that many threads run blocking calls, 1 to 65536; default 512
    runtime_builder& max_blocking_threads(std::size_t n);
    /// @param d  how long an idle blocking thread is kept, above 0; default 10 s
    runtime_builder& thread_keep_alive(std::chrono::nanoseconds d);
    /// @param n  every n turns a busy worker looks at the shared queue first, 1 to 65536; 31
    runtime_builder& global_queue_interval(std::uint32_t n);
    /// @param n  every n turns a busy worker looks at reactor and timers, 1 to 65536; 61
    runtime_builder& event_interval(std::uint32_t n);
    /// @param n  operations that a turn may complete before it is split, 1 to 65535; 128
    runtime_builder& budget(std::uint16_t n);
    /// @param on  whether a worker runs what its task has woken next, before its queue; on
    runtime_builder& lifo_slot(bool on);
    /// @param n  makes every random choice reproducible; default: a different one each time
    runtime_builder& seed(std::uint64_t n);
    /// @param on  whether the clock begins paused, for tests (`pause_clock`); off
    runtime_builder& paused_clock(bool on);
    /// @param on  whether I/O objects may be made on the runtime; on, at no cost until one is
    runtime_builder& io(bool on);
    /// @param on  whether each worker of `multi_thread` has a reactor of its own: a socket belongs to that of
    ///            the worker on which it was made, and who is idle polls a busy one's. Off: one for all, in
    ///            which one idle worker sleeps. The other layouts have one each, or one, anyway
    runtime_builder& reactor_per_worker(bool on);
    /// @param cpus  processors that the workers are bound to, in turn; not empty, and the process may use
    ///              each; default: none. With `thread_per_core` the core of each shard, by default the
    ///              first hardware thread of each; who names one twice gets two shards on it.
    runtime_builder& affinity(std::vector<std::size_t> cpus);
    /// Binds the workers, in turn, to those processors that the process may use and that are not named here.
    /// They take a hardware thread of each core first, near cores first. Without `worker_threads` there are
    /// as many as that leaves. Ignored by `current_thread`.
    /// @param cpus  not empty, none that `affinity` names; one that the process may not use anyway does no
    ///              harm; at least one has to be left
    runtime_builder& skip_cpus(std::vector<std::size_t> cpus);
    /// The same, and leaves whole cores, with all their hardware threads, to others: those of the lowest
    /// numbers, on which systems mostly handle interrupts.
    /// @param n  how many of the cores that `skip_cpus` leaves; not together with `affinity`; at least one
    ///           has to be left; default 0
    runtime_builder& reserve_cores(std::size_t n);
    /// @param d  a task that keeps its worker longer than this in one piece is reported, once a
    ///           piece, above 0; default 1 s. Needs a second worker to notice, so `thread_per_core` and
    ///           `current_thread` do not.
    runtime_builder& stuck_limit(std::chrono::nanoseconds d);

    runtime_builder& on_thread_start(std::function<void()> f);  ///< each thread, at its start
    runtime_builder& on_thread_stop(std::function<void()> f);   ///< each thread, at its end
    runtime_builder& on_thread_park(std::function<void()> f);   ///< a worker, before it sleeps
    runtime_builder& on_thread_unpark(std::function<void()> f); ///< a worker, after it slept
    runtime_builder& on_task_spawn(std::function<void(std::uint64_t id)> f); ///< the spawner
    runtime_builder& on_task_end(std::function<void(std::uint64_t id)> f);   ///< the task's turn
    /// Receives what nobody else can. @param policy  what else happens then
    runtime_builder& on_unhandled_exception(std::function<void(const unhandled_exception&)> f);
    runtime_builder& on_unhandled(unhandled_policy policy);

    /// Makes the runtime and starts its workers.
    ///
    /// @throws std::invalid_argument, one that lists every bad field; std::system_error if the
    ///         system gives no thread or descriptor
    runtime build(std::source_location where = std::source_location::current()) const;

private:
    detail::runtime_options options_;
};

} // namespace magpie
