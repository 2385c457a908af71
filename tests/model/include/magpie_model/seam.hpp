#pragma once

#include <magpie_model/operations.hpp>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>
#include <type_traits>

// What stands behind <magpie/core/detail/atomic.hpp> in a model build: the same interface, but each
// operation is a step of the explorer.

namespace magpie_model {

template <class T>
consteval std::string_view type_name() {
    const std::string_view function = __PRETTY_FUNCTION__; // "... [T = X]" or "... [with T = X; ...]"
    const std::size_t begin = function.find("T = ") + 4;
    return function.substr(begin, function.find_first_of(";]", begin) - begin);
}

template <std::size_t Size>
using bits =
    std::conditional_t<Size == 1, std::uint8_t,
                       std::conditional_t<Size == 2, std::uint16_t,
                                          std::conditional_t<Size == 4, std::uint32_t, std::uint64_t>>>;

template <class T>
constexpr std::uint64_t to_bits(T value) noexcept {
    if constexpr (std::is_pointer_v<T>)
        return value == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(value);
    else
        return std::bit_cast<bits<sizeof(T)>>(value);
}

template <class T>
T from_bits(std::uint64_t value) noexcept {
    return std::bit_cast<T>(static_cast<bits<sizeof(T)>>(value));
}

} // namespace magpie_model

namespace magpie::detail {

template <class T>
class atomic {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8 && std::has_single_bit(sizeof(T)));
    using order = std::memory_order;
    using source = std::source_location;

public:
    constexpr atomic() noexcept : atomic(T()) {}
    constexpr atomic(T value) noexcept // NOLINT: implicit, as in std
        : location_(magpie_model::to_bits(value), magpie_model::type_name<T>()) {}

    T load(order o, source at = source::current()) const noexcept {
        return magpie_model::from_bits<T>(location_.load(o, at));
    }
    void store(T desired, order o, source at = source::current()) noexcept {
        location_.store(magpie_model::to_bits(desired), o, at);
    }
    T exchange(T desired, order o, source at = source::current()) noexcept {
        return magpie_model::from_bits<T>(location_.exchange(magpie_model::to_bits(desired), o, at));
    }
    bool compare_exchange_strong(T& expected, T desired, order success, order failure,
                                 source at = source::current()) noexcept {
        std::uint64_t seen = magpie_model::to_bits(expected);
        const bool done = location_.compare_exchange(seen, magpie_model::to_bits(desired), success,
                                                     failure, at);
        expected = magpie_model::from_bits<T>(seen);
        return done;
    }
    /// Does not fail spuriously.
    bool compare_exchange_weak(T& expected, T desired, order success, order failure,
                               source at = source::current()) noexcept {
        return compare_exchange_strong(expected, desired, success, failure, at);
    }
    /// Waits in one step until `ready()`, which captures nothing, holds for the value: in place of a spin.
    template <class Ready>
    void wait_until(Ready, source at = source::current()) const noexcept {
        location_.wait_until(
            [](std::uint64_t value) { return Ready()(magpie_model::from_bits<T>(value)); }, at);
    }
    T fetch_add(T operand, order o, source at = source::current()) noexcept {
        return modify(magpie_model::location::arithmetic::add, operand, o, at);
    }
    T fetch_sub(T operand, order o, source at = source::current()) noexcept {
        return modify(magpie_model::location::arithmetic::subtract, operand, o, at);
    }
    T fetch_or(T operand, order o, source at = source::current()) noexcept {
        return modify(magpie_model::location::arithmetic::set_bits, operand, o, at);
    }
    T fetch_and(T operand, order o, source at = source::current()) noexcept {
        return modify(magpie_model::location::arithmetic::keep_bits, operand, o, at);
    }

private:
    friend class futex;

    T modify(magpie_model::location::arithmetic what, T operand, order o, source at) noexcept {
        static_assert(std::is_integral_v<T>);
        return magpie_model::from_bits<T>(location_.modify(what, magpie_model::to_bits(operand),
                                                           magpie_model::bits<sizeof(T)>(-1), o, at));
    }

    magpie_model::location location_;
};

using mutex = magpie_model::mutex;

class futex {
public:
    using time_point = std::chrono::steady_clock::time_point;
    using source = std::source_location;

    explicit futex(std::uint32_t value = 0) noexcept : word(value) {}

    void wait(std::uint32_t expected, source at = source::current()) noexcept {
        magpie_model::futex_wait(this, word.location_, expected, magpie_model::time_limit::never, at);
    }
    bool wait_until(std::uint32_t expected, time_point deadline,
                    source at = source::current()) noexcept {
        using magpie_model::time_limit;
        constexpr auto some_milliseconds = std::chrono::milliseconds(100);
        const time_limit limit = deadline == time_point::max() ? time_limit::never
                                 : deadline - time_point::clock::now() < some_milliseconds
                                     ? time_limit::soon
                                     : time_limit::late;
        return magpie_model::futex_wait(this, word.location_, expected, limit, at);
    }
    static void wake(futex* address, int count, source at = source::current()) noexcept {
        magpie_model::futex_wake(address, count, at);
    }

    atomic<std::uint32_t> word;
};

inline void light_barrier() noexcept {
} // the explorer takes what a heavy barrier meets as it is ordered there
inline bool heavy_barrier(std::source_location at = std::source_location::current()) noexcept {
    magpie_model::heavy_barrier(at);
    return true;
}
/// A scenario may take the system's barrier away.
inline bool has_heavy_barrier = true;
inline bool prepare_heavy_barrier() noexcept { return has_heavy_barrier; }

} // namespace magpie::detail
