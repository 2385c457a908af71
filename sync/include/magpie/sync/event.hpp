#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/wait_list.hpp>

namespace magpie::sync {

/// A one-way gate: tasks wait until it is set, and from then on nobody waits.
///
/// Everything sequenced before `set()` is visible after each `wait()` that it releases.
///
/// @par Thread safety
/// Every member may be called concurrently. An event must outlive its waiters, and `set()`.
///
/// @par Example
/// @code
/// magpie::task<> serve(const config& cfg, magpie::sync::event& loaded) {
///     co_await loaded.wait();
///     use(cfg); // what was written to it before loaded.set() is visible here
/// }
/// @endcode
class event {
public:
    class [[nodiscard("co_await it")]] wait_operation;

    event() noexcept = default;
    event(const event&) = delete;
    event& operator=(const event&) = delete;

    /// Whether `set()` has been called.
    bool is_set() const noexcept {
        return set_.load(std::memory_order_acquire); // pairs with the store in set()
    }

    /// Wakes every waiter, first come first. Idempotent.
    void set() noexcept;

    /// Waits until the event is set; does not suspend if it is.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    /// @par Complexity
    /// O(1), also to cancel; no allocation.
    wait_operation wait() noexcept;

    /// The same on a plain thread. @throws std::logic_error inside a task
    void blocking_wait();

private:
    magpie::detail::atomic<bool> set_{false};
    magpie::detail::mutex lock_;
    detail::wait_list waiters_; // guarded by lock_; nobody enters once set_
};

class event::wait_operation : public operation<wait_operation, detail::waiter> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit wait_operation(event& e) noexcept : event_(&e) {}
    wait_operation(wait_operation&&) noexcept = default;

    bool try_complete() const noexcept { return event_->is_set(); }
    bool publish() noexcept;
    void await_resume() const noexcept {}

private:
    cancel_answer cancel() noexcept override;

    event* event_;
};

inline event::wait_operation event::wait() noexcept { return wait_operation(*this); }

inline void event::blocking_wait() { magpie::detail::blocking_wait(wait()); }

} // namespace magpie::sync
