#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/shared_mutex.hpp>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync {

/// A value that can only be reached with its lock held, by many readers or one writer: a `shared_mutex` and
/// what it is for. Readers see a `const T`. @see shared_mutex, locked
///
/// @par Thread safety
/// As `shared_mutex`; what readers do with the value at the same time, its type has to allow.
///
/// @par Example
/// @code
/// magpie::task<bool> is_known(magpie::sync::guarded_shared<std::set<std::string>>& names, std::string n) {
///     auto all = co_await names.lock_shared();
///     co_return all->contains(n);
/// }
/// @endcode
template <class T>
class guarded_shared {
public:
    using value_type = T;
    using guard = locked<T, shared_mutex::guard>;
    using shared_guard = locked<T, shared_mutex::shared_guard>;
    using upgradable_guard = locked<T, shared_mutex::upgradable_guard>;

    /// The value is made of `arguments`.
    template <class... Arguments>
        requires std::is_constructible_v<T, Arguments...>
    explicit(sizeof...(Arguments) == 1) guarded_shared(Arguments&&... arguments)
        : value_(std::forward<Arguments>(arguments)...) {}
    /// The same with a name for reports. @see object_name
    template <class... Arguments>
        requires std::is_constructible_v<T, Arguments...>
    explicit guarded_shared(object_name name, Arguments&&... arguments)
        : mutex_(name), value_(std::forward<Arguments>(arguments)...) {}
    guarded_shared(const guarded_shared&) = delete;
    guarded_shared& operator=(const guarded_shared&) = delete;

    /// Waits until it can write, read, or read and become the writer. Gives the guard of that kind.
    /// @see shared_mutex::lock
    auto lock(detail::lock_place where = detail::lock_place::current()) noexcept {
        return with_value(mutex_.lock(where), value_);
    }
    auto lock_shared(detail::lock_place where = detail::lock_place::current()) noexcept {
        return with_value(mutex_.lock_shared(where), value_);
    }
    auto lock_upgradable(detail::lock_place where = detail::lock_place::current()) noexcept {
        return with_value(mutex_.lock_upgradable(where), value_);
    }

    /// Takes the lock if that is possible and nobody waits for it.
    std::optional<guard> try_lock(detail::lock_place where = detail::lock_place::current()) noexcept {
        return held(mutex_.try_lock(where));
    }
    std::optional<shared_guard> try_lock_shared(
        detail::lock_place where = detail::lock_place::current()) noexcept {
        return held(mutex_.try_lock_shared(where));
    }
    std::optional<upgradable_guard> try_lock_upgradable(
        detail::lock_place where = detail::lock_place::current()) noexcept {
        return held(mutex_.try_lock_upgradable(where));
    }

    /// The same with guards that keep this object alive. @throws std::logic_error for a null pointer
    static auto lock_owned(std::shared_ptr<guarded_shared> g,
                           detail::lock_place where = detail::lock_place::current()) {
        T& value = checked(g).value_;
        return with_value(shared_mutex::lock_owned(mutex_of(std::move(g)), where), value);
    }
    static auto lock_shared_owned(std::shared_ptr<guarded_shared> g,
                                  detail::lock_place where = detail::lock_place::current()) {
        T& value = checked(g).value_;
        return with_value(shared_mutex::lock_shared_owned(mutex_of(std::move(g)), where), value);
    }
    static auto lock_upgradable_owned(std::shared_ptr<guarded_shared> g,
                                      detail::lock_place where = detail::lock_place::current()) {
        T& value = checked(g).value_;
        return with_value(shared_mutex::lock_upgradable_owned(mutex_of(std::move(g)), where), value);
    }

    /// The same on a plain thread. @throws std::logic_error inside a task
    guard blocking_lock(detail::lock_place where = detail::lock_place::current()) {
        return magpie::detail::blocking_wait(lock(where));
    }
    shared_guard blocking_lock_shared(detail::lock_place where = detail::lock_place::current()) {
        return magpie::detail::blocking_wait(lock_shared(where));
    }
    upgradable_guard blocking_lock_upgradable(
        detail::lock_place where = detail::lock_place::current()) {
        return magpie::detail::blocking_wait(lock_upgradable(where));
    }

    /// Whether somebody wrote, or read, a moment ago.
    bool is_locked() const noexcept { return mutex_.is_locked(); }

    /// Moves the value out, when it is not shared any more.
    /// @throws std::logic_error if it is locked
    T into_inner() && {
        if (is_locked()) [[unlikely]]
            detail::throw_still_locked();
        return std::move(value_);
    }

private:
    friend struct detail::lock_access;

    template <class Operation>
    static value_lock_operation<T, Operation> with_value(Operation wait, T& value) noexcept {
        return value_lock_operation<T, Operation>(std::move(wait), value);
    }
    template <class Guard>
    std::optional<locked<T, Guard>> held(std::optional<Guard> g) noexcept {
        if (!g)
            return std::nullopt;
        return detail::guard_access::make_locked(std::move(*g), value_);
    }
    static guarded_shared& checked(const std::shared_ptr<guarded_shared>& g) {
        if (g == nullptr) [[unlikely]]
            detail::throw_no_mutex();
        return *g;
    }
    static std::shared_ptr<shared_mutex> mutex_of(std::shared_ptr<guarded_shared> g) noexcept {
        shared_mutex& m = g->mutex_;
        return {std::move(g), &m};
    }

    shared_mutex mutex_;
    T value_;
};

} // namespace magpie::sync
