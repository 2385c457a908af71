#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/lock_word.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace magpie::sync {

template <class Owner>
class notified_operation;

class notify;

namespace detail {

[[noreturn]] void throw_no_notify();

/// A wait for a `notify`, whoever owns that.
class notified_waiter : public waiter {
protected:
    notified_waiter() noexcept = default;
    notified_waiter(notified_waiter&&) noexcept = default;
    ~notified_waiter() = default;

    void begin(std::uint64_t rounds) noexcept { rounds_ = rounds; }
    /// It goes on: it was told, and nobody else looks at it any more.
    void take() noexcept {
        told_ = by::taken;
        is_enrolled_ = false;
    }

private:
    friend class sync::notify;

    /// Who has told it: that decides who is told if it is dropped.
    enum class by : unsigned char { nobody, one, last, all, taken };

    std::uint64_t rounds_ = 0; // calls of notify_waiters() before it was made
    bool is_enrolled_ = false; // it is, or was, in the list
    bool is_awaited_ = false;  // a leaf that somebody waits for, not just enrolled: it is woken
    by told_ = by::nobody;     // guarded by the lock of the `notify` once it is enrolled
};

} // namespace detail

/// Tells tasks that something has happened, without saying what: they look themselves.
///
/// `notify_one()` tells the one that has waited longest; if nobody waits it is kept for the next, once:
/// two calls are kept as one. `notify_waiters()` tells all who wait, and is not kept; a wait counts from the
/// moment in which `notified()` is called. What was done before a call is visible to whom it tells.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. A notify
/// must outlive its waiters (`notified_owned` sees to that). Who was told may destroy it at once, though the
/// call that told has not returned yet.
///
/// @par Example
/// @code
/// magpie::task<> consume(queue& q, magpie::sync::notify& more) {
///     for (;;) {
///         while (auto item = q.try_pop())
///             use(*item);
///         co_await more.notified(); // a push in between is not missed: its notify_one() is kept
///     }
/// }
/// @endcode
class notify {
    using waiter = detail::notified_waiter;

public:
    notify() noexcept = default;
    notify(const notify&) = delete;
    notify& operator=(const notify&) = delete;

    /// Tells the one that has waited longest, or the next one.
    void notify_one() noexcept {
        if (!keep())
            tell<end::first>();
    }
    /// Tells the one that has waited shortest, or the next one.
    void notify_last() noexcept {
        if (!keep())
            tell<end::last>();
    }
    /// Tells all whose `notified()` was called before, and nobody else. What is kept stays.
    /// @par Complexity
    /// O(waiters)
    void notify_waiters() noexcept;

    /// Waits until it is told. An lvalue of it may be awaited again after it was dropped, and keeps its
    /// place in the queue; told once, it stays so. `enable()` lets it wait without being awaited.
    ///
    /// @par Cancellation
    /// Cancel-safe: destroyed when it was told and has not gone on, it tells the next, as it was told.
    /// @par Complexity
    /// O(1), also to drop it; no allocation. One compare-exchange if a call was kept.
    notified_operation<notify*> notified() noexcept;

    /// The same with a wait that keeps the notify alive.
    /// @throws std::logic_error for a null pointer
    static notified_operation<std::shared_ptr<notify>> notified_owned(std::shared_ptr<notify> n);

    /// `notified()` on a plain thread. @throws std::logic_error inside a task
    void blocking_wait();

private:
    template <class Owner>
    friend class notified_operation;
    enum class end : unsigned char { first, last };

    // The word is the number of calls of notify_waiters(), a lock, and one of
    //   none     nobody waits, nothing is kept
    //   kept     nobody waits, and a call is kept
    //   waiting  the list is not empty
    //
    // I1. `waiting` comes and goes under the lock; the number grows with an unlock.
    // I2. A waiter in the list was not told. It is told, and taken out, under the lock.
    // I3. One that is enrolled and not awaited is told by a note alone: no waker has it in hand (R11).
    // I4. Who tells has touched the object for the last time when somebody can know: with the CAS that keeps a
    //     call, or with the unlock. Those it has in hand are woken behind that.
    //
    // (K) A call that is kept: put there by a release, found by an acquire. So is the number, and what is told
    //     under the lock is carried by the lock or by the wake.
    class state {
    public:
        constexpr state() noexcept = default;

        bool is_locked() const noexcept { return (bits_ & locked_bit) != 0; }
        bool is_kept() const noexcept { return (bits_ & mask) == kept_bit; }
        bool is_waiting() const noexcept { return (bits_ & mask) == waiting_bit; }
        std::uint64_t rounds() const noexcept { return bits_ / one; }

        state locked() const noexcept { return with(bits_ | locked_bit); }
        state none() const noexcept { return with(bits_ & ~mask); }
        state kept() const noexcept { return with((bits_ & ~mask) | kept_bit); }
        state waiting() const noexcept { return with((bits_ & ~mask) | waiting_bit); }
        state next_round() const noexcept { return with(bits_ + one); }

    private:
        static constexpr std::uint64_t kept_bit = 1;
        static constexpr std::uint64_t waiting_bit = 2;
        static constexpr std::uint64_t mask = 3;
        static constexpr std::uint64_t locked_bit = 4;
        static constexpr std::uint64_t one = 8;

        static state with(std::uint64_t bits) noexcept {
            state s;
            s.bits_ = bits;
            return s;
        }

        std::uint64_t bits_ = 0;
    };

    using lock_word = magpie::detail::lock_word<state>;

    /// Keeps a call if nobody waits, and nobody has the lock.
    bool keep() noexcept {
        state seen = word_.load(std::memory_order_relaxed); // checked by the CAS
        while (!seen.is_waiting() && !seen.is_locked()) {
            // Success: (K), also where one is kept already: the next one sees what this caller did.
            if (word_.compare_exchange(seen, seen.kept(), std::memory_order_release,
                                       std::memory_order_relaxed))
                return true;
        }
        return false;
    }

    std::uint64_t rounds() const noexcept {
        return word_.load(std::memory_order_acquire).rounds(); // (K)
    }

    template <end Which>
    void tell() noexcept;
    /// Takes one out that is told, or goes. Under the lock.
    void remove(waiter& w, lock_word::guard& locked) noexcept;

    // What a wait does.
    /// Whether it is over: it was told, or takes what was kept.
    bool is_over(waiter& w) noexcept {
        if (!w.is_enrolled_ && w.told_ == waiter::by::nobody) {
            const state seen = word_.load(std::memory_order_relaxed); // enroll() looks once more
            if (seen.rounds() == w.rounds_ && !seen.is_kept())
                return false;
        }
        return is_over_after_all(w);
    }
    bool is_over_after_all(waiter& w) noexcept;
    /// Enters the list. False: it is over.
    bool enroll(waiter& w, bool awaited) noexcept;
    /// Is not awaited any more, and stays in the list.
    cancel_answer withdraw(waiter& w) noexcept;
    /// Goes.
    void leave(waiter& w) noexcept {
        if (w.is_enrolled_ || w.told_ != waiter::by::taken)
            leave_untaken(w);
    }
    void leave_untaken(waiter& w) noexcept;

    lock_word word_{state()};
    detail::wait_list waiters_; // guarded by word_
};

/// The wait for a `notify`. @see notify::notified
template <class Owner>
class [[nodiscard("co_await it")]] notified_operation
    : public operation<notified_operation<Owner>, detail::notified_waiter> {
    using base = operation<notified_operation, detail::notified_waiter>;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;
    static constexpr bool reusable = true; ///< composites take it as an lvalue

    explicit notified_operation(Owner owner) noexcept : owner_(std::move(owner)) {
        this->begin(owner_->rounds());
    }
    /// Only before it was enabled or awaited.
    notified_operation(notified_operation&& other) noexcept
        : base(std::move(other)), owner_(std::exchange(other.owner_, nullptr)) {}
    ~notified_operation() {
        if (owner_ != nullptr)
            owner_->leave(*this);
    }

    /// Enters the queue without waiting: what happens from now on is not missed. It may take a call that
    /// was kept. Idempotent. @return whether it was told already
    /// @throws std::logic_error if it was moved from
    bool enable() {
        check();
        return owner_->is_over(*this) || !owner_->enroll(*this, false);
    }

    bool try_complete() noexcept { return owner_ == nullptr || owner_->is_over(*this); }
    bool publish() noexcept { return owner_->enroll(*this, true); }

    /// @throws std::logic_error if it was moved from
    void await_resume() {
        check();
        this->take();
    }

private:
    void check() const {
        if (owner_ == nullptr) [[unlikely]]
            detail::throw_no_notify();
    }
    cancel_answer cancel() noexcept override { return owner_->withdraw(*this); }

    Owner owner_;
};

inline notified_operation<notify*> notify::notified() noexcept {
    return notified_operation<notify*>(this);
}

inline notified_operation<std::shared_ptr<notify>> notify::notified_owned(std::shared_ptr<notify> n) {
    if (n == nullptr) [[unlikely]]
        detail::throw_no_notify();
    return notified_operation<std::shared_ptr<notify>>(std::move(n));
}

inline void notify::blocking_wait() { magpie::detail::blocking_wait(notified()); }

} // namespace magpie::sync
