#pragma once

#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/permit_queue.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync {

namespace detail {

[[noreturn]] void throw_not_locked();
[[noreturn]] void throw_locked_twice();
[[noreturn]] void throw_no_mutex();
[[noreturn]] void throw_still_locked();

/// What makes guards and takes them apart: the locks, and what is built on them.
struct guard_access;
struct lock_access;

} // namespace detail

/// A lock that is held, and let go of when this goes: what `lock()` of a `mutex` or a `shared_mutex` gives.
///
/// `Owner` is a pointer to the mutex: plain, or a `std::shared_ptr` that keeps it alive (`lock_owned`).
/// `Access` is what the lock allows: see `mutex::guard` and the guards of `shared_mutex`.
/// A guard that was moved from holds nothing.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe. A guard may be let go of on any thread.
template <class Owner, class Access>
class [[nodiscard("the lock is let go of when its guard goes")]] basic_guard {
public:
    static constexpr bool writes = Access::writes; ///< it allows to change what is locked

    basic_guard(basic_guard&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), entry_(std::move(other.entry_)) {}
    basic_guard& operator=(basic_guard&& other) noexcept {
        basic_guard old(std::exchange(owner_, std::exchange(other.owner_, nullptr)), {});
        detail::lock_entry::shift(old.entry_, entry_, other.entry_);
        return *this;
    }
    ~basic_guard() {
        if (owner_ != nullptr)
            let_go();
    }

    /// Whether it holds the lock.
    explicit operator bool() const noexcept { return owner_ != nullptr; }

    /// Lets go of the lock now. @throws std::logic_error if it is not held
    void unlock() {
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_not_locked();
        let_go();
        owner_ = nullptr;
    }

    /// Of a guard that may write to a `shared_mutex`: goes on as a reader. No writer gets in between.
    /// @throws std::logic_error if the lock is not held
    auto downgrade() &&
        requires requires { typename Access::downgraded; }
    {
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_not_locked();
        entry_.becomes(Access::downgraded::mode);
        Access::downgrade(*owner_);
        return basic_guard<Owner, typename Access::downgraded>(std::exchange(owner_, nullptr),
                                                               std::move(entry_));
    }

    /// Of an upgradable guard of a `shared_mutex`: waits until all other readers are gone, and goes on
    /// as a writer. Nobody writes in between. It goes before all who wait.
    ///
    /// @throws std::logic_error (when awaited) if the lock is not held
    /// @par Cancellation
    /// Cancel-safe, but the lock is given away with the guard: dropped, it is let go of.
    auto upgrade(detail::lock_place where = detail::lock_place::current()) &&
        requires requires { typename Access::upgraded; }
    {
        return typename Access::template upgrade_operation<Owner>(std::exchange(owner_, nullptr),
                                                                  std::move(entry_), where);
    }
    /// The same if no other reader is there and nobody waits; else nothing, and the guard stays as it is.
    auto try_upgrade()
        requires requires { typename Access::upgraded; }
    {
        using upgraded = basic_guard<Owner, typename Access::upgraded>;
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_not_locked();
        if (!Access::try_upgrade(*owner_))
            return std::optional<upgraded>();
        entry_.becomes(Access::upgraded::mode);
        return std::optional<upgraded>(upgraded(std::exchange(owner_, nullptr), std::move(entry_)));
    }

private:
    template <class O, class A>
    friend class basic_guard;
    friend struct detail::guard_access;

    basic_guard(Owner owner, detail::lock_entry&& entry) noexcept
        : owner_(std::move(owner)), entry_(std::move(entry)) {}

    void let_go() noexcept {
        entry_.lets_go();
        Access::let_go(*owner_);
    }

    Owner owner_;
    [[no_unique_address]] detail::lock_entry entry_;
};

/// A value under its lock: what `lock()` of a `guarded<T>` or `guarded_shared<T>` gives. The lock is let
/// go of when this goes. A reader sees a `const T`.
///
/// One that was moved from holds nothing; to use its value then is a broken precondition.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
template <class T, class Guard>
class [[nodiscard("the lock is let go of when its guard goes")]] locked {
    using seen = std::conditional_t<Guard::writes, T, const T>;

public:
    locked(locked&& other) noexcept
        : guard_(std::move(other.guard_)), value_(std::exchange(other.value_, nullptr)) {}
    locked& operator=(locked&& other) noexcept {
        guard_ = std::move(other.guard_);
        value_ = std::exchange(other.value_, nullptr);
        return *this;
    }

    seen& operator*() const noexcept { return *value_; }
    seen* operator->() const noexcept { return value_; }

    /// Whether it holds the lock.
    explicit operator bool() const noexcept { return static_cast<bool>(guard_); }

    /// Lets go of the lock now. @throws std::logic_error if it is not held
    void unlock() {
        guard_.unlock();
        value_ = nullptr;
    }

    /// Goes on with a part of the value: `std::move(g).map(&config::limits)`, or what `f(value)` refers
    /// to. The lock is held as before. If `f` throws, it is let go of.
    template <class F>
    auto map(F&& f) && {
        locked old(std::move(*this));
        auto& part = std::invoke(std::forward<F>(f), *old);
        return locked<std::remove_reference_t<decltype(part)>, Guard>(std::move(old.guard_), part);
    }

    /// The same with an `f` that gives a pointer. If that is null this gives nothing and stays as it is.
    template <class F>
    auto try_map(F&& f) {
        using part = std::remove_pointer_t<std::invoke_result_t<F, seen&>>;
        part* const found = std::invoke(std::forward<F>(f), **this);
        if (found == nullptr)
            return std::optional<locked<part, Guard>>();
        value_ = nullptr;
        return std::optional<locked<part, Guard>>(locked<part, Guard>(std::move(guard_), *found));
    }

    /// Of a writer: goes on as a reader. @see basic_guard::downgrade
    auto downgrade() &&
        requires requires(Guard g) { std::move(g).downgrade(); }
    {
        using reader = decltype(std::move(guard_).downgrade());
        return locked<T, reader>(std::move(guard_).downgrade(), *std::exchange(value_, nullptr));
    }

    /// Goes on as a reader of a part of the value, if `f(const T&)` gives a pointer to it; if that is
    /// null this gives nothing and stays a writer.
    template <class F>
    auto try_downgrade_map(F&& f)
        requires requires(Guard g) { std::move(g).downgrade(); }
    {
        using reader = decltype(std::move(guard_).downgrade());
        using part = std::remove_pointer_t<std::invoke_result_t<F, const T&>>;
        part* const found = std::invoke(std::forward<F>(f), std::as_const(*value_));
        if (found == nullptr)
            return std::optional<locked<part, reader>>();
        value_ = nullptr;
        return std::optional<locked<part, reader>>(
            locked<part, reader>(std::move(guard_).downgrade(), *found));
    }

    /// Of an upgradable reader: goes on as a writer when the other readers are gone.
    /// @see basic_guard::upgrade
    auto upgrade(detail::lock_place where = detail::lock_place::current()) &&
        requires requires(Guard g) { std::move(g).upgrade(); };

private:
    template <class U, class G>
    friend class locked;
    friend struct detail::guard_access;

    locked(Guard guard, T& value) noexcept : guard_(std::move(guard)), value_(&value) {}

    Guard guard_;
    T* value_;
};

namespace detail {

struct guard_access {
    template <class Guard, class Owner>
    static Guard make(Owner owner, lock_entry&& entry) noexcept {
        return Guard(std::move(owner), std::move(entry));
    }
    template <class T, class Guard>
    static locked<T, Guard> make_locked(Guard guard, T& value) noexcept {
        return locked<T, Guard>(std::move(guard), value);
    }
    /// The pointer to the mutex, to be taken and given back.
    template <class Owner, class Access>
    static Owner& owner(basic_guard<Owner, Access>& g) noexcept {
        return g.owner_;
    }
    template <class T, class Guard>
    static auto& owner(locked<T, Guard>& l) noexcept {
        return owner(l.guard_);
    }
    /// What is known of the lock that it holds.
    template <class Owner, class Access>
    static lock_entry& entry(basic_guard<Owner, Access>& g) noexcept {
        return g.entry_;
    }
    template <class T, class Guard>
    static lock_entry& entry(locked<T, Guard>& l) noexcept {
        return entry(l.guard_);
    }
};

} // namespace detail

/// The wait for a lock. @see mutex::lock
template <class Owner, class Access>
class [[nodiscard("co_await it")]] lock_operation
    : public operation<lock_operation<Owner, Access>, detail::permit_waiter> {
    using base = operation<lock_operation, detail::permit_waiter>;

public:
    using guard = basic_guard<Owner, Access>;
    static constexpr cancel_safety safety = cancel_safety::safe;

    lock_operation(Owner owner, detail::lock_place where) noexcept : owner_(std::move(owner)) {
        this->amount_ = Access::amount(*owner_);
        this->entry_.is_for(Access::traced(*owner_), Access::mode, where);
    }
    lock_operation(lock_operation&& other) noexcept
        : base(std::move(other)), owner_(std::exchange(other.owner_, nullptr)) {}
    ~lock_operation() {
        if (owner_ != nullptr && this->granted_) {
            this->entry_.lets_go();
            Access::let_go(*owner_);
        }
    }

    bool try_complete() noexcept {
        if (owner_ == nullptr) [[unlikely]]
            return true;
        this->granted_ = Access::try_lock(*owner_);
        if (this->granted_)
            this->entry_.gets(*this);
        return this->granted_;
    }
    bool publish() noexcept {
        this->entry_.asks(*this);
        return Access::queue(*owner_).enter(*this);
    }

    /// @throws std::logic_error if it was awaited before
    guard await_resume() {
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_locked_twice();
        this->entry_.check();
        return detail::guard_access::make<guard>(std::exchange(owner_, nullptr),
                                                 std::move(this->entry_));
    }

private:
    cancel_answer cancel() noexcept override { return Access::queue(*owner_).leave(*this); }

    Owner owner_;
};

/// The wait for a lock, together with the value behind it. @see guarded::lock
template <class T, class Operation>
class [[nodiscard("co_await it")]] value_lock_operation : public Operation {
public:
    value_lock_operation(Operation&& lock, T& value) noexcept
        : Operation(std::move(lock)), value_(&value) {}

    /// @throws std::logic_error if it was awaited before
    locked<T, typename Operation::guard> await_resume() {
        return detail::guard_access::make_locked(Operation::await_resume(), *value_);
    }

private:
    T* value_;
};

template <class T, class Guard>
auto locked<T, Guard>::upgrade(detail::lock_place where) &&
    requires requires(Guard g) { std::move(g).upgrade(); }
{
    using lock = decltype(std::move(guard_).upgrade(where));
    return value_lock_operation<T, lock>(std::move(guard_).upgrade(where),
                                         *std::exchange(value_, nullptr));
}

} // namespace magpie::sync
