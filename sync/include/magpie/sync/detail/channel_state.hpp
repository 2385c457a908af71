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
// I6. If a receiver waits, no value is ready: who makes one ready claims it for the first receiver. A sender
//     that finds a receiver waiting holds both locks for that; and one that is about to wait looks once more
//     under both.
template <class T>
class channel_state : public channel_core {
public:
    using slot = message_slot;
    using block = sized_block<T>;
    using channel_core::leave;

    /// A receive that waits.
    class value_wait : public wait_place {
    public:
        using wait_place::wait_place;

        slot claimed; // written under both locks until it is woken
    };

    explicit channel_state(const channel_shape& s) : channel_core(s) {}
    ~channel_state() {
        free_blocks(tail_);
        for (unsigned level = 1; level < levels_; ++level)
            free_blocks(tail_of(level));
    }

    void release() noexcept {
        if (let_go())
            destroy_part(this);
    }

    // --- handles ---

    void drop_sender() noexcept {
        {
            place_wake_list woken;
            const both g(*this);
            --senders_;
            end_if_over(woken);
        }
        release();
    }
    void drop_weak() noexcept {
        {
            const guard g(send_lock_);
            --weak_;
        }
        release();
    }
    void drop_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        bool last = false;
        {
            place_wake_list woken;
            const both g(*this);
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
        for (;;) {
            slot s;
            bool has_room = true;
            {
                const guard g(send_lock_);
                queue_tail& tail = tail_of(level);
                if (may_put_alone(granted)) [[likely]] {
                    has_room = tail.has_room(slots);
                    if (has_room) [[likely]] {
                        take_permit(granted);
                        s = tail.append();
                        if constexpr (copied_under_lock<T>) {
                            construct_from(s.value<T>(), v);
                            make_ready_alone(s, tail);
                            return put_status::sent;
                        }
                    }
                }
            }
            if (s)
                return fill(s, v, level, granted, error);
            if (has_room)
                return put_slowly(v, level, granted, error);
            if (!add_room(level, error))
                return put_status::failed;
        }
    }

    // --- to receive ---

    /// Whether a receive is over: with a value claimed, or without one because none will come.
    bool try_claim(slot& claimed) noexcept {
        {
            const guard g(receive_lock_);
            if (may_claim_alone()) [[likely]]
                return claim_alone(claimed);
        }
        place_wake_list woken;
        const both g(*this);
        claimed = claim(woken);
        return claimed || is_over();
    }

    /// The same for values that may be copied under the lock: they are out when this returns.
    bool try_copy(std::optional<T>& value) noexcept {
        message_block* dead = nullptr;
        {
            const guard g(receive_lock_);
            if (may_claim_alone()) [[likely]] {
                slot s;
                if (!claim_alone(s))
                    return false;
                if (!s)
                    return true;
                value.emplace(std::move(s.value<T>()));
                dead = head_.finish(s, slots);
                if (dead == nullptr) [[likely]]
                    return true;
            }
        }
        if (dead == nullptr)
            return copy_slowly(value);
        free_block(dead);
        return true;
    }

    /// What a wait for a value finds.
    enum class entry : unsigned char { waits, ready, refused };
    entry claim_or_wait(value_wait& w) noexcept {
        place_wake_list woken;
        const both g(*this);
        w.claimed = claim(woken);
        if (w.claimed || is_over())
            return entry::ready;
        if (!many_receivers_ && !receivers_waiting_.empty())
            return entry::refused;
        receivers_waiting_.push_back(w);
        retain();
        if (capacity_ == 0) {
            count_taken(); // (I4)
            grant(woken);
        }
        return entry::waits;
    }
    bool leave(value_wait& w) noexcept {
        const both g(*this);
        if (!w.is_listed())
            return false;
        receivers_waiting_.remove(w);
        if (capacity_ == 0)
            take_back_unit();
        return true;
    }

    /// Moves a claimed value out.
    std::optional<T> take(slot s) {
        const finisher at_end(*this, s);
        const destroyer<T> before(s.value<T>());
        return std::optional<T>(std::move(s.value<T>()));
    }

    /// Gives up a claim: the value goes to the next receive, in its old place.
    void give_back(slot s) noexcept {
        bool unwanted = false;
        {
            place_wake_list woken;
            const both g(*this);
            head_of(s.level()).give_back(s);
            take_back_unit();
            unwanted = receivers_ == 0;
            hand_over(woken);
        }
        if (unwanted)
            drain();
    }

private:
    static constexpr unsigned slots = block::slots;

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

    static void free_block(message_block* b) noexcept { destroy_part(static_cast<block*>(b)); }
    static void free_blocks(queue_tail& tail) noexcept {
        for (message_block* b = tail.take_all(); b != nullptr;) {
            message_block* const before = queue_tail::before(*b);
            free_block(b);
            b = before;
        }
    }

    /// Gives the queue of a level a block, unless it has room.
    [[gnu::noinline]] bool add_room(unsigned level, std::exception_ptr& error) noexcept {
        block* fresh = nullptr;
        try {
            fresh = make_part<block>(level); // not under the lock
        } catch (...) {
            error = std::current_exception();
            return false;
        }
        {
            const guard g(send_lock_);
            queue_tail& tail = tail_of(level);
            if (!tail.has_room(slots)) // else somebody was faster
                tail.add(*std::exchange(fresh, nullptr), head_of(level), slots);
        }
        if (fresh != nullptr)
            free_block(fresh);
        return true;
    }

    template <class Value>
    [[gnu::noinline]] put_status put_slowly(Value& v, unsigned level, bool granted,
                                            std::exception_ptr& error) noexcept {
        for (;;) {
            slot s;
            {
                place_wake_list woken;
                const both g(*this);
                const put_status status = may_put(granted, woken);
                if (status != put_status::sent)
                    return status;
                queue_tail& tail = tail_of(level);
                if (tail.has_room(slots)) {
                    take_permit(granted);
                    s = tail.append();
                    if constexpr (copied_under_lock<T>) {
                        construct_from(s.value<T>(), v);
                        make_ready(s, tail, woken);
                        return put_status::sent;
                    }
                }
            }
            if (s)
                return fill(s, v, level, granted, error);
            if (!add_room(level, error))
                return put_status::failed;
        }
    }

    template <class Value>
    put_status fill(slot s, Value& v, unsigned level, bool granted,
                    std::exception_ptr& error) noexcept {
        try {
            construct_from(s.value<T>(), v);
        } catch (...) {
            error = std::current_exception();
            abandon(s, granted);
            return put_status::failed;
        }
        bool unwanted = false;
        {
            const guard g(send_lock_);
            unwanted = receivers_ == 0;
            if (receivers_waiting_.empty()) [[likely]] {
                make_ready_alone(s, tail_of(level));
                s = slot();
            }
        }
        if (s) {
            place_wake_list woken;
            const both g(*this);
            unwanted = receivers_ == 0;
            make_ready(s, tail_of(level), woken);
        }
        if (unwanted)
            drain(); // they went while it was being moved in
        return put_status::sent;
    }
    /// No value was made in a slot. Those behind it may be ready.
    void abandon(slot s, bool granted) noexcept {
        bool unwanted = false;
        message_block* dead = nullptr;
        {
            place_wake_list woken;
            const both g(*this);
            dead = head_of(s.level()).finish(s, slots);
            tail_of(s.level()).make_ready(s, slots);
            if (!granted)
                give_permits(1, woken);
            unwanted = receivers_ == 0;
            hand_over(woken);
        }
        if (dead != nullptr)
            free_block(dead);
        if (unwanted)
            drain();
    }

    [[gnu::noinline]] bool copy_slowly(std::optional<T>& value) noexcept {
        message_block* dead = nullptr;
        bool over = false;
        {
            place_wake_list woken;
            const both g(*this);
            const slot s = claim(woken);
            if (s) {
                value.emplace(std::move(s.value<T>()));
                dead = head_of(s.level()).finish(s, slots);
            } else {
                over = is_over();
            }
        }
        if (dead != nullptr)
            free_block(dead);
        return value.has_value() || over;
    }

    void finish(slot s) noexcept {
        message_block* dead = nullptr;
        {
            const guard g(receive_lock_);
            dead = head_of(s.level()).finish(s, slots);
        }
        if (dead != nullptr)
            free_block(dead);
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
                s.value<T>().~T();
            } else {
                try {
                    s.value<T>().~T();
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

    // Under receive_lock_:

    /// Whether a receive concerns nobody on the other side.
    bool may_claim_alone() const noexcept { return senders_waiting_.empty() && urgent_ == nullptr; }
    [[gnu::always_inline]] bool claim_alone(slot& claimed) noexcept {
        claimed = head_.claim(tail_, slots);
        if (!claimed) {
            if (!over_.load(std::memory_order_acquire)) // (O)
                return false;
            claimed = head_.claim(tail_, slots); // what was sent before the end
            if (!claimed)
                return true;
        }
        count_taken();
        return true;
    }

    // Under send_lock_, if no receiver waits:

    void make_ready_alone(slot s, queue_tail& tail) noexcept {
        if constexpr (copied_under_lock<T>)
            tail.make_ready_in_order();
        else
            tail.make_ready(s, slots);
        --reserved_;
        note_if_over();
    }

    // Under both:

    void make_ready(slot s, queue_tail& tail, place_wake_list& woken) noexcept {
        make_ready_alone(s, tail);
        hand_over(woken);
    }

    /// A unit that a receive has given is not there any more.
    void take_back_unit() noexcept {
        count_taken(-1);
        look();
    }

    slot claim(place_wake_list& woken) noexcept {
        const slot s = claim_uncounted();
        if (s) {
            count_taken();
            grant(woken);
        }
        return s;
    }
    slot claim_uncounted() noexcept {
        slot s;
        for (unsigned level = levels_ - 1u; level > 0 && !s; --level)
            s = head_of(level).claim(tail_of(level), slots);
        return s ? s : head_.claim(tail_, slots);
    }

    void hand_over(place_wake_list& woken) noexcept {
        while (!receivers_waiting_.empty()) {
            // With capacity 0 it has given its unit when it entered (I4).
            const slot s = capacity_ != 0 ? claim(woken) : claim_uncounted();
            if (!s)
                break;
            auto& w = static_cast<value_wait&>(*receivers_waiting_.front());
            w.claimed = s;
            woken.take(receivers_waiting_, w);
        }
        end_if_over(woken);
    }
};

} // namespace magpie::sync::detail
