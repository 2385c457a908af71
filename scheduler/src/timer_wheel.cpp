#include "timer_wheel.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace magpie::detail {

timer_wheel::position timer_wheel::place_of(std::uint64_t tick) const noexcept {
    // Beyond the wheel: the last slot that will be looked at, where it is placed anew.
    if (tick - elapsed_ >= reach)
        tick = elapsed_ + reach - 1;
    const std::uint64_t differs = tick ^ elapsed_;
    unsigned l = differs == 0 ? 0 : static_cast<unsigned>(63 - std::countl_zero(differs)) / digit_bits;
    if (l >= levels)
        l = levels - 1; // the top digit has wrapped around
    return {l, static_cast<unsigned>(tick >> (digit_bits * l)) & (slots - 1)};
}

void timer_wheel::insert(timer_entry& e, std::uint64_t tick) noexcept {
    e.tick = tick;
    // The slot of the present tick has been served: what is due by now waits for the next one.
    const position p = place_of(std::max(tick, elapsed_ + 1));
    level& l = levels_[p.level];
    slot& s = l.at[p.slot];
    const unsigned n = s.turn++ % lists;
    ++s.count;
    list& to = s.of[n];
    e.list = static_cast<std::uint16_t>((p.level * slots + p.slot) * lists + n);
    e.previous = to.last;
    e.next = nullptr;
    (to.last != nullptr ? to.last->next : to.first) = &e;
    to.last = &e;
    l.occupied |= std::uint64_t{1} << p.slot;
}

bool timer_wheel::remove(timer_entry& e) noexcept {
    const unsigned at = e.list / lists;
    level& l = levels_[at / slots];
    slot& s = l.at[at % slots];
    list& from = s.of[e.list % lists];
    (e.previous != nullptr ? e.previous->next : from.first) = e.next;
    (e.next != nullptr ? e.next->previous : from.last) = e.previous;
    e.previous = e.next = nullptr;
    if (--s.count > 0)
        return false;
    s.turn = 0;
    l.occupied &= ~(std::uint64_t{1} << at % slots);
    return true;
}

std::uint64_t timer_wheel::next_tick() const noexcept {
    std::uint64_t soonest = never;
    for (unsigned n = 0; n < levels; ++n) {
        if (levels_[n].occupied == 0)
            continue;
        const unsigned shift = digit_bits * n;
        const auto now_digit = static_cast<unsigned>(elapsed_ >> shift) & (slots - 1);
        // Slots behind the present digit belong to the next round; the present one is empty
        // (below the top level, where it may hold what is a whole round away).
        const std::uint64_t turned = std::rotr(levels_[n].occupied,
                                               static_cast<int>((now_digit + 1) % slots));
        const auto ahead = static_cast<std::uint64_t>(std::countr_zero(turned)) + 1;
        const std::uint64_t at = ((elapsed_ >> shift) + ahead) << shift;
        soonest = std::min(soonest, at);
    }
    return soonest;
}

timer_entry* timer_wheel::advance(std::uint64_t now) noexcept {
    timer_entry* first = nullptr;
    timer_entry** end = &first;
    for (;;) {
        const std::uint64_t at = next_tick();
        if (at > now) {
            elapsed_ = std::max(elapsed_, now);
            break;
        }
        elapsed_ = at;
        // Every slot that begins at this tick: from the top, so that what moves down is met below.
        for (unsigned n = levels; n-- > 0;) {
            const unsigned shift = digit_bits * n;
            if ((at & ((std::uint64_t{1} << shift) - 1)) != 0)
                continue;
            const auto digit = static_cast<unsigned>(at >> shift) & (slots - 1);
            level& l = levels_[n];
            if (l.at[digit].count == 0)
                continue;
            l.occupied &= ~(std::uint64_t{1} << digit);
            slot taken = std::exchange(l.at[digit], slot{});
            for (unsigned i = 0; taken.count > 0; ++i) {
                list& from = taken.of[i % lists];
                timer_entry* const e = from.first;
                if (e == nullptr) // an entry of another list has been removed
                    continue;
                --taken.count;
                from.first = e->next;
                if (from.first != nullptr)
                    __builtin_prefetch(from.first, 1);
                if (e->tick <= at) {
                    e->previous = nullptr;
                    e->next = nullptr;
                    e->armed = false;
                    *end = e;
                    end = &e->next;
                } else {
                    insert(*e, e->tick);
                }
            }
        }
    }
    return first;
}

} // namespace magpie::detail
