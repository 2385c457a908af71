#pragma once

#include <magpie/core/detail/lock_word.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/send_result.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

/// What a oneshot's lock says: a receiver that finds its value needs no lock.
class oneshot_view {
public:
    enum kind : std::uint8_t {
        open,    // a value may still come
        decided, // there is one, or none will come
        sole,    // ... and the receiver is the only one who will ever touch the state again
        taken,   // nothing: somebody has the lock
    };

    constexpr oneshot_view(kind k) noexcept : kind_(k) {}

    bool is_locked() const noexcept { return kind_ == taken; }
    oneshot_view locked() const noexcept { return taken; }
    friend bool operator==(oneshot_view, oneshot_view) noexcept = default;

private:
    kind kind_;
};

/// What a wait for the other end finds.
enum class oneshot_entry : unsigned char { waits, ready, refused };

/// What the two ends of a oneshot share.
//
// I1. Each end, and each operation that waits, holds a reference. The count is guarded by lock_: who takes
//     the last one frees the state when it has released the lock, and then nobody is left to touch it.
// I2. In the phase `sent` there is a value. It belongs to who leaves that phase: to one receive, or to the
//     last reference.
// I3. A leaf is taken out under the lock, and woken behind it.
// I4. When the sender has gone, with a value or without, and one reference is left, all belongs to who has that,
//     without the lock: nobody else can reach the state. So make, send, receive and drop take one read-modify-write.
template <class T>
class oneshot_state {
public:
    oneshot_state() noexcept = default;
    oneshot_state(const oneshot_state&) = delete;
    oneshot_state& operator=(const oneshot_state&) = delete;

    /// Moves or copies `v` into the state, if the receiver still wants it; gives up the sender's reference
    /// if nothing is thrown.
    template <class Value>
    send_result send(Value& v) {
        bool wanted = false;
        leaf* woken = nullptr;
        bool last = false;
        {
            const guard g(*this);
            wanted = is_open_;
            if constexpr (copied_under_lock<T>) {
                if (wanted)
                    construct_from(room_.value, v);
                last = end_send(wanted, woken);
            } else if (wanted) {
                phase_ = phase::sending; // to close now comes too late
            } else {
                last = end_send(false, woken);
            }
        }
        if constexpr (!copied_under_lock<T>) {
            if (wanted) {
                construct(v);
                const guard g(*this);
                last = end_send(true, woken);
            }
        }
        if (woken != nullptr)
            wake(*woken);
        if (last)
            destroy();
        return send_result(wanted ? send_result::status::sent : send_result::status::closed);
    }

    /// The sender goes without a value.
    void drop_sender() noexcept {
        leaf* woken = nullptr;
        bool last = false;
        {
            const guard g(*this);
            last = end_send(false, woken);
        }
        if (woken != nullptr)
            wake(*woken);
        if (last)
            destroy();
    }

    /// The receiver wants no value any more, unless it is there or on its way.
    void close() noexcept {
        leaf* sender = nullptr;
        leaf* receiver = nullptr;
        {
            const guard g(*this);
            close(sender, receiver);
        }
        wake_both(sender, receiver);
    }

    void drop_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        leaf* sender = nullptr;
        leaf* receiver = nullptr;
        bool last = false;
        bool unread = false;
        if (view() == oneshot_view::sole) { // (I4)
            unread = std::exchange(phase_, phase::ended) == phase::sent;
            last = true;
        } else {
            const guard g(*this);
            close(sender, receiver);
            unread = phase_ == phase::sent;
            if (unread)
                phase_ = phase::ended; // the reference goes when the value is destroyed
            else
                last = --references_ == 0;
        }
        wake_both(sender, receiver);
        if (unread) {
            const releaser at_end(this);
            room_.value.~T();
        } else if (last) {
            destroy();
        }
    }

    /// What a receive finds.
    enum class finding : unsigned char {
        nothing, // it has to wait
        value,   // there is one, or none will come: `take` it
        claimed, // the value is the caller's alone: `take_claimed`
    };
    finding look(bool may_claim) noexcept {
        const oneshot_view v = view();
        if (v == oneshot_view::open) // who waits looks again, under the lock
            return finding::nothing;
        if (v == oneshot_view::sole) // (I4)
            return look_inside(may_claim);
        const guard g(*this);
        return look_inside(may_claim);
    }

    /// Takes the value if it is there. `none_left` says whether none will come. `held`: together with the reference
    /// of a wait.
    std::optional<T> take(bool& none_left, bool held) {
        std::optional<T> value;
        bool claimed = false;
        bool last = false;
        {
            const guard g(*this);
            claimed = phase_ == phase::sent;
            none_left = !claimed && !may_come();
            if (claimed) {
                phase_ = phase::ended;
                if constexpr (copied_under_lock<T>)
                    value.emplace(std::move(room_.value));
            }
            if (held && (!claimed || copied_under_lock<T>))
                last = --references_ == 0;
        }
        if (last)
            destroy();
        if constexpr (!copied_under_lock<T>) {
            if (claimed) {
                const releaser at_end(held ? this : nullptr);
                return take_claimed();
            }
        }
        return value;
    }
    std::optional<T> take_claimed() {
        const destroyer<T> at_end(room_.value);
        return std::optional<T>(std::move(room_.value));
    }

    oneshot_entry wait_for_value(leaf& l) noexcept {
        const guard g(*this);
        return may_come() ? enter(receiver_, l) : oneshot_entry::ready;
    }
    oneshot_entry wait_for_close(leaf& l) noexcept {
        const guard g(*this);
        return is_open_ ? enter(sender_, l) : oneshot_entry::ready;
    }
    /// Takes a leaf back. False if its wake is coming.
    bool leave(leaf& l) noexcept {
        const guard g(*this);
        for (leaf** at : {&receiver_, &sender_})
            if (*at == &l) {
                *at = nullptr;
                return true;
            }
        return false;
    }
    void release() noexcept {
        bool last = false;
        {
            const guard g(*this);
            last = --references_ == 0;
        }
        if (last)
            destroy();
    }

    bool has_value() noexcept {
        const guard g(*this);
        return phase_ == phase::sent;
    }
    bool is_over() noexcept { // nothing more will be received
        const guard g(*this);
        return phase_ != phase::sent && !may_come();
    }
    bool is_open() noexcept {
        const guard g(*this);
        return is_open_;
    }

private:
    using lock_word = magpie::detail::lock_word<oneshot_view>;

    enum class phase : unsigned char {
        open,    // no value yet
        sending, // ... but it is being moved in
        sent,
        ended, // the value was taken, or the sender has gone without one
    };

    class guard {
    public:
        explicit guard(oneshot_state& s) noexcept : state_(s), locked_(s.lock_) {}
        ~guard() {
            const bool over = state_.phase_ == phase::sent || state_.phase_ == phase::ended;
            locked_.state = over && state_.references_ == 1 ? oneshot_view::sole
                            : state_.may_come()             ? oneshot_view::open
                                                            : oneshot_view::decided;
        }
        guard(const guard&) = delete;
        guard& operator=(const guard&) = delete;

    private:
        oneshot_state& state_;
        lock_word::guard locked_;
    };

    class releaser {
    public:
        explicit releaser(oneshot_state* s) noexcept : state_(s) {}
        ~releaser() {
            if (state_ != nullptr)
                state_->release();
        }
        releaser(const releaser&) = delete;
        releaser& operator=(const releaser&) = delete;

    private:
        oneshot_state* state_;
    };

    template <class Value>
    void construct(Value& v) {
        try {
            construct_from(room_.value, v);
        } catch (...) {
            leaf* woken = nullptr;
            {
                const guard g(*this);
                phase_ = phase::open; // the sender may try again
                if (!is_open_)        // somebody has closed meanwhile, and waits for what was coming
                    woken = std::exchange(receiver_, nullptr);
            }
            if (woken != nullptr)
                wake(*woken);
            throw;
        }
    }

    static void wake_both(leaf* sender, leaf* receiver) noexcept {
        if (sender != nullptr)
            wake(*sender);
        if (receiver != nullptr)
            wake(*receiver);
    }

    oneshot_view view() const noexcept {
        return lock_.load(std::memory_order_acquire); // (U) of lock_word
    }

    // Under the lock:
    bool may_come() const noexcept {
        return phase_ == phase::sending || (phase_ == phase::open && is_open_);
    }
    finding look_inside(bool may_claim) noexcept {
        if (phase_ == phase::sent && may_claim) {
            phase_ = phase::ended;
            return finding::claimed;
        }
        return may_come() ? finding::nothing : finding::value;
    }
    /// Returns whether that was the last reference.
    bool end_send(bool sent, leaf*& woken) noexcept {
        phase_ = sent ? phase::sent : phase::ended;
        woken = std::exchange(receiver_, nullptr);
        return --references_ == 0;
    }
    void close(leaf*& sender, leaf*& receiver) noexcept {
        is_open_ = false;
        sender = std::exchange(sender_, nullptr);
        if (!may_come())
            receiver = std::exchange(receiver_, nullptr);
    }
    oneshot_entry enter(leaf*& at, leaf& l) noexcept {
        if (at != nullptr)
            return oneshot_entry::refused;
        at = &l;
        ++references_;
        return oneshot_entry::waits;
    }

    void destroy() noexcept {
        if (phase_ == phase::sent) // the receiver went while it was being sent
            room_.value.~T();
        destroy_part(this);
    }

    lock_word lock_{oneshot_view::open}; // of all below, but the value
    phase phase_ = phase::open;
    bool is_open_ = true; // the receiver is there, and has not closed
    std::uint32_t references_ = 2;
    leaf* receiver_ = nullptr; // waits for the value
    leaf* sender_ = nullptr;   // waits for the receiver to close
    room<T> room_;
};

} // namespace magpie::sync::detail
