#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace magpie::detail {

/// What one shard has sent another: bounded, one thread puts in, one takes out. Who finds it full can ask
/// to be told when there is room.
template <class T, std::size_t Capacity = 128>
class shard_ring {
    static_assert((Capacity & (Capacity - 1)) == 0, "indices wrap around by a mask");

public:
    static constexpr std::size_t capacity = Capacity;

    shard_ring() noexcept = default;
    shard_ring(const shard_ring&) = delete;
    shard_ring& operator=(const shard_ring&) = delete;

    // --- the sender ---

    /// False if it is full.
    bool push(T& x) noexcept {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed); // ours
        if (tail - seen_head_ == Capacity) {
            seen_head_ = head_.load(std::memory_order_acquire); // (R)
            if (tail - seen_head_ == Capacity)
                return false;
        }
        slots_[tail % Capacity] = &x;
        tail_.store(tail + 1, std::memory_order_release); // (S)
        return true;
    }

    /// Asks to be told when there is room. Afterwards the sender tries once more: the receiver may have
    /// made room before it could see this.
    void ask_for_room() noexcept {
        wants_room_.exchange(true, std::memory_order_acquire); // (W)
    }

    // --- the receiver ---

    /// The oldest, as many as there are and have room. Returns how many.
    std::size_t pop(std::span<T*> into) noexcept {
        const std::uint64_t head = head_.load(std::memory_order_relaxed); // ours
        if (head == seen_tail_)
            seen_tail_ = tail_.load(std::memory_order_acquire); // (S)
        const std::size_t n = std::min<std::size_t>(seen_tail_ - head, into.size());
        for (std::size_t i = 0; i < n; ++i)
            into[i] = slots_[(head + i) % Capacity];
        if (n > 0)
            head_.store(head + n, std::memory_order_release); // (R)
        return n;
    }
    /// The oldest, or null.
    T* pop() noexcept {
        T* x = nullptr;
        pop(std::span(&x, 1));
        return x;
    }

    /// Brings nearer what the next pop reads.
    void prefetch() const noexcept {
        __builtin_prefetch(&tail_);
        __builtin_prefetch(&slots_[head_.load(std::memory_order_relaxed) % Capacity]);
    }

    /// After some pops: whether the sender is to be told that there is room.
    bool room_is_wanted() noexcept {
        return wants_room_.exchange(false, std::memory_order_release); // (W)
    }

private:
    // head_ and tail_ only grow; index i lives in slot i % Capacity.
    //
    // I1. head_ <= tail_ <= head_ + Capacity. The sender writes slots at tail_ only, the receiver reads
    //     those in [head_, tail_): no slot is written while it is read.
    //
    // (S) push -> pop: the tail (release) carries the slot, and what it points at.
    // (R) pop -> push: the head (release) says that the slot was read.
    // (W) Of the two exchanges one is later: either the receiver sees the wish, and looks at nothing else, or
    //     the sender (acquire), which tries again, sees the room that was made before the receiver's (release).
    alignas(64) atomic<std::uint64_t> head_{0}; // the receiver's
    std::uint64_t seen_tail_ = 0;
    alignas(64) atomic<std::uint64_t> tail_{0}; // the sender's
    std::uint64_t seen_head_ = 0;
    alignas(64) atomic<bool> wants_room_{false};
    alignas(64) std::array<T*, Capacity> slots_{};
};

} // namespace magpie::detail
