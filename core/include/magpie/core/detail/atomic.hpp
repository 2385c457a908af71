#pragma once

// The seam: the only file that names the standard's atomics and mutexes. In a product build these
// are exactly `std::atomic`, `std::mutex` and the futex call; a model build (MAGPIE_MODEL) puts
// the explorer of tests/model in their place, which then decides who runs after each operation, and a build
// for the simulated machine (MAGPIE_MACHINE) that of tests/machine, which counts them and says how long they take.

#include <chrono>
#include <cstdint>

#if defined(MAGPIE_MODEL)

#include <magpie_model/seam.hpp>

#elif defined(MAGPIE_MACHINE)

#include <magpie_machine/seam.hpp>

#else

#include <atomic>
#include <mutex>

namespace magpie::detail {

template <class T>
using atomic = std::atomic<T>;

using mutex = std::mutex;

/// A 32-bit word that threads sleep on.
class futex {
public:
    using time_point = std::chrono::steady_clock::time_point;

    explicit futex(std::uint32_t value = 0) noexcept : word(value) {}

    /// Sleeps while the word is `expected`; may return early. Called by any thread.
    void wait(std::uint32_t expected) noexcept { wait_until(expected, time_point::max()); }

    /// The same, until `deadline` at the latest. Returns false when the deadline has passed.
    bool wait_until(std::uint32_t expected, time_point deadline) noexcept;

    /// Wakes at most `count` sleepers of the word at `address`. Uses the address alone: the futex
    /// itself may already be gone (DESIGN.md R34), the kernel then finds nobody.
    static void wake(futex* address, int count) noexcept;

    atomic<std::uint32_t> word;
};

// A barrier of two sides. Of two threads that each store to one word and then load the other's, one at least
// sees what the other stored, if one has a light barrier in between and the other one a heavy barrier.

/// Costs nothing: it only keeps the compiler from moving memory accesses.
inline void light_barrier() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Has each processor that runs a thread of the process pass a full barrier: some microseconds. False if the
/// system refuses; not after prepare_heavy_barrier() has said true.
bool heavy_barrier() noexcept;

/// Asks the system for it. Returns whether it has one. The first call of a process that has threads already
/// may take some milliseconds.
bool prepare_heavy_barrier() noexcept;

static_assert(sizeof(atomic<void*>) == sizeof(void*) && sizeof(futex) == sizeof(std::uint32_t),
              "the seam costs nothing in a product build");

} // namespace magpie::detail

#endif

namespace magpie::detail {

/// `std::lock_guard` for either kind of mutex.
template <class Mutex>
class lock_guard {
public:
    explicit lock_guard(Mutex& m) noexcept : mutex_(m) { mutex_.lock(); }
    ~lock_guard() { mutex_.unlock(); }
    lock_guard(const lock_guard&) = delete;
    lock_guard& operator=(const lock_guard&) = delete;

private:
    Mutex& mutex_;
};

} // namespace magpie::detail
