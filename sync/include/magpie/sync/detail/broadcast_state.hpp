#pragma once

#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/error.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/detail/channel_state.hpp>
#include <magpie/sync/detail/snapshot.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace magpie::sync {

/// What a broadcast does when a receiver is so slow that there is no room for the next value.
enum class slow_receiver : unsigned char {
    misses,       ///< the oldest value is overwritten, and the receiver told how many it has missed
    delays,       ///< the sender waits for it
    disconnected, ///< it is told that it is out, and nothing waits for it any more
};

namespace detail {

/// Where a receiver stands.
class broadcast_place {
public:
    std::uint64_t next = 0; // the position of the value that it reads next
    std::size_t index = 0;  // ... in the ring
};

/// What a look for the next value finds.
enum class broadcast_finding : unsigned char { nothing, value, missed, disconnected, closed };

/// What the handles of one broadcast share: a ring of values, each with the number of receivers that have still
/// to read it.
//
// I1. Positions count all values ever sent. The ring has those from tail_ - capacity on.
// I2. remaining is the number of receivers that stand at the entry's position, or before it. So it does not fall
//     from older to newer ones, and oldest_ is the first that is not zero.
// I3. A value is taken out of the ring under the lock, when remaining is zero or it is overwritten, and destroyed
//     behind it; who reads has a snapshot.
// I4. With `delays` a send takes a unit of room before it moves its value: reserved_ counts them, and senders wait
//     for them in order.
// I5. Handles, and operations that wait, have a reference.
template <class T>
class broadcast_state {
public:
    using value = snapshot<T>;
    using finding = broadcast_finding;

    class room_wait : public wait_place {
    public:
        using wait_place::wait_place;

        bool granted = false; // written under the lock until it is woken
    };

    broadcast_state(std::size_t capacity, slow_receiver policy)
        : ring_(std::make_unique<entry[]>(capacity)), capacity_(capacity), policy_(policy) {}
    broadcast_state(const broadcast_state&) = delete;
    broadcast_state& operator=(const broadcast_state&) = delete;

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller has one
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: it sees what the others last did.
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            destroy_part(this);
    }

    // --- handles ---

    void add_sender() noexcept {
        retain();
        const guard g(lock_);
        ++senders_;
    }
    void drop_sender() noexcept {
        {
            place_wake_list woken;
            const guard g(lock_);
            if (--senders_ == 0)
                woken.take_all(receivers_waiting_);
        }
        release();
    }
    void add_weak() noexcept {
        retain();
        const guard g(lock_);
        ++weak_;
    }
    void drop_weak() noexcept {
        {
            const guard g(lock_);
            --weak_;
        }
        release();
    }
    bool upgrade() noexcept {
        const guard g(lock_);
        if (senders_ == 0)
            return false;
        ++senders_;
        references_.fetch_add(1, std::memory_order_relaxed); // the weak sender has one
        return true;
    }
    broadcast_place add_receiver() noexcept {
        retain();
        const guard g(lock_);
        ++receivers_;
        return here();
    }
    void drop_receiver(broadcast_place& at) noexcept {
        // Step by step: what only this receiver had still to read is destroyed without the lock.
        for (bool left = true; left;) {
            std::optional<value> dead;
            place_wake_list woken;
            const guard g(lock_);
            if (is_behind(at)) {
                if (policy_ == slow_receiver::disconnected)
                    break; // it was taken out of all counts
                at = oldest_kept();
            }
            left = at.next < tail_;
            if (left) {
                count_read(at, dead, woken);
            } else if (--receivers_ == 0) {
                woken.take_all(closers_waiting_);
                woken.take_all(senders_waiting_);
            }
        }
        release();
    }

    // --- to send ---

    /// Sends `v` if it can be done now, with room that the caller was granted, or without. It is used up.
    template <class Value>
    put_status put(Value& v, bool granted, std::exception_ptr& error) noexcept {
        if constexpr (snapshot_is_copy<T>) {
            // What happens nearly always: nobody waits, and all have read what is overwritten.
            const guard g(lock_);
            entry& e = ring_[tail_index_];
            if (receivers_ > 0 && policy_ != slow_receiver::delays && e.remaining == 0 &&
                receivers_waiting_.empty()) [[likely]] {
                e.kept.emplace(value::make(v));
                e.remaining = receivers_;
                ++tail_;
                tail_index_ = after(tail_index_);
                return put_status::sent;
            }
        }
        return put_slowly(v, granted, error);
    }
    template <class Value>
    [[gnu::noinline]] put_status put_slowly(Value& v, bool granted,
                                            std::exception_ptr& error) noexcept {
        if constexpr (snapshot_is_copy<T>) {
            bool dropped = false;
            {
                place_wake_list woken;
                const guard g(lock_);
                const put_status status = take_room(granted);
                if (status != put_status::sent)
                    return status;
                std::optional<value> next(value::make(v));
                dropped = push(next, woken);
            }
            if (dropped)
                sweep();
            return put_status::sent;
        } else {
            {
                const guard g(lock_);
                const put_status status = take_room(granted);
                if (status != put_status::sent)
                    return status;
            }
            std::optional<value> next;
            try {
                next.emplace(value::make(v));
            } catch (...) {
                error = std::current_exception();
            }
            bool dropped = false;
            {
                place_wake_list woken;
                const guard g(lock_);
                if (next)
                    dropped = push(next, woken); // `next` is what was overwritten now
                else
                    give_room(woken);
            }
            if (dropped)
                sweep();
            return error == nullptr ? put_status::sent : put_status::failed;
        }
    }

    /// Takes room, or lets `w` wait for it (`full`).
    put_status take_room_or_wait(room_wait& w) noexcept {
        const guard g(lock_);
        const put_status status = take_room(false);
        if (status == put_status::full) {
            senders_waiting_.push_back(w);
            retain();
        }
        return status;
    }
    bool leave(room_wait& w) noexcept { return leave(senders_waiting_, w); }
    void give_room_back() noexcept {
        place_wake_list woken;
        const guard g(lock_);
        give_room(woken);
    }

    // --- to receive ---

    /// Takes the next value for the receiver at `at`.
    finding take(broadcast_place& at, std::optional<value>& out, std::uint64_t& missed) noexcept {
        if constexpr (snapshot_is_copy<T>) {
            const guard g(lock_);
            if (at.next < tail_ && !is_behind(at) && senders_waiting_.empty()) [[likely]] {
                entry& e = ring_[at.index];
                out.emplace(*e.kept);
                ++at.next;
                at.index = after(at.index);
                if (--e.remaining == 0)
                    find_oldest();
                return finding::value;
            }
        }
        return take_slowly(at, out, missed);
    }
    [[gnu::noinline]] finding take_slowly(broadcast_place& at, std::optional<value>& out,
                                          std::uint64_t& missed) noexcept {
        std::optional<value> dead;
        place_wake_list woken;
        const guard g(lock_);
        const finding found = look_at(at);
        if (found == finding::value) {
            out.emplace(*ring_[at.index].kept);
            count_read(at, dead, woken);
        } else if (found == finding::missed) {
            const broadcast_place kept = oldest_kept();
            missed = kept.next - at.next;
            at = kept;
        }
        return found;
    }
    finding look(const broadcast_place& at) noexcept {
        const guard g(lock_);
        return look_at(at);
    }
    bool wait_for_value(wait_place& n, const broadcast_place& at) noexcept {
        const guard g(lock_);
        if (look_at(at) != finding::nothing)
            return false;
        receivers_waiting_.push_back(n);
        retain();
        return true;
    }
    bool leave_value(wait_place& n) noexcept { return leave(receivers_waiting_, n); }

    // --- to ask ---

    bool wait_for_close(wait_place& n) noexcept {
        const guard g(lock_);
        if (receivers_ == 0)
            return false;
        closers_waiting_.push_back(n);
        retain();
        return true;
    }
    bool leave_close(wait_place& n) noexcept { return leave(closers_waiting_, n); }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t unread() noexcept {
        const guard g(lock_);
        return static_cast<std::size_t>(tail_ - oldest_);
    }
    std::uint64_t unread_by(const broadcast_place& at) noexcept {
        const guard g(lock_);
        return tail_ - at.next;
    }
    std::size_t senders() noexcept {
        const guard g(lock_);
        return senders_;
    }
    std::size_t weak_senders() noexcept {
        const guard g(lock_);
        return weak_;
    }
    bool is_open() noexcept { return receivers() > 0; }
    std::size_t receivers() noexcept {
        const guard g(lock_);
        return receivers_;
    }

private:
    // A place_wake_list that is declared before its guard wakes when the lock is released, and what is to be destroyed
    // before that goes after it.
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

    struct entry {
        std::optional<value> kept;
        std::uint32_t remaining = 0;
    };

    bool leave(place_list& list, wait_place& n) noexcept {
        const guard g(lock_);
        if (!n.is_listed())
            return false;
        list.remove(n);
        return true;
    }

    // Under the lock:

    broadcast_place here() const noexcept { return {tail_, tail_index_}; }
    /// The oldest position that was not overwritten. @pre the ring is full
    broadcast_place oldest_kept() const noexcept { return {tail_ - capacity_, tail_index_}; }
    bool is_behind(const broadcast_place& at) const noexcept { return tail_ - at.next > capacity_; }

    finding look_at(const broadcast_place& at) const noexcept {
        if (is_behind(at))
            return policy_ == slow_receiver::disconnected ? finding::disconnected : finding::missed;
        if (at.next < tail_)
            return finding::value;
        return senders_ == 0 ? finding::closed : finding::nothing;
    }

    std::size_t after(std::size_t index) const noexcept {
        return index + 1 == capacity_ ? 0 : index + 1;
    }

    void count_read(broadcast_place& at, std::optional<value>& dead, place_wake_list& woken) noexcept {
        entry& e = ring_[at.index];
        ++at.next;
        at.index = after(at.index);
        if (--e.remaining > 0)
            return;
        dead.swap(e.kept);
        find_oldest();
        grant(woken);
    }
    void find_oldest() noexcept {
        while (oldest_ < tail_ && ring_[oldest_index_].remaining == 0) {
            ++oldest_;
            oldest_index_ = after(oldest_index_);
        }
    }

    bool has_room() const noexcept { return tail_ - oldest_ + reserved_ < capacity_; }
    put_status take_room(bool granted) noexcept {
        if (receivers_ == 0) {
            if (granted)
                --reserved_;
            return put_status::closed;
        }
        if (policy_ != slow_receiver::delays || granted)
            return put_status::sent;
        if (!senders_waiting_.empty() || !has_room())
            return put_status::full;
        ++reserved_;
        return put_status::sent;
    }
    void give_room(place_wake_list& woken) noexcept {
        if (policy_ != slow_receiver::delays)
            return;
        --reserved_;
        grant(woken);
    }
    void grant(place_wake_list& woken) noexcept {
        while (!senders_waiting_.empty() && has_room()) {
            auto& w = static_cast<room_wait&>(*senders_waiting_.front());
            ++reserved_;
            w.granted = true;
            woken.take(senders_waiting_, w);
        }
    }

    /// Puts `next` into the ring; gives what it takes the place of. Returns whether there may be values that nobody
    /// will read.
    bool push(std::optional<value>& next, place_wake_list& woken) noexcept {
        if (policy_ == slow_receiver::delays)
            --reserved_;
        entry& e = ring_[tail_index_];
        const std::uint32_t slow = e.remaining;
        bool dropped = false;
        if (slow > 0) {
            ++oldest_; // it is overwritten
            oldest_index_ = after(oldest_index_);
            if (policy_ == slow_receiver::disconnected) {
                dropped = true;
                receivers_ -= slow;
                for (std::size_t i = 0; i < capacity_; ++i)
                    ring_[i].remaining -= slow; // (I2): they have read nothing of it
                if (receivers_ == 0)
                    woken.take_all(closers_waiting_);
            }
        }
        e.remaining = receivers_;
        e.kept.swap(next);
        dropped = dropped || receivers_ == 0; // the last one went while the value was being made
        ++tail_;
        tail_index_ = after(tail_index_);
        find_oldest();
        woken.take_all(receivers_waiting_);
        return dropped;
    }

    /// Destroys the values that nobody will read.
    void sweep() noexcept {
        for (std::size_t i = 0; i < capacity_; ++i) {
            std::optional<value> dead;
            const guard g(lock_);
            if (ring_[i].remaining == 0)
                dead.swap(ring_[i].kept);
        }
    }

    magpie::detail::atomic<std::uint32_t> references_{2};
    magpie::detail::spin_lock lock_; // of all below
    std::uint32_t senders_ = 1;
    std::uint32_t weak_ = 0;
    std::uint32_t receivers_ = 1;
    std::unique_ptr<entry[]> ring_;
    std::uint64_t tail_ = 0;   // the position of the next value
    std::uint64_t oldest_ = 0; // the first that somebody has still to read, or tail_
    std::size_t tail_index_ = 0;
    std::size_t oldest_index_ = 0;
    std::size_t reserved_ = 0;
    place_list receivers_waiting_;
    place_list senders_waiting_;
    place_list closers_waiting_;
    const std::size_t capacity_;
    const slow_receiver policy_;
};

} // namespace detail

} // namespace magpie::sync
