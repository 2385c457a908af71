#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/sync/detail/channel_receive.hpp>
#include <magpie/sync/detail/channel_send.hpp>
#include <magpie/sync/detail/channel_sender.hpp>
#include <magpie/sync/detail/endpoints.hpp>
#include <magpie/sync/send_result.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

/// A channel of capacity 0: a send ends when a receive has taken its value.
///
/// Senders are served first come first, and so are receivers.
namespace magpie::sync::rendezvous {

/// Sends to a receiver that waits. Copies send into the same channel.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
template <class T>
class sender : public detail::queue_sender<sender<T>, T> {
    using base = detail::queue_sender<sender, T>;

public:
    using base::base;

    /// Sends a value when there is a receiver for it, and waits until then.
    ///
    /// @throws what the value's move throws: nothing is sent then
    /// @par Cancellation
    /// Cancel-safe: dropped before its end it has sent nothing, and the value is as it was.
    detail::send_operation<T, T> send(T&& value) const { return {this->state(), value, 0}; }
    /// The same with a copy.
    detail::send_operation<T, const T> send(const T& value) const
        requires std::copy_constructible<T>
    {
        return {this->state(), value, 0};
    }

    /// Sends a value if a receiver waits that nobody else has a value for; else full, or closed.
    send_result try_send(T&& value) const { return detail::put_now(this->state(), value, 0); }
    send_result try_send(const T& value) const
        requires std::copy_constructible<T>
    {
        return detail::put_now(this->state(), value, 0);
    }

    /// `send` for a plain thread. @throws std::logic_error inside a task
    send_result blocking_send(T&& value) const {
        return magpie::detail::blocking_wait(send(std::move(value)));
    }
};

/// Receives. Copies receive from the same channel; it is closed when the last has gone.
///
/// There is no `try_recv`: a sender that waits has to be woken to deliver.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
template <class T>
class receiver : private detail::queue_receiver<T> {
    using base = detail::queue_receiver<T>;

public:
    /// Used by the channel: takes over a reference.
    explicit receiver(detail::channel_state<T>* c) noexcept : base(c) {}
    receiver(const receiver& other) noexcept : base(other) {}
    receiver(receiver&& other) noexcept : base(std::move(other)) {}
    receiver& operator=(receiver other) noexcept(std::is_nothrow_destructible_v<T>) {
        this->swap(other);
        return *this;
    }

    /// Takes a value from a sender, and waits for one. Empty if no sender is left, or the channel is closed.
    ///
    /// @throws what the value's move throws
    /// @par Cancellation
    /// Cancel-safe: a value that it was to get goes to the next receive. Its send has ended by then.
    using base::recv;

    /// `recv` for a plain thread. @throws std::logic_error inside a task
    using base::blocking_recv;

    /// Lets no more in: sends that wait or come later give their value back. Idempotent.
    using base::close;

    /// Whether it was closed, or all senders have gone.
    using base::is_closed;
};

/// Both ends of a channel.
template <class T>
using endpoints = detail::endpoints<sender<T>, receiver<T>>;

/// A channel that holds nothing. @throws std::bad_alloc
template <class T>
endpoints<T> channel() {
    return detail::make_endpoints<T, sender<T>, receiver<T>>(detail::channel_shape(0, 1, true));
}

} // namespace magpie::sync::rendezvous
