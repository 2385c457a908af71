#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/sync/event.hpp>

#include <cstddef>
#include <cstdint>

namespace magpie::sync {

/// A count that goes down to zero once: who waits goes on when it is there.
///
/// As `std::latch`, but to wait is awaited. What was done before each `count_down()` is visible to who goes on.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. A latch must
/// outlive its waiters. Who has waited, or has seen it at zero, may destroy it at once, though the last
/// `count_down()` has not returned yet.
///
/// @par Example
/// @code
/// magpie::sync::latch ready(3);
/// for (int i = 0; i < 3; ++i)
///     magpie::spawn(warm_up(i, ready)).detach(); // each ends with ready.count_down()
/// co_await ready.wait();
/// @endcode
class latch {
public:
    /// @param count 0: nobody waits
    explicit latch(std::size_t count) noexcept;
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;

    /// Counts down by `n`, and lets all go on who wait if that makes it zero.
    /// @throws std::logic_error if it is less than `n`
    void count_down(std::size_t n = 1);

    /// Whether it is zero.
    bool try_wait() const noexcept { return done_.is_set(); }

    /// Waits until it is zero. Cancel-safe. O(1), no allocation.
    event::wait_operation wait() noexcept { return done_.wait(); }

    /// Counts down at once, and waits when it is awaited. As `count_down` and `wait`.
    event::wait_operation arrive_and_wait(std::size_t n = 1) {
        count_down(n);
        return wait();
    }

    /// `wait()` on a plain thread. @throws std::logic_error inside a task
    void blocking_wait() { done_.blocking_wait(); }

private:
    magpie::detail::atomic<std::uint64_t> left_;
    event done_;
};

} // namespace magpie::sync
