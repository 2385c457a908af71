#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <cstdint>
#include <thread>

namespace magpie::sync::detail {

/// What a oneshot's lock says while nobody has it.
enum class oneshot_view : std::uint8_t {
    open,    ///< a value may still come
    decided, ///< there is one, or none will come
    sole,    ///< ... and the receiver is the only one who will ever touch the state again
    taken,   ///< nothing: somebody has the lock
};

#if defined(MAGPIE_MODEL)

/// The explorer lets nobody spin; and what the product sees without the lock it sees with it.
class oneshot_lock {
public:
    void lock() noexcept { lock_.lock(); }
    void unlock(oneshot_view) noexcept { lock_.unlock(); }
    oneshot_view view() const noexcept { return oneshot_view::taken; }

private:
    magpie::detail::mutex lock_;
};

#else

/// A spin lock with a view of what it guards: a receiver that finds its value needs no lock.
class oneshot_lock {
public:
    void lock() noexcept {
        // Acquire: pairs with unlock().
        for (int spins = 0;
             word_.exchange(oneshot_view::taken, std::memory_order_acquire) == oneshot_view::taken;) {
            // Relaxed: the exchange decides; this spares the line.
            while (word_.load(std::memory_order_relaxed) == oneshot_view::taken) {
                if (++spins > 64)
                    std::this_thread::yield(); // its holder may wait for this processor
            }
        }
    }
    void unlock(oneshot_view v) noexcept {
        word_.store(v, std::memory_order_release); // pairs with lock() and view()
    }
    oneshot_view view() const noexcept {
        return word_.load(std::memory_order_acquire); // pairs with unlock()
    }

private:
    magpie::detail::atomic<oneshot_view> word_{oneshot_view::open};
};

#endif

} // namespace magpie::sync::detail
