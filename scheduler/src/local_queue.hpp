#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// A worker's run queue: a ring of fixed size, first in first out. The worker alone pushes; it
/// and any number of thieves take from the front.
template <std::size_t Capacity = 256>
class local_queue {
    static_assert((Capacity & (Capacity - 1)) == 0, "indices are masked");

public:
    static constexpr std::size_t capacity = Capacity;

    /// @param thieves  false: there is nobody but the worker
    explicit local_queue(bool thieves = true) noexcept : thieves_(thieves) {}
    local_queue(const local_queue&) = delete;
    local_queue& operator=(const local_queue&) = delete;

    // --- the worker ---

    /// Returns false when the ring is full.
    bool push(strand& s) noexcept {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed); // ours alone
        if (tail - head_.load(std::memory_order_acquire) == Capacity)     // (T)
            return false;
        slot(tail).store(&s, std::memory_order_relaxed); // published by the tail
        // (P). No read-modify-write, though the caller reads the idle word next (R39): what is lost
        // if a worker that lies down misses this is help, not work, for this worker itself comes to
        // it; and while this worker is awake that one sleeps for a millisecond at most.
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }

    /// The oldest, or null.
    strand* pop() noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed); // the CAS checks it
        for (;;) {
            if (head == tail_.load(std::memory_order_relaxed)) // ours
                return nullptr;
            strand* const s = slot(head).load(std::memory_order_relaxed); // our own write
            if (!thieves_) {
                prefetch(slot(head + 2).load(std::memory_order_relaxed));
                head_.store(head + 1, std::memory_order_relaxed); // for statistics
                return s;
            }
            // Release: (T), for the slot is free from here on.
            if (head_.compare_exchange_weak(head, head + 1, std::memory_order_release,
                                            std::memory_order_relaxed)) {
                // Tasks that have waited long are out of the caches: the next ones come nearer
                // while this one runs. Stale slots are harmless to ask for.
                prefetch(slot(head + 2).load(std::memory_order_relaxed));
                return s;
            }
        }
    }

    static constexpr std::size_t half = Capacity / 2;

    /// Takes the older half out of a full ring. False if thieves have made room meanwhile.
    bool take_half(std::array<strand*, half>& taken) noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed); // the CAS checks it
        if (tail_.load(std::memory_order_relaxed) - head < Capacity)
            return false;
        for (std::size_t i = 0; i < half; ++i)
            taken[i] = slot(head + i).load(std::memory_order_relaxed);
        return head_.compare_exchange_strong(head, head + half, std::memory_order_release, // (T)
                                             std::memory_order_relaxed);
    }

    /// Index that the next push will get; pops give strands in the order of their indices.
    std::uint64_t tail_index() const noexcept { return tail_.load(std::memory_order_relaxed); }
    std::uint64_t head_index() const noexcept { return head_.load(std::memory_order_relaxed); }

    // --- anybody ---

    /// How many are queued: exact for the worker when nobody steals.
    std::size_t size() const noexcept {
        // Relaxed: a hint, also for a worker that lies down. push() is no read-modify-write, so whatever
        // this one's order, what was pushed just now may be missed (see there).
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
        return tail > head ? static_cast<std::size_t>(tail - head) : 0;
    }

    /// Moves half of this queue, but not more than `most`, into `to`, the empty queue of the calling
    /// worker, and gives the oldest of them to run at once. Null if there was nothing, or a race was
    /// lost.
    strand* steal_into(local_queue& to, std::uint64_t most = Capacity) noexcept {
        const std::uint64_t to_tail = to.tail_.load(std::memory_order_relaxed); // the caller's own
        std::uint64_t head = head_.load(std::memory_order_relaxed);             // the CAS checks it
        const std::uint64_t tail = tail_.load(std::memory_order_acquire);       // (P)
        if (tail <= head)
            return nullptr;
        const std::uint64_t count = std::min(tail - head, std::uint64_t{Capacity});
        const std::uint64_t n = std::min(count - count / 2, most);
        // Copied before they are ours: if the head has not moved by then, nobody has taken or
        // overwritten them (I2).
        strand* const first = slot(head).load(std::memory_order_relaxed);
        for (std::uint64_t i = 1; i < n; ++i)
            to.slot(to_tail + i - 1)
                .store(slot(head + i).load(std::memory_order_relaxed), std::memory_order_relaxed);
        if (!head_.compare_exchange_strong(head, head + n, std::memory_order_release, // (T)
                                           std::memory_order_relaxed))
            return nullptr;
        if (n > 1)
            to.tail_.store(to_tail + n - 1, std::memory_order_release); // (P)
        return first;
    }

private:
    // head_ and tail_ only grow; index i lives in slot i % Capacity.
    //
    // I1. head_ <= tail_ <= head_ + Capacity, as the worker sees them.
    // I2. A slot in [head_, tail_) is never written: the worker writes only at tail_, and only
    //     when tail_ - head_ < Capacity. So what a thief read there is right if its CAS succeeds.
    // I3. 64-bit indices do not come back: no ABA.
    //
    // (P) push -> thief: the tail (release) carries the slot, and the strand as its waker left it.
    // (T) take -> push: the head (release) tells the worker that the slots have been read.
    static void prefetch(const strand* s) noexcept { // the strand, and the end of its cell
        __builtin_prefetch(s, 1);
        // As a number: the slot may be empty, and null has no neighbours.
        __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(s) + 64), 1);
    }
    atomic<strand*>& slot(std::uint64_t index) noexcept { return slots_[index % Capacity]; }

    const bool thieves_;
    alignas(64) atomic<std::uint64_t> head_{0}; // written by everybody
    alignas(64) atomic<std::uint64_t> tail_{0}; // written by the worker
    std::array<atomic<strand*>, Capacity> slots_{};
};

} // namespace magpie::detail
