#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin.hpp>

#include <cstdint>

namespace magpie::detail {

/// A mutex that is held for nanoseconds, and that several threads may want all the time. Who finds it taken spins a
/// little, and then sleeps: two threads that meet at a plain mutex spend more on putting each other to sleep than on
/// all the rest, and fifty at a spinning one take its line away from who holds it. A futex mutex of three
/// states, after Ulrich Drepper, "Futexes Are Tricky".
//
// (L) holder -> next holder: unlock() is a release, and what takes the lock an acquire.
class spinning_futex_mutex {
public:
    spinning_futex_mutex() noexcept = default;
    spinning_futex_mutex(const spinning_futex_mutex&) = delete;
    spinning_futex_mutex& operator=(const spinning_futex_mutex&) = delete;

    void lock() noexcept {
        if (!try_lock()) [[unlikely]]
            wait();
    }
    void unlock() noexcept {
        if (futex_.word.exchange(free, std::memory_order_release) == slept_on) [[unlikely]] // (L)
            futex::wake(&futex_, 1);
    }

private:
    static constexpr std::uint32_t free = 0;
    static constexpr std::uint32_t taken = 1;
    static constexpr std::uint32_t slept_on = 2; // taken, and somebody may sleep

    bool try_lock() noexcept {
        std::uint32_t seen = free;
        return futex_.word.compare_exchange_strong(seen, taken, std::memory_order_acquire, // (L)
                                                   std::memory_order_relaxed);
    }

    [[gnu::noinline]] void wait() noexcept {
#if !defined(MAGPIE_MODEL) // the explorer lets nobody spin
        // Looks more and more rarely, as spin_until() does. Relaxed: what takes the lock carries what has to be seen.
        for (int pauses = 1; pauses <= 64; pauses *= 2) {
            for (int i = 0; i < pauses; ++i)
                pause();
            if (futex_.word.load(std::memory_order_relaxed) == free && try_lock())
                return;
        }
#endif
        // There may be others who sleep: whoever comes from here has to wake one when it unlocks.
        while (futex_.word.exchange(slept_on, std::memory_order_acquire) != free) // (L)
            futex_.wait(slept_on);
    }

    futex futex_;
};

#if defined(MAGPIE_MODEL)
using adaptive_mutex = mutex; // one step in place of several; the other has a scenario of its own
#else
using adaptive_mutex = spinning_futex_mutex;
#endif

} // namespace magpie::detail
