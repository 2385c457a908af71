#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/broadcast_state.hpp>
#include <magpie/sync/detail/channel_send.hpp>
#include <magpie/sync/detail/closed_operation.hpp>
#include <magpie/sync/detail/endpoints.hpp>
#include <magpie/sync/received.hpp>
#include <magpie/sync/send_error.hpp>
#include <magpie/sync/send_result.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

/// Each value goes to every receiver, in the order of the sends.
///
/// What was written before a send is visible behind its receives.
namespace magpie::sync::broadcast {

template <class T>
class receiver;
template <class T>
class weak_sender;
template <class T, class Value>
class [[nodiscard("co_await it")]] send_operation;
template <class T>
class [[nodiscard("co_await it")]] recv_operation;

/// Sends to all receivers. Copies send into the same channel, which ends when the last has gone.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
/// @par Example
/// @code
/// auto [tx, rx] = magpie::sync::broadcast::channel<price>(256);
/// magpie::spawn(show(tx.subscribe())).detach();
/// for (;;) {
///     magpie::sync::received<price> next = co_await rx.recv();
///     if (next.is_closed())
///         break;
///     if (next)
///         update(*next);
///     else
///         start_over(next.missed());
/// }
/// @endcode
template <class T>
class sender {
public:
    sender(const sender& other) noexcept : state_(other.state_) {
        if (state_ != nullptr)
            state_->add_sender();
    }
    sender(sender&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    sender& operator=(sender other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~sender() {
        if (state_ != nullptr)
            state_->drop_sender();
    }

    /// Sends a value to who receives now; it waits only if slow receivers delay it. Closed if there is no receiver:
    /// then `value` is as it was.
    ///
    /// @throws what the value's move throws, std::bad_alloc: nothing is sent then
    /// @par Cancellation
    /// Cancel-safe: dropped before its end it has sent nothing, and the value is as it was.
    /// @par Complexity
    /// O(receivers that wait). A block of recycled memory, unless the value is small and runs no code.
    send_operation<T, T> send(T&& value) const { return {state(), value}; }
    send_operation<T, const T> send(const T& value) const { return {state(), value}; }

    /// The same without a wait: full, if slow receivers would delay it.
    send_result try_send(T&& value) const { return put_now(value); }
    send_result try_send(const T& value) const { return put_now(value); }

    /// `send` for a plain thread. @throws std::logic_error inside a task
    send_result blocking_send(const T& value) const {
        return magpie::detail::blocking_wait(send(value));
    }

    /// A new receiver, of what is sent from now on.
    receiver<T> subscribe() const;

    /// Waits until there is no receiver. A new one may come after that.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    detail::closed_operation<detail::broadcast_state<T>> closed() const {
        return detail::closed_operation<detail::broadcast_state<T>>(state());
    }
    bool is_closed() const { return state().receivers() == 0; }

    /// How many values some receiver has still to read.
    std::size_t size() const { return state().unread(); }
    bool empty() const { return size() == 0; }
    std::size_t max_capacity() const { return state().capacity(); }
    std::size_t receiver_count() const { return state().receivers(); }
    std::size_t strong_count() const { return state().senders(); }
    std::size_t weak_count() const { return state().weak_senders(); }
    bool same_channel(const sender& other) const noexcept { return state_ == other.state_; }

    /// A handle that does not keep the channel open.
    weak_sender<T> downgrade() const {
        state().add_weak();
        return weak_sender<T>(state_);
    }

    /// Used by the channel: takes over a reference.
    explicit sender(detail::broadcast_state<T>* s) noexcept : state_(s) {}

private:
    detail::broadcast_state<T>& state() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this broadcast sender was moved from");
        return *state_;
    }
    template <class Value>
    send_result put_now(Value& v) const {
        std::exception_ptr error;
        const detail::put_status s = state().put(v, false, error);
        if (s == detail::put_status::failed)
            std::rethrow_exception(std::move(error));
        return detail::to_result(s);
    }

    detail::broadcast_state<T>* state_;
};

/// A sender that does not keep the channel open, and has to be upgraded to send.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: const members are safe.
template <class T>
class weak_sender {
public:
    weak_sender(const weak_sender& other) noexcept : state_(other.state_) {
        if (state_ != nullptr)
            state_->add_weak();
    }
    weak_sender(weak_sender&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    weak_sender& operator=(weak_sender other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~weak_sender() {
        if (state_ != nullptr)
            state_->drop_weak();
    }

    /// A sender, if one lives still.
    std::optional<sender<T>> upgrade() const {
        if (state_ == nullptr || !state_->upgrade())
            return std::nullopt;
        return sender<T>(state_);
    }

private:
    friend class sender<T>;
    explicit weak_sender(detail::broadcast_state<T>* s) noexcept : state_(s) {}

    detail::broadcast_state<T>* state_;
};

/// Receives each value that was sent since it was made, by a copy.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: unsafe.
template <class T>
class receiver {
public:
    receiver(receiver&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), at_(other.at_) {}
    receiver& operator=(receiver&& other) noexcept {
        receiver old(std::move(other));
        std::swap(state_, old.state_);
        std::swap(at_, old.at_);
        return *this;
    }
    ~receiver() {
        if (state_ != nullptr)
            state_->drop_receiver(at_);
    }

    /// The next value, and waits for it. Else: closed, if all senders have gone and all was read; how many values
    /// were missed, and then it goes on with the oldest that is kept; or that it was disconnected. @see slow_receiver
    ///
    /// @throws what the value's copy throws: this receiver goes on behind it; std::logic_error if another receive
    ///         of this receiver is waiting
    /// @par Cancellation
    /// Cancel-safe: a dropped call has read nothing. The receiver stays where it is meanwhile.
    recv_operation<T> recv() { return recv_operation<T>(*this); }

    /// The same without a wait: empty, if there is none.
    received<T> try_recv() {
        std::optional<detail::snapshot<T>> value;
        std::uint64_t missed = 0;
        const detail::broadcast_finding found = state().take(at_, value, missed);
        return make(found, value, missed);
    }

    /// `recv` for a plain thread. @throws std::logic_error inside a task
    received<T> blocking_recv() { return magpie::detail::blocking_wait(recv()); }

    /// A receiver of what is sent from now on.
    receiver resubscribe() const { return receiver(&state(), state().add_receiver()); }

    /// How many values were sent that it has not read, with those that it has missed and was not told of.
    std::size_t size() const { return static_cast<std::size_t>(state().unread_by(at_)); }
    bool empty() const { return size() == 0; }

    /// Whether all senders have gone. Values may be left.
    bool is_closed() const { return state().senders() == 0; }
    std::size_t sender_count() const { return state().senders(); }
    bool same_channel(const receiver& other) const noexcept { return state_ == other.state_; }

    /// Used by the channel: takes over a reference.
    explicit receiver(detail::broadcast_state<T>* s, detail::broadcast_place at = {}) noexcept
        : state_(s), at_(at) {}

private:
    friend class recv_operation<T>;

    static received<T> make(detail::broadcast_finding found,
                            const std::optional<detail::snapshot<T>>& value, std::uint64_t missed) {
        using finding = detail::broadcast_finding;
        switch (found) {
        case finding::value: return received<T>(T(**value));
        case finding::missed: return received<T>::missing(missed);
        case finding::disconnected: return received<T>::disconnected();
        case finding::closed: return received<T>::closed();
        case finding::nothing: break;
        }
        return received<T>::empty();
    }

    detail::broadcast_state<T>& state() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this broadcast receiver was moved from");
        return *state_;
    }

    detail::broadcast_state<T>* state_;
    detail::broadcast_place at_;
    bool waits_ = false;
};

template <class T>
receiver<T> sender<T>::subscribe() const {
    return receiver<T>(&state(), state().add_receiver());
}

/// Both ends of a broadcast.
template <class T>
using endpoints = detail::endpoints<sender<T>, receiver<T>>;

/// A broadcast that keeps at most `capacity` values (exact; from 1) for receivers that have not read them yet.
///
/// @throws std::logic_error for a capacity of 0 or above the limit; std::bad_alloc
/// @par Complexity
/// The room for all values is allocated here.
template <class T>
endpoints<T> channel(std::size_t capacity, slow_receiver policy = slow_receiver::misses) {
    static_assert(std::copy_constructible<T>,
                  "each receiver gets a copy: send values that can be copied, or std::shared_ptr");
    if (capacity == 0)
        magpie::detail::throw_usage_error("a broadcast of capacity 0 could never keep a value: use 1");
    if (capacity > std::numeric_limits<std::size_t>::max() / 1024)
        magpie::detail::throw_usage_error("this capacity is above the limit of a broadcast");
    auto* const s = detail::make_part<detail::broadcast_state<T>>(capacity, policy);
    return endpoints<T>(sender<T>(s), receiver<T>(s));
}

/// @see sender::send
template <class T, class Value>
class send_operation : public operation<send_operation<T, Value>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    send_operation(detail::broadcast_state<T>& s, Value& v) noexcept
        : state_(&s), value_(&v), wait_(*this) {}
    send_operation(send_operation&& other) noexcept
        : operation<send_operation>(std::move(other)), state_(other.state_), value_(other.value_),
          wait_(*this) {}
    ~send_operation() {
        if (wait_.granted)
            state_->give_room_back();
        if (holds_)
            state_->release();
    }

    bool try_complete() noexcept { return put(std::exchange(wait_.granted, false)); }
    bool publish() noexcept {
        this->retry_ = true; // it delivers on its own turn, when it surfaces
        if (std::exchange(holds_, true))
            state_->release(); // of the wait before
        status_ = state_->take_room_or_wait(wait_);
        if (status_ == detail::put_status::full)
            return true;
        holds_ = false;
        if (status_ == detail::put_status::sent)
            put(true);
        return false;
    }
    send_result await_resume() {
        if (error_ != nullptr) [[unlikely]]
            std::rethrow_exception(std::exchange(error_, nullptr));
        return detail::to_result(status_);
    }

    /// The same for `as_result`: a value that was not delivered comes back in the error.
    auto take_result()
        requires(!std::is_const_v<Value>)
    {
        return send_outcome<T>(await_resume(), *value_);
    }

private:
    bool put(bool granted) noexcept {
        status_ = state_->put(*value_, granted, error_);
        return status_ != detail::put_status::full;
    }
    cancel_answer cancel() noexcept override {
        return state_->leave(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    detail::broadcast_state<T>* state_;
    Value* value_;
    detail::put_status status_ = detail::put_status::full;
    bool holds_ = false; // a reference, since the first wait
    typename detail::broadcast_state<T>::room_wait wait_;
    std::exception_ptr error_;
};

/// @see receiver::recv
template <class T>
class recv_operation : public operation<recv_operation<T>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit recv_operation(receiver<T>& r) : receiver_(&r), state_(&r.state()), wait_(*this) {}
    recv_operation(recv_operation&& other) noexcept
        : operation<recv_operation>(std::move(other)), receiver_(other.receiver_), state_(other.state_),
          wait_(*this) {}
    ~recv_operation() {
        if (waits_)
            receiver_->waits_ = false;
        if (holds_)
            state_->release();
    }

    bool try_complete() noexcept {
        // If the whole task waits here, it goes on at once: nothing can drop the value in between.
        if (this->is_alone()) {
            found_ = state_->take(receiver_->at_, value_, missed_);
            return found_ != finding::nothing;
        }
        return state_->look(receiver_->at_) != finding::nothing;
    }
    bool publish() noexcept {
        if (receiver_->waits_ && !waits_) {
            refused_ = true;
            return false;
        }
        this->retry_ = true; // when it surfaces, it takes the value
        if (std::exchange(holds_, true))
            state_->release(); // of the wait before
        for (;;) {
            holds_ = state_->wait_for_value(wait_, receiver_->at_);
            waits_ = receiver_->waits_ = holds_;
            if (holds_)
                return true;
            if (try_complete())
                return false;
        }
    }
    received<T> await_resume() {
        if (refused_)
            magpie::detail::throw_usage_error(
                "another receive of this receiver is waiting: let each task "
                "subscribe for itself");
        if (std::exchange(waits_, false))
            receiver_->waits_ = false;
        if (found_ == finding::nothing)
            found_ = state_->take(receiver_->at_, value_, missed_);
        const std::optional<detail::snapshot<T>> value(std::move(value_));
        value_.reset();
        return receiver<T>::make(std::exchange(found_, finding::nothing), value, missed_);
    }

private:
    using finding = detail::broadcast_finding;

    cancel_answer cancel() noexcept override {
        return state_->leave_value(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    receiver<T>* receiver_;
    detail::broadcast_state<T>* state_;
    std::optional<detail::snapshot<T>> value_;
    std::uint64_t missed_ = 0;
    finding found_ = finding::nothing;
    bool refused_ = false;
    bool waits_ = false; // said so to the receiver
    bool holds_ = false; // a reference, since the first wait
    detail::wait_place wait_;
};

} // namespace magpie::sync::broadcast
