#pragma once

#include "driver_slot.hpp"
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

#include <chrono>
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
    bool stopped() const noexcept { return stopped_.load(std::memory_order_relaxed); } // see stops()
    bool work_anywhere() const noexcept;
    /// Whether other threads have sent something for a shard of several, of whatever kind.
    bool has_messages() const noexcept { return is_pinned() && (inbox.has_any() || mail.has_come()); }
    bool work_besides(const worker& w) const noexcept; ///< that is not in the queues of `w`
    strand* look_after_others(worker& by) noexcept;    ///< what waits behind a stuck task, or null
    void notify_one() noexcept;                        ///< there is new work
    void notify_after_store() noexcept;           ///< the same, made visible by no more than a store
    void notify_any() noexcept;                   ///< somebody has to look at something
    void notify_this(std::size_t place) noexcept; ///< there is work for that worker alone
    bool has_pinned() const noexcept;             ///< ... for any
    void notify_all() noexcept;
    void unpark(std::size_t place) noexcept;
    bool timers_due() const noexcept;
    std::size_t fire_timers() noexcept;
    std::size_t fire(worker& own, std::uint64_t now) noexcept; ///< the caller's own
    std::size_t fire_before_rest(worker& own) noexcept;        ///< nobody looks for one that sleeps
    std::uint64_t next_timer() const noexcept;
    /// Where that worker sleeps if nobody else does, and what it polls.
    driver_slot& driver_of(std::size_t place) noexcept {
        return *drivers_[drivers_.size() == 1 ? 0 : place];
    }
    /// How long it takes from a notification until the worker is up, usually.
    std::chrono::nanoseconds usual_wake() const noexcept {
        return std::chrono::nanoseconds(usual_wake_.load(std::memory_order_relaxed));
    }
    void note_wake(
        std::chrono::nanoseconds took) noexcept { // relaxed: an estimate, one of two may be lost
        const std::int64_t before = usual_wake_.load(std::memory_order_relaxed);
        usual_wake_.store(before + (took.count() - before) / 8, std::memory_order_relaxed);
    }
    bool has_drivers_each() const noexcept { return drivers_.size() > 1; } ///< a reactor a worker
    /// The reactor of another worker that is busy, for worker `place`.
    void poll_another(std::size_t place, std::uint32_t start) noexcept;
    /// @param watches  it looks after those who run
    void park_driver(std::size_t place, futex::time_point limit, bool watches) noexcept;
    void ensure_watched() noexcept;
    // --- with a reactor each: who looks after those who run ---
    bool try_keep(std::size_t place) noexcept;
    void stop_keeping() noexcept;
    /// Whether somebody got up a moment ago.
    bool was_up_just_now() const noexcept {
        return time.tick_now() - last_up_.load(std::memory_order_relaxed) <= 5;
    }
    /// A reactor that was not asked in that round of the clock, or null.
    driver_slot* not_asked_in(std::uint64_t round) const noexcept;
    driver& install_driver(driver_factory make); ///< makes the I/O driver, or gives the one there is
    bool visited() const noexcept {              // relaxed: see visitor
        return visitors_.load(std::memory_order_relaxed) > 0;
    }

    // --- messages, on its thread ---
    void post(std::size_t to, shard_message& m) noexcept {
        workers.front()->messages.add();
        if (mail.post(to, m))
            send_mail();
    }
    void send_mail() noexcept;
    bool receive_mail() noexcept; ///< whether there was any

    // --- for the group ---
    void closes() noexcept { closing_.store(true, std::memory_order_relaxed); } // a hint
    /// Everything has ended. Relaxed: a worker's loop ends by it, and who wants to see what was done joins
    /// its thread, or asks the group.
    void stops() noexcept { stopped_.store(true, std::memory_order_relaxed); }
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
    const neighbourhood neighbours; // whom thieves ask first

private:
    friend class worker;

    class visitor;
    class route;

    template <class Notify>
    void send(magpie::detail::inbox& to, parcel p, Notify notify) noexcept;
    void ensure_kept() noexcept;
    void wake_for_timer(worker& of, std::uint64_t tick) noexcept;
    std::size_t settle(worker& of, worker_timers::looked found) noexcept;
    void introduce(cell& c) noexcept;
    void retire_elsewhere() noexcept;

    std::vector<std::unique_ptr<driver_slot>> drivers_; // one, or one for each worker
    mutex installing_;
    atomic<bool> closing_{false}; // copies of the group's, near at hand
    atomic<bool> stopped_{false};

    // What workers write when they lie down and get up, and what other threads write each time: each on lines of
    // its own, apart from what every worker reads each turn.
    alignas(64) mutex watching_; // who looks after the others
    // With a reactor each: see ensure_kept().
    atomic<std::size_t> keeper_{idle_set::nobody};
    atomic<std::uint64_t> last_up_{0}; // a tick
    atomic<std::int64_t> usual_wake_{0};

    alignas(64) atomic<std::uint64_t> external_spawned_{0};
    atomic<std::uint64_t> external_ended_{0};
    atomic<std::uint64_t> remote_schedules_{0};
    // R31: threads that are no workers and are between taking a strand and having notified.
    atomic<std::size_t> visitors_{0};
};

} // namespace magpie::detail
