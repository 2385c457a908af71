#pragma once

#include <magpie/sync/detail/channel_receive.hpp>
#include <magpie/sync/detail/endpoints.hpp>
#include <magpie/sync/mpsc.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

/// Queues of values from many senders to many receivers: each value goes to one of them.
///
/// Values are handed out in the order in which they were sent, to receivers that wait, first come first. What was
/// written before a send is visible behind its receive.
namespace magpie::sync::mpmc {

using mpsc::permit;
using mpsc::sender;
using mpsc::unbounded_sender;
using mpsc::weak_sender;

/// Receives from a channel, bounded or not. Copies receive from the same one; when the last goes the
/// channel is closed, and what is in it is destroyed. To close one closes it for all.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
/// @par Example
/// @code
/// auto [tx, rx] = magpie::sync::mpmc::channel<job>(64);
/// for (int i = 0; i < 4; ++i)
///     magpie::spawn(work(rx)).detach(); // each has a copy
/// @endcode
template <class T>
class receiver : public detail::queue_receiver<T> {
public:
    /// Used by the channel: takes over a reference.
    explicit receiver(detail::channel_state<T>* c) noexcept : detail::queue_receiver<T>(c) {}
    receiver(const receiver& other) noexcept : detail::queue_receiver<T>(other) {}
    receiver(receiver&& other) noexcept : detail::queue_receiver<T>(std::move(other)) {}
    receiver& operator=(receiver other) noexcept(std::is_nothrow_destructible_v<T>) {
        this->swap(other);
        return *this;
    }

    /// How many receivers the channel has.
    std::size_t receiver_count() const { return this->state().receivers(); }

    /// Whether both receive from one channel.
    bool same_channel(const receiver& other) const noexcept { return this->channel_ == other.channel_; }
};

/// Both ends of a channel.
template <class T, class Sender = sender<T>>
using endpoints = detail::endpoints<Sender, receiver<T>>;

/// A channel that holds at most `capacity` values (1 to 2^61 - 1, exact).
/// @throws std::logic_error for a capacity of 0 or above the limit; std::bad_alloc
template <class T>
endpoints<T> channel(std::size_t capacity) {
    return detail::make_endpoints<T, sender<T>, receiver<T>>(
        detail::channel_shape(detail::channel_shape::checked(capacity), 1, true));
}

/// A channel that holds any number of values. @throws std::bad_alloc
template <class T>
endpoints<T, unbounded_sender<T>> unbounded_channel() {
    return detail::make_endpoints<T, unbounded_sender<T>, receiver<T>>(
        detail::channel_shape(detail::channel_shape::most, 1, true));
}

} // namespace magpie::sync::mpmc
