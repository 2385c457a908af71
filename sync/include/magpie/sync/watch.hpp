#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/closed_operation.hpp>
#include <magpie/sync/detail/endpoints.hpp>
#include <magpie/sync/detail/watch_state.hpp>
#include <magpie/sync/send_result.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

/// One value that changes: receivers see the latest, and can wait for a change. What comes between may be missed.
///
/// What was written before a send is visible to who sees its value, or passes `changed`.
namespace magpie::sync::watch {

template <class T>
class receiver;
template <class T>
class [[nodiscard("co_await it")]] changed_operation;
template <class T, class Predicate>
class [[nodiscard("co_await it")]] wait_for_operation;

/// The value as it was when it was asked for: `*r`, `r->`. To keep one keeps nobody from sending, and it does
/// not change: a later send makes a new value.
template <class T>
using ref = detail::snapshot<T>;

/// What a receiver finds when it looks.
enum class state : unsigned char {
    unchanged, ///< since it has seen the value last
    changed,
    closed, ///< all senders have gone: there will be no change any more
};

/// Changes the value. Copies change the same one.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: const members are safe.
/// @par Example
/// @code
/// auto [tx, rx] = magpie::sync::watch::channel(config());
/// magpie::spawn(serve(std::move(rx))).detach();
/// tx.send_modify([](config& c) { c.limit = 10; });
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

    /// Makes `value` the latest one, and tells the receivers. If there is none, the result says closed, and
    /// `value` is as it was.
    ///
    /// @throws what the move throws, std::bad_alloc: the value is the old one then
    /// @par Complexity
    /// O(receivers that wait). A block of recycled memory, unless the value is small and runs no code.
    send_result send(T&& value) const { return send_from(value); }
    send_result send(const T& value) const
        requires std::copy_constructible<T>
    {
        return send_from(value);
    }

    /// The same, though there be no receiver. Gives the value that was the latest before.
    ref<T> send_replace(T value) const {
        ref<T> next = ref<T>::make(value);
        state().replace(next, false);
        return next;
    }

    /// Changes a copy of the value by `f(T&)`, which becomes the latest one; tells the receivers.
    ///
    /// If another sender was faster, `f` is called again, on a copy of his: it should do nothing else.
    /// @throws what `f` throws: what it has changed is seen by who looks, but nobody is told
    template <class F>
        requires(std::copy_constructible<T> && std::invocable<F&, T&>)
    void send_modify(F&& f) const {
        send_if_modified([&f](T& v) {
            std::invoke(f, v);
            return true;
        });
    }

    /// The same, and tells the receivers only if `f` returns true. Gives what it returns.
    template <class F>
        requires(std::copy_constructible<T> && std::predicate<F&, T&>)
    bool send_if_modified(F&& f) const {
        for (;;) {
            std::uint64_t edits = 0;
            T copy(*state().read_to_edit(edits));
            bool told = false;
            try {
                told = std::invoke(f, copy);
            } catch (...) {
                ref<T> partly = ref<T>::make(copy);
                state().replace_unedited(partly, edits, false);
                throw;
            }
            ref<T> next = ref<T>::make(copy);
            if (state().replace_unedited(next, edits, told))
                return told;
        }
    }

    /// The latest value.
    ref<T> borrow() const {
        std::uint64_t version = 0;
        return state().read(version);
    }

    /// A new receiver, which has seen the latest value.
    receiver<T> subscribe() const;

    /// Whether there is no receiver. A new one may come.
    bool is_closed() const { return !state().is_open(); }

    /// Waits until there is no receiver.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    detail::closed_operation<detail::watch_state<T>> closed() const {
        return detail::closed_operation<detail::watch_state<T>>(state());
    }

    std::size_t receiver_count() const { return state().receivers(); }
    std::size_t sender_count() const { return state().senders(); }
    bool same_channel(const sender& other) const noexcept { return state_ == other.state_; }

    /// Used by the channel: takes over a reference.
    explicit sender(detail::watch_state<T>* s) noexcept : state_(s) {}

private:
    detail::watch_state<T>& state() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this watch sender was moved from");
        return *state_;
    }
    template <class Value>
    send_result send_from(Value& v) const {
        using status = send_result::status;
        if constexpr (!detail::snapshot_is_copy<T>)
            if (!state().is_open()) // before it is moved from
                return send_result(status::closed);
        ref<T> next = ref<T>::make(v);
        const bool wanted = state().replace(next, detail::snapshot_is_copy<T>);
        return send_result(wanted ? status::sent : status::closed);
    }

    detail::watch_state<T>* state_;
};

/// Sees the latest value, and knows which it has seen. Copies have seen the same.
///
/// @par Thread safety
/// Distinct objects: safe, also of one channel. Shared objects: unsafe.
template <class T>
class receiver {
public:
    receiver(const receiver& other) noexcept : state_(other.state_), seen_(other.seen_) {
        if (state_ != nullptr)
            state_->add_receiver();
    }
    receiver(receiver&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), seen_(other.seen_) {}
    receiver& operator=(receiver other) noexcept {
        std::swap(state_, other.state_);
        std::swap(seen_, other.seen_);
        return *this;
    }
    ~receiver() {
        if (state_ != nullptr)
            state_->drop_receiver();
    }

    /// The latest value. Does not count as having seen it.
    ref<T> borrow() const {
        std::uint64_t version = 0;
        return shared().read(version);
    }
    /// The latest value, which counts as seen.
    ref<T> borrow_and_update() { return shared().read(seen_); }

    /// Whether there is a value that was not seen; `closed` if all senders have gone, whatever was seen.
    watch::state has_changed() const {
        if (!shared().has_senders())
            return watch::state::closed;
        return shared().version() != seen_ ? watch::state::changed : watch::state::unchanged;
    }

    /// Waits for a value that was not seen, and counts it as seen. False if all senders have gone and the last
    /// value was seen.
    ///
    /// @par Cancellation
    /// Cancel-safe: a dropped call has seen nothing. The receiver stays where it is meanwhile.
    /// @par Complexity
    /// O(1); no allocation.
    changed_operation<T> changed() { return changed_operation<T>(*this); }

    /// Waits for a value for which `predicate(const T&)` holds, the latest one to begin with; counts what it looks at
    /// as seen. Empty if all senders have gone, and the last value is none.
    ///
    /// @throws what the predicate throws
    /// @par Cancellation
    /// Cancel-safe.
    template <class Predicate>
        requires std::predicate<Predicate&, const T&>
    wait_for_operation<T, Predicate> wait_for(Predicate predicate) {
        return wait_for_operation<T, Predicate>(*this, std::move(predicate));
    }

    /// `changed` for a plain thread. @throws std::logic_error inside a task
    bool blocking_changed() { return magpie::detail::blocking_wait(changed()); }

    /// Makes the next `changed` end at once; of this receiver alone.
    void mark_changed() {
        seen_ = shared().version() - 1;
    } // it may wrap: versions are compared, not ordered
    /// Counts the latest value as seen.
    void mark_unchanged() { seen_ = shared().version(); }

    std::size_t sender_count() const { return shared().senders(); }
    bool same_channel(const receiver& other) const noexcept { return state_ == other.state_; }

    /// Used by the channel: takes over a reference.
    explicit receiver(detail::watch_state<T>* s, std::uint64_t seen = 0) noexcept
        : state_(s), seen_(seen) {}

private:
    friend class changed_operation<T>;
    template <class, class>
    friend class wait_for_operation;

    detail::watch_state<T>& shared() const {
        if (state_ == nullptr) [[unlikely]]
            magpie::detail::throw_usage_error("this watch receiver was moved from");
        return *state_;
    }

    detail::watch_state<T>* state_;
    std::uint64_t seen_;
};

template <class T>
receiver<T> sender<T>::subscribe() const {
    const std::uint64_t seen = state().add_receiver();
    return receiver<T>(state_, seen);
}

/// Both ends of a watch.
template <class T>
using endpoints = detail::endpoints<sender<T>, receiver<T>>;

/// A watch, with its first value, which counts as seen. @throws what the move throws, std::bad_alloc
template <class T>
endpoints<T> channel(T first) {
    static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>,
                  "what is watched is moved: a value, or a pointer");
    auto* const s = detail::make_part<detail::watch_state<T>>(ref<T>::make(first));
    return endpoints<T>(sender<T>(s), receiver<T>(s));
}

/// @see receiver::changed
template <class T>
class changed_operation : public operation<changed_operation<T>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit changed_operation(receiver<T>& r) : receiver_(&r), shared_(&r.shared()), wait_(*this) {}
    changed_operation(changed_operation&& other) noexcept
        : operation<changed_operation>(std::move(other)), receiver_(other.receiver_),
          shared_(other.shared_), wait_(*this) {}
    ~changed_operation() {
        if (holds_)
            shared_->release();
    }

    bool try_complete() noexcept {
        from_ = receiver_->seen_;
        return shared_->version() != from_ || !shared_->has_senders();
    }
    bool publish() noexcept {
        if (std::exchange(holds_, true))
            shared_->release(); // of the wait before
        holds_ = shared_->wait_for_change(wait_, from_);
        return holds_;
    }
    bool await_resume() const noexcept {
        receiver_->seen_ = shared_->version();
        return receiver_->seen_ != from_;
    }

private:
    cancel_answer cancel() noexcept override {
        return shared_->leave_change(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    receiver<T>* receiver_;
    detail::watch_state<T>* shared_;
    std::uint64_t from_ = 0; // what the receiver had seen when this began
    bool holds_ = false;     // a reference, since the first wait
    detail::wait_place wait_;
};

/// @see receiver::wait_for
template <class T, class Predicate>
class wait_for_operation : public operation<wait_for_operation<T, Predicate>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    wait_for_operation(receiver<T>& r, Predicate&& p)
        : receiver_(&r), shared_(&r.shared()), predicate_(std::move(p)), wait_(*this) {}
    wait_for_operation(wait_for_operation&& other) noexcept
        : operation<wait_for_operation>(std::move(other)), receiver_(other.receiver_),
          shared_(other.shared_), predicate_(std::move(other.predicate_)), wait_(*this) {}
    ~wait_for_operation() {
        if (holds_)
            shared_->release();
    }

    bool try_complete() noexcept {
        const bool open =
            shared_->has_senders(); // first: a value that came before the end is looked at
        try {
            ref<T> latest = shared_->read(looked_at_);
            if (std::invoke(predicate_, *latest))
                found_.emplace(std::move(latest));
        } catch (...) {
            error_ = std::current_exception();
        }
        return found_.has_value() || error_ != nullptr || !open;
    }
    bool publish() noexcept {
        for (;;) {
            this->retry_ = true; // when it surfaces, it looks again
            if (std::exchange(holds_, true))
                shared_->release(); // of the wait before
            holds_ = shared_->wait_for_change(wait_, looked_at_);
            if (holds_)
                return true;
            if (try_complete())
                return false;
        }
    }
    std::optional<ref<T>> await_resume() {
        receiver_->seen_ = looked_at_;
        if (error_ != nullptr)
            std::rethrow_exception(std::exchange(error_, nullptr));
        return std::exchange(found_, std::nullopt);
    }

private:
    cancel_answer cancel() noexcept override {
        return shared_->leave_change(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    receiver<T>* receiver_;
    detail::watch_state<T>* shared_;
    Predicate predicate_;
    std::uint64_t looked_at_ = 0;
    std::optional<ref<T>> found_;
    std::exception_ptr error_;
    bool holds_ = false; // a reference, since the first wait
    detail::wait_place wait_;
};

} // namespace magpie::sync::watch
