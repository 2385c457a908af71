#include "timer_wheel.hpp"

#include <algorithm>
#include <bit>

namespace magpie::detail {

timer_wheel::timer_wheel() noexcept {
    for (level& l : levels_)
        for (timer_entry& head : l.at)
            head.previous = head.next = &head;
}

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
    timer_entry& head = l.at[p.slot];
    e.previous = head.previous;
    e.next = &head;
    e.previous->next = &e;
    head.previous = &e;
    l.occupied |= std::uint64_t{1} << p.slot;
}

void timer_wheel::remove(timer_entry& e) noexcept {
    timer_entry* const previous = e.previous;
    timer_entry* const next = e.next;
    previous->next = next;
    next->previous = previous;
    if (previous == next) { // only the head is left: it is one of our slots
        for (level& l : levels_) {
            const auto first = l.at.data();
            if (previous >= first && previous < first + slots) {
                l.occupied &= ~(std::uint64_t{1} << (previous - first));
                break;
            }
        }
    }
    e.previous = e.next = nullptr;
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
            const auto s = static_cast<unsigned>(at >> shift) & (slots - 1);
            level& l = levels_[n];
            timer_entry& head = l.at[s];
            if (head.next == &head)
                continue;
            l.occupied &= ~(std::uint64_t{1} << s);
            timer_entry* e = head.next;
            head.previous->next = nullptr;
            head.previous = head.next = &head;
            while (e != nullptr) {
                timer_entry* const next = e->next;
                if (next != nullptr)
                    __builtin_prefetch(next->next, 1);
                if (e->tick <= at) {
                    e->previous = nullptr;
                    e->next = nullptr;
                    e->armed = false;
                    *end = e;
                    end = &e->next;
                } else {
                    insert(*e, e->tick);
                }
                e = next;
            }
        }
    }
    return first;
}

} // namespace magpie::detail
