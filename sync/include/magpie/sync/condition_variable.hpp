#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/lock_access.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/permit_queue.hpp>
#include <magpie/sync/guard.hpp>
#include <magpie/sync/mutex.hpp>

#include <concepts>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie::sync {

namespace detail {

/// A guard of a `mutex` or of a `guarded`.
template <class Guard>
concept mutex_guard = requires(Guard& g) {
    { *guard_access::owner(g) } -> std::same_as<mutex&>;
};

struct always {
    bool operator()() const noexcept { return true; }
};

/// A wait for a `condition_variable`, whatever its guard is: first in its list, then in the mutex's.
class condition_waiter : public permit_waiter {
protected:
    condition_waiter() noexcept = default;
    condition_waiter(condition_waiter&&) noexcept = default;
    ~condition_waiter() = default;

    /// Who has told it to go on: that decides whether another one is told if it is dropped.
    enum class by : unsigned char { nobody, one, all };

    permit_queue* lock_ = nullptr; // the mutex
    by told_ = by::nobody;         // guarded by the condition_variable's lock while it waits

private:
    friend class sync::condition_variable;
};

} // namespace detail

template <class Guard, class Predicate>
class condition_wait_operation;

/// Tasks that hold a lock wait until something that it guards has changed.
///
/// As `std::condition_variable`: to wait lets go of the lock, and has it again when it goes on. There are
/// no spurious wake-ups, and who is told stands in the mutex's queue at once: it is woken when it has the
/// lock. Whoever waits is told first come first. For who has no lock, `notify` is simpler.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads, with the
/// lock held or not. It must outlive its waiters. Who was told may destroy it at once, though the call that
/// told has not returned yet. One who finds that he need not wait was told by nobody: if he destroys it, tell
/// with the lock held.
///
/// @par Example
/// @code
/// magpie::task<job> next(magpie::sync::guarded<std::deque<job>>& jobs, magpie::sync::condition_variable& more) {
///     auto queue = co_await jobs.lock();
///     co_await more.wait(queue, [&] { return !queue->empty(); });
///     job j = std::move(queue->front());
///     queue->pop_front();
///     co_return j;
/// }
/// @endcode
class condition_variable {
public:
    condition_variable() noexcept = default;
    condition_variable(const condition_variable&) = delete;
    condition_variable& operator=(const condition_variable&) = delete;

    /// Tells the one that has waited longest, or all; nobody, if nobody waits: it is not kept.
    void notify_one() noexcept;
    void notify_all() noexcept;

    /// Lets go of the lock, waits to be told, and takes the lock again.
    ///
    /// @param guard of a `mutex` or a `guarded`. It has to live until the wait is over, as a local of the
    ///        task does; in the meantime it holds nothing.
    /// @throws std::logic_error (when awaited) if the guard holds no lock
    /// @par Cancellation
    /// Cancel-safe: dropped when it was told by `notify_one` and has not gone on, it tells the next. The
    /// lock is let go of, and the guard holds nothing: also after a `timeout`, which may lock again.
    /// @par Complexity
    /// O(1), also to drop it; no allocation.
    template <detail::mutex_guard Guard>
    auto wait(Guard& guard, detail::lock_place where = detail::lock_place::current()) noexcept {
        return condition_wait_operation<Guard, detail::always>(*this, guard, detail::always(), where);
    }

    /// The same until `predicate()` holds, which is asked with the lock held, before the first wait and each
    /// time that it was told, on whichever worker that is.
    /// @throws what the predicate throws; the lock is held then
    template <detail::mutex_guard Guard, class Predicate>
        requires std::predicate<Predicate&>
    auto wait(Guard& guard, Predicate predicate,
              detail::lock_place where = detail::lock_place::current()) {
        return condition_wait_operation<Guard, Predicate>(*this, guard, std::move(predicate), where);
    }

    /// The same on a plain thread. @throws std::logic_error also inside a task
    template <detail::mutex_guard Guard>
    void blocking_wait(Guard& guard, detail::lock_place where = detail::lock_place::current()) {
        magpie::detail::blocking_wait(wait(guard, where));
    }
    template <detail::mutex_guard Guard, class Predicate>
        requires std::predicate<Predicate&>
    void blocking_wait(Guard& guard, Predicate predicate,
                       detail::lock_place where = detail::lock_place::current()) {
        magpie::detail::blocking_wait(wait(guard, std::move(predicate), where));
    }

private:
    template <class Guard, class Predicate>
    friend class condition_wait_operation;
    using waiter = detail::condition_waiter;

    void enter(waiter& w) noexcept;
    cancel_answer leave(waiter& w) noexcept;
    static void pass_to_lock(waiter& w) noexcept;

    magpie::detail::spin_lock lock_;
    detail::wait_list waiters_; // guarded by lock_
};

/// The wait for a `condition_variable`. @see condition_variable::wait
template <class Guard, class Predicate>
class [[nodiscard("co_await it")]] condition_wait_operation
    : public operation<condition_wait_operation<Guard, Predicate>, detail::condition_waiter> {
    using base = operation<condition_wait_operation, detail::condition_waiter>;
    using by = detail::condition_waiter::by;
    using owner_type =
        std::remove_reference_t<decltype(detail::guard_access::owner(std::declval<Guard&>()))>;
    static constexpr bool asks = !std::is_same_v<Predicate, detail::always>;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    condition_wait_operation(condition_variable& c, Guard& guard, Predicate predicate,
                             detail::lock_place where)
        : condition_(&c), guard_(&guard), predicate_(std::move(predicate)), where_(where) {}
    condition_wait_operation(condition_wait_operation&&) = default;
    ~condition_wait_operation() {
        if (owner_ == nullptr)
            return;
        if (this->granted_) {
            this->entry_.lets_go();
            this->lock_->give(1);
        }
        if (this->told_ == by::one)
            condition_->notify_one();
    }

    bool try_complete() noexcept {
        // Holding the lock: by the guard, or because it was told and has got it.
        if (owner_ == nullptr && !*guard_) [[unlikely]]
            return true;
        if constexpr (asks)
            return holds();
        else
            return owner_ != nullptr;
    }
    bool publish() noexcept {
        if (owner_ == nullptr) {
            owner_ = std::exchange(detail::guard_access::owner(*guard_), nullptr);
            this->lock_ = &detail::lock_access::queue(*owner_);
            detail::guard_access::entry(*guard_).lets_go();
            this->entry_.is_for(detail::lock_access::traced(*owner_), lock_mode::exclusive, where_);
        } else {
            this->entry_.lets_go();
        }
        this->entry_.asks_again(*this);
        this->retry_ = asks; // woken with the lock, it asks again
        detail::permit_queue& lock = *this->lock_;
        condition_->enter(*this);
        lock.give(1); // only then can it be woken: it needs the lock for that
        return true;
    }

    /// @throws std::logic_error if the guard held no lock; what the predicate has thrown
    void await_resume() {
        if (owner_ != nullptr) {
            this->told_ = by::nobody;
            this->granted_ = false;
            detail::guard_access::entry(*guard_) = std::move(this->entry_);
            detail::guard_access::owner(*guard_) = std::exchange(owner_, nullptr);
        } else if (!*guard_) [[unlikely]] {
            detail::throw_not_locked();
        }
        if (error_)
            std::rethrow_exception(std::exchange(error_, nullptr));
    }

private:
    bool holds() noexcept {
        try {
            return predicate_();
        } catch (...) {
            error_ = std::current_exception();
            return true;
        }
    }

    cancel_answer cancel() noexcept override { return condition_->leave(*this); }

    condition_variable* condition_;
    Guard* guard_;
    owner_type owner_ = nullptr; // while the guard holds nothing
    std::exception_ptr error_;
    [[no_unique_address]] Predicate predicate_;
    [[no_unique_address]] detail::lock_place where_;
};

} // namespace magpie::sync
