#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/channel_state.hpp>
#include <magpie/sync/received.hpp>

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie::sync::detail {

/// What all receives have in common: a wait until a value is claimed, or none will come.
template <class Derived, class T>
class receive_operation : public operation<Derived> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit receive_operation(channel_state<T>& c) noexcept : channel_(&c), wait_(*this) {}
    receive_operation(receive_operation&& other) noexcept
        : operation<Derived>(std::move(other)), channel_(other.channel_), wait_(*this) {}
    ~receive_operation() {
        if (wait_.claimed || holds_)
            let_go();
    }

    bool try_complete() noexcept { return channel_->try_claim(wait_.claimed); }

    bool publish() noexcept {
        if (std::exchange(holds_, true))
            channel_->release(); // of the wait before
        entry_ = channel_->claim_or_wait(wait_);
        holds_ = entry_ == state_type::entry::waits;
        return holds_;
    }

protected:
    using state_type = channel_state<T>;

    /// The value that was claimed, or nothing.
    std::optional<T> take_claimed() {
        if (entry_ == state_type::entry::refused)
            magpie::detail::throw_usage_error(
                "another receive of this channel is waiting, and it has a single consumer: let one "
                "task, "
                "and one branch of it, receive at a time, or use sync::mpmc");
        if (!wait_.claimed)
            return std::nullopt;
        return channel_->take(std::exchange(wait_.claimed, typename state_type::slot()));
    }

    channel_state<T>* channel_;

private:
    cancel_answer cancel() noexcept override {
        return channel_->leave(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    [[gnu::noinline]] void let_go() noexcept {
        if (wait_.claimed)
            channel_->give_back(wait_.claimed);
        if (holds_)
            channel_->release();
    }

    typename state_type::value_wait wait_;
    typename state_type::entry entry_ = state_type::entry::ready;
    bool holds_ = false; // a reference, since the first wait
};

/// The receive of one value.
template <class T>
class [[nodiscard("co_await it")]] recv_operation : public receive_operation<recv_operation<T>, T> {
    using base = receive_operation<recv_operation, T>;

public:
    using base::base;

    bool try_complete() noexcept {
        // If the whole task waits here, it goes on at once: nothing can drop the value in between.
        if constexpr (copied_under_lock<T>)
            if (this->is_alone())
                return this->channel_->try_copy(copied_);
        return base::try_complete();
    }

    std::optional<T> await_resume() {
        if constexpr (copied_under_lock<T>)
            if (copied_.has_value()) {
                std::optional<T> value(std::move(copied_));
                copied_.reset();
                return value;
            }
        return this->take_claimed();
    }

private:
    struct nothing {};
    [[no_unique_address]] std::conditional_t<copied_under_lock<T>, std::optional<T>, nothing> copied_;
};

/// The receive of several values.
template <class T>
class [[nodiscard("co_await it")]] recv_many_operation
    : public receive_operation<recv_many_operation<T>, T> {
    using base = receive_operation<recv_many_operation, T>;

public:
    recv_many_operation(channel_state<T>& c, std::vector<T>& out, std::size_t limit) noexcept
        : base(c), out_(&out), limit_(limit) {}
    recv_many_operation(recv_many_operation&& other) noexcept
        : base(std::move(other)), out_(other.out_), limit_(other.limit_) {}

    bool try_complete() noexcept { return limit_ == 0 || base::try_complete(); }

    std::size_t await_resume() {
        std::size_t count = 0;
        std::optional<T> value = this->take_claimed();
        while (value) {
            out_->push_back(*std::move(value));
            if (++count == limit_)
                break;
            typename base::state_type::slot next;
            this->channel_->try_claim(next);
            if (!next)
                break;
            value = this->channel_->take(next);
        }
        return count;
    }

private:
    std::vector<T>* out_;
    std::size_t limit_;
};

/// What every receiver of a queue can do.
template <class T>
class queue_receiver {
public:
    /// Takes the oldest value, and waits for one if there is none. Empty when nothing will come any more: the
    /// senders have gone, or the receiver has closed, and all that was sent was received. That is an
    /// ordinary end.
    ///
    /// @throws what the value's move throws; std::logic_error if the channel has a single consumer and
    ///         another receive is waiting
    /// @par Cancellation
    /// Cancel-safe: a value that it was to get stays in the channel, in its old place.
    /// @par Complexity
    /// O(1); no allocation. Does not suspend if a value is there.
    recv_operation<T> recv() { return recv_operation<T>(state()); }

    /// Appends up to `limit` values to `out`: what is there, or else what comes first. Gives how many; 0 if nothing
    /// will come any more, or `limit` is 0.
    ///
    /// @throws what `push_back` throws: the value at hand is lost, those before it are in `out`
    /// @par Cancellation
    /// Cancel-safe: a dropped call has appended nothing.
    recv_many_operation<T> recv_many(std::vector<T>& out, std::size_t limit) {
        return recv_many_operation<T>(state(), out, limit);
    }

    /// The oldest value if there is one; else empty, or closed if nothing will come any more.
    received<T> try_recv() {
        typename channel_state<T>::slot s;
        const bool over = state().try_claim(s);
        if (!s)
            return over ? received<T>::closed() : received<T>::empty();
        std::optional<T> value = state().take(s);
        return received<T>(*std::move(value));
    }

    /// `recv` for a plain thread. @throws std::logic_error inside a task
    std::optional<T> blocking_recv() { return magpie::detail::blocking_wait(recv()); }

    /// Lets no more in: sends that wait or come later give their value back. What was sent, and what still
    /// comes through permits, can be received. Idempotent.
    void close() { state().close(); }

    /// Whether it was closed, or all senders and permits have gone. Values may be left.
    bool is_closed() const { return state().has_ended(); }

    /// How many values are there to be received.
    std::size_t size() const { return state().length(); }
    bool empty() const { return size() == 0; }

    /// How many values the channel would take just now without a wait.
    std::size_t capacity() const { return state().free(); }
    std::size_t max_capacity() const { return state().capacity(); }

    std::size_t sender_count() const { return state().senders(); }
    std::size_t weak_sender_count() const { return state().weak_senders(); }

protected:
    explicit queue_receiver(channel_state<T>* c) noexcept : channel_(c) {}
    queue_receiver(const queue_receiver& other) noexcept : channel_(other.channel_) {
        if (channel_ != nullptr)
            channel_->add_receiver();
    }
    queue_receiver(queue_receiver&& other) noexcept
        : channel_(std::exchange(other.channel_, nullptr)) {}
    queue_receiver& operator=(const queue_receiver&) = delete;
    ~queue_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        if (channel_ != nullptr)
            channel_->drop_receiver();
    }
    void swap(queue_receiver& other) noexcept { std::swap(channel_, other.channel_); }

    channel_state<T>& state() const {
        if (channel_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this receiver was moved from");
        return *channel_;
    }

    channel_state<T>* channel_;
};

} // namespace magpie::sync::detail
