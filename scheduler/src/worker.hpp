#pragma once

#include "blocking_pool.hpp"
#include "company.hpp"
#include "local_queue.hpp"
#include "parker.hpp"
#include "patience.hpp"
#include "recent_stack.hpp"
#include "timers.hpp"
#include "worker_seat.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/fork.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/scheduler/metrics.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace magpie::detail {

class driver_slot;
class runtime_core;

/// A counter that one thread at a time writes and others read.
class counter {
public:
    void add(std::uint64_t n = 1) noexcept {
        // Relaxed, and no read-modify-write: one writer; readers want a recent value.
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    atomic<std::uint64_t> value_{0};
};

/// One worker: its queue, its newest tasks, its timers, and the loop. It runs on one thread at a time,
/// which may change (block_in_place).
class alignas(64) worker final : public blocking_job {
public:
    /// @param place  its number among the workers of its shard
    /// @param alone  it is the only one there
    worker(runtime_core& core, std::size_t place, std::uint64_t seed, bool alone);

    /// The worker that the calling thread runs, null if it runs none.
    static worker* current() noexcept { return of(this_thread()); }
    static worker* of(const thread_state& t) noexcept { return static_cast<worker*>(t.worker); }

    // --- on the worker's thread ---

    /// Runs until the runtime stops, or the thread has lost the worker.
    void run() noexcept override;
    void finish() noexcept override {}
    void refuse() noexcept override {}
    std::string describe() const override { return {}; }

    /// Runs on the calling thread until `done()`, or until nothing is ready and `deadline` has
    /// passed; for current_thread.
    void run_until(const std::function<bool()>& done, futex::time_point deadline);

    void schedule(strand& s, executor::placement where, const thread_state& here) noexcept;
    bool run_now(cell& c) noexcept;
    std::uint64_t next_id() noexcept;
    /// One of the tasks that are pinned to this worker is ready: it is not looked for before each turn, so
    /// this makes the next regular look come early.
    void look_soon() noexcept { injected_ = tick_ - global_queue_interval_; }

    // --- from any thread ---

    runtime_core& core() const noexcept { return core_; }
    std::size_t index() const noexcept { return index_; } ///< among all of the runtime
    std::size_t place() const noexcept { return place_; } ///< among those of its shard
    worker_metrics metrics() const noexcept;
    /// It is about to be notified: so that it can tell how long that took.
    void note_notified(futex::time_point at) noexcept {
        notified_at_.store(at.time_since_epoch().count(), std::memory_order_relaxed); // an estimate
    }
    /// Whether there is something that a thief could take.
    bool has_queued() const noexcept { return forks_.size() > 0 || has_tasks_queued(); }
    /// Whether one shall: not if somebody rests to leave this worker its tasks. That one will come.
    bool has_for_thieves() const noexcept {
        return forks_.size() > 0 || (!rests_.is_relied_on() && has_tasks_queued());
    }

    worker_timers timers;
    magpie::detail::parker parker;
    // On a line of their own: others look at timers.next(), and would take it from who counts.
    alignas(64) counter spawned;
    counter messages;               ///< that its thread has sent to other shards
    atomic<std::uint64_t> ended{0}; // written by one thread; release: see runtime_core::all_ended

    // --- for whoever watches: is it stuck, and in what? ---

    std::uint64_t turn_number() const noexcept { return turns_.get(); }
    /// How much it has done: see `company`.
    std::uint64_t done() const noexcept { return done_.get(); }
    /// The id of the task whose turn it runs, 0 between turns.
    std::uint64_t running_id() const noexcept { return running_id_.load(std::memory_order_relaxed); }
    std::uintptr_t running_where() const noexcept {
        return running_where_.load(std::memory_order_relaxed);
    }
    /// What waits behind a turn that does not end.
    strand* take_recent() noexcept { return recent_.steal_any(); }
    std::uint64_t seen_turn = 0;  // what was seen last; guarded by runtime_core's watching_
    futex::time_point seen_since; // since when
    bool reported = false;        // that it is stuck

private:
    class lane final : public fork_lane {
    public:
        lane(worker& w, bool thieves);

    private:
        void call_for_help() noexcept override;
        std::uint32_t measure() noexcept override;

        worker& worker_;
        futex::time_point measured_;
    };

    strand* next() noexcept;
    bool receive() noexcept;
    void receive_before_yielded() noexcept;
    bool is_regular_look() noexcept;
    bool run_pinned() noexcept;
    strand* one_from_injector() noexcept;
    strand* share_from_injector() noexcept;
    strand* search() noexcept;
    strand* steal_once() noexcept;
    bool last_steal_paid() noexcept;
    void note_steal(const worker& victim, std::uint64_t n) noexcept;
    void consider_rest() noexcept;
    void leave_to(const worker& victim) noexcept;
    void execute(strand& s) noexcept;
    std::uint32_t take_turn(cell& c) noexcept;
    bool lost() const noexcept { return current() != this; }
    bool has_tasks_queued() const noexcept { return ring_.size() > 0 || recent_.has_for_thieves(); }
    void push(strand& s) noexcept;
    void push_and_share(strand& s) noexcept;
    void wake_another() noexcept;
    void maintain() noexcept;
    void maintain_all() noexcept;
    bool poll_driver() noexcept;  ///< false if somebody else is in it
    bool poll_another() noexcept; ///< whether there is something in the ring now
    bool has_come() noexcept;
    void park() noexcept;
    bool sleep() noexcept;
    strand* look_after_others() noexcept;
    void found_work() noexcept {
        if (searching_) [[unlikely]]
            stop_searching();
    }
    void stop_searching() noexcept;
    bool wants_help() const noexcept;
    bool leaves_driver(
        const driver_slot& driver) noexcept; ///< to another, for who lies down while others run
    std::int64_t usual_turn() const noexcept { return usual_turn_.load(std::memory_order_relaxed); }
    /// Nanoseconds that what is queued here will take.
    std::int64_t waiting_work() const noexcept {
        return static_cast<std::int64_t>(ring_.size() + recent_.size()) * usual_turn();
    }
    bool is_asleep() const noexcept { return asleep_.load(std::memory_order_relaxed); } // (S)
    std::uint32_t random(std::uint32_t below) noexcept;
    std::uint32_t seed_of_selects() noexcept;

    runtime_core& core_;
    const std::size_t index_;
    const std::size_t place_;
    const std::uint32_t event_interval_; // of the options, near at hand, as the next
    const std::uint32_t global_queue_interval_;

    // The thread's own.
    std::uint32_t tick_ = 0;
    std::uint32_t recent_run_ = 0;  // how many in a row came from recent_
    std::uint32_t nested_ = 0;      // turns that run inside another now
    std::uint32_t nested_left_ = 0; // how many more the outermost turn may have inside it
    std::uint32_t maintained_ = 0;  // the tick_ of the last regular look at timers and driver
    std::uint32_t injected_ = 0;    // the tick_ of the last regular look at the injector, or earlier
    std::uint32_t looked_for_injected_ = 0; // the same, and not earlier: see look_soon()
    std::uint64_t random_;                  // xorshift64*
    std::uint32_t looked_at_ = 0;           // the tick_ of the last look at the clock
    std::uint32_t look_every_ = 1;          // turns between two of them
    std::uint64_t last_look_ = 0;           // what it said, in milliseconds
    std::uint64_t poll_before_; // ring index whose strand runs only after a look at reactor and timers
    std::uint64_t last_id_ = 0;
    bool searching_ = false;
    std::uint64_t stolen_last_ = 0; // how many the last steal took, until it is known whether it paid
    std::uint64_t steal_most_ = local_queue<>::capacity; // 1 after one that did not
    futex::time_point stole_at_;
    company company_;
    patience before_sleep_;
    std::uint32_t looks_ = 0; // in has_come()
    bool in_driver_ = false;  // what becomes ready now comes with a batch of events
    futex::time_point wake_by_ = futex::time_point::max();
    bool trimmed_ = false;          // the frame lists were given back in this sleep
    std::uint32_t seen_sleeps_ = 0; // in the driver, when leaves_driver() was asked last
    strand* found_ = nullptr;       // taken before a sleep, or from a stuck worker's slot in it
    futex::time_point awake_since_;
    std::uint64_t turns_before_ = 0; // turns_ then
    // Nanoseconds, a moving average over the times between two sleeps. Others read it: relaxed, an estimate.
    atomic<std::int64_t> usual_turn_{100'000};

    const bool alone_; // the only worker: nobody steals, and there is nobody to wake
    recent_stack recent_;
    local_queue<> ring_;
    lane forks_;
    // What was forked below this index waits for no turn of its parent's: that went idle, not to the end
    // of the ring.
    std::uint64_t left_behind_ = 0;
    bool split_ = false; // the turn was split: its strand is queued again

    rests rests_; // written by others, too, but rarely
    // (S) who lies down -> who lies down later: both change the idle set's word, the second one sees this.
    atomic<bool> asleep_{false};
    atomic<futex::time_point::rep> notified_at_{0}; // 0: it was not, since it got up last

    counter turns_, done_;
    atomic<std::uint64_t> running_id_{0};
    atomic<std::uintptr_t> running_where_{0};
    counter steals_, stolen_, overflows_, parks_, unparks_, fired_, busy_ns_;

public:
    worker_seat seat; ///< of the tasks that are pinned to this worker, where others steal from it
};

} // namespace magpie::detail
