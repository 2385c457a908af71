#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <thread>

namespace magpie::detail {

/// Spends a moment without touching memory.
inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

#if defined(MAGPIE_MODEL)

inline void back_off() noexcept {} // the explorer lets others go wherever that makes a difference

template <class T, class Ready>
void spin_until(const atomic<T>& word, Ready ready) noexcept {
    word.wait_until(ready);
}

#else

/// For who has lost a compare-exchange to another processor, and will try again: leaves that one the line for
/// some operations. Else both take it from each other for each single one, and do little but wait for it
/// (`semaphore`, two workers: 74 ns an operation; with 1, 4, 8, 16 pauses 61, 39, 32, 28).
inline void back_off() noexcept {
    for (int i = 0; i < 16; ++i) // unrolled: a loop of 32 costs the way that is not lost its registers
        pause();
}

/// Waits for who has a lock, until `ready(value of the word)`: a little by spinning, then it lets others run.
/// `ready` captures nothing.
template <class T, class Ready>
void spin_until(const atomic<T>& word, Ready ready) noexcept {
    // Relaxed: who waited tries to take the lock, and that carries what has to be seen. Each look takes the
    // line from the holder, who has to fetch it again to write it: so they become rarer.
    for (int pauses = 1; !ready(word.load(std::memory_order_relaxed));) {
        if (pauses > 64) {
            std::this_thread::yield(); // its holder may wait for this processor
            continue;
        }
        for (int i = 0; i < pauses; ++i)
            pause();
        pauses *= 2;
    }
}

#endif

} // namespace magpie::detail
