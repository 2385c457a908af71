#pragma once

#include <magpie/core/timer.hpp>

#include <array>
#include <cstdint>

namespace magpie::detail {

/// A hierarchical timer wheel: six levels of 64 slots, a tick is a millisecond. Level n has slots
/// of 64^n ticks; an entry stands on the level of the highest digit (base 64) in which its tick
/// differs from the present one, and moves down when that digit's turn comes. Ticks further away
/// than the wheel reaches stand in its last slot and are sorted again from there.
/// (Varghese and Lauck, 1987.)
///
/// A slot has several lists, filled in turn and walked in step: what has waited long is out of the
/// caches, and a single list can only be fetched one entry after the other.
///
/// Not thread-safe: the owner has a lock. Insert and remove are O(1).
class timer_wheel {
public:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    timer_wheel() noexcept = default;
    timer_wheel(const timer_wheel&) = delete;
    timer_wheel& operator=(const timer_wheel&) = delete;

    /// Adds an entry that is due at `tick`; one that is due already fires with the next advance.
    void insert(timer_entry& e, std::uint64_t tick) noexcept;

    /// Takes out an entry that is in the wheel. True if next_tick() may have changed: its slot is empty.
    bool remove(timer_entry& e) noexcept;

    /// Moves to `now`. Gives all entries due by then, disarmed, earliest first, linked by `next`.
    timer_entry* advance(std::uint64_t now) noexcept;

    /// No entry is due before this tick; `never` when there is none.
    std::uint64_t next_tick() const noexcept;

    std::uint64_t elapsed() const noexcept { return elapsed_; }

private:
    static constexpr unsigned digit_bits = 6;
    static constexpr unsigned slots = 1U << digit_bits;
    static constexpr unsigned levels = 6;
    static constexpr std::uint64_t reach = std::uint64_t{1} << (digit_bits * levels);

    static constexpr unsigned lists = 8; // of a slot

    struct position {
        unsigned level;
        unsigned slot;
    };
    position place_of(std::uint64_t tick) const noexcept;

    struct list {
        timer_entry* first = nullptr;
        timer_entry* last = nullptr;
    };
    struct slot {
        std::array<list, lists> of;
        std::uint32_t count = 0; // entries
        std::uint32_t turn = 0;  // how many came since it was empty: the next goes to list turn % lists
    };
    struct level {
        std::uint64_t occupied = 0; // a bit a slot
        std::array<slot, slots> at;
    };
    static_assert(levels * slots * lists <= timer_entry::unstamped, "timer_entry::list has 16 bits");

    std::uint64_t elapsed_ = 0;
    std::array<level, levels> levels_{};
};

} // namespace magpie::detail
