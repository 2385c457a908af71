#pragma once

#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/send_result.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

/// What a wait for the other end finds.
enum class oneshot_entry : unsigned char { waits, ready, refused };

/// What the two ends of a oneshot share.
//
// I1. Each end, and each operation that waits, holds a reference. The count is guarded by lock_: who takes
//     the last one frees the state when it has released the lock, and then nobody is left to touch it.
// I2. In the phase `sent` there is a value. It belongs to who leaves that phase under the lock: to one
//     receive, or to the last reference.
// I3. A leaf is taken out under the lock, and woken behind it.
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
        if constexpr (copied_under_lock<T>) {
            leaf* woken = nullptr;
            bool last = false;
            bool wanted = false;
            {
                const guard g(lock_);
                wanted = is_open_;
                if (wanted) {
                    construct_from(room_.value, v);
                    phase_ = phase::sent;
                    woken = std::exchange(receiver_, nullptr);
                }
                last = end_sender();
            }
            return finish_send(wanted, woken, last);
        } else {
            bool wanted = false;
            {
                const guard g(lock_);
                wanted = is_open_;
                if (wanted)
                    phase_ = phase::sending; // to close now comes too late
            }
            if (wanted)
                construct(v);
            leaf* woken = nullptr;
            bool last = false;
            {
                const guard g(lock_);
                if (wanted) {
                    phase_ = phase::sent;
                    woken = std::exchange(receiver_, nullptr);
                }
                last = end_sender();
            }
            return finish_send(wanted, woken, last);
        }
    }

    /// The sender goes without a value.
    void drop_sender() noexcept {
        leaf* woken = nullptr;
        bool last = false;
        {
            const guard g(lock_);
            woken = std::exchange(receiver_, nullptr);
            last = end_sender();
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
            const guard g(lock_);
            is_open_ = false;
            sender = std::exchange(sender_, nullptr);
            if (!may_come())
                receiver = std::exchange(receiver_, nullptr);
        }
        if (sender != nullptr)
            wake(*sender);
        if (receiver != nullptr)
            wake(*receiver);
    }

    void drop_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        leaf* sender = nullptr;
        leaf* receiver = nullptr;
        bool last = false;
        bool unread = false;
        {
            const guard g(lock_);
            is_open_ = false;
            sender = std::exchange(sender_, nullptr);
            if (!may_come())
                receiver = std::exchange(receiver_, nullptr);
            unread = phase_ == phase::sent;
            if (unread)
                phase_ = phase::ended; // its reference goes when the value is destroyed
            else
                last = --references_ == 0;
        }
        if (sender != nullptr)
            wake(*sender);
        if (receiver != nullptr)
            wake(*receiver);
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
        const guard g(lock_);
        if (phase_ == phase::sent && may_claim) {
            phase_ = phase::ended;
            return finding::claimed;
        }
        return may_come() ? finding::nothing : finding::value;
    }

    /// Takes the value if it is there. `none_left` says whether none will come.
    std::optional<T> take(bool& none_left) {
        {
            const guard g(lock_);
            none_left = phase_ != phase::sent && !may_come();
            if (phase_ != phase::sent)
                return std::nullopt;
            phase_ = phase::ended;
        }
        return take_claimed();
    }
    std::optional<T> take_claimed() {
        const destroyer<T> at_end(room_.value);
        return std::optional<T>(std::move(room_.value));
    }

    oneshot_entry wait_for_value(leaf& l) noexcept {
        const guard g(lock_);
        return may_come() ? enter(receiver_, l) : oneshot_entry::ready;
    }
    oneshot_entry wait_for_close(leaf& l) noexcept {
        const guard g(lock_);
        return is_open_ ? enter(sender_, l) : oneshot_entry::ready;
    }
    /// Takes a leaf back. False if its wake is coming.
    bool leave(leaf& l) noexcept {
        const guard g(lock_);
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
            const guard g(lock_);
            last = --references_ == 0;
        }
        if (last)
            destroy();
    }

    bool has_value() noexcept {
        const guard g(lock_);
        return phase_ == phase::sent;
    }
    bool is_over() noexcept { // nothing more will be received
        const guard g(lock_);
        return phase_ != phase::sent && !may_come();
    }
    bool is_open() noexcept {
        const guard g(lock_);
        return is_open_;
    }

private:
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

    enum class phase : unsigned char {
        open,    // no value yet
        sending, // ... but it is being moved in
        sent,
        ended, // the value was taken, or the sender has gone without one
    };

    class releaser {
    public:
        explicit releaser(oneshot_state* s) noexcept : state_(s) {}
        ~releaser() { state_->release(); }
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
                const guard g(lock_);
                phase_ = phase::open; // the sender may try again
                if (!is_open_)        // somebody has closed meanwhile, and waits for what was coming
                    woken = std::exchange(receiver_, nullptr);
            }
            if (woken != nullptr)
                wake(*woken);
            throw;
        }
    }

    send_result finish_send(bool sent, leaf* woken, bool last) noexcept {
        if (woken != nullptr)
            wake(*woken);
        if (last)
            destroy();
        return send_result(sent ? send_result::status::sent : send_result::status::closed);
    }

    // Under the lock:
    bool may_come() const noexcept {
        return phase_ == phase::sending || (phase_ == phase::open && is_open_);
    }
    bool end_sender() noexcept {
        if (phase_ == phase::open)
            phase_ = phase::ended;
        return --references_ == 0;
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

    magpie::detail::spin_lock lock_; // of all below, but the value
    phase phase_ = phase::open;
    bool is_open_ = true; // the receiver is there, and has not closed
    std::uint32_t references_ = 2;
    leaf* receiver_ = nullptr; // waits for the value
    leaf* sender_ = nullptr;   // waits for the receiver to close
    room<T> room_;
};

} // namespace magpie::sync::detail
