#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/mutex.hpp>

#include <memory>
#include <optional>
#include <ostream>
#include <type_traits>
#include <utility>

namespace magpie::sync {

/// A value that can only be reached with its lock held: a `mutex` and what it is for.
///
/// `lock()` gives a guard that is used like a pointer to the value. @see mutex, locked
///
/// @par Thread safety
/// As `mutex`.
///
/// @par Example
/// @code
/// magpie::sync::guarded<std::map<std::string, int>> hits;
///
/// magpie::task<> count(std::string page) {
///     auto table = co_await hits.lock();
///     ++(*table)[page];
/// }
/// @endcode
template <class T>
class guarded {
public:
    using value_type = T;
    using guard = locked<T, mutex::guard>;
    using owned_guard = locked<T, mutex::owned_guard>; ///< keeps this object alive

    /// The value is made of `arguments`.
    template <class... Arguments>
        requires std::is_constructible_v<T, Arguments...>
    explicit(sizeof...(Arguments) == 1) guarded(Arguments&&... arguments)
        : value_(std::forward<Arguments>(arguments)...) {}
    /// The same with a name for reports. @see object_name
    template <class... Arguments>
        requires std::is_constructible_v<T, Arguments...>
    explicit guarded(object_name name, Arguments&&... arguments)
        : mutex_(name), value_(std::forward<Arguments>(arguments)...) {}
    guarded(const guarded&) = delete;
    guarded& operator=(const guarded&) = delete;

    /// Waits for the lock. Gives a `guard`. @see mutex::lock
    auto lock(detail::lock_place where = detail::lock_place::current()) noexcept {
        auto wait = mutex_.lock(where);
        return value_lock_operation<T, decltype(wait)>(std::move(wait), value_);
    }

    /// Takes the lock if it is free and nobody waits for it.
    std::optional<guard> try_lock(detail::lock_place where = detail::lock_place::current()) noexcept {
        auto held = mutex_.try_lock(where);
        if (!held)
            return std::nullopt;
        return detail::guard_access::make_locked(std::move(*held), value_);
    }

    /// The same with a guard that keeps this object alive.
    /// @throws std::logic_error for a null pointer
    static auto lock_owned(std::shared_ptr<guarded> g,
                           detail::lock_place where = detail::lock_place::current()) {
        T& value = checked(g).value_;
        auto wait = mutex::lock_owned(mutex_of(std::move(g)), where);
        return value_lock_operation<T, decltype(wait)>(std::move(wait), value);
    }
    static std::optional<owned_guard> try_lock_owned(
        std::shared_ptr<guarded> g, detail::lock_place where = detail::lock_place::current()) {
        T& value = checked(g).value_;
        auto held = mutex::try_lock_owned(mutex_of(std::move(g)), where);
        if (!held)
            return std::nullopt;
        return detail::guard_access::make_locked(std::move(*held), value);
    }

    /// `lock()` on a plain thread. @throws std::logic_error inside a task
    guard blocking_lock(detail::lock_place where = detail::lock_place::current()) {
        return magpie::detail::blocking_wait(lock(where));
    }

    /// Whether somebody held it a moment ago.
    bool is_locked() const noexcept { return mutex_.is_locked(); }

    /// Moves the value out, when it is not shared any more.
    /// @throws std::logic_error if it is locked
    T into_inner() && {
        if (is_locked()) [[unlikely]]
            detail::throw_still_locked();
        return std::move(value_);
    }

    /// "guarded(<the value>)", or "guarded(locked)" if it is locked. Never waits.
    friend std::ostream& operator<<(std::ostream& out, const guarded& g)
        requires requires(const T& v) { out << v; }
    {
        if (const auto held = g.mutex_.try_lock())
            return out << "guarded(" << g.value_ << ')';
        return out << "guarded(locked)";
    }

private:
    friend struct detail::lock_access;

    static guarded& checked(const std::shared_ptr<guarded>& g) {
        if (g == nullptr) [[unlikely]]
            detail::throw_no_mutex();
        return *g;
    }
    static std::shared_ptr<mutex> mutex_of(std::shared_ptr<guarded> g) noexcept {
        mutex& m = g->mutex_;
        return {std::move(g), &m};
    }

    mutable mutex mutex_; // to print is const, and locks
    T value_;
};

} // namespace magpie::sync
