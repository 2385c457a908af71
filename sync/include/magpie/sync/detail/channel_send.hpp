#pragma once

#include <magpie/core/detail/composite.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/detail/channel_state.hpp>
#include <magpie/sync/send_error.hpp>
#include <magpie/sync/send_result.hpp>

#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync {

namespace detail {

inline send_result to_result(put_status s) noexcept {
    using status = send_result::status;
    return send_result(s == put_status::sent     ? status::sent
                       : s == put_status::closed ? status::closed
                                                 : status::full);
}

/// Sends without waiting. @throws what the value's move throws
template <class T, class Value>
send_result put_now(channel_state<T>& c, Value& v, unsigned level) {
    std::exception_ptr error;
    const put_status s = c.put(v, level, false, error);
    if (s == put_status::failed)
        std::rethrow_exception(std::move(error));
    return to_result(s);
}

/// A send that waits for room. `Value` is `T`, to be moved, or `const T`, to be copied, when it is delivered.
template <class T, class Value>
class [[nodiscard("co_await it")]] send_operation : public operation<send_operation<T, Value>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    send_operation(channel_state<T>& c, Value& v, unsigned level) noexcept
        : channel_(&c), value_(&v), level_(level), wait_(*this, 1) {}
    send_operation(send_operation&& other) noexcept
        : operation<send_operation>(std::move(other)), channel_(other.channel_), value_(other.value_),
          level_(other.level_), wait_(*this, 1) {}
    ~send_operation() {
        if (wait_.granted)
            channel_->give_permits(1);
        if (holds_)
            channel_->release();
    }

    bool try_complete() noexcept { return put(std::exchange(wait_.granted, false)); }

    bool publish() noexcept {
        for (;;) {
            this->retry_ = true; // it delivers on its own turn, when it surfaces
            if (std::exchange(holds_, true))
                channel_->release(); // of the wait before
            const put_status s = channel_->reserve_or_wait(wait_, had_turn_);
            if (s == put_status::full)
                return true;
            holds_ = false;
            if (s == put_status::closed) {
                status_ = s;
                return false;
            }
            if (put(true))
                return false;
        }
    }

    send_result await_resume() {
        if (error_ != nullptr) [[unlikely]]
            std::rethrow_exception(std::exchange(error_, nullptr));
        return to_result(status_);
    }

    Value& value() const noexcept { return *value_; }

    /// The same for `as_result`: a value that was not delivered comes back in the error.
    auto take_result()
        requires(!std::is_const_v<Value>)
    {
        return send_outcome<T>(await_resume(), *value_);
    }

private:
    bool put(bool granted) noexcept {
        status_ = channel_->put(*value_, level_, granted, error_);
        if (status_ == put_status::failed && granted)
            channel_->give_permits(1);
        had_turn_ = granted && status_ == put_status::full;
        return status_ != put_status::full;
    }
    cancel_answer cancel() noexcept override {
        return channel_->leave(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    channel_state<T>* channel_;
    Value* value_;
    unsigned level_;
    put_status status_ = put_status::full;
    bool holds_ = false;    // a reference, since the first wait
    bool had_turn_ = false; // and the receiver was gone again: it waits in front
    typename channel_state<T>::permit_wait wait_;
    std::exception_ptr error_;
};

/// A send that waits for room, but not longer than a time.
template <class T, class Value>
class [[nodiscard("co_await it")]] send_timeout_operation
    : public timeout_operation<magpie::detail::operation_branch<send_operation<T, Value>>> {
    using base = timeout_operation<magpie::detail::operation_branch<send_operation<T, Value>>>;

public:
    using value_type = send_result;

    template <class Duration>
    send_timeout_operation(send_operation<T, Value>&& send, Duration limit) noexcept
        : base(magpie::detail::branch_maker(std::move(send)),
               magpie::detail::branch_maker(timer(limit))),
          value_(&send.value()) {}

    send_result await_resume() {
        const std::optional<send_result> in_time = base::await_resume();
        return in_time.value_or(send_result(send_result::status::timed_out));
    }

    /// The same for `as_result`, as that of a send without a limit.
    auto take_result() {
        if constexpr (std::is_const_v<Value>)
            return result<send_result>(boost::system::in_place_value, await_resume());
        else
            return send_outcome<T>(await_resume(), *value_);
    }

private:
    Value* value_;
};

} // namespace detail

/// Places in a channel that are kept for who holds this: sending through them never waits.
///
/// Dropped, it gives back those that are left, and who waits for room goes on. It keeps the channel open, as a
/// sender does, and outlives the sender that it came from. A receiver that has closed still gets what is sent
/// through it.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
template <class T>
class [[nodiscard("dropped, it gives its places back")]] permit {
public:
    permit(permit&& other) noexcept
        : channel_(std::exchange(other.channel_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    permit& operator=(permit&& other) noexcept {
        permit old(std::move(other));
        std::swap(channel_, old.channel_);
        std::swap(count_, old.count_);
        return *this;
    }
    ~permit() { release(); }

    /// How many values it can still send.
    std::size_t size() const noexcept { return count_; }

    /// Sends a value and uses up one place. Closed if the receiver is gone: `value` is as it was.
    ///
    /// @throws what the move throws, and the place is not used; std::logic_error if none is left
    send_result send(T&& value) { return send_from(value); }
    /// The same with a copy.
    send_result send(const T& value)
        requires std::is_copy_constructible_v<T>
    {
        return send_from(value);
    }

    /// Gives back what is left, as dropping it does.
    void release() noexcept {
        if (channel_ == nullptr)
            return;
        if (count_ > 0)
            channel_->give_permits(std::exchange(count_, 0));
        std::exchange(channel_, nullptr)->release();
    }

private:
    template <class>
    friend class reserve_operation;
    using state_type = detail::channel_state<T>;

    template <class Value>
    send_result send_from(Value& v) {
        if (count_ == 0)
            magpie::detail::throw_usage_error("this permit is used up: reserve a place for each value");
        std::exception_ptr error;
        const detail::put_status s = channel_->put(v, 0, true, error);
        if (s == detail::put_status::failed)
            std::rethrow_exception(std::move(error));
        --count_;
        return detail::to_result(s);
    }

    state_type* channel_;
    std::size_t count_;

public:
    /// Used by the channel: takes over `n` places that were reserved.
    permit(state_type& c, std::size_t n) noexcept : channel_(&c), count_(n) { c.retain(); }
};

/// The wait for places in a channel.
template <class T>
class [[nodiscard("co_await it")]] reserve_operation : public operation<reserve_operation<T>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    reserve_operation(detail::channel_state<T>& c, std::size_t n) noexcept
        : channel_(&c), wait_(*this, n) {}
    reserve_operation(reserve_operation&& other) noexcept
        : operation<reserve_operation>(std::move(other)), channel_(other.channel_),
          wait_(*this, other.wait_.wanted) {}
    ~reserve_operation() {
        if (wait_.granted)
            channel_->give_permits(wait_.wanted);
        if (holds_)
            channel_->release();
    }

    bool try_complete() noexcept {
        status_ = wait_.granted ? detail::put_status::sent : channel_->try_reserve(wait_.wanted);
        wait_.granted = status_ == detail::put_status::sent;
        return status_ != detail::put_status::full;
    }
    bool publish() noexcept {
        this->retry_ = true; // when it surfaces, it looks whether it was granted, or the channel closed
        if (std::exchange(holds_, true))
            channel_->release(); // of the wait before
        status_ = channel_->reserve_or_wait(wait_, false);
        if (status_ == detail::put_status::full)
            return true;
        holds_ = false;
        wait_.granted = status_ == detail::put_status::sent;
        return false;
    }
    reservation<permit<T>> await_resume() noexcept {
        if (!std::exchange(wait_.granted, false))
            return reservation<permit<T>>(detail::to_result(status_));
        return reservation<permit<T>>(permit<T>(*channel_, wait_.wanted));
    }

private:
    cancel_answer cancel() noexcept override {
        return channel_->leave(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    detail::channel_state<T>* channel_;
    detail::put_status status_ = detail::put_status::full;
    bool holds_ = false; // a reference, since the first wait
    typename detail::channel_state<T>::permit_wait wait_;
};

} // namespace magpie::sync
