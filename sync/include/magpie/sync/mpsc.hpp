#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/sync/detail/channel_receive.hpp>
#include <magpie/sync/detail/channel_send.hpp>
#include <magpie/sync/detail/channel_sender.hpp>
#include <magpie/sync/detail/channel_state.hpp>
#include <magpie/sync/detail/endpoints.hpp>
#include <magpie/sync/send_result.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

/// Queues of values from many senders to a single receiver.
///
/// Values arrive in the order in which they were sent; what was written before a send is visible behind its
/// receive. Senders that wait for room get it first come first.
namespace magpie::sync::mpsc {

using sync::permit;

/// Sends into a bounded channel. Copies send into the same one; it stays open until the last has gone.
///
/// A send takes a reference to its value, and moves from it (copies, if it is const) only when it is delivered: not
/// if the channel is closed, and not if the send is dropped before. So the value must live as long as the
/// operation; a temporary dies with its expression, delivered or not.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
/// @par Example
/// @code
/// auto [tx, rx] = magpie::sync::mpsc::channel<job>(64);
/// magpie::spawn(produce(std::move(tx))).detach();
/// for (;;) {
///     std::optional<job> next = co_await rx.recv();
///     if (!next)
///         break; // all senders have gone
///     run(*next);
/// }
/// @endcode
template <class T>
class sender : public detail::queue_sender<sender<T>, T> {
    using base = detail::queue_sender<sender, T>;

public:
    using base::base;

    /// Sends a value; waits while the channel is full.
    ///
    /// Gives a `send_result`; `as_result(send(...))` gives a value that was not sent back in a `send_error<T>`.
    ///
    /// @throws what the value's move throws: nothing is sent then
    /// @par Cancellation
    /// Cancel-safe: dropped before its end it has sent nothing, and the value is as it was. It loses its
    /// place among those that wait.
    /// @par Complexity
    /// O(1). A block of memory for some 32 values now and then, recycled.
    detail::send_operation<T, T> send(T&& value) const { return {this->state(), value, 0}; }
    /// The same with a copy.
    detail::send_operation<T, const T> send(const T& value) const
        requires std::copy_constructible<T>
    {
        return {this->state(), value, 0};
    }

    /// Sends a value if there is room and nobody waits for it.
    send_result try_send(T&& value) const { return detail::put_now(this->state(), value, 0); }
    send_result try_send(const T& value) const
        requires std::copy_constructible<T>
    {
        return detail::put_now(this->state(), value, 0);
    }

    /// `send`, but not longer than `limit`: then the result says that it timed out.
    /// @throws std::logic_error (when awaited) if there are no timers
    template <class Rep, class Period>
    detail::send_timeout_operation<T, T> send_timeout(T&& value,
                                                      std::chrono::duration<Rep, Period> limit) const {
        return {send(std::move(value)), limit};
    }
    template <class Rep, class Period>
    detail::send_timeout_operation<T, const T> send_timeout(
        const T& value, std::chrono::duration<Rep, Period> limit) const
        requires std::copy_constructible<T>
    {
        return {send(value), limit};
    }

    /// `send` for a plain thread. @throws std::logic_error inside a task
    send_result blocking_send(T&& value) const {
        return magpie::detail::blocking_wait(send(std::move(value)));
    }
    send_result blocking_send(const T& value) const
        requires std::copy_constructible<T>
    {
        return magpie::detail::blocking_wait(send(value));
    }

    /// Waits for a place in the channel, and keeps it: gives a permit, or closed.
    ///
    /// @par Cancellation
    /// Cancel-safe: a place that it was to get goes to the next.
    reserve_operation<T> reserve() const { return {this->state(), 1}; }

    /// The same for `n` places, all together: those who come later wait behind it.
    /// @throws std::logic_error if the channel could never hold that many
    reserve_operation<T> reserve_many(std::size_t n) const {
        if (n > max_capacity())
            magpie::detail::throw_usage_error(
                "more places are reserved than the channel has: it would wait "
                "for ever");
        return {this->state(), n};
    }

    /// A permit if there is room and nobody waits for it; else full, or closed.
    reservation<permit<T>> try_reserve() const { return try_reserve_many(1); }
    reservation<permit<T>> try_reserve_many(std::size_t n) const {
        const detail::put_status s = this->state().try_reserve(n);
        if (s != detail::put_status::sent)
            return reservation<permit<T>>(detail::to_result(s));
        return reservation<permit<T>>(permit<T>(this->state(), n));
    }

    /// How many values the channel would take just now without a wait.
    std::size_t capacity() const { return this->state().free(); }
    /// What it was made with.
    std::size_t max_capacity() const { return this->state().capacity(); }
};

/// Sends into an unbounded channel: never waits, and so needs no `co_await`.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
template <class T>
class unbounded_sender : public detail::queue_sender<unbounded_sender<T>, T> {
    using base = detail::queue_sender<unbounded_sender, T>;

public:
    using base::base;

    /// Sends a value, or gives closed: then `value` is as it was.
    ///
    /// @throws what the value's move throws, std::bad_alloc: nothing is sent then
    send_result send(T&& value) const { return detail::put_now(this->state(), value, 0); }
    send_result send(const T& value) const
        requires std::copy_constructible<T>
    {
        return detail::put_now(this->state(), value, 0);
    }
};

/// Sends into a channel with priorities.
///
/// A value of a higher priority is received before all that are lower; those of one priority arrive in the
/// order in which they were sent. The capacity is shared, and senders wait for room first come first.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
template <class T>
class priority_sender : public detail::queue_sender<priority_sender<T>, T> {
    using base = detail::queue_sender<priority_sender, T>;

public:
    using base::base;

    /// Sends a value with a priority, from 0, the lowest, to `priorities() - 1`. As `sender::send`.
    /// @throws std::logic_error if there is no such priority
    detail::send_operation<T, T> send(unsigned priority, T&& value) const {
        return {this->state(), value, checked(priority)};
    }
    detail::send_operation<T, const T> send(unsigned priority, const T& value) const
        requires std::copy_constructible<T>
    {
        return {this->state(), value, checked(priority)};
    }

    /// Sends a value if there is room and nobody waits for it.
    send_result try_send(unsigned priority, T&& value) const {
        return detail::put_now(this->state(), value, checked(priority));
    }
    send_result try_send(unsigned priority, const T& value) const
        requires std::copy_constructible<T>
    {
        return detail::put_now(this->state(), value, checked(priority));
    }

    /// `send` for a plain thread. @throws std::logic_error inside a task
    send_result blocking_send(unsigned priority, T&& value) const {
        return magpie::detail::blocking_wait(send(priority, std::move(value)));
    }

    unsigned priorities() const { return this->state().levels(); }
    std::size_t capacity() const { return this->state().free(); }
    std::size_t max_capacity() const { return this->state().capacity(); }

private:
    unsigned checked(unsigned priority) const {
        if (priority >= priorities())
            magpie::detail::throw_usage_error("the channel has no such priority: they count from 0");
        return priority;
    }
};

template <class T>
using weak_sender = detail::weak_queue_sender<sender<T>, T>;
template <class T>
using weak_unbounded_sender = detail::weak_queue_sender<unbounded_sender<T>, T>;

/// Receives from a channel, bounded or not. Dropped, it closes the channel, and destroys what is in it: if
/// destructors throw, the first exception comes out when all are gone.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: const members are safe.
template <class T>
class receiver : public detail::queue_receiver<T> {
public:
    /// Used by the channel: takes over a reference.
    explicit receiver(detail::channel_state<T>* c) noexcept : detail::queue_receiver<T>(c) {}
    receiver(receiver&& other) noexcept : detail::queue_receiver<T>(std::move(other)) {}
    receiver& operator=(receiver&& other) noexcept(std::is_nothrow_destructible_v<T>) {
        receiver old(std::move(other));
        this->swap(old);
        return *this;
    }
};

/// Both ends of a channel.
template <class T, class Sender = sender<T>>
using endpoints = detail::endpoints<Sender, receiver<T>>;

/// A channel that holds at most `capacity` values (1 to 2^61 - 1, exact).
///
/// @throws std::logic_error for a capacity of 0 or above the limit; std::bad_alloc
/// @par Complexity
/// One allocation, of recycled memory. An empty channel has no room for values yet; it grows by blocks of up to 32,
/// and keeps one when it is empty again.
template <class T>
endpoints<T> channel(std::size_t capacity) {
    return detail::make_endpoints<T, sender<T>, receiver<T>>(
        detail::channel_shape(detail::channel_shape::checked(capacity), 1, false));
}

/// A channel that holds any number of values: who sends faster than is received fills the memory.
/// @throws std::bad_alloc
template <class T>
endpoints<T, unbounded_sender<T>> unbounded_channel() {
    return detail::make_endpoints<T, unbounded_sender<T>, receiver<T>>(
        detail::channel_shape(detail::channel_shape::most, 1, false));
}

/// A bounded channel with `priorities` priorities (1 to 64).
/// @throws std::logic_error for a bad number of them, or a bad capacity; std::bad_alloc
template <class T>
endpoints<T, priority_sender<T>> priority_channel(std::size_t capacity, unsigned priorities) {
    if (priorities == 0 || priorities > 64)
        magpie::detail::throw_usage_error("a priority channel has 1 to 64 priorities");
    return detail::make_endpoints<T, priority_sender<T>, receiver<T>>(
        detail::channel_shape(detail::channel_shape::checked(capacity), priorities, false));
}

} // namespace magpie::sync::mpsc
