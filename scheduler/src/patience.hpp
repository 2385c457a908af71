#pragma once

#include "cpu_count.hpp"

#include <magpie/core/detail/spin.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace magpie::detail {

/// Whether to look a little longer before a thread sleeps. To sleep and to be woken costs two system
/// calls, two switches and often an idle processor's getting up: 5 us, up to 25 in a virtual machine.
/// What comes sooner is had for less by looking for it, and to look for as long as a sleep costs is never
/// more than twice as dear. Nor is that paid often: one looks again at once only where it has helped the
/// last time; otherwise ever more rarely, before one sleep in 256 at last.
///
/// One thread's own.
class patience {
public:
    /// On a thread that may run wherever the process may: a worker is bound later.
    patience() noexcept : alone_(has_one_processor()) {}

    /// Whether to look before the sleep that is next.
    bool wants_to() noexcept {
        if (skip_ == 0)
            return true;
        --skip_;
        return false;
    }

    /// Looks until `found()`, but not for long. True if found; then `learn` is told. After `wants_to`.
    template <class Found>
    bool look(Found&& found) noexcept {
        const bool came = alone_ ? found() : watch(found);
        if (!came)
            learn(false);
        return came;
    }

    /// Whether it was good to be awake for what was found.
    void learn(bool helped) noexcept {
        skipped_ = helped ? 0 : static_cast<std::uint8_t>(std::min(2 * skipped_ + 1, 255));
        skip_ = skipped_;
    }

private:
    static constexpr auto limit = std::chrono::microseconds(20);

#if defined(MAGPIE_MODEL)

    static bool has_one_processor() noexcept { return true; } // the explorer lets nobody spin

#else

    static bool has_one_processor() noexcept {
        static const bool one = usable_cpus() == 1;
        return one;
    }

#endif

    template <class Found>
    static bool watch(Found& found) noexcept {
        using time = std::chrono::steady_clock;
        const auto until = time::now() + limit;
        do {
            for (int i = 0; i < 16; ++i) // each look takes a line from who writes it
                pause();
            if (found())
                return true;
        } while (time::now() < until);
        return false;
    }

    const bool alone_;         // who would bring what it looks for has no processor then
    std::uint8_t skip_ = 0;    // so many times not ...
    std::uint8_t skipped_ = 0; // ... which was that many at first
};

} // namespace magpie::detail
