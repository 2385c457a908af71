#pragma once

#include <magpie/core/detail/race.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/cancel_reason.hpp>
#include <magpie/sync/detail/cancellation_node.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <functional>
#include <stop_token>
#include <utility>

namespace magpie::sync {

class cancellation_guard;
template <class Body>
class until_cancelled_operation;

/// Says to any number of tasks that they should stop; they ask, or wait to be told.
///
/// Copies are the same token: cancelling one cancels all. A child token is cancelled with its parent,
/// also if the tokens between them are gone, and can be cancelled alone. Cancelling is final.
/// What was written before `cancel()` is visible to who sees `is_cancelled()` or passes
/// `cancelled()`.
///
/// To stop a task whatever it waits for, abort it; a token is for stopping in good order.
///
/// @par Thread safety
/// Distinct objects: safe, also those of one tree. Shared objects: const members are safe, and
/// that is all but assignment and destruction.
/// @par Complexity
/// To copy: one read-modify-write. To make or to drop a child: O(1), under a lock of its tree.
///
/// @par Example
/// @code
/// magpie::task<> serve(magpie::cancellation_token stop) {
///     while (!stop.is_cancelled()) {
///         std::optional<request> r = co_await stop.run_until_cancelled(next_request());
///         if (r)
///             co_await answer(*r); // is finished, though the token be cancelled meanwhile
///     }
/// }
/// @endcode
class cancellation_token {
public:
    class [[nodiscard("co_await it")]] cancelled_operation;

    /// A new token without a parent. @throws std::bad_alloc
    cancellation_token();

    cancellation_token(const cancellation_token& other) noexcept : node_(other.node_) {
        if (node_ != nullptr)
            node_->retain();
    }
    /// What is moved from can only be assigned to and destroyed: else it throws std::logic_error.
    cancellation_token(cancellation_token&& other) noexcept
        : node_(std::exchange(other.node_, nullptr)) {}
    cancellation_token& operator=(cancellation_token other) noexcept {
        std::swap(node_, other.node_);
        return *this;
    }
    ~cancellation_token() {
        if (node_ != nullptr)
            node_->release();
    }

    /// A token that is cancelled with this one; at once if this one is already.
    /// @throws std::bad_alloc
    [[nodiscard]] cancellation_token child_token() const;

    /// Cancels this token and all below it, and wakes who waits for one of them. Idempotent. When it
    /// returns, `is_cancelled()` is true for all of them. Runs no user code, but the callbacks of what
    /// `stop_token()` gave; not for signal handlers (`io::cancel_on` is for signals).
    ///
    /// @par Complexity
    /// O(tokens below it and their waiters), without recursion; the tree is locked meanwhile.
    void cancel() const;

    /// The same with a reason, which all tokens give that are cancelled by it. If the token is cancelled
    /// already, its first reason stays, or that it has none.
    /// @throws std::bad_alloc; nothing was cancelled then
    void cancel(cancel_reason why) const;

    /// Why the token was cancelled, by itself or by one above it; null if it was not, or if nobody has
    /// said why. It is valid for as long as a copy of the token lives. One load.
    const cancel_reason* reason() const { return node().reason(); }

    /// Whether it was cancelled, or one above it. One load.
    bool is_cancelled() const { return node().is_cancelled(); }

    /// Waits until the token is cancelled; does not suspend if it is. Holds a copy of the token.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    /// @par Complexity
    /// O(1), also to drop it; no allocation.
    cancelled_operation cancelled() const;

    /// Awaits `awaitable` until the token is cancelled: gives a `std::optional` of its value (`bool`
    /// for void), empty if the token came first. Then the awaitable was dropped, before this
    /// returns; with a token that is cancelled already it is not even started.
    /// `as_result(token.run_until_cancelled(...))` gives `errc::operation_canceled` instead.
    ///
    /// @throws what the awaitable throws
    /// @par Cancellation
    /// As safe as the awaitable. It takes operations that lose something when they are dropped,
    /// for what it drops is not continued.
    /// @par Complexity
    /// O(1) beside the awaitable; no allocation. One that is ready never enters the token's list.
    template <class Awaitable>
    auto run_until_cancelled(Awaitable&& awaitable) const;

    /// A `std::stop_token` that is stopped when this token is cancelled, for code that knows nothing of
    /// magpie. Its callbacks run on the thread that cancels, after the waiters were woken. (The other
    /// way is `cancel_on_stop`.)
    ///
    /// It does not keep this token: when the last copy of that is gone uncancelled, the stop token will
    /// never be stopped, and says so by `stop_possible()`. Calls give tokens of one stop state.
    ///
    /// @throws std::bad_alloc
    /// @par Complexity
    /// O(1). Two allocations by the first call for a token, none by the others.
    std::stop_token stop_token() const { return node().stop_token(); }

    /// A guard that cancels this token when it is destroyed.
    cancellation_guard drop_guard() const;

    /// Whether they are copies of each other.
    friend bool operator==(const cancellation_token&, const cancellation_token&) noexcept = default;

private:
    friend struct std::hash<cancellation_token>;

    explicit cancellation_token(detail::cancellation_node* n) noexcept : node_(n) {}

    detail::cancellation_node& node() const {
        if (node_ == nullptr) [[unlikely]]
            throw_moved();
        return *node_;
    }
    [[noreturn]] static void throw_moved();

    detail::cancellation_node* node_;
};

/// The wait for a token's end. @see cancellation_token::cancelled
class cancellation_token::cancelled_operation : public operation<cancelled_operation, detail::waiter> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit cancelled_operation(cancellation_token t) noexcept : token_(std::move(t)) {}
    cancelled_operation(cancelled_operation&&) noexcept = default;

    bool try_complete() const noexcept {
        return token_.node_ == nullptr || token_.node_->is_cancelled();
    }
    bool publish() noexcept { return token_.node_->enter(*this); }

    /// @throws std::logic_error if the operation was moved from
    void await_resume() const {
        if (token_.node_ == nullptr)
            throw_moved();
    }

private:
    cancel_answer cancel() noexcept override;

    cancellation_token token_;
};

inline cancellation_token::cancelled_operation cancellation_token::cancelled() const {
    node(); // throws for a token that was moved from
    return cancelled_operation(*this);
}

/// The race of a body against a token. @see cancellation_token::run_until_cancelled
template <class Body>
class [[nodiscard("co_await it")]] until_cancelled_operation
    : public magpie::detail::race_operation<until_cancelled_operation<Body>, Body,
                                            cancellation_token::cancelled_operation> {
    using base = magpie::detail::race_operation<until_cancelled_operation, Body,
                                                cancellation_token::cancelled_operation>;

public:
    static constexpr errc::errc_t lost = errc::operation_canceled;

    /// Of what makes the two branches.
    template <class MakeBody, class MakeStop>
    until_cancelled_operation(MakeBody body, MakeStop stop, const detail::cancellation_node& node)
        : base(body, stop), node_(&node) {}

private:
    friend base;

    bool is_lost_already() const noexcept { return node_->is_cancelled(); }

    const detail::cancellation_node* node_; // the wait for it keeps it alive
};

template <class Awaitable>
auto cancellation_token::run_until_cancelled(Awaitable&& awaitable) const {
    using body = magpie::detail::branch_for<Awaitable>;
    return until_cancelled_operation<body>(
        magpie::detail::branch_maker(std::forward<Awaitable>(awaitable)),
        magpie::detail::branch_maker(cancelled()), node());
}

/// Cancels a token when it goes out of scope.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
class [[nodiscard("the token is cancelled when the guard goes")]] cancellation_guard {
public:
    /// @throws std::logic_error if the token was moved from
    explicit cancellation_guard(cancellation_token token) : token_(std::move(token)) {
        static_cast<void>(token_.is_cancelled()); // throws here, not in the destructor
    }
    cancellation_guard(cancellation_guard&& other) noexcept
        : token_(std::move(other.token_)), armed_(std::exchange(other.armed_, false)) {}
    cancellation_guard& operator=(cancellation_guard&& other) noexcept {
        cancellation_guard old(std::move(other));
        std::swap(token_, old.token_);
        std::swap(armed_, old.armed_);
        return *this;
    }
    ~cancellation_guard() {
        if (armed_)
            token_.cancel();
    }

    /// Lets the token be: the guard does nothing any more. Gives the token.
    /// @throws std::logic_error if the guard was disarmed or moved from before
    cancellation_token disarm() {
        if (!std::exchange(armed_, false))
            magpie::detail::throw_usage_error(
                "this cancellation_guard is empty: it was disarmed or moved from before");
        return std::move(token_);
    }

private:
    cancellation_token token_;
    bool armed_ = true;
};

inline cancellation_guard cancellation_token::drop_guard() const { return cancellation_guard(*this); }

/// Cancels a token when a `std::stop_token` is stopped, at once if it is; for as long as this object
/// lives. Its destructor waits for a cancelling that runs on another thread, as `std::stop_callback`'s.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
/// @par Example
/// @code
/// std::jthread service([](std::stop_token stop) {
///     magpie::cancellation_token token;
///     magpie::sync::cancel_on_stop link(std::move(stop), token);
///     magpie::run(serve(token)); // ends when the jthread is told to stop
/// });
/// @endcode
class [[nodiscard("the tokens are linked for as long as it lives")]] cancel_on_stop {
public:
    /// @throws std::logic_error if `to` was moved from; std::bad_alloc
    cancel_on_stop(std::stop_token from, cancellation_token to)
        : callback_(std::move(from), cancels(std::move(to))) {}
    cancel_on_stop(const cancel_on_stop&) = delete;
    cancel_on_stop& operator=(const cancel_on_stop&) = delete;

private:
    class cancels {
    public:
        explicit cancels(cancellation_token t) : token_(std::move(t)) {
            static_cast<void>(token_.is_cancelled()); // throws here, not in the callback
        }
        void operator()() const { token_.cancel(); }

    private:
        cancellation_token token_;
    };

    std::stop_callback<cancels> callback_;
};

} // namespace magpie::sync

namespace magpie {

using sync::cancel_reason;
using sync::cancellation_token;

} // namespace magpie

/// Copies of one token have one hash.
template <>
struct std::hash<magpie::sync::cancellation_token> {
    std::size_t operator()(const magpie::sync::cancellation_token& t) const noexcept {
        return std::hash<const void*>()(t.node_);
    }
};
