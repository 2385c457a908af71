#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/permit_queue.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/object_name.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace magpie::sync {

template <class Owner>
class lock_upgradable_operation;
template <class Owner>
class upgrade_operation;

/// A lock that many readers hold at a time, or one writer.
///
/// Unlike `std::shared_mutex`, locking is awaited and gives a guard, which may be held over a `co_await`,
/// moved to another task, and let go of on another thread. It is fair, to writers too: served first come
/// first, so a writer that waits holds up the readers behind it. What was done under the lock is visible to
/// who gets it next.
///
/// An upgradable reader is a reader that may become a writer without letting go; there is one at a time,
/// beside plain readers.
///
/// A task that reads and locks for reading once more waits for himself if a writer came in between.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. It must
/// outlive its guards and waiters (the `_owned` forms see to that); the writer may destroy it, when nobody
/// waits for it or will.
///
/// @par Example
/// @code
/// magpie::task<> refresh(magpie::sync::shared_mutex& m, table& t) {
///     auto reads = co_await m.lock_upgradable(); // others read on
///     if (t.is_fresh())
///         co_return;
///     auto news = co_await fetch();
///     auto writes = co_await std::move(reads).upgrade();
///     t.update(news);
/// }
/// @endcode
class shared_mutex {
    struct exclusive;
    struct shared;
    struct upgradable;

public:
    using guard = basic_guard<shared_mutex*, exclusive>;     ///< of the writer; has `downgrade()`
    using shared_guard = basic_guard<shared_mutex*, shared>; ///< of a reader
    using upgradable_guard = basic_guard<shared_mutex*, upgradable>; ///< has `upgrade()`
    using owned_guard = basic_guard<std::shared_ptr<shared_mutex>, exclusive>;
    using owned_shared_guard = basic_guard<std::shared_ptr<shared_mutex>, shared>;
    using owned_upgradable_guard = basic_guard<std::shared_ptr<shared_mutex>, upgradable>;

    static constexpr std::size_t most_readers = std::size_t{1}
                                                << 32; ///< what `max_readers` may be at most

    /// @param max_readers how many readers there are at a time: 1 up to `most_readers`
    /// @throws std::logic_error if it is out of that range
    explicit shared_mutex(std::size_t max_readers = most_readers);
    /// The same with a name for reports. @see object_name
    explicit shared_mutex(object_name name, std::size_t max_readers = most_readers);
    shared_mutex(const shared_mutex&) = delete;
    shared_mutex& operator=(const shared_mutex&) = delete;

    /// Waits until it can write. Gives a `guard`.
    ///
    /// @par Cancellation
    /// Cancel-safe: it gives up its place, and lets those behind it go on.
    /// @par Complexity
    /// O(1), also to drop it; no allocation. One compare-exchange if it is free, another to let go of it.
    ///
    /// (`where` is for reports of a build with MAGPIE_LOCK_TRACE, here and in what follows: leave it out.)
    lock_operation<shared_mutex*, exclusive> lock(
        detail::lock_place where = detail::lock_place::current()) noexcept;

    /// Waits until it can read. Gives a `shared_guard`. As `lock`.
    lock_operation<shared_mutex*, shared> lock_shared(
        detail::lock_place where = detail::lock_place::current()) noexcept;

    /// Waits until it can read, and nobody else is an upgradable reader. Gives an `upgradable_guard`.
    /// Those who wait for an upgradable reader to go hold up nobody. As `lock`.
    lock_upgradable_operation<shared_mutex*> lock_upgradable(
        detail::lock_place where = detail::lock_place::current()) noexcept;

    /// Takes the lock if that is possible and nobody waits for it.
    std::optional<guard> try_lock(detail::lock_place where = detail::lock_place::current()) noexcept;
    std::optional<shared_guard> try_lock_shared(
        detail::lock_place where = detail::lock_place::current()) noexcept;
    std::optional<upgradable_guard> try_lock_upgradable(
        detail::lock_place where = detail::lock_place::current()) noexcept;

    /// The same with guards that keep the mutex alive. @throws std::logic_error for a null pointer
    static lock_operation<std::shared_ptr<shared_mutex>, exclusive> lock_owned(
        std::shared_ptr<shared_mutex> m, detail::lock_place where = detail::lock_place::current());
    static lock_operation<std::shared_ptr<shared_mutex>, shared> lock_shared_owned(
        std::shared_ptr<shared_mutex> m, detail::lock_place where = detail::lock_place::current());
    static lock_upgradable_operation<std::shared_ptr<shared_mutex>> lock_upgradable_owned(
        std::shared_ptr<shared_mutex> m, detail::lock_place where = detail::lock_place::current());

    /// The same on a plain thread. @throws std::logic_error inside a task
    guard blocking_lock(detail::lock_place where = detail::lock_place::current());
    shared_guard blocking_lock_shared(detail::lock_place where = detail::lock_place::current());
    upgradable_guard blocking_lock_upgradable(detail::lock_place where = detail::lock_place::current());

    /// Whether somebody wrote, or read, a moment ago.
    bool is_locked() const noexcept { return readers_.available() < max_readers_; }

private:
    friend struct detail::lock_access;
    template <class Owner>
    friend class lock_upgradable_operation;
    template <class Owner>
    friend class upgrade_operation;

    bool try_take_upgradable() noexcept;

    // A reader has one permit, a writer all of them. So a writer in the queue gathers what comes back.
    const std::uint64_t max_readers_;
    detail::permit_queue readers_;
    detail::permit_queue upgrade_{1}; // who is the upgradable reader; he has a reader's permit as well
    [[no_unique_address]] detail::traced_lock traced_;
};

struct shared_mutex::shared {
    static constexpr bool writes = false;
    static constexpr lock_mode mode = lock_mode::shared;
    static detail::permit_queue& queue(shared_mutex& m) noexcept { return m.readers_; }
    static detail::traced_lock& traced(shared_mutex& m) noexcept { return m.traced_; }
    static std::uint64_t amount(const shared_mutex&) noexcept { return 1; }
    static bool try_lock(shared_mutex& m) noexcept { return m.readers_.try_take(1); }
    static void let_go(shared_mutex& m) noexcept { m.readers_.give(1); }
};

struct shared_mutex::exclusive {
    using downgraded = shared;

    static constexpr bool writes = true;
    static constexpr lock_mode mode = lock_mode::exclusive;
    static detail::permit_queue& queue(shared_mutex& m) noexcept { return m.readers_; }
    static detail::traced_lock& traced(shared_mutex& m) noexcept { return m.traced_; }
    static std::uint64_t amount(const shared_mutex& m) noexcept { return m.max_readers_; }
    static bool try_lock(shared_mutex& m) noexcept { return m.readers_.try_take(m.max_readers_); }
    static void let_go(shared_mutex& m) noexcept { m.readers_.give(m.max_readers_); }
    static void downgrade(shared_mutex& m) noexcept { m.readers_.give(m.max_readers_ - 1); }
};

struct shared_mutex::upgradable {
    using upgraded = exclusive;
    using downgraded = shared;
    template <class Owner>
    using upgrade_operation = sync::upgrade_operation<Owner>;

    static constexpr bool writes = false;
    static constexpr lock_mode mode = lock_mode::upgradable;
    static void let_go(shared_mutex& m) noexcept {
        m.upgrade_.give(1); // first: who gets the last permit of a reader may destroy the mutex
        m.readers_.give(1);
    }
    static void downgrade(shared_mutex& m) noexcept { m.upgrade_.give(1); }
    static bool try_upgrade(shared_mutex& m) noexcept {
        if (!m.readers_.try_take(m.max_readers_ - 1))
            return false;
        m.upgrade_.give(1);
        return true;
    }
};

/// The wait for an upgradable lock. @see shared_mutex::lock_upgradable
template <class Owner>
class [[nodiscard("co_await it")]] lock_upgradable_operation
    : public operation<lock_upgradable_operation<Owner>, detail::permit_waiter> {
    using base = operation<lock_upgradable_operation, detail::permit_waiter>;

public:
    using guard = basic_guard<Owner, shared_mutex::upgradable>;
    static constexpr cancel_safety safety = cancel_safety::safe;

    lock_upgradable_operation(Owner owner, detail::lock_place where) noexcept
        : owner_(std::move(owner)) {
        this->entry_.is_for(owner_->traced_, lock_mode::upgradable, where);
    }
    lock_upgradable_operation(lock_upgradable_operation&& other) noexcept
        : base(std::move(other)), owner_(std::exchange(other.owner_, nullptr)) {}
    ~lock_upgradable_operation() {
        if (owner_ == nullptr)
            return;
        this->entry_.lets_go();
        if (is_upgradable_ || this->granted_)
            owner_->upgrade_.give(1);
        if (is_upgradable_ && this->granted_)
            owner_->readers_.give(1);
    }

    // First it becomes the upgradable one, then a reader: woken as the first, it tries for the second.
    bool try_complete() noexcept {
        if (owner_ == nullptr) [[unlikely]]
            return true;
        if (!is_upgradable_) {
            if (!std::exchange(this->granted_, false)) {
                if (!owner_->upgrade_.try_take(1))
                    return false;
                this->entry_.gets(*this);
            }
            is_upgradable_ = true;
        }
        this->granted_ = owner_->readers_.try_take(1);
        if (this->granted_)
            this->entry_.gets(*this);
        return this->granted_;
    }
    bool publish() noexcept {
        this->entry_.asks(*this);
        if (!is_upgradable_) {
            this->retry_ = true;
            if (owner_->upgrade_.enter(*this))
                return true;
            this->retry_ = false;
            if (this->entry_.is_refused())
                return false;
            is_upgradable_ = true;
        }
        return owner_->readers_.enter(*this);
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
    cancel_answer cancel() noexcept override {
        return (is_upgradable_ ? owner_->readers_ : owner_->upgrade_).leave(*this);
    }

    Owner owner_;
    bool is_upgradable_ = false;
};

/// The wait of an upgradable reader for the others to go. @see basic_guard::upgrade
template <class Owner>
class [[nodiscard("co_await it")]] upgrade_operation
    : public operation<upgrade_operation<Owner>, detail::permit_waiter> {
    using base = operation<upgrade_operation, detail::permit_waiter>;
    using place = detail::permit_queue::place;

public:
    using guard = basic_guard<Owner, shared_mutex::exclusive>;
    static constexpr cancel_safety safety = cancel_safety::safe;

    /// `owner` is the upgradable reader's, null if he holds nothing.
    upgrade_operation(Owner owner, detail::lock_entry&& reads, detail::lock_place where) noexcept
        : owner_(std::move(owner)), reads_(std::move(reads)) {
        if (owner_ != nullptr) {
            this->amount_ = owner_->max_readers_ - 1;
            this->entry_.is_for(owner_->traced_, lock_mode::exclusive, where);
        }
    }
    upgrade_operation(upgrade_operation&& other) noexcept
        : base(std::move(other)), owner_(std::exchange(other.owner_, nullptr)),
          reads_(std::move(other.reads_)) {}
    ~upgrade_operation() {
        if (owner_ == nullptr)
            return;
        reads_.lets_go();
        this->entry_.lets_go();
        owner_->upgrade_.give(1);
        owner_->readers_.give(this->granted_ ? this->amount_ + 1 : 1);
    }

    bool try_complete() noexcept {
        if (owner_ == nullptr) [[unlikely]]
            return true;
        this->granted_ = owner_->readers_.try_take(this->amount_);
        if (this->granted_)
            this->entry_.gets(*this);
        return this->granted_;
    }
    // In front: those who wait do so for the permit that it keeps.
    bool publish() noexcept {
        this->entry_.asks(*this, &reads_);
        return owner_->readers_.enter(*this, place::front);
    }

    /// @throws std::logic_error if the guard held nothing, or if it was awaited before
    guard await_resume() {
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_not_locked();
        this->entry_.check();
        reads_.lets_go();
        owner_->upgrade_.give(1);
        return detail::guard_access::make<guard>(std::exchange(owner_, nullptr),
                                                 std::move(this->entry_));
    }

private:
    cancel_answer cancel() noexcept override { return owner_->readers_.leave(*this); }

    Owner owner_;
    [[no_unique_address]] detail::kept_lock_entry reads_;
};

inline lock_operation<shared_mutex*, shared_mutex::exclusive> shared_mutex::lock(
    detail::lock_place where) noexcept {
    return lock_operation<shared_mutex*, exclusive>(this, where);
}
inline lock_operation<shared_mutex*, shared_mutex::shared> shared_mutex::lock_shared(
    detail::lock_place where) noexcept {
    return lock_operation<shared_mutex*, shared>(this, where);
}
inline lock_upgradable_operation<shared_mutex*> shared_mutex::lock_upgradable(
    detail::lock_place where) noexcept {
    return lock_upgradable_operation<shared_mutex*>(this, where);
}

inline std::optional<shared_mutex::guard> shared_mutex::try_lock(detail::lock_place where) noexcept {
    if (!readers_.try_take(max_readers_))
        return std::nullopt;
    return detail::guard_access::make<guard>(
        this, detail::lock_entry::taken(traced_, lock_mode::exclusive, where));
}
inline std::optional<shared_mutex::shared_guard> shared_mutex::try_lock_shared(
    detail::lock_place where) noexcept {
    if (!readers_.try_take(1))
        return std::nullopt;
    return detail::guard_access::make<shared_guard>(
        this, detail::lock_entry::taken(traced_, lock_mode::shared, where));
}
inline std::optional<shared_mutex::upgradable_guard> shared_mutex::try_lock_upgradable(
    detail::lock_place where) noexcept {
    if (!try_take_upgradable())
        return std::nullopt;
    return detail::guard_access::make<upgradable_guard>(
        this, detail::lock_entry::taken(traced_, lock_mode::upgradable, where));
}

inline lock_operation<std::shared_ptr<shared_mutex>, shared_mutex::exclusive> shared_mutex::lock_owned(
    std::shared_ptr<shared_mutex> m, detail::lock_place where) {
    if (m == nullptr) [[unlikely]]
        detail::throw_no_mutex();
    return lock_operation<std::shared_ptr<shared_mutex>, exclusive>(std::move(m), where);
}
inline lock_operation<std::shared_ptr<shared_mutex>, shared_mutex::shared> shared_mutex::
    lock_shared_owned(std::shared_ptr<shared_mutex> m, detail::lock_place where) {
    if (m == nullptr) [[unlikely]]
        detail::throw_no_mutex();
    return lock_operation<std::shared_ptr<shared_mutex>, shared>(std::move(m), where);
}
inline lock_upgradable_operation<std::shared_ptr<shared_mutex>> shared_mutex::lock_upgradable_owned(
    std::shared_ptr<shared_mutex> m, detail::lock_place where) {
    if (m == nullptr) [[unlikely]]
        detail::throw_no_mutex();
    return lock_upgradable_operation<std::shared_ptr<shared_mutex>>(std::move(m), where);
}

inline shared_mutex::guard shared_mutex::blocking_lock(detail::lock_place where) {
    return magpie::detail::blocking_wait(lock(where));
}
inline shared_mutex::shared_guard shared_mutex::blocking_lock_shared(detail::lock_place where) {
    return magpie::detail::blocking_wait(lock_shared(where));
}
inline shared_mutex::upgradable_guard shared_mutex::blocking_lock_upgradable(detail::lock_place where) {
    return magpie::detail::blocking_wait(lock_upgradable(where));
}

} // namespace magpie::sync
