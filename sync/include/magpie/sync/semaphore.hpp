#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/permit_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace magpie::sync {

template <class Owner>
class basic_permit;
template <class Owner>
class acquire_operation;

/// Permits, that tasks take before they do something, and give back afterwards: at most so many do it
/// at a time.
///
/// Unlike `std::counting_semaphore`, a permit is an object, which gives itself back. Who waits is
/// served first come first: nobody overtakes, so a request for many holds up those behind it until it is
/// served. What was done before a permit was given back is visible to who gets it.
///
/// @par Thread safety
/// Every member may be called concurrently, from tasks of any executor and from plain threads. A
/// semaphore must outlive its permits and waiters (`acquire_owned` sees to that). Who has got the last
/// permit may destroy it.
///
/// @par Example
/// @code
/// magpie::task<> fetch_all(std::vector<url> urls) {
///     magpie::sync::semaphore at_a_time(10);
///     magpie::join_set<> all;
///     for (url& u : urls) {
///         auto permit = co_await at_a_time.acquire();
///         all.spawn(fetch(std::move(u), std::move(*permit))); // given back when the task has ended
///     }
///     while (co_await all.join_next()) {}
/// }
/// @endcode
class semaphore {
public:
    using permit = basic_permit<semaphore*>;
    using owned_permit = basic_permit<std::shared_ptr<semaphore>>; ///< keeps the semaphore alive

    /// The most permits that there may be, taken ones included.
    static constexpr std::size_t max_permits = detail::permit_queue::max;

    /// @param permits 0 up to `max_permits` @throws std::logic_error if there are too many
    explicit semaphore(std::size_t permits);
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    /// Takes a permit, waiting for one if there is none, or others wait already.
    ///
    /// @return the permit, or nothing if the semaphore is closed
    /// @par Cancellation
    /// Cancel-safe: it gives up its place, and a permit that it was handed goes to the next.
    /// @par Complexity
    /// O(1), also to drop it; no allocation. One compare-exchange if there is a permit.
    acquire_operation<semaphore*> acquire() noexcept;

    /// Takes `n` permits together: it waits until there are as many, and keeps those behind it waiting.
    /// @param n 0 (which waits for nobody) up to `max_permits` @throws std::logic_error above
    acquire_operation<semaphore*> acquire_many(std::size_t n);

    /// Takes permits if they are there and nobody waits. Nothing if not, or if it is closed.
    std::optional<permit> try_acquire() noexcept;
    std::optional<permit> try_acquire_many(std::size_t n);

    /// The same with permits that keep the semaphore alive.
    /// @throws std::logic_error for a null pointer, and as `acquire_many`
    static acquire_operation<std::shared_ptr<semaphore>> acquire_owned(std::shared_ptr<semaphore> s,
                                                                       std::size_t n = 1);
    static std::optional<owned_permit> try_acquire_owned(std::shared_ptr<semaphore> s,
                                                         std::size_t n = 1);

    /// `acquire_many` on a plain thread. @throws std::logic_error inside a task
    std::optional<permit> blocking_acquire(std::size_t n = 1);

    /// Adds permits, also to a closed semaphore.
    /// @throws std::logic_error if there were more than `max_permits` then, taken ones included
    void add_permits(std::size_t n);

    /// Takes at most `n` of the permits that are there away for good. @return how many
    std::size_t forget_permits(std::size_t n) noexcept;

    /// How many are there, for nobody yet. If somebody waits for more, they are there for him.
    std::size_t available_permits() const noexcept { return queue_.available(); }

    /// From now on nobody gets a permit; who waits is woken, and gets nothing. Those that are taken
    /// stay valid. Final, idempotent.
    /// @par Complexity
    /// O(waiters)
    void close() noexcept { queue_.close(); }
    bool is_closed() const noexcept { return queue_.is_closed(); }

private:
    template <class Owner>
    friend class basic_permit;
    template <class Owner>
    friend class acquire_operation;

    static void check_amount(std::size_t n) {
        if (n > max_permits) [[unlikely]]
            throw_too_many();
    }
    static void check_owner(const std::shared_ptr<semaphore>& s) {
        if (s == nullptr) [[unlikely]]
            throw_no_semaphore();
    }
    [[noreturn]] static void throw_too_many();
    [[noreturn]] static void throw_no_semaphore();
    [[noreturn]] static void throw_awaited_twice();
    [[noreturn]] static void throw_unrelated();

    void forget(std::uint64_t n) noexcept {
        // Relaxed: a number alone; permits carry what goes with them.
        total_.fetch_sub(n, std::memory_order_relaxed);
    }

    detail::permit_queue queue_;
    magpie::detail::atomic<std::uint64_t> total_; // permits in the queue and out
};

/// Permits of one semaphore, given back when this goes. `Owner` is a pointer to it, plain or shared.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
template <class Owner>
class [[nodiscard("a permit gives itself back when it goes")]] basic_permit {
public:
    basic_permit(basic_permit&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    basic_permit& operator=(basic_permit&& other) noexcept {
        basic_permit old(std::move(*this));
        owner_ = std::exchange(other.owner_, nullptr);
        count_ = std::exchange(other.count_, 0);
        return *this;
    }
    ~basic_permit() { release(); }

    /// How many permits it stands for: 0 once it was moved from, released or forgotten.
    std::size_t count() const noexcept { return count_; }

    /// Gives them back now.
    void release() noexcept {
        const Owner owner = std::exchange(owner_, nullptr);
        if (const auto n = std::exchange(count_, 0); n > 0)
            owner->queue_.give(n);
    }

    /// Lets go of them without giving them back: the semaphore has that many less from now on.
    void forget() noexcept {
        const Owner owner = std::exchange(owner_, nullptr);
        if (const auto n = std::exchange(count_, 0); n > 0)
            owner->forget(n);
    }

    /// Takes over what `other` stands for.
    /// @throws std::logic_error if they are permits of two semaphores, or one of them stands for none
    void merge(basic_permit&& other) {
        if (owner_ == nullptr || owner_ != other.owner_) [[unlikely]]
            semaphore::throw_unrelated();
        if (this != &other) {
            count_ += std::exchange(other.count_, 0);
            other.owner_ = nullptr;
        }
    }

    /// Makes an object of its own of `n` of them. Nothing if it stands for less.
    std::optional<basic_permit> split(std::size_t n) {
        if (owner_ == nullptr || n > count_)
            return std::nullopt;
        count_ -= n;
        return basic_permit(Owner(owner_), n);
    }

private:
    friend class semaphore;
    friend class acquire_operation<Owner>;

    basic_permit(Owner owner, std::size_t n) noexcept : owner_(std::move(owner)), count_(n) {}

    Owner owner_;
    std::size_t count_;
};

/// The wait for permits. @see semaphore::acquire
template <class Owner>
class [[nodiscard("co_await it")]] acquire_operation
    : public operation<acquire_operation<Owner>, detail::permit_waiter> {
    using base = operation<acquire_operation, detail::permit_waiter>;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    acquire_operation(Owner owner, std::size_t n) noexcept : owner_(std::move(owner)) {
        this->amount_ = n;
    }
    acquire_operation(acquire_operation&& other) noexcept
        : base(std::move(other)), owner_(std::exchange(other.owner_, nullptr)) {}
    ~acquire_operation() {
        if (owner_ != nullptr && this->granted_)
            owner_->queue_.give(this->amount_);
    }

    bool try_complete() noexcept {
        if (owner_ == nullptr) [[unlikely]]
            return true;
        this->granted_ = owner_->queue_.try_take(this->amount_);
        return this->granted_;
    }
    bool publish() noexcept { return owner_->queue_.enter(*this); }

    /// @throws std::logic_error if it was awaited before
    std::optional<basic_permit<Owner>> await_resume() {
        if (owner_ == nullptr) [[unlikely]]
            semaphore::throw_awaited_twice();
        Owner owner = std::exchange(owner_, nullptr);
        if (!this->granted_)
            return std::nullopt; // it is closed
        return basic_permit<Owner>(std::move(owner), this->amount_);
    }

private:
    cancel_answer cancel() noexcept override { return owner_->queue_.leave(*this); }

    Owner owner_;
};

inline acquire_operation<semaphore*> semaphore::acquire() noexcept {
    return acquire_operation<semaphore*>(this, 1);
}

inline acquire_operation<semaphore*> semaphore::acquire_many(std::size_t n) {
    check_amount(n);
    return acquire_operation<semaphore*>(this, n);
}

inline acquire_operation<std::shared_ptr<semaphore>> semaphore::acquire_owned(
    std::shared_ptr<semaphore> s, std::size_t n) {
    check_owner(s);
    check_amount(n);
    return acquire_operation<std::shared_ptr<semaphore>>(std::move(s), n);
}

inline std::optional<semaphore::permit> semaphore::try_acquire() noexcept {
    return queue_.try_take(1) ? std::optional<permit>(permit(this, 1)) : std::nullopt;
}

inline std::optional<semaphore::permit> semaphore::try_acquire_many(std::size_t n) {
    check_amount(n);
    return queue_.try_take(n) ? std::optional<permit>(permit(this, n)) : std::nullopt;
}

inline std::optional<semaphore::owned_permit> semaphore::try_acquire_owned(std::shared_ptr<semaphore> s,
                                                                           std::size_t n) {
    check_owner(s);
    check_amount(n);
    if (!s->queue_.try_take(n))
        return std::nullopt;
    return owned_permit(std::move(s), n);
}

inline std::optional<semaphore::permit> semaphore::blocking_acquire(std::size_t n) {
    return magpie::detail::blocking_wait(acquire_many(n));
}

} // namespace magpie::sync
