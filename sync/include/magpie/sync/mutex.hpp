#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/permit_queue.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/object_name.hpp>

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <utility>

namespace magpie::sync {

/// A lock that one task or thread holds at a time; who waits for it does not block its thread.
///
/// Unlike `std::mutex`, `lock()` is awaited and gives a guard, which may be held over a `co_await`, moved
/// to another task, and let go of on another thread. It is fair: served first come first, nobody overtakes.
/// What was done under the lock is visible to who gets it next.
///
/// For a few instructions without a `co_await` a `std::mutex` is cheaper. `guarded<T>` keeps the value
/// together with its lock. Like `std::mutex` it is not recursive: who locks it twice waits for himself.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. A mutex must
/// outlive its guards and waiters (`lock_owned` sees to that); who holds it may destroy it, when nobody
/// waits for it or will.
///
/// @par Example
/// @code
/// magpie::task<> log_line(magpie::sync::mutex& m, magpie::io::tcp_stream& to, std::string line) {
///     auto guard = co_await m.lock();
///     co_await write_all(to, line); // lines of several tasks do not mix
/// }
/// @endcode
class mutex {
    struct access;

public:
    using guard = basic_guard<mutex*, access>;
    using owned_guard = basic_guard<std::shared_ptr<mutex>, access>; ///< keeps the mutex alive

    mutex() noexcept : queue_(1) {}
    /// One with a name for reports. @see object_name
    explicit mutex(object_name name) noexcept : queue_(1), traced_(name) {}
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;

    /// Waits for the lock. Gives a `guard`.
    ///
    /// @par Cancellation
    /// Cancel-safe: it gives up its place, and a lock that it was handed goes to the next.
    /// @par Complexity
    /// O(1), also to drop it; no allocation. One compare-exchange if it is free, another to let go of it.
    ///
    /// (`where` is for reports of a build with MAGPIE_LOCK_TRACE, here and in what follows: leave it out.)
    lock_operation<mutex*, access> lock(
        detail::lock_place where = detail::lock_place::current()) noexcept;

    /// Takes the lock if it is free and nobody waits for it.
    std::optional<guard> try_lock(detail::lock_place where = detail::lock_place::current()) noexcept;

    /// The same with a guard that keeps the mutex alive.
    /// @throws std::logic_error for a null pointer
    static lock_operation<std::shared_ptr<mutex>, access> lock_owned(
        std::shared_ptr<mutex> m, detail::lock_place where = detail::lock_place::current());
    static std::optional<owned_guard> try_lock_owned(
        std::shared_ptr<mutex> m, detail::lock_place where = detail::lock_place::current());

    /// `lock()` on a plain thread. @throws std::logic_error inside a task
    guard blocking_lock(detail::lock_place where = detail::lock_place::current());

    /// Whether somebody held it a moment ago.
    bool is_locked() const noexcept { return queue_.available() == 0; }

    /// "mutex(free)" or "mutex(locked)". Never waits.
    friend std::ostream& operator<<(std::ostream& out, const mutex& m);

private:
    friend struct detail::lock_access;

    detail::permit_queue queue_;
    [[no_unique_address]] detail::traced_lock traced_;
};

struct mutex::access {
    static constexpr bool writes = true;
    static constexpr lock_mode mode = lock_mode::exclusive;
    static detail::permit_queue& queue(mutex& m) noexcept { return m.queue_; }
    static detail::traced_lock& traced(mutex& m) noexcept { return m.traced_; }
    static std::uint64_t amount(const mutex&) noexcept { return 1; }
    static bool try_lock(mutex& m) noexcept { return m.queue_.try_take(1); }
    static void let_go(mutex& m) noexcept { m.queue_.give(1); }
};

inline lock_operation<mutex*, mutex::access> mutex::lock(detail::lock_place where) noexcept {
    return lock_operation<mutex*, access>(this, where);
}

inline std::optional<mutex::guard> mutex::try_lock(detail::lock_place where) noexcept {
    if (!queue_.try_take(1))
        return std::nullopt;
    return detail::guard_access::make<guard>(
        this, detail::lock_entry::taken(traced_, lock_mode::exclusive, where));
}

inline lock_operation<std::shared_ptr<mutex>, mutex::access> mutex::lock_owned(
    std::shared_ptr<mutex> m, detail::lock_place where) {
    if (m == nullptr) [[unlikely]]
        detail::throw_no_mutex();
    return lock_operation<std::shared_ptr<mutex>, access>(std::move(m), where);
}

inline std::optional<mutex::owned_guard> mutex::try_lock_owned(std::shared_ptr<mutex> m,
                                                               detail::lock_place where) {
    if (m == nullptr) [[unlikely]]
        detail::throw_no_mutex();
    if (!m->queue_.try_take(1))
        return std::nullopt;
    detail::traced_lock& traced = m->traced_;
    return detail::guard_access::make<owned_guard>(
        std::move(m), detail::lock_entry::taken(traced, lock_mode::exclusive, where));
}

inline mutex::guard mutex::blocking_lock(detail::lock_place where) {
    return magpie::detail::blocking_wait(lock(where));
}

} // namespace magpie::sync
