#pragma once

#include "biased_lock.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace magpie::detail {

/// What a worker's tasks have just made ready: it runs the newest first, whose data is in the
/// caches, and which keeps a tree of tasks as shallow as its depth. The LIFO slot of other
/// schedulers, a few places deep. The worker alone puts in; anybody may take out.
class recent_stack {
public:
    static constexpr std::uint32_t capacity = 64; // below the newest

    /// @param thieves  false: there is nobody but the worker
    explicit recent_stack(bool thieves = true) noexcept : thieves_(thieves) {}
    recent_stack(const recent_stack&) = delete;
    recent_stack& operator=(const recent_stack&) = delete;

    // --- the worker ---

    /// Adds the newest. Gives the oldest if there was no room for both, else null.
    strand* push(strand& s) noexcept {
        strand* const before = take_newest();
        newest_.store(&s, std::memory_order_release); // (P); it is empty: nobody else puts anything in
        return before != nullptr ? push_below(*before) : nullptr;
    }

    /// The newest, or null.
    strand* pop() noexcept {
        strand* s = take_newest();
        if (s == nullptr)
            s = pop_below();
        raise();
        return s;
    }

    /// Takes out `s` if it is among the newest `capacity / 4`. Returns whether it was.
    bool remove(strand& s) noexcept {
        if (newest_.load(std::memory_order_relaxed) == &s) { // only this worker puts anything in
            const bool taken = take_newest() != nullptr;
            raise();
            return taken;
        }
        const std::uint32_t top = top_.load(std::memory_order_relaxed);
        const std::uint32_t n = std::min(top - bottom_.load(std::memory_order_relaxed), capacity / 4);
        for (std::uint32_t i = 1; i <= n; ++i) {
            atomic<strand*>& p = place(top - i);
            if (p.load(std::memory_order_relaxed) != &s)
                continue;
            if (take(p) == nullptr) // a thief was faster
                return false;
            if (i == 1)
                top_.store(top - 1, std::memory_order_relaxed);
            return true;
        }
        return false;
    }

    /// The oldest, or null.
    strand* pop_oldest() noexcept {
        strand* const s = pop_oldest_below();
        return s != nullptr ? s : take_newest();
    }

    // --- anybody ---

    /// How many places are in use; some of them may have been emptied by thieves.
    std::uint32_t size() const noexcept {
        return size_below() + (newest_.load(std::memory_order_relaxed) != nullptr ? 1 : 0);
    }

    /// Whether steal() would find something. Relaxed: a hint, also for who lies down, as is
    /// local_queue::size().
    bool has_for_thieves() const noexcept {
        const std::uint32_t bottom = bottom_.load(std::memory_order_relaxed);
        const std::uint32_t top = top_.load(std::memory_order_relaxed);
        for (std::uint32_t i = bottom; i != top && i - bottom < capacity; ++i)
            if (places_[i % capacity].load(std::memory_order_relaxed) != nullptr)
                return true;
        return false;
    }

    /// The oldest, but not the newest, which is next here; null if there is none.
    strand* steal() noexcept {
        const std::uint32_t bottom = bottom_.load(std::memory_order_relaxed); // hints: what counts
        const std::uint32_t n = size_below();                                 // is the exchange
        for (std::uint32_t i = 0; i < n && i < capacity; ++i)
            if (strand* const s = take(place(bottom + i)))
                return s;
        return nullptr;
    }

    /// The same with the newest, for a worker that is stuck: dear where only that is left. Null also if
    /// another one is at it.
    strand* steal_any() noexcept {
        if (strand* const s = steal())
            return s;
        if (newest_.load(std::memory_order_relaxed) == nullptr || !newest_lock_.try_visit()) // a hint
            return nullptr;
        strand* const s = newest_.load(std::memory_order_acquire); // (P)
        if (s != nullptr) // else the worker may put the next one there, without the lock (I3)
            newest_.store(nullptr, std::memory_order_relaxed); // the lock carries it
        newest_lock_.leave();
        return s;
    }

private:
    // I1. Places outside of [bottom_, top_) are empty: the worker moves an end inwards only after
    //     it has emptied the place. So a push overwrites nothing.
    // I2. A strand leaves a place by the exchange of who gets it, so it leaves once; and newest_ under the lock.
    // I3. The worker alone puts a strand into newest_, when that is empty, for which it needs no lock: so nobody
    //     else writes it while it is empty. What the worker finds there under the lock no visitor has got.
    // (P) push -> take: the place carries the strand as its waker left it.
    std::uint32_t size_below() const noexcept {
        return top_.load(std::memory_order_relaxed) - bottom_.load(std::memory_order_relaxed);
    }
    strand* take_newest() noexcept {
        if (newest_.load(std::memory_order_relaxed) == nullptr) // nobody else puts anything in
            return nullptr;
        if (thieves_)
            newest_lock_.lock();
        strand* const s = newest_.load(std::memory_order_relaxed); // ours, or a visitor's null
        newest_.store(nullptr, std::memory_order_relaxed);         // the lock carries it
        if (thieves_)
            newest_lock_.unlock();
        return s;
    }
    /// Makes the next one below the newest, if newest_ is empty: thieves leave it here.
    void raise() noexcept {
        if (size_below() > 0)
            if (strand* const s = pop_below())
                newest_.store(s, std::memory_order_release); // (P)
    }
    strand* push_below(strand& s) noexcept {
        const std::uint32_t top = top_.load(std::memory_order_relaxed); // ours, as bottom_
        strand* const out = size_below() == capacity ? pop_oldest_below() : nullptr;
        place(top).store(&s, std::memory_order_release); // (P); the place is empty: I1
        top_.store(top + 1, std::memory_order_relaxed);
        return out;
    }
    strand* pop_below() noexcept {
        std::uint32_t top = top_.load(std::memory_order_relaxed);
        const std::uint32_t bottom = bottom_.load(std::memory_order_relaxed);
        while (top != bottom) {
            --top;
            if (strand* const s = take(place(top))) {
                top_.store(top, std::memory_order_relaxed);
                return s;
            }
        }
        top_.store(top, std::memory_order_relaxed);
        return nullptr;
    }
    strand* pop_oldest_below() noexcept {
        const std::uint32_t top = top_.load(std::memory_order_relaxed);
        std::uint32_t bottom = bottom_.load(std::memory_order_relaxed);
        while (bottom != top) {
            strand* const s = take(place(bottom++));
            bottom_.store(bottom, std::memory_order_relaxed);
            if (s != nullptr)
                return s;
        }
        return nullptr;
    }
    strand* take(atomic<strand*>& p) noexcept {
        strand* const s = p.load(std::memory_order_relaxed);
        if (s == nullptr) // a hint: spare the line
            return nullptr;
        if (!thieves_) {
            p.store(nullptr, std::memory_order_relaxed); // our own write
            return s;
        }
        return p.exchange(nullptr, std::memory_order_acquire); // (P)
    }
    atomic<strand*>& place(std::uint32_t position) noexcept { return places_[position % capacity]; }

    const bool thieves_;
    atomic<strand*> newest_{nullptr}; // what most pushes and pops are about: no read-modify-write
    biased_lock newest_lock_;
    atomic<std::uint32_t> bottom_{0}; // both written by the worker alone, and only grow apart by
    atomic<std::uint32_t> top_{0};    // `capacity`; others read them as hints
    std::array<atomic<strand*>, capacity> places_{};
};

} // namespace magpie::detail
