#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/driver.hpp>

namespace magpie::detail {

/// The driver of a runtime without I/O: a futex.
class futex_driver final : public driver {
public:
    void park(time_point deadline) noexcept override {
        // Acquire: pairs with wake(); what was done before is seen.
        if (woken_.word.exchange(0, std::memory_order_acquire) == 0) {
            woken_.wait_until(0, deadline);
            woken_.word.store(0, std::memory_order_relaxed); // spurious ends are allowed
        }
    }
    void poll() noexcept override {}
    void wake() noexcept override {
        woken_.word.store(1, std::memory_order_release); // pairs with park()
        futex::wake(&woken_, 1);
    }

private:
    futex woken_;
};

} // namespace magpie::detail
