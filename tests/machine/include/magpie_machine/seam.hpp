#pragma once

#include <magpie_machine/operations.hpp>

#include <atomic> // std::memory_order
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// What stands behind <magpie/core/detail/atomic.hpp> in a build for the simulated machine: the same
// interface and the same layout in memory, but each operation takes its time on a simulated core, and is
// counted. Orders do not matter here: operations happen one after the other, in the order of their times.

namespace magpie::detail {

template <class T>
class atomic {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8 && std::has_single_bit(sizeof(T)));
    using order = std::memory_order;
    using access = magpie_machine::access;

public:
    constexpr atomic() noexcept : atomic(T()) {}
    constexpr atomic(T value) noexcept : value_(value) {} // NOLINT: implicit, as in std
    atomic(const atomic&) = delete;
    atomic& operator=(const atomic&) = delete;

    T load(order) const noexcept {
        magpie_machine::reach(&value_, access::load);
        return value_;
    }
    void store(T desired, order) noexcept {
        magpie_machine::reach(&value_, access::store);
        value_ = desired;
    }
    T exchange(T desired, order) noexcept {
        magpie_machine::reach(&value_, access::modify);
        const T before = value_;
        value_ = desired;
        return before;
    }
    bool compare_exchange_strong(T& expected, T desired, order, order) noexcept {
        magpie_machine::reach(&value_, access::modify);
        const T before = value_;
        if (!same(before, expected)) {
            expected = before;
            return false;
        }
        value_ = desired;
        return true;
    }
    /// Does not fail spuriously.
    bool compare_exchange_weak(T& expected, T desired, order success, order failure) noexcept {
        return compare_exchange_strong(expected, desired, success, failure);
    }
    T fetch_add(T operand, order) noexcept {
        return modify([operand](T before) { return static_cast<T>(before + operand); });
    }
    T fetch_sub(T operand, order) noexcept {
        return modify([operand](T before) { return static_cast<T>(before - operand); });
    }
    T fetch_or(T operand, order) noexcept {
        return modify([operand](T before) { return static_cast<T>(before | operand); });
    }
    T fetch_and(T operand, order) noexcept {
        return modify([operand](T before) { return static_cast<T>(before & operand); });
    }

private:
    friend class futex;

    struct bytes {
        std::byte of[sizeof(T)];
        bool operator==(const bytes&) const noexcept = default;
    };
    static bool same(T a, T b) noexcept { return std::bit_cast<bytes>(a) == std::bit_cast<bytes>(b); }

    template <class Change>
    T modify(Change change) noexcept {
        magpie_machine::reach(&value_, access::modify);
        const T before = value_;
        value_ = change(before);
        return before;
    }

    alignas(sizeof(T)) T value_;
};

/// As large as std::mutex, and as dear as the C library's: a locked instruction to take it and one to give
/// it back; who finds it taken sleeps on its word.
class mutex {
public:
    constexpr mutex() noexcept = default;
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;

    void lock() noexcept { magpie_machine::lock(word_); }
    bool try_lock() noexcept { return magpie_machine::try_lock(word_); }
    void unlock() noexcept { magpie_machine::unlock(word_); }

private:
    alignas(8) std::uint32_t word_ = 0;
    [[maybe_unused]] std::byte rest_[36] = {}; // what std::mutex has besides
};

class futex {
public:
    using time_point = std::chrono::steady_clock::time_point;

    explicit futex(std::uint32_t value = 0) noexcept : word(value) {}

    void wait(std::uint32_t expected) noexcept { wait_until(expected, time_point::max()); }
    bool wait_until(std::uint32_t expected, time_point deadline) noexcept {
        return magpie_machine::futex_wait(word.value_, expected, deadline);
    }
    static void wake(futex* address, int count) noexcept { magpie_machine::futex_wake(address, count); }

    atomic<std::uint32_t> word;
};

inline void light_barrier() noexcept {} // operations are in order here
inline bool heavy_barrier() noexcept {
    magpie_machine::interrupt_all();
    return true;
}
inline bool prepare_heavy_barrier() noexcept { return true; }

static_assert(sizeof(atomic<void*>) == sizeof(void*) && sizeof(futex) == sizeof(std::uint32_t) &&
                  sizeof(mutex) == 40,
              "what shares a line here shares one in a product build");

} // namespace magpie::detail
