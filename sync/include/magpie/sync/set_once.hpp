#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/sync/event.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace magpie::sync {

/// A value that is set once, and that others wait for: an `event` with a value.
///
/// What was done before `set()` is visible to whoever gets the value.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. It must
/// outlive its waiters. Who has got the value may destroy it at once, though `set()` has not returned yet.
///
/// @par Example
/// @code
/// magpie::task<> report(magpie::sync::set_once<address>& bound) {
///     const address& a = co_await bound.wait();
///     std::cout << "listening on " << a << '\n';
/// }
/// @endcode
template <class T>
class set_once {
public:
    using value_type = T;
    class [[nodiscard("co_await it")]] wait_operation;

    set_once() noexcept = default;
    set_once(const set_once&) = delete;
    set_once& operator=(const set_once&) = delete;

    /// Sets the value and wakes all who wait. @return false if it was set before, or another one is setting
    /// it: then `v` stays as it was
    bool set(T&& v) { return set_from(std::move(v)); }
    bool set(const T& v) { return set_from(v); }

    /// The value, null if there is none yet. One load.
    const T* get() const noexcept { return ready_.is_set() ? std::addressof(*value_) : nullptr; }
    bool is_set() const noexcept { return ready_.is_set(); }

    /// Waits for the value. Gives a reference to it.
    /// @par Cancellation
    /// Cancel-safe.
    /// @par Complexity
    /// O(1), also to drop it; no allocation.
    wait_operation wait() noexcept { return wait_operation(*this); }

    /// The same on a plain thread. @throws std::logic_error inside a task
    const T& blocking_wait() { return magpie::detail::blocking_wait(wait()); }

private:
    template <class U>
    bool set_from(U&& v) {
        // Acquire: pairs with the store of one that failed below, and left the value to the next.
        if (claimed_.exchange(true, std::memory_order_acquire))
            return false;
        try {
            value_.emplace(std::forward<U>(v));
        } catch (...) {
            claimed_.store(false, std::memory_order_release); // pairs with the exchange
            throw;
        }
        ready_.set();
        return true;
    }

    magpie::detail::atomic<bool> claimed_{false};
    std::optional<T> value_; // written by who has claimed it; constant once ready_
    event ready_;
};

template <class T>
class set_once<T>::wait_operation : public event::wait_operation {
public:
    explicit wait_operation(set_once& s) noexcept : event::wait_operation(s.ready_), from_(&s) {}

    const T& await_resume() const noexcept { return *from_->value_; }

private:
    set_once* from_;
};

} // namespace magpie::sync
