#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <cstdint>

namespace magpie::detail {

/// One worker's sleep and its notification. A notification that comes first is kept.
class parker {
public:
    enum class where : std::uint32_t { on_futex = 2, in_driver = 3, on_watch = 4 };

    /// Announces that the worker is about to sleep. False if a notification is there: consumed.
    bool announce(where place) noexcept {
        std::uint32_t expected = awake;
        // Success, release: the notifier sees what this worker did before it lay down. Failure, acquire:
        // pairs with notify(); what was made visible before is seen.
        if (state_.word.compare_exchange_strong(expected, static_cast<std::uint32_t>(place),
                                                std::memory_order_release, std::memory_order_acquire))
            return true;
        state_.word.store(awake, std::memory_order_relaxed); // only the worker itself follows
        return false;
    }

    /// Sleeps after announce(on_futex) until notified or `deadline`.
    void sleep(futex::time_point deadline) noexcept {
        while (state_.word.load(std::memory_order_relaxed) ==
               static_cast<std::uint32_t>(where::on_futex))
            if (!state_.wait_until(static_cast<std::uint32_t>(where::on_futex), deadline))
                return;
    }

    /// The worker is up again. True if it was notified.
    bool rise() noexcept {
        return state_.word.exchange(awake, std::memory_order_acquire) == notified; // pairs as above
    }

    /// Notifies the worker; gives where it slept, for the caller to wake it there, or 0.
    std::uint32_t notify() noexcept {
        const std::uint32_t before = state_.word.exchange(notified,
                                                          std::memory_order_acq_rel); // pairs as above
        if (before == static_cast<std::uint32_t>(where::on_futex))
            futex::wake(&state_, 1);
        return before;
    }

private:
    static constexpr std::uint32_t awake = 0;
    static constexpr std::uint32_t notified = 1;
    futex state_{awake};
};

} // namespace magpie::detail
