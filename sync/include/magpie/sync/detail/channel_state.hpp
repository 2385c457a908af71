#pragma once

#include <magpie/sync/detail/channel_core.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/detail/message_queue.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync::detail {

/// What the handles of one queue share.
//
// A send takes a permit (a unit of free_), appends a slot, moves the value into it outside the lock, and
// makes it ready. A receive claims the oldest slot, which frees a unit, moves the value out outside the
// lock, and finishes the slot. A value that runs no code is copied under the lock, in one go.
//
// I6. If a receiver waits, no value is ready: who makes one ready claims it for the first receiver.
template <class T>
class channel_state : public channel_core {
public:
    using queue = message_queue<T>;
    using slot = typename queue::slot;
    using block = typename queue::block;
    using channel_core::leave;

    /// A receive that waits.
    class value_wait : public wait_place {
    public:
        using wait_place::wait_place;

        slot claimed; // written under the lock until it is woken
    };

    explicit channel_state(const channel_shape& s) : channel_core(s) {
        if (levels_ > 1)
            urgent_ = std::make_unique<queue[]>(levels_ - 1);
    }

    void release() noexcept {
        if (let_go())
            destroy_part(this);
    }

    // --- handles ---

    void drop_sender() noexcept {
        {
            place_wake_list woken;
            const guard g(lock_);
            --senders_;
            end_if_over(woken);
        }
        release();
    }
    void drop_weak() noexcept {
        {
            const guard g(lock_);
            --weak_;
        }
        release();
    }
    void drop_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        bool last = false;
        {
            place_wake_list woken;
            const guard g(lock_);
            last = --receivers_ == 0;
            if (last)
                close(woken);
        }
        const releaser at_end(this);
        if (last)
            drain();
    }

    // --- to send ---

    /// Sends `v` if it can be done now, with a permit of the caller's (`granted`) or a new one. The caller's is
    /// used up, unless this gives `failed`: then `error` was thrown, and `v` is as the move has left it.
    template <class Value>
    put_status put(Value& v, unsigned level, bool granted, std::exception_ptr& error) noexcept {
        if constexpr (copied_under_lock<T>) {
            // What happens nearly always: nobody waits, and there is room.
            const guard g(lock_);
            queue& q = queue_of(level);
            if (!granted && is_open_ && free_ > 0 && receivers_waiting_.empty() &&
                senders_waiting_.empty() && q.has_room()) [[likely]] {
                --free_;
                ++length_;
                const slot s = q.append();
                construct_from(s.value(), v);
                q.make_ready(s);
                return put_status::sent;
            }
        }
        return put_slowly(v, level, granted, error);
    }
    template <class Value>
    [[gnu::noinline]] put_status put_slowly(Value& v, unsigned level, bool granted,
                                            std::exception_ptr& error) noexcept {
        block* fresh = nullptr;
        for (;;) {
            slot s;
            put_status status = put_status::sent;
            {
                place_wake_list woken;
                const guard g(lock_);
                status = may_put(granted, woken);
                queue& q = queue_of(level);
                if (status == put_status::sent && (fresh != nullptr || q.has_room())) {
                    block* dead = nullptr;
                    if (!q.has_room())
                        dead = q.add(*std::exchange(fresh, nullptr));
                    take_permit(granted);
                    s = q.append();
                    if constexpr (copied_under_lock<T>) {
                        construct_from(s.value(), v);
                        make_ready(s, q, woken);
                    }
                    if (dead != nullptr)
                        fresh =
                            dead; // one of the two, or the new one if somebody else was faster, is to go
                }
            }
            if (s) {
                if (fresh != nullptr)
                    destroy_part(fresh);
                if constexpr (!copied_under_lock<T>)
                    return fill(s, v, granted, error);
                return put_status::sent;
            }
            if (status != put_status::sent) {
                if (fresh != nullptr)
                    destroy_part(fresh);
                return status;
            }
            try {
                fresh = make_part<block>(level); // not under the lock
            } catch (...) {
                error = std::current_exception();
                return put_status::failed;
            }
        }
    }

    // --- to receive ---

    /// Whether a receive is over: with a value claimed, or without one because none will come.
    bool try_claim(slot& claimed) noexcept {
        place_wake_list woken;
        const guard g(lock_);
        claimed = claim(woken);
        return claimed || is_over();
    }

    /// The same for values that may be copied under the lock: they are out when this returns.
    bool try_copy(std::optional<T>& value) noexcept {
        block* dead = nullptr;
        {
            const guard g(lock_);
            if (senders_waiting_.empty() && urgent_ == nullptr) [[likely]] {
                const slot s = queue_.claim();
                if (!s)
                    return is_over();
                --length_;
                if (capacity_ != 0)
                    ++free_;
                value.emplace(std::move(s.value()));
                dead = queue_.finish(s);
                if (dead == nullptr) [[likely]]
                    return true;
            }
        }
        if (dead != nullptr) {
            destroy_part(dead);
            return true;
        }
        return copy_slowly(value);
    }
    [[gnu::noinline]] bool copy_slowly(std::optional<T>& value) noexcept {
        block* dead = nullptr;
        bool over = false;
        {
            place_wake_list woken;
            const guard g(lock_);
            const slot s = claim(woken);
            if (s) {
                value.emplace(std::move(s.value()));
                dead = queue_of(s.of().level).finish(s);
            } else {
                over = is_over();
            }
        }
        if (dead != nullptr)
            destroy_part(dead);
        return value.has_value() || over;
    }

    /// What a wait for a value finds.
    enum class entry : unsigned char { waits, ready, refused };
    entry claim_or_wait(value_wait& w) noexcept {
        place_wake_list woken;
        const guard g(lock_);
        w.claimed = claim(woken);
        if (w.claimed || is_over())
            return entry::ready;
        if (!many_receivers_ && !receivers_waiting_.empty())
            return entry::refused;
        receivers_waiting_.push_back(w);
        retain();
        if (capacity_ == 0) {
            ++free_; // (I4)
            grant(woken);
        }
        return entry::waits;
    }
    bool leave(value_wait& w) noexcept {
        const guard g(lock_);
        if (!w.is_listed())
            return false;
        receivers_waiting_.remove(w);
        if (capacity_ == 0)
            --free_;
        return true;
    }

    /// Moves a claimed value out.
    std::optional<T> take(slot s) {
        const finisher at_end(*this, s);
        const destroyer<T> before(s.value());
        return std::optional<T>(std::move(s.value()));
    }

    /// Gives up a claim: the value goes to the next receive, in its old place.
    void give_back(slot s) noexcept {
        bool unwanted = false;
        {
            place_wake_list woken;
            const guard g(lock_);
            queue_of(s.of().level).give_back(s);
            ++length_;
            if (capacity_ != 0)
                --free_;
            unwanted = receivers_ == 0;
            hand_over(woken);
        }
        if (unwanted)
            drain();
    }

private:
    class releaser {
    public:
        explicit releaser(channel_state* s) noexcept : state_(s) {}
        ~releaser() { state_->release(); }
        releaser(const releaser&) = delete;
        releaser& operator=(const releaser&) = delete;

    private:
        channel_state* state_;
    };

    class finisher {
    public:
        finisher(channel_state& c, slot s) noexcept : channel_(c), slot_(s) {}
        ~finisher() { channel_.finish(slot_); }
        finisher(const finisher&) = delete;
        finisher& operator=(const finisher&) = delete;

    private:
        channel_state& channel_;
        slot slot_;
    };

    queue& queue_of(unsigned level) noexcept { return level == 0 ? queue_ : urgent_[level - 1]; }

    void finish(slot s) noexcept {
        block* dead = nullptr;
        {
            const guard g(lock_);
            dead = queue_of(s.of().level).finish(s);
        }
        if (dead != nullptr)
            destroy_part(dead);
    }

    template <class Value>
    put_status fill(slot s, Value& v, bool granted, std::exception_ptr& error) noexcept {
        try {
            construct_from(s.value(), v);
        } catch (...) {
            error = std::current_exception();
        }
        bool unwanted = false;
        block* dead = nullptr;
        {
            place_wake_list woken;
            const guard g(lock_);
            queue& q = queue_of(s.of().level);
            if (error == nullptr) {
                make_ready(s, q, woken);
            } else {
                dead = q.finish(s);
                if (!granted)
                    give_permits(1, woken);
                hand_over(woken); // those behind it may be ready
            }
            unwanted = receivers_ == 0;
        }
        if (dead != nullptr)
            destroy_part(dead);
        if (unwanted)
            drain(); // they went while it was being moved in
        return error == nullptr ? put_status::sent : put_status::failed;
    }

    /// Destroys what is in the channel. The first exception of a destructor comes out at the end.
    void drain() noexcept(std::is_nothrow_destructible_v<T>) {
        std::exception_ptr error;
        for (;;) {
            slot s;
            try_claim(s);
            if (!s)
                break;
            const finisher at_end(*this, s);
            if constexpr (std::is_nothrow_destructible_v<T>) {
                s.value().~T();
            } else {
                try {
                    s.value().~T();
                } catch (...) {
                    if (error == nullptr)
                        error = std::current_exception();
                }
            }
        }
        if constexpr (!std::is_nothrow_destructible_v<T>)
            if (error != nullptr)
                std::rethrow_exception(std::move(error));
    }

    // Under the lock:

    void make_ready(slot s, queue& q, place_wake_list& woken) noexcept {
        q.make_ready(s);
        --reserved_;
        if (capacity_ == 0)
            ++free_; // (I4); and with the receiver that it goes to one is gone
        ++length_;
        hand_over(woken);
    }

    slot claim(place_wake_list& woken) noexcept {
        slot s;
        for (unsigned level = levels_ - 1; level > 0 && !s; --level)
            s = urgent_[level - 1].claim();
        if (!s)
            s = queue_.claim();
        if (s) {
            --length_;
            if (capacity_ != 0) {
                ++free_;
                grant(woken);
            }
        }
        return s;
    }

    void hand_over(place_wake_list& woken) noexcept {
        while (!receivers_waiting_.empty()) {
            const slot s = claim(woken);
            if (!s)
                break;
            auto& w = static_cast<value_wait&>(*receivers_waiting_.front());
            w.claimed = s;
            woken.take(receivers_waiting_, w);
            if (capacity_ == 0)
                --free_;
        }
        end_if_over(woken);
    }

    queue queue_;
    std::unique_ptr<queue[]> urgent_; // the levels above 0
};

} // namespace magpie::sync::detail
