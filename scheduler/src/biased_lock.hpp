#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin.hpp>

namespace magpie::detail {

/// A lock for what one thread does all the time, and others once in a long while. Its owner pays two stores and
/// a load, no read-modify-write; a visitor pays a system call that has every processor which runs the process
/// order its memory accesses. Where the system has no such call the owner pays an exchange.
//
// I1. Each says that it is there, and then looks whether the other is: the owner waits, a visitor goes away.
// I2. There is one visitor at a time, and it does nothing that waits. So the owner never waits for long.
//
// (B) The owner's store and its look are not kept in order by the processor, which is what makes it cheap. The
//     visitor's barrier comes between its store and its look, and falls somewhere into what the owner does: behind
//     the owner's store, then the visitor sees that; or before it, then the owner's look comes after the barrier,
//     and sees the visitor's.
// (V) What one did under the lock the other sees: unlock() and leave() are releases, the looks are acquires.
class biased_lock {
public:
    biased_lock() noexcept = default;
    biased_lock(const biased_lock&) = delete;
    biased_lock& operator=(const biased_lock&) = delete;

    // --- the owner ---

    void lock() noexcept {
        if (is_asymmetric_) {
            owner_.store(true, std::memory_order_relaxed); // (B)
            light_barrier();
        } else {
            // seq_cst: it comes before its look in the single order, as the visitor's does before that one's.
            static_cast<void>(owner_.exchange(true, std::memory_order_seq_cst));
        }
        // (V); seq_cst: without (B), see above.
        if (visitor_.load(std::memory_order_seq_cst)) [[unlikely]]
            wait_for_visitor();
    }
    void unlock() noexcept { owner_.store(false, std::memory_order_release); } // (V)

    // --- anybody ---

    /// Whether the caller has the lock now. False: another one has it.
    bool try_visit() noexcept {
        // Relaxed: a hint. An owner that waits for one visitor is not made to wait for the next.
        if (owner_.load(std::memory_order_relaxed))
            return false;
        // (V) with leave(); seq_cst: as in lock().
        if (visitor_.exchange(true, std::memory_order_seq_cst))
            return false;
        const bool alone = (!is_asymmetric_ || heavy_barrier()) &&
                           !owner_.load(std::memory_order_seq_cst); // (V); seq_cst: as in lock()
        if (!alone)
            leave();
        return alone;
    }
    void leave() noexcept { visitor_.store(false, std::memory_order_release); } // (V)

private:
    [[gnu::noinline]] void wait_for_visitor() noexcept {
        while (visitor_.load(std::memory_order_acquire)) // (V)
            spin_until(visitor_, [](bool there) { return !there; });
    }

    const bool is_asymmetric_ = prepare_heavy_barrier();
    atomic<bool> owner_{false};
    atomic<bool> visitor_{false};
};

} // namespace magpie::detail
