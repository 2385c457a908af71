#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/oneshot_state.hpp>
#include <magpie/sync/received.hpp>
#include <magpie/sync/send_result.hpp>

#include <optional>
#include <type_traits>
#include <utility>

/// One value, sent once, from one end to the other.
namespace magpie::sync::oneshot {

template <class T>
class [[nodiscard("co_await it")]] recv_operation;
template <class T>
class [[nodiscard("co_await it")]] closed_operation;
template <class T>
class endpoints;
template <class T>
endpoints<T> channel();

/// The end that sends. One that goes without a value ends the receiver's wait.
///
/// What was written before `send` is visible to who receives the value.
///
/// @par Thread safety
/// Distinct objects: safe, also the two ends. Shared objects: unsafe.
template <class T>
class sender {
public:
    sender(sender&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    sender& operator=(sender&& other) noexcept {
        sender old(std::move(other));
        std::swap(state_, old.state_);
        return *this;
    }
    ~sender() {
        if (state_ != nullptr)
            state_->drop_sender();
    }

    /// Sends the value, and is done: of the sender only destruction and assignment are left.
    ///
    /// Moves from `value` if the receiver still wants it; if not, the result says closed and `value` is as
    /// it was.
    /// @throws what the move throws, and the sender is as before; std::logic_error for a second send
    /// @par Complexity
    /// O(1), no allocation, never waits.
    send_result send(T&& value) { return send_from(value); }
    /// The same with a copy.
    send_result send(const T& value)
        requires std::is_copy_constructible_v<T>
    {
        return send_from(value);
    }

    /// Whether the receiver has gone or was closed. @throws std::logic_error after a send
    bool is_closed() const { return !state().is_open(); }

    /// Waits until the receiver has gone or was closed: then the value is not worth computing.
    ///
    /// @throws std::logic_error after a send, and if another wait for it is under way
    /// @par Cancellation
    /// Cancel-safe.
    closed_operation<T> closed() { return closed_operation<T>(state()); }

private:
    friend endpoints<T> channel<T>();
    using state_type = detail::oneshot_state<T>;

    explicit sender(state_type* s) noexcept : state_(s) {}

    state_type& state() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error(
                "this oneshot sender has sent its value, or was moved from: a "
                "oneshot takes one value, make a channel for each");
        return *state_;
    }
    template <class Value>
    send_result send_from(Value& value) {
        const send_result r = state().send(value);
        state_ = nullptr;
        return r;
    }

    state_type* state_;
};

/// The end that receives.
///
/// @par Thread safety
/// Distinct objects: safe, also the two ends. Shared objects: unsafe.
template <class T>
class receiver {
public:
    receiver(receiver&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    receiver& operator=(receiver&& other) noexcept {
        receiver old(std::move(other));
        std::swap(state_, old.state_);
        return *this;
    }
    /// A value that was sent and not received is destroyed.
    ~receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        if (state_ != nullptr)
            state_->drop_receiver();
    }

    /// Waits for the value. Empty if none will come: the sender has gone, the receiver was closed before a
    /// value was sent, or the value was received before.
    ///
    /// @throws what the value's move throws; std::logic_error if another receive is under way
    /// @par Cancellation
    /// Cancel-safe: until this has given the value it is still there.
    /// @par Complexity
    /// O(1); no allocation.
    recv_operation<T> recv() { return recv_operation<T>(state()); }

    /// The value if it is there; else empty, or closed if none will come.
    received<T> try_recv() {
        bool none_left = false;
        std::optional<T> value = state().take(none_left, false);
        if (value)
            return received<T>(*std::move(value));
        return none_left ? received<T>::closed() : received<T>::empty();
    }

    /// `recv` for a plain thread. @throws std::logic_error inside a task
    std::optional<T> blocking_recv() { return magpie::detail::blocking_wait(recv()); }

    /// Wants no value any more: a later send gives it back. One that was sent can still be received.
    void close() { state().close(); }

    /// Whether there is no value to receive just now.
    bool is_empty() const { return !state().has_value(); }

    /// Whether nothing is left to be received: the value was taken, or will not come.
    bool is_terminated() const { return state().is_over(); }

private:
    friend endpoints<T> channel<T>();
    using state_type = detail::oneshot_state<T>;

    explicit receiver(state_type* s) noexcept : state_(s) {}

    state_type& state() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this oneshot receiver was moved from");
        return *state_;
    }

    state_type* state_;
};

/// Both ends of a oneshot.
template <class T>
class endpoints {
public:
    endpoints(sender<T>&& sends, receiver<T>&& receives) noexcept
        : tx(std::move(sends)), rx(std::move(receives)) {}

    sender<T> tx;
    receiver<T> rx;
};

/// A channel for one value.
///
/// @throws std::bad_alloc
/// @par Complexity
/// One allocation, of recycled memory.
/// @par Example
/// @code
/// auto [tx, rx] = magpie::sync::oneshot::channel<answer>();
/// requests.push_back(request(question, std::move(tx)));
/// const std::optional<answer> a = co_await rx.recv();
/// @endcode
template <class T>
endpoints<T> channel() {
    static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>,
                  "what goes through a channel is moved: send values, or pointers");
    auto* const s = detail::make_part<detail::oneshot_state<T>>();
    return endpoints<T>(sender<T>(s), receiver<T>(s));
}

/// @see receiver::recv
template <class T>
class recv_operation : public operation<recv_operation<T>> {
    using state_type = detail::oneshot_state<T>;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit recv_operation(state_type& s) noexcept : state_(&s) {}
    recv_operation(recv_operation&& other) noexcept
        : operation<recv_operation>(std::move(other)), state_(other.state_) {}
    ~recv_operation() { release(); }

    bool try_complete() noexcept {
        // If the whole task waits here, it goes on at once: nothing can drop the value in between.
        found_ = state_->look(this->is_alone());
        return found_ != finding::nothing;
    }
    bool publish() noexcept {
        release();
        entry_ = state_->wait_for_value(*this);
        return entry_ == detail::oneshot_entry::waits;
    }
    std::optional<T> await_resume() {
        if (entry_ == detail::oneshot_entry::refused)
            magpie::detail::throw_usage_error(
                "another receive of this oneshot is under way: one task, and "
                "one branch of it, receives at a time");
        if (std::exchange(found_, finding::nothing) == finding::claimed)
            return state_->take_claimed();
        bool none_left = false;
        const bool held = std::exchange(entry_, detail::oneshot_entry::ready) ==
                          detail::oneshot_entry::waits;
        return state_->take(none_left, held);
    }

private:
    using finding = typename state_type::finding;

    cancel_answer cancel() noexcept override {
        return state_->leave(*this) ? cancel_answer::quiet : cancel_answer::coming;
    }
    void release() noexcept { // of the wait before, of an operation that is awaited again
        if (entry_ == detail::oneshot_entry::waits)
            state_->release();
    }

    state_type* state_;
    finding found_ = finding::nothing;
    detail::oneshot_entry entry_ = detail::oneshot_entry::ready;
};

/// @see sender::closed
template <class T>
class closed_operation : public operation<closed_operation<T>> {
    using state_type = detail::oneshot_state<T>;

public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit closed_operation(state_type& s) noexcept : state_(&s) {}
    closed_operation(closed_operation&& other) noexcept
        : operation<closed_operation>(std::move(other)), state_(other.state_) {}
    ~closed_operation() { release(); }

    bool try_complete() const noexcept { return !state_->is_open(); }
    bool publish() noexcept {
        release();
        entry_ = state_->wait_for_close(*this);
        return entry_ == detail::oneshot_entry::waits;
    }
    void await_resume() const {
        if (entry_ == detail::oneshot_entry::refused)
            magpie::detail::throw_usage_error("another wait for the end of this oneshot is under way");
    }

private:
    cancel_answer cancel() noexcept override {
        return state_->leave(*this) ? cancel_answer::quiet : cancel_answer::coming;
    }
    void release() noexcept {
        if (entry_ == detail::oneshot_entry::waits)
            state_->release();
    }

    state_type* state_;
    detail::oneshot_entry entry_ = detail::oneshot_entry::ready;
};

} // namespace magpie::sync::oneshot
