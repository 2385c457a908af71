#pragma once

#include <magpie/core/error.hpp>
#include <magpie/sync/detail/channel_send.hpp>
#include <magpie/sync/detail/channel_state.hpp>
#include <magpie/sync/detail/closed_operation.hpp>

#include <cstddef>
#include <optional>
#include <utility>

namespace magpie::sync::detail {

template <class Sender, class T>
class weak_queue_sender;

/// What every sender of a queue can do. `Sender` is the handle itself.
template <class Sender, class T>
class queue_sender {
public:
    queue_sender(const queue_sender& other) noexcept : channel_(other.channel_) {
        if (channel_ != nullptr)
            channel_->add_sender();
    }
    queue_sender(queue_sender&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)) {}
    // Not by value: who derives from this one could not destroy the parameter.
    queue_sender& operator=(const queue_sender& other) noexcept {
        queue_sender copy(other);
        std::swap(channel_, copy.channel_);
        return *this;
    }
    queue_sender& operator=(queue_sender&& other) noexcept {
        queue_sender moved(std::move(other));
        std::swap(channel_, moved.channel_);
        return *this;
    }

    /// Whether nobody will receive any more.
    bool is_closed() const { return !state().is_open(); }

    /// Waits until nobody will receive any more.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    closed_operation<channel_state<T>> closed() const {
        return closed_operation<channel_state<T>>(state());
    }

    /// A handle that does not keep the channel open.
    weak_queue_sender<Sender, T> downgrade() const {
        state().add_weak();
        return weak_queue_sender<Sender, T>(state());
    }

    std::size_t strong_count() const { return state().senders(); }
    std::size_t weak_count() const { return state().weak_senders(); }

    /// Whether both send into one channel.
    bool same_channel(const Sender& other) const noexcept { return channel_ == other.channel_; }

    /// Used by the channel: takes over a reference, and a place among the senders.
    explicit queue_sender(channel_state<T>* c) noexcept : channel_(c) {}

protected:
    ~queue_sender() {
        if (channel_ != nullptr)
            channel_->drop_sender();
    }

    channel_state<T>& state() const {
        if (channel_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this sender was moved from: copy it for each who sends");
        return *channel_;
    }

private:
    channel_state<T>* channel_;
};

/// A sender that does not keep the channel open, and has to be upgraded to send.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: const members are safe.
template <class Sender, class T>
class weak_queue_sender {
public:
    weak_queue_sender(const weak_queue_sender& other) noexcept : channel_(other.channel_) {
        if (channel_ != nullptr)
            channel_->add_weak();
    }
    weak_queue_sender(weak_queue_sender&& other) noexcept
        : channel_(std::exchange(other.channel_, nullptr)) {}
    weak_queue_sender& operator=(weak_queue_sender other) noexcept {
        std::swap(channel_, other.channel_);
        return *this;
    }
    ~weak_queue_sender() {
        if (channel_ != nullptr)
            channel_->drop_weak();
    }

    /// A sender, if one lives still, or a permit; else nothing.
    std::optional<Sender> upgrade() const {
        if (!state().upgrade())
            return std::nullopt;
        return Sender(channel_);
    }

    std::size_t strong_count() const { return state().senders(); }
    std::size_t weak_count() const { return state().weak_senders(); }

private:
    friend class queue_sender<Sender, T>;

    explicit weak_queue_sender(channel_state<T>& c) noexcept : channel_(&c) {}

    channel_state<T>& state() const {
        if (channel_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this weak sender was moved from");
        return *channel_;
    }

    channel_state<T>* channel_;
};

} // namespace magpie::sync::detail
