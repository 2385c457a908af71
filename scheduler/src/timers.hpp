#pragma once

#include "timer_wheel.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/timer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// One worker's timers: a wheel behind a lock that is hardly ever contended, for a task that has
/// moved cancels from elsewhere.
class worker_timers {
public:
    /// @param shared  false: the tasks never move, so the worker's thread alone calls what is not const
    explicit worker_timers(bool shared = true) noexcept : lock_(shared) {}

    /// Adds an entry. Returns true if it is now the first that is due.
    bool arm(timer_entry& e, std::uint64_t tick) noexcept {
        const lock_guard guard(lock_);
        e.wheel = this;
        e.armed = true;
        wheel_.insert(e, tick);
        // Written under the lock. With stamp_first there the owner is awake, and stamp() tells the rest.
        if (tick >= next_.load(std::memory_order_relaxed))
            return false;
        // seq_cst: the caller reads next until when the driver's sleeper sleeps; that one writes
        // it and then reads this. If both read old values, the timer is late.
        set_next(tick);
        return true;
    }

    /// Adds an entry that is due `ms` milliseconds after the next `stamp`, which the owner sees to: it
    /// alone calls this, while it is awake. What is taken back before then was never in the wheel.
    void arm_later(timer_entry& e, std::uint64_t ms) noexcept {
        const lock_guard guard(lock_);
        e.wheel = this;
        e.armed = true;
        e.list = timer_entry::unstamped;
        e.tick = ms;
        e.previous = nullptr;
        e.next = unstamped_;
        if (unstamped_ != nullptr)
            unstamped_->previous = &e;
        unstamped_ = &e;
        // Relaxed: nobody has to hear of it but those who look in passing. stamp() tells a sleeper.
        if (next_.load(std::memory_order_relaxed) != stamp_first)
            next_.store(stamp_first, std::memory_order_relaxed);
    }

    /// Whether next() cannot tell yet.
    bool wants_stamp() const noexcept {
        // Relaxed: written by the owner, which asks, and taken back by whoever has stamped.
        return next_.load(std::memory_order_relaxed) == stamp_first;
    }

    /// Gives deadlines to those that `arm_later` has added. Returns true if next() may be earlier than it
    /// was for who went to sleep before.
    bool stamp(std::uint64_t now) noexcept {
        const lock_guard guard(lock_);
        if (!wants_stamp())
            return false;
        while (timer_entry* const e = unstamped_) {
            unstamped_ = e->next;
            wheel_.insert(*e, now + e->tick + 1); // `now` has begun already: never early
        }
        set_next(first_look()); // as in arm: to read it back would not put a plain store in order
        return true;
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
            return true;
        }
        const bool emptied = wheel_.remove(e);
        // A deadline that nobody waits for any more must not wake anybody, nor move a paused clock.
        // It may be next though it is later: next_ is then when its slot is to be sorted.
        // Relaxed: it is no earlier than what was there, and who reads that looks in vain.
        if (emptied || e.tick <= next_.load(std::memory_order_relaxed))
            next_.store(first_look(), std::memory_order_relaxed);
        return true;
    }

    /// When to look next; `timer_wheel::never` without timers. May be too early (a slot is to be
    /// sorted then), never too late.
    std::uint64_t next() const noexcept { return next_.load(std::memory_order_seq_cst); } // see arm

    /// Wakes the waiters of all entries due by `now`. Returns how many.
    std::size_t fire(std::uint64_t now) noexcept {
        timer_entry* due;
        {
            const lock_guard guard(lock_);
            due = wheel_.advance(now); // disarmed: a disarm is told that the wake is coming
            next_.store(first_look(), std::memory_order_relaxed); // as in disarm
        }
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

    owner_lock lock_;
    static constexpr std::uint64_t stamp_first =
        0; // a tick that is always due: fire() looks at the clock

    timer_wheel wheel_;                // guarded by lock_
    timer_entry* unstamped_ = nullptr; // guarded by lock_

    /// What next_ has to be, under lock_.
    std::uint64_t first_look() const noexcept {
        return unstamped_ != nullptr ? stamp_first : wheel_.next_tick();
    }
    atomic<std::uint64_t> next_{timer_wheel::never}; // written under lock_
};

} // namespace magpie::detail
