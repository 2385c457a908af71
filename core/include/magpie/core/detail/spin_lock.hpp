#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <thread>

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
        for (int spins = 0; taken_.exchange(true, std::memory_order_acquire);) { // pairs with unlock
            while (taken_.load(std::memory_order_relaxed)) {                     // spare the line
                if (++spins < 64)
                    pause();
                else
                    std::this_thread::yield(); // its holder may wait for this processor
            }
        }
    }
    void unlock() noexcept { taken_.store(false, std::memory_order_release); } // pairs with lock

private:
    static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    atomic<bool> taken_{false};
};

#endif

} // namespace magpie::detail
