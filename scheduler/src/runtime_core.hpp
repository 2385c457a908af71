#pragma once

#include "idle.hpp"
#include "inbox.hpp"
#include "injector.hpp"
#include "neighbourhood.hpp"
#include "runtime_group.hpp"
#include "shard_mail.hpp"
#include "watch.hpp"
#include "worker.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/timer.hpp>
#include <magpie/scheduler/detail/driver.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace magpie::detail {

/// A shard: workers that share their queues, one reactor, and a way to sleep.
class runtime_core final : public executor, public timer_service {
public:
    /// @param first    the index of its first worker among the runtime's
    /// @param workers  how many it has
    /// @param seed     of its random choices; moved on
    runtime_core(runtime_group& group, std::size_t shard, std::size_t first, std::size_t workers,
                 std::uint64_t& seed);
    ~runtime_core();

    /// The shard of an executor; null if that is none of a runtime.
    static runtime_core* of(executor& e) noexcept;

    // --- executor ---
    void schedule(strand& s, placement where) noexcept override;
    void adopt(cell& c) noexcept override;
    bool enroll(cell& c) noexcept override;
    void retire(cell& c) noexcept override;
    bool run_now(cell& c) noexcept override;
    void run_blocking(blocking_job& job) override;
    void send(parcel p) noexcept override;

    // --- for executors of single workers ---
    /// The worker of this shard that runs on the calling thread, or null.
    worker* worker_here() const noexcept;
    /// Gives a new task its id, counts it and tells the hook. False if the runtime is closed: then it is gone.
    bool count_in(cell& c, worker& here) noexcept;
    bool count_in_from_outside(cell& c) noexcept;
    void send_to(magpie::detail::inbox& to, std::size_t place, parcel p) noexcept;

    // --- timer_service ---
    clock::time_point now() noexcept override { return time.now(); }
    void arm(timer_entry& e, clock::time_point deadline) noexcept override;
    void arm_after(timer_entry& e, clock::duration d) noexcept override;
    cancel_answer disarm(timer_entry& e) noexcept override;

    // --- for workers ---
    bool closing_hint() const noexcept { return closing_.load(std::memory_order_relaxed); }
    bool stopped() const noexcept { return stopped_.load(std::memory_order_acquire); } // see stops()
    bool work_anywhere() const noexcept;
    bool work_besides(const worker& w) const noexcept; ///< that is not in the queues of `w`
    strand* look_after_others(worker& by) noexcept;    ///< what waits behind a stuck task, or null
    void notify_one() noexcept;                        ///< there is new work
    void notify_any() noexcept;                        ///< somebody has to look at something
    void notify_this(std::size_t place) noexcept;      ///< there is work for that worker alone
    bool has_pinned() const noexcept;                  ///< ... for any
    void notify_all() noexcept;
    void unpark(std::size_t place) noexcept;
    bool timers_due() const noexcept;
    std::size_t fire_timers() noexcept;
    std::size_t fire(worker_timers& of, std::uint64_t now) noexcept;
    std::uint64_t next_timer() const noexcept;
    bool try_lock_driver() noexcept;
    void unlock_driver() noexcept;
    void park_driver(futex::time_point limit) noexcept;
    bool poll_driver() noexcept; ///< false if somebody else is in it
    void wake_driver() noexcept { the_driver().wake(); }
    bool has_io() const noexcept { return &the_driver() != futex_driver_.get(); }
    void ensure_watched() noexcept;
    driver& install_driver(driver_factory make); ///< makes the I/O driver, or gives the one there is
    bool visited() const noexcept { return visitors_.load(std::memory_order_seq_cst) > 0; }

    // --- messages, on its thread ---
    void post(std::size_t to, shard_message& m) noexcept {
        if (mail.post(to, m))
            send_mail();
    }
    void send_mail() noexcept;
    bool receive_mail() noexcept; ///< whether there was any

    // --- for the group ---
    void closes() noexcept { closing_.store(true, std::memory_order_relaxed); } // a hint
    /// Everything has ended. Release: pairs with stopped().
    void stops() noexcept { stopped_.store(true, std::memory_order_release); }
    void end_sleep() noexcept; ///< of workers and driver, then
    std::uint64_t ended() const noexcept;
    std::uint64_t spawned() const noexcept;
    std::uint64_t remote_schedules() const noexcept {
        return remote_schedules_.load(std::memory_order_relaxed);
    }

    runtime_group& group;
    runtime_clock& time; // the group's
    const std::size_t shard;
    const std::size_t first_worker;
    idle_set idle;
    injector injected;
    // Used if it is pinned:
    magpie::detail::inbox inbox;
    shard_mail mail;
    watch_timer watch;
    std::vector<std::unique_ptr<worker>> workers;
    const neighbourhood neighbours;    // whom thieves ask first
    std::uint64_t looked_in_round = 0; // the clock's round in which the reactor was asked; under `idle`

private:
    friend class worker;

    class visitor;

    template <class Notify>
    void send(magpie::detail::inbox& to, parcel p, Notify notify) noexcept;
    void introduce(cell& c) noexcept;
    void retire_elsewhere() noexcept;

    const bool is_lone_; // it has one worker, so nobody else enters the driver

    // The driver slot: one thread at a time parks or polls in it.
    driver& the_driver() const noexcept { return *driver_.load(std::memory_order_acquire); }
    std::unique_ptr<driver> futex_driver_; // stays: who has read the slot before may still wake it
    atomic<driver*> driver_;
    mutex installing_;
    atomic<bool> driver_busy_{false};
    atomic<std::uint64_t> driver_sleeps_until_{0}; // a tick; 0 while nobody sleeps in it

    mutex watching_; // who looks after the others

    atomic<bool> closing_{false}; // copies of the group's, near at hand
    atomic<bool> stopped_{false};

    // What other threads write each time, apart from what the workers read each turn.
    alignas(64) atomic<std::uint64_t> external_spawned_{0};
    atomic<std::uint64_t> external_ended_{0};
    atomic<std::uint64_t> remote_schedules_{0};
    // R31: threads that are no workers and are between taking a strand and having notified.
    atomic<std::size_t> visitors_{0};
};

} // namespace magpie::detail
