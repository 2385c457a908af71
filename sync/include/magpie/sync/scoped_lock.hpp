#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/lock_access.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/permit_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>

namespace magpie::sync {

/// Several locks that are held together: what `scoped_lock` gives. Let go of when this goes, or one by one.
template <class... Guards>
class [[nodiscard("the locks are let go of when this goes")]] scoped_guards {
public:
    explicit scoped_guards(Guards&&... g) noexcept : guards_(std::move(g)...) {}

    /// The guard of the lock at place `I` among the arguments, from 0.
    template <std::size_t I>
    auto& get() noexcept {
        return std::get<I>(guards_);
    }

private:
    std::tuple<Guards...> guards_;
};

namespace detail {

/// The wait for several locks, whatever they are.
//
// It waits for one at a time, and holds none while it waits: so nobody waits for what it holds. The first
// is tried, or waited for; then the others are tried. One that is not free is waited for next, and what was
// got is given back before.
class scoped_lock_waiter : public permit_waiter {
public:
    struct target {
        permit_queue* queue = nullptr;
        std::uint64_t amount = 0;
        [[no_unique_address]] lock_entry entry = {}; // while this one is waited for, it is the waiter's
    };

protected:
    scoped_lock_waiter() noexcept = default;
    scoped_lock_waiter(scoped_lock_waiter&& other) noexcept
        : permit_waiter(std::move(other)), begun_(std::exchange(other.begun_, true)) {}
    ~scoped_lock_waiter() = default;

    /// @throws std::logic_error if one of them is there twice
    static void check(std::span<const target> targets);

    bool try_all(std::span<target> targets) noexcept;
    bool wait(std::span<target> targets) noexcept;
    cancel_answer give_up(std::span<const target> targets) noexcept {
        return targets[next_].queue->leave(*this);
    }
    /// What is held and nobody has taken.
    void give_back(std::span<target> targets) noexcept;

    /// Makes the guards the caller's. @throws std::logic_error if it was awaited before
    void take();

private:
    bool try_others(std::span<target> targets) noexcept;
    static void give_back(target& t) noexcept {
        t.entry.lets_go();
        t.queue->give(t.amount);
    }

    std::size_t next_ = 0; // which is tried or waited for first
    bool has_all_ = false;
    bool begun_ = false; // ... and ended, when awaited once more
    bool again_ = false;
};

} // namespace detail

/// Waits for several locks, of any of the kinds `mutex`, `guarded`, `shared_mutex`, `guarded_shared` (for
/// writing), without a deadlock, in whatever order others lock them. Gives a `scoped_guards`.
///
/// As with `std::scoped_lock`, it holds none of them while it waits for one. So it is not fair: among locks
/// that are hardly ever free at the same time it may wait for long.
///
/// @throws std::logic_error if one of them is named twice
/// @par Cancellation
/// Cancel-safe: a lock that it was handed goes to the next.
/// @par Complexity
/// No allocation. O(locks) each time it is woken.
/// @par Example
/// @code
/// magpie::task<> transfer(magpie::sync::guarded<account>& from, magpie::sync::guarded<account>& to, int n) {
///     auto both = co_await magpie::sync::scoped_lock(from, to);
///     both.get<0>()->balance -= n;
///     both.get<1>()->balance += n;
/// }
/// @endcode
template <class... Locks>
class [[nodiscard("co_await it")]] scoped_lock
    : public operation<scoped_lock<Locks...>, detail::scoped_lock_waiter> {
    static_assert(sizeof...(Locks) > 0, "a scoped_lock over nothing locks nothing: name the locks");

    using base = operation<scoped_lock, detail::scoped_lock_waiter>;
    using access = detail::lock_access;
    using target = detail::scoped_lock_waiter::target;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit scoped_lock(Locks&... locks, detail::lock_place where = detail::lock_place::current())
        : locks_(&locks...), targets_{target{&access::queue(locks), access::amount(locks)}...} {
        this->check(targets_);
        std::size_t i = 0;
        (targets_[i++].entry.is_for(access::traced(locks), lock_mode::exclusive, where), ...);
    }
    scoped_lock(scoped_lock&& other) noexcept
        : base(std::move(other)), locks_(other.locks_), targets_(std::move(other.targets_)) {}
    ~scoped_lock() { this->give_back(targets_); }

    bool try_complete() noexcept { return this->try_all(targets_); }
    bool publish() noexcept { return this->wait(targets_); }

    /// @throws std::logic_error if it was awaited before
    scoped_guards<typename Locks::guard...> await_resume() {
        this->take();
        return guards(std::index_sequence_for<Locks...>());
    }

private:
    cancel_answer cancel() noexcept override { return this->give_up(targets_); }

    template <std::size_t... I>
    scoped_guards<typename Locks::guard...> guards(std::index_sequence<I...>) {
        return scoped_guards(access::adopt(*std::get<I>(locks_), std::move(targets_[I].entry))...);
    }

    std::tuple<Locks*...> locks_;
    std::array<target, sizeof...(Locks)> targets_;
};

template <class... Locks>
scoped_lock(Locks&...) -> scoped_lock<Locks...>;

/// The same on a plain thread. @throws std::logic_error also inside a task
template <class... Locks>
auto blocking_scoped_lock(Locks&... locks) {
    return magpie::detail::blocking_wait(scoped_lock(locks...));
}

} // namespace magpie::sync
