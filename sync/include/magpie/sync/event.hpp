#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/lock_word.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/wait_list.hpp>

namespace magpie::sync {

/// A one-way gate: tasks wait until it is set, and from then on nobody waits.
///
/// Everything sequenced before `set()` is visible after each `wait()` that it releases.
///
/// @par Thread safety
/// Every member may be called concurrently. An event must outlive its waiters. Who has waited, or has seen it
/// set, may destroy it at once, though `set()` has not returned yet.
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
        return word_.load(std::memory_order_acquire).is_set(); // pairs with the unlock in set()
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
    // That it is set is said by the unlock, the last touch of who sets it.
    class state {
    public:
        constexpr state() noexcept = default;

        bool is_locked() const noexcept { return (bits_ & locked_bit) != 0; }
        bool is_set() const noexcept { return (bits_ & set_bit) != 0; }

        state locked() const noexcept { return with(bits_ | locked_bit); }
        state set() const noexcept { return with(bits_ | set_bit); }

    private:
        static constexpr unsigned char locked_bit = 1;
        static constexpr unsigned char set_bit = 2;

        static state with(int bits) noexcept {
            state s;
            s.bits_ = static_cast<unsigned char>(bits);
            return s;
        }

        unsigned char bits_ = 0;
    };
    using lock_word = magpie::detail::lock_word<state>;

    lock_word word_{state()};
    detail::wait_list waiters_; // guarded by word_; nobody enters once it is set
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
