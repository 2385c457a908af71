#pragma once

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
    static constexpr std::uint32_t capacity = 64;

    /// @param thieves  false: there is nobody but the worker
    explicit recent_stack(bool thieves = true) noexcept : thieves_(thieves) {}
    recent_stack(const recent_stack&) = delete;
    recent_stack& operator=(const recent_stack&) = delete;

    // --- the worker ---

    /// Adds the newest. Gives the oldest if there was no room for both, else null.
    strand* push(strand& s) noexcept {
        const std::uint32_t top = top_.load(std::memory_order_relaxed); // ours, as bottom_
        strand* const out = size() == capacity ? pop_oldest() : nullptr;
        place(top).store(&s, std::memory_order_release); // (P); the place is empty: I1
        top_.store(top + 1, std::memory_order_relaxed);
        return out;
    }

    /// The newest, or null.
    strand* pop() noexcept {
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

    /// Takes out `s` if it is among the newest `capacity / 4`. Returns whether it was.
    bool remove(strand& s) noexcept {
        const std::uint32_t top = top_.load(std::memory_order_relaxed);
        const std::uint32_t n = std::min(top - bottom_.load(std::memory_order_relaxed), capacity / 4);
        for (std::uint32_t i = 1; i <= n; ++i) {
            atomic<strand*>& p = place(top - i);
            if (p.load(std::memory_order_relaxed) != &s) // only this worker puts anything in
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

    // --- anybody ---

    /// How many places are in use; some of them may have been emptied by thieves.
    std::uint32_t size() const noexcept {
        return top_.load(std::memory_order_relaxed) - bottom_.load(std::memory_order_relaxed);
    }

    /// Whether steal(1) would find something: asked by who lies down (R39, so seq_cst).
    bool has_for_thieves() const noexcept {
        const std::uint32_t bottom = bottom_.load(std::memory_order_seq_cst);
        const std::uint32_t top = top_.load(std::memory_order_seq_cst);
        for (std::uint32_t i = bottom; i + 1 != top && i != top && i - bottom < capacity; ++i)
            if (places_[i % capacity].load(std::memory_order_seq_cst) != nullptr)
                return true;
        return false;
    }

    /// The oldest of those behind the newest `left`; null if there is none.
    strand* steal(std::uint32_t left) noexcept {
        const std::uint32_t bottom = bottom_.load(std::memory_order_relaxed); // hints: what counts
        const std::uint32_t n = size();                                       // is the exchange
        for (std::uint32_t i = 0; i + left < n && i < capacity; ++i)
            if (strand* const s = take(place(bottom + i)))
                return s;
        return nullptr;
    }

private:
    // I1. Places outside of [bottom_, top_) are empty: the worker moves an end inwards only after
    //     it has emptied the place. So a push overwrites nothing.
    // I2. A strand leaves by the exchange of who gets it, so it leaves once.
    // (P) push -> take: the place carries the strand as its waker left it.
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
    atomic<std::uint32_t> bottom_{0}; // both written by the worker alone, and only grow apart by
    atomic<std::uint32_t> top_{0};    // `capacity`; others read them as hints
    std::array<atomic<strand*>, capacity> places_{};
};

} // namespace magpie::detail
