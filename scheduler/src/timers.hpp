#pragma once

#include "timer_wheel.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/timer.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// One worker's timers: a wheel behind a lock that is hardly ever contended, for a task that has
/// moved cancels from elsewhere.
///
/// Long waits are mostly limits, taken back long before they are due, many of them within a tick. They go to
/// a list beside the wheel (`arm_later`), and from there into the wheel when the clock has moved on: one that
/// does not live so long costs neither a read of the clock nor a place in the wheel.
//
// I1. Newest first, the list has those that were added after the last look, and, from seen_ on, those that were
//     there at that look. `wheel_.elapsed()` is that look's tick: so the second part counts from that, whenever
//     it goes into the wheel.
// I2. look_by_ is `never` only if the list is empty, else the tick after the last look's at the latest. Its owner
//     looks more often than that; others do so if it is stuck in a turn.
// I3. The list is empty while its owner sleeps: see `look`.
class worker_timers {
public:
    /// @param shared  false: the tasks never move, so one thread at a time calls what is not const: the one that
    ///                runs the worker
    explicit worker_timers(bool shared = true) noexcept : lock_(shared) {}

    /// Adds an entry. Returns true if it is now the first in the wheel that is due.
    bool arm(timer_entry& e, std::uint64_t tick) noexcept {
        const lock_guard guard(lock_);
        e.wheel = this;
        e.armed = true;
        wheel_.insert(e, tick);
        if (tick >= next_.load(std::memory_order_relaxed)) // written under the lock
            return false;
        // seq_cst: the caller reads next until when the driver's sleeper sleeps; that one writes
        // it and then reads this. If both read old values, the timer is late.
        set_next(tick);
        return true;
    }

    /// Adds an entry that is due `d` after the next `look`, which the owner sees to: it alone calls this,
    /// while it is awake.
    void arm_later(timer_entry& e, clock::duration d) noexcept {
        const lock_guard guard(lock_);
        e.wheel = this;
        e.armed = true;
        e.list = timer_entry::unstamped;
        e.tick = static_cast<std::uint64_t>(d.count());
        e.previous = nullptr;
        e.next = unstamped_;
        if (unstamped_ != nullptr)
            unstamped_->previous = &e;
        unstamped_ = &e;
        // Relaxed: nobody has to hear of it but those who look in passing. look() tells a sleeper.
        if (!has_unstamped())
            look_by_.store(wheel_.elapsed() + 1, std::memory_order_relaxed);
    }

    /// Whether some that `arm_later` has added may not be in the wheel yet. For the owner.
    bool has_unstamped() const noexcept {
        // Relaxed: written under the lock. The owner sees what it has written, or what a later look has.
        return look_by_.load(std::memory_order_relaxed) != timer_wheel::never;
    }

    struct looked {
        timer_entry* due;     ///< to be woken by `wake_all`
        std::uint64_t sooner; ///< the first tick, if it is sooner than who sleeps knows; else `never`
    };

    /// Takes out what is due by now, and gives their deadlines to those that `arm_later` has added before the
    /// last look in an earlier tick.
    /// @param tick_now  gives the time; asked under the lock, unless the owner looks: another thread may have
    ///                  read the clock before an entry came, which would then be due too early
    /// @param rest      the owner will sleep: nobody has to look again before something is due
    template <class Clock>
    looked look(const Clock& tick_now, bool rest = false) noexcept {
        const lock_guard guard(lock_);
        looked found{nullptr, timer_wheel::never};
        const std::uint64_t now = tick_now();
        std::uint64_t stamped = timer_wheel::never;
        if (now > wheel_.elapsed()) {
            stamped = stamp();
            found.due = wheel_.advance(now); // disarmed: a disarm is told that the wake is coming
        }
        seen_ = unstamped_;
        if (rest)
            stamped = std::min(stamped, stamp());
        // Relaxed: as in arm_later.
        look_by_.store(unstamped_ != nullptr ? wheel_.elapsed() + 1 : timer_wheel::never,
                       std::memory_order_relaxed);
        const std::uint64_t next = next_.load(std::memory_order_relaxed);
        const std::uint64_t first = std::min(next, stamped) <= now ? wheel_.next_tick() : stamped;
        if (next <= now) {
            next_.store(first, std::memory_order_relaxed); // later: as in disarm
        } else if (first < next) {
            set_next(first); // as in arm
            found.sooner = first;
        }
        return found;
    }

    /// Takes an entry back. False if it has been taken to be fired.
    bool disarm(timer_entry& e) noexcept {
        const lock_guard guard(lock_);
        if (!e.armed)
            return false;
        e.armed = false;
        if (e.list == timer_entry::unstamped) {
            (e.previous != nullptr ? e.previous->next : unstamped_) = e.next;
            if (e.next != nullptr)
                e.next->previous = e.previous;
            if (seen_ == &e)
                seen_ = e.next;
            return true;
        }
        const bool emptied = wheel_.remove(e);
        // A deadline that nobody waits for any more must not wake anybody, nor move a paused clock.
        // It may be next though it is later: next_ is then when its slot is to be sorted.
        // Relaxed: it is no earlier than what was there, and who reads that looks in vain. (When a slot is to
        // be sorted may be earlier. Who sleeps until next_ would not know of it, and arm not tell him.)
        const std::uint64_t next = next_.load(std::memory_order_relaxed);
        if (emptied || e.tick <= next)
            next_.store(std::max(next, wheel_.next_tick()), std::memory_order_relaxed);
        return true;
    }

    /// When to look next; `timer_wheel::never` without timers. May be too early (a slot is to be
    /// sorted then, or what is timed later is gone), never too late.
    std::uint64_t next() const noexcept {
        return std::min(next_.load(std::memory_order_seq_cst),     // see arm
                        look_by_.load(std::memory_order_relaxed)); // see arm_later
    }

    /// Wakes the waiters of entries that `look` has given. Returns how many.
    static std::size_t wake_all(timer_entry* due) noexcept {
        // Tasks that have slept are out of the caches: a group of them is fetched together, step by step,
        // for each step's address stands in what the one before it has brought.
        std::array<leaf*, 16> group;
        std::size_t n = 0;
        while (due != nullptr) {
            std::size_t size = 0;
            for (; due != nullptr && size < group.size(); due = due->next) // no wake has freed one yet
                group[size++] = due->waiter;
            for (std::size_t i = 0; i < size; ++i)
                leaf_access::prefetch_place(*group[i]);
            for (std::size_t i = 0; i < size; ++i)
                leaf_access::prefetch_strand(*group[i]);
            for (std::size_t i = 0; i < size; ++i) // the strands of this executor are cells
                static_cast<const cell&>(leaf_access::strand_of(*group[i])).prefetch_neighbours();
            for (std::size_t i = 0; i < size; ++i)
                wake(*group[i]);
            n += size;
        }
        return n;
    }

private:
    /// A lock that does nothing where there is one thread.
    class owner_lock {
    public:
        explicit owner_lock(bool shared) noexcept : shared_(shared) {}
        void lock() noexcept {
            if (shared_)
                lock_.lock();
        }
        void unlock() noexcept {
            if (shared_)
                lock_.unlock();
        }
        bool is_shared() const noexcept { return shared_; }

    private:
        const bool shared_;
        spin_lock lock_;
    };

    /// seq_cst where somebody else decides by it whether to sleep: see arm.
    void set_next(std::uint64_t tick) noexcept {
        if (lock_.is_shared())
            next_.exchange(tick, std::memory_order_seq_cst);
        else
            // Relaxed: its own thread reads it, and who moves a paused clock has the lock of the idle set.
            next_.store(tick, std::memory_order_relaxed);
    }

    /// Those that were there at the last look, into the wheel. Gives the first of their ticks.
    std::uint64_t stamp() noexcept {
        std::uint64_t first = timer_wheel::never;
        if (seen_ == nullptr)
            return first;
        (seen_->previous != nullptr ? seen_->previous->next : unstamped_) = nullptr;
        while (timer_entry* const e = seen_) {
            seen_ = e->next;
            const auto ms = std::chrono::ceil<std::chrono::milliseconds>(
                clock::duration(static_cast<clock::rep>(e->tick)));
            // One more, for that tick had begun already: never early.
            wheel_.insert(*e, wheel_.elapsed() + static_cast<std::uint64_t>(ms.count()) + 1);
            first = std::min(first, e->tick);
        }
        return first;
    }

    owner_lock lock_;
    timer_wheel wheel_;                // guarded by lock_, as the next two
    timer_entry* unstamped_ = nullptr; // newest first: I1
    timer_entry* seen_ = nullptr;      // the newest of those that were there at the last look

    atomic<std::uint64_t> next_{
        timer_wheel::never}; // of the wheel; written under lock_, as the next one
    atomic<std::uint64_t> look_by_{timer_wheel::never}; // I2
};

} // namespace magpie::detail
