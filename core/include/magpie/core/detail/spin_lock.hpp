#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin.hpp>

namespace magpie::detail {

#if defined(MAGPIE_MODEL)

using spin_lock = mutex; // the explorer lets nobody spin

#else

/// A lock for a few instructions that hardly anybody else wants: one read-modify-write where
/// std::mutex takes two. Who finds it taken spins a little, then lets others run.
class spin_lock {
public:
    spin_lock() noexcept = default;
    spin_lock(const spin_lock&) = delete;
    spin_lock& operator=(const spin_lock&) = delete;

    void lock() noexcept {
        while (taken_.exchange(true, std::memory_order_acquire))   // pairs with unlock
            spin_until(taken_, [](bool taken) { return !taken; }); // spares the line
    }
    void unlock() noexcept { taken_.store(false, std::memory_order_release); } // pairs with lock

private:
    atomic<bool> taken_{false};
};

#endif

} // namespace magpie::detail
