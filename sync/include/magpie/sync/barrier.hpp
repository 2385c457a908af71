#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <utility>

namespace magpie::sync {

/// A place where a number of tasks wait for each other, again and again.
///
/// The last one to come lets all go on, and is their leader: one of each round is. What each did before it
/// came is visible to all behind it.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. A barrier
/// must outlive its waiters. When the last one has come nobody touches it any more: whoever goes on may destroy
/// it at once, if nobody comes again.
///
/// @par Example
/// @code
/// magpie::task<> simulate(world& w, part p, magpie::sync::barrier& step) {
///     for (;;) {
///         w.advance(p);
///         const bool leads = co_await step.wait();
///         if (leads)
///             w.swap_buffers();
///         co_await step.wait();
///     }
/// }
/// @endcode
class barrier {
public:
    class [[nodiscard("co_await it")]] wait_operation;

    /// @param parties how many meet: 0 and 1 wait for nobody
    explicit barrier(std::size_t parties) noexcept : parties_(parties) {}
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;

    /// Comes, and waits until as many have come as there are parties. Gives whether it is the leader.
    ///
    /// @par Cancellation
    /// Cancel-safe: dropped before the others have come, it has not come.
    /// @par Complexity
    /// O(1), the leader's O(parties); no allocation.
    wait_operation wait() noexcept;

    /// The same on a plain thread. @throws std::logic_error inside a task
    bool blocking_wait();

private:
    bool come(wait_operation& w, bool may_wait) noexcept;

    const std::size_t parties_;
    magpie::detail::spin_lock lock_;
    std::size_t waiting_ = 0; // guarded by lock_, as the list of them
    detail::wait_list waiters_;
};

class barrier::wait_operation : public operation<wait_operation, detail::waiter> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit wait_operation(barrier& b) noexcept : barrier_(&b) {}
    wait_operation(wait_operation&&) noexcept = default;

    bool try_complete() noexcept { return barrier_->come(*this, false); }
    bool publish() noexcept { return !barrier_->come(*this, true); }

    /// Whether it is the leader.
    bool await_resume() noexcept { return std::exchange(leads_, false); }

private:
    friend class barrier;
    cancel_answer cancel() noexcept override;

    barrier* barrier_;
    bool leads_ = false;
};

inline barrier::wait_operation barrier::wait() noexcept { return wait_operation(*this); }

inline bool barrier::blocking_wait() { return magpie::detail::blocking_wait(wait()); }

} // namespace magpie::sync
