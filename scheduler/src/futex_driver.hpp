#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/driver.hpp>

namespace magpie::detail {

/// The driver of a runtime without I/O: a futex.
class futex_driver final : public driver {
public:
    void park(time_point deadline) noexcept override {
        if (!take()) {
            woken_.wait_until(0, deadline); // spurious ends are allowed
            take();
        }
    }
    void poll() noexcept override {}
    void wake() noexcept override {
        // Release: pairs with take(). Read-modify-writes here and there, for what comes in between would
        // hide a wake, and with it what was done before: its sleeper would lie down without having seen it.
        woken_.word.exchange(1, std::memory_order_release);
        futex::wake(&woken_, 1);
    }

private:
    bool take() noexcept {
        // Acquire: pairs with wake(); what was done before is seen.
        return woken_.word.exchange(0, std::memory_order_acquire) != 0;
    }

private:
    futex woken_;
};

} // namespace magpie::detail
