#pragma once

#include "blocking_pool.hpp"
#include "idle.hpp"
#include "injector.hpp"
#include "registry.hpp"
#include "runtime_clock.hpp"
#include "watch.hpp"
#include "worker.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/timer.hpp>
#include <magpie/core/unhandled.hpp>
#include <magpie/scheduler/builder.hpp>
#include <magpie/scheduler/detail/driver.hpp>
#include <magpie/scheduler/metrics.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace magpie::detail {

/// All that the threads of one runtime share. Kept alive by them and by handles.
class runtime_core final : public executor,
                           public timer_service,
                           public std::enable_shared_from_this<runtime_core> {
public:
    runtime_core(runtime_options options, std::source_location where);
    ~runtime_core();

    void start();

    // --- executor ---
    void schedule(strand& s, placement where) noexcept override;
    void adopt(cell& c) noexcept override;
    bool enroll(cell& c) noexcept override;
    void retire(cell& c) noexcept override;
    bool run_now(cell& c) noexcept override;
    void run_blocking(blocking_job& job) override;

    // --- timer_service ---
    clock::time_point now() noexcept override { return time.now(); }
    void arm(timer_entry& e, clock::time_point deadline) noexcept override;
    void arm_after(timer_entry& e, clock::duration d) noexcept override;
    cancel_answer disarm(timer_entry& e) noexcept override;

    // --- for workers ---
    bool closing_hint() const noexcept { return closing_.load(std::memory_order_relaxed); }
    std::uint64_t id_base() const noexcept { return id_base_; }
    bool work_anywhere() const noexcept;
    bool work_besides(const worker& w) const noexcept; ///< that is not in the queues of `w`
    strand* look_after_others(worker& by) noexcept;    ///< what waits behind a stuck task, or null
    bool is_multi() const noexcept { return options.layout == layout::multi_thread; }
    void notify_one() noexcept; ///< there is new work
    void notify_any() noexcept; ///< somebody has to look at something
    void notify_all() noexcept;
    void unpark(std::size_t worker) noexcept;
    bool timers_due() const noexcept;
    std::size_t fire_timers() noexcept;
    std::size_t fire(worker_timers& of, std::uint64_t now) noexcept;
    std::uint64_t next_timer() const noexcept;
    bool step_paused_clock() noexcept; ///< when all sleep; true if there is something to do now
    void finish_advance() noexcept;    ///< wakes who waits for an advance that is complete
    bool try_lock_driver() noexcept;
    void unlock_driver() noexcept;
    void park_driver(futex::time_point limit) noexcept;
    bool poll_driver() noexcept; ///< false if somebody else is in it
    void wake_driver() noexcept { the_driver().wake(); }
    bool has_io() const noexcept { return &the_driver() != futex_driver_.get(); }
    void ensure_watched() noexcept;
    driver& install_driver(driver_factory make); ///< makes the I/O driver, or gives the one there is
    bool visited() const noexcept { return visitors_.load(std::memory_order_seq_cst) > 0; }

    // --- shutdown ---
    void close() noexcept;
    bool closing() const noexcept { return closing_.load(std::memory_order_seq_cst); }
    bool stopped() const noexcept { return stopped_.load(std::memory_order_acquire); }
    bool stop_if_all_ended() noexcept;
    bool all_ended() const noexcept;
    bool shutdown(futex::time_point deadline); ///< true if everything ended
    void abandon() noexcept;
    void report_leftovers() const;

    runtime_metrics metrics() const;
    std::string describe_task(std::uint64_t id, std::uintptr_t where) const;

    const runtime_options options;
    const std::source_location made_at;
    const std::uint64_t id;
    runtime_clock time;
    idle_set idle;
    injector injected;
    registry tasks;
    blocking_pool pool;
    watch_timer watch;
    std::vector<std::unique_ptr<worker>> workers;

    // current_thread: who drives the only worker (R35).
    atomic<bool> seat_taken{false};
    futex seat_changed;
    atomic<std::uint32_t> seat_waiters{0};
    void seat_changed_now() noexcept;

    // The paused clock.
    void pause_clock();
    void resume_clock();
    bool begin_advance(leaf& waiter, clock::duration d) noexcept; ///< while paused, one at a time
    cancel_answer withdraw_advance(leaf& waiter) noexcept;

    std::uint64_t blocking_id() noexcept;
    void introduce(cell& c) noexcept;
    void retire_elsewhere() noexcept;

private:
    friend class worker;

    class visitor;
    class sink;
    class leftovers;

    // The driver slot: one thread at a time parks or polls in it.
    driver& the_driver() const noexcept { return *driver_.load(std::memory_order_acquire); }
    std::unique_ptr<driver> futex_driver_; // stays: who has read the slot before may still wake it
    atomic<driver*> driver_;
    mutex installing_;
    atomic<bool> driver_busy_{false};
    atomic<std::uint64_t> driver_sleeps_until_{0}; // a tick; 0 while nobody sleeps in it

    std::uint64_t id_base_;
    mutex watching_; // who looks after the others

    std::shared_ptr<sink> sink_;
    atomic<bool> closing_{false};
    atomic<bool> stopped_{false};

    // What other threads write each time, apart from what the workers read each turn.
    alignas(64) atomic<std::uint64_t> blocking_ids_{0};
    atomic<std::uint64_t> external_spawned_{0};
    atomic<std::uint64_t> external_ended_{0};
    atomic<std::uint64_t> remote_schedules_{0};
    // R31: threads that are no workers and are between taking a strand and having notified.
    atomic<std::size_t> visitors_{0};

    // A current_thread runtime whose tasks could not all end: see leftovers, whose lock guards both.
    alignas(64) std::shared_ptr<runtime_core> itself_;
    runtime_core* next_leftover_ = nullptr;

    mutable mutex clock_lock_;
    clock::time_point advance_target_; // guarded by clock_lock_, as the next two
    leaf* advance_waiter_ = nullptr;
    bool advance_complete_ = false;
};

} // namespace magpie::detail
