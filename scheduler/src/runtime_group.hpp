#pragma once

#include "blocking_pool.hpp"
#include "registry.hpp"
#include "runtime_clock.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/timer.hpp>
#include <magpie/core/unhandled.hpp>
#include <magpie/scheduler/builder.hpp>
#include <magpie/scheduler/metrics.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace magpie::detail {

class driver_slot;
class runtime_core;

/// A runtime: its shards, and what they share. Kept alive by its threads and by handles.
///
/// A shard (`runtime_core`) is what has one set of queues, one reactor and one way to sleep: all workers
/// of a stealing layout together, and each worker of thread_per_core. So a layout is a number of shards
/// and of workers in each; nothing below asks which one it is.
class runtime_group final : public std::enable_shared_from_this<runtime_group> {
public:
    runtime_group(runtime_options options, std::source_location where);
    ~runtime_group();

    void start();

    /// Where a task goes that is spawned on the runtime: to the shard that the calling thread works
    /// for, from elsewhere to each in turn.
    runtime_core& place() noexcept;

    bool has_threads() const noexcept { return options.layout != layout::current_thread; }
    /// Whether its tasks stay on the thread on which they began.
    bool is_pinned() const noexcept { return options.layout == layout::thread_per_core; }
    std::size_t workers() const noexcept { return workers_; }
    std::uint64_t id_base() const noexcept { return id_base_; }
    /// For what cannot throw: terminates in a child of the process that has the runtime.
    /// @par Complexity
    /// A relaxed load.
    void require_own_or_terminate() const noexcept {
        if (is_inherited(id_base_)) [[unlikely]]
            terminate_in_child();
    }
    [[noreturn]] void terminate_in_child() const noexcept;
    std::uint64_t blocking_id() noexcept;
    void notify_any() noexcept; ///< of each shard: somebody has to look at something

    // --- shutdown ---
    void close() noexcept;
    bool closing() const noexcept { return closing_.load(std::memory_order_seq_cst); }
    bool stopped() const noexcept { return stopped_.load(std::memory_order_acquire); }
    /// For who writes something that the stop reads afterwards.
    bool stopped_in_order() const noexcept { return stopped_.load(std::memory_order_seq_cst); }
    bool stop_if_all_ended() noexcept;
    bool all_ended() const noexcept;
    bool shutdown(futex::time_point deadline); ///< true if everything ended
    void abandon() noexcept;

    /// Lets go of the runtimes that were given up with tasks alive, and whose tasks have ended since.
    static void free_leftovers() noexcept;
    void report_leftovers() const noexcept;

    runtime_metrics metrics() const;
    std::string describe_task(std::uint64_t id, std::uintptr_t where) const;

    const runtime_options options;
    const std::source_location made_at;
    const std::uint64_t id;
    runtime_clock time;
    registry tasks;
    blocking_pool pool;
    std::vector<std::unique_ptr<runtime_core>> shards;

    // current_thread: who drives the only worker (R35).
    atomic<bool> seat_taken{false};
    futex seat_changed;
    atomic<std::uint32_t> seat_waiters{0};
    void seat_changed_now() noexcept;

    // --- the paused clock ---
    void pause_clock();
    void resume_clock();
    bool begin_advance(leaf& waiter, clock::duration d) noexcept; ///< while paused, one at a time
    cancel_answer withdraw_advance(leaf& waiter) noexcept;
    /// For a worker of `by` that lies down: moves the clock if all sleep (R40). True if it did: then that
    /// worker got up, and is awake.
    bool step_clock(runtime_core& by, std::size_t worker, std::uint64_t asked_in) noexcept;
    /// For `asked_in`, read before the reactor is asked. Acquire: pairs with worker_lies_down(), so that the
    /// reactor is asked behind all that this worker has done.
    std::uint64_t clock_round() const noexcept { return clock_round_.load(std::memory_order_acquire); }
    void finish_advance() noexcept; ///< wakes who waits for an advance that is complete
    /// A worker has run: what the reactors have told before may be outdated.
    void worker_lies_down() noexcept;

private:
    class sink;
    class leftovers;

    std::string describe_leftovers() const;
    void forget_sinks() noexcept;
    bool visited() const noexcept;
    std::uint64_t next_timer() const noexcept;
    bool has_looked_everywhere(driver_slot& by, std::uint64_t asked_in) noexcept;
    bool advance_clock() noexcept;

    const std::size_t workers_;
    const std::uint64_t id_base_;
    std::shared_ptr<sink> sink_;
    atomic<bool> closing_{false};
    atomic<bool> stopped_{false};

    // What other threads write each time.
    alignas(64) atomic<std::uint64_t> blocking_ids_{0};
    atomic<std::size_t> next_place_{0};

    // A current_thread runtime whose tasks could not all end: see leftovers, whose lock guards both.
    alignas(64) std::shared_ptr<runtime_group> itself_;
    runtime_group* next_leftover_ = nullptr;

    mutable mutex clock_lock_;
    clock::time_point advance_target_; // guarded by clock_lock_, as the next two
    leaf* advance_waiter_ = nullptr;
    bool advance_complete_ = false;
    atomic<std::uint64_t> clock_round_{1}; // see has_looked_everywhere
};

} // namespace magpie::detail
