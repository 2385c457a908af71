#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/timer.hpp>

#include <chrono>
#include <cstdint>

namespace magpie::detail {

/// The time of a runtime: the steady clock's, or, paused, its own. Ticks are the milliseconds
/// since it began.
class runtime_clock {
public:
    explicit runtime_clock(bool paused) noexcept : origin_(clock::time_point::clock::now()), shift_(0) {
        if (paused) // on a tick: tests count in whole milliseconds
            advance_to(origin_);
    }

    clock::time_point now() const noexcept {
        // Acquire: pairs with advance_to(); who sees the new time sees what was set up for it.
        const std::int64_t at = paused_at_.load(std::memory_order_acquire);
        if (at != running)
            return clock::time_point(clock::duration(at));
        return clock::time_point::clock::now() -
               clock::duration(shift_.load(std::memory_order_relaxed));
    }

    // seq_cst: a blocking call counts itself out and then asks this; who pauses wakes a worker that asks this
    // too, and then reads that count. One of the two asks second. If both read old values, the clock stands still.
    bool paused() const noexcept { return paused_at_.load(std::memory_order_seq_cst) != running; }

    void pause() noexcept {
        paused_at_.store(now().time_since_epoch().count(), std::memory_order_release);
    }
    /// Goes on from the paused time: the clock is behind the steady one from then on.
    void resume() noexcept {
        shift_.store((clock::time_point::clock::now() - now()).count(), std::memory_order_relaxed);
        paused_at_.store(running, std::memory_order_release); // pairs with now(): shift_ first
    }
    /// Only while paused.
    void advance_to(clock::time_point t) noexcept {
        paused_at_.store(t.time_since_epoch().count(), std::memory_order_release);
    }

    /// The first tick at or after `t`.
    std::uint64_t tick_at_or_after(clock::time_point t) const noexcept {
        if (t <= origin_)
            return 0;
        const auto since = t - origin_;
        const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(since);
        return static_cast<std::uint64_t>(whole.count()) + (whole < since ? 1 : 0);
    }
    /// The last tick at or before now.
    std::uint64_t tick_now() const noexcept {
        const auto since = now() - origin_;
        return static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
    }
    /// When a tick begins.
    clock::time_point time_of(std::uint64_t tick) const noexcept {
        constexpr auto last = std::chrono::duration_cast<std::chrono::milliseconds>(
            clock::time_point::max().time_since_epoch());
        const auto room = static_cast<std::uint64_t>(
            (last - std::chrono::duration_cast<std::chrono::milliseconds>(origin_.time_since_epoch()))
                .count() -
            1);
        return tick >= room ? clock::time_point::max() : origin_ + std::chrono::milliseconds(tick);
    }
    /// The same for the kernel, which knows nothing of a clock that was paused once.
    clock::time_point steady_time_of(std::uint64_t tick) const noexcept {
        const clock::time_point t = time_of(tick);
        const clock::duration shift(shift_.load(std::memory_order_relaxed));
        return t == clock::time_point::max() ? t : t + shift;
    }

    /// The tick at or after a point of the kernel's time; the last one for its end.
    std::uint64_t tick_of_steady(clock::time_point t) const noexcept {
        return t == clock::time_point::max()
                   ? ~std::uint64_t{0}
                   : tick_at_or_after(t - clock::duration(shift_.load(std::memory_order_relaxed)));
    }

private:
    static constexpr std::int64_t running = INT64_MIN;

    const clock::time_point origin_;
    atomic<std::int64_t> paused_at_{running}; // the paused time, or `running`
    atomic<std::int64_t> shift_;              // how far behind the steady clock it runs
};

} // namespace magpie::detail
