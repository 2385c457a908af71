#include <magpie/sync/latch.hpp>

#include <magpie/core/error.hpp>

namespace magpie::sync {

latch::latch(std::size_t count) noexcept : left_(count) {
    if (count == 0)
        done_.set();
}

void latch::count_down(std::size_t n) {
    std::uint64_t left = left_.load(std::memory_order_relaxed); // checked by the CAS
    do {
        if (n > left) [[unlikely]]
            magpie::detail::throw_usage_error(
                "a latch does not count below zero: make it with a larger count, or count down less");
        if (n == 0)
            return;
        // Each release pairs with the acquire of the last one, which sets the event: who goes on sees what
        // was done before all of them.
    } while (!left_.compare_exchange_weak(left, left - n, std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
    if (left == n)
        done_.set();
}

} // namespace magpie::sync
