#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/error.hpp>
#include <magpie/sync/detail/message_queue.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

namespace magpie::sync::detail {

/// What a channel may hold, and who may receive.
class channel_shape {
public:
    static constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / 8;

    channel_shape(std::size_t capacity, unsigned levels, bool many_receivers) noexcept
        : capacity(capacity), levels(levels), many_receivers(many_receivers) {}

    /// @throws std::logic_error for a capacity of 0 or above the limit
    static std::size_t checked(std::size_t capacity) {
        if (capacity == 0)
            magpie::detail::throw_usage_error(
                "a channel of capacity 0 could never hold a value: use 1, or "
                "sync::rendezvous, where a send waits for its receive");
        if (capacity > most)
            magpie::detail::throw_usage_error(
                "this capacity is above the limit of a bounded channel: use "
                "an unbounded one");
        return capacity;
    }

    const std::size_t capacity; ///< 0: a value is sent only to a receiver that waits
    const unsigned levels;      ///< of priority
    const bool many_receivers;
};

/// What came of an attempt to send.
enum class put_status : unsigned char { sent, closed, full, failed };

/// What of a queue does not depend on what is in it: who holds handles, who waits, and how much room there is.
//
// Two locks, so that senders and receivers on two processors do not take a line from each other with each
// value. A send that finds nobody waiting and room holds send_lock_ alone, such a receive receive_lock_ alone.
// All that concerns both sides holds both, receive_lock_ first (`both`): to enter a wait, to leave it, to wake,
// to close. What is written under both may be read under either.
//
// I1. free_ + reserved_ + what is in the queue and not claimed = capacity, once what was received since the
//     senders last looked (taken_ - seen_) is added to free_. reserved_ counts the permits that are out, and the
//     values that are being moved in. Values that were given back may make free_ negative.
// I2. If a sender waits, there are fewer units than the first one wants: who frees units grants them, in order.
//     It has entered under receive_lock_, so a receive behind that sees it, and one before it was counted.
// I3. Without senders, or closed, and with no permit out nothing can come any more (`is_over`). That is
//     final, and over_ says so to who holds receive_lock_ alone.
// I4. With capacity 0 a receive gives its unit when it begins to wait, and takes it along when it leaves. A
//     granted sender that finds it gone waits again, in front.
// I5. Handles, permits and operations that wait, or have waited, have a reference.
//
// (T) receiver -> sender: taken_ (release), read by look() (acquire): what happened before a receive is
//     visible behind the send that gets its room.
// (O) sender -> receiver: over_ (release), read by has_ended (acquire): whoever sees it sees all that was sent.
class channel_core {
public:
    /// A send or a reservation that waits for permits.
    class permit_wait : public wait_place {
    public:
        explicit permit_wait(leaf& l, std::size_t n) noexcept : wait_place(l), wanted(n) {}

        const std::size_t wanted;
        bool granted = false; // written under both locks until it is woken
    };

    channel_core(const channel_core&) = delete;
    channel_core& operator=(const channel_core&) = delete;

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller has one
    }

    // --- handles ---

    void add_sender() noexcept {
        retain();
        const guard g(send_lock_);
        ++senders_;
    }
    void add_weak() noexcept {
        retain();
        const guard g(send_lock_);
        ++weak_;
    }
    /// Makes a sender if one lives, or a permit that counts as one.
    bool upgrade() noexcept {
        const guard g(send_lock_);
        if (senders_ == 0 && reserved_ == 0)
            return false;
        ++senders_;
        references_.fetch_add(1, std::memory_order_relaxed); // the weak sender has one
        return true;
    }
    void add_receiver() noexcept {
        retain();
        const guard g(send_lock_);
        ++receivers_;
    }

    void close() noexcept {
        place_wake_list woken;
        const both g(*this);
        close(woken);
    }

    /// Takes permits if that can be done now.
    put_status try_reserve(std::size_t n) noexcept {
        const guard g(send_lock_);
        return reserve(n);
    }
    /// The same, or lets `w` wait for them (`full`). `in_front`: it had its turn before.
    put_status reserve_or_wait(permit_wait& w, bool in_front) noexcept {
        const both g(*this);
        const put_status status = reserve(w.wanted);
        if (status == put_status::full) {
            in_front ? senders_waiting_.push_front(w) : senders_waiting_.push_back(w);
            retain();
        }
        return status;
    }
    /// Takes a wait back. False if its wake is coming.
    bool leave(permit_wait& w) noexcept {
        place_wake_list woken;
        const both g(*this);
        if (!w.is_listed())
            return false;
        senders_waiting_.remove(w);
        grant(woken); // those behind may want less
        end_if_over(woken);
        return true;
    }
    void give_permits(std::size_t n) noexcept {
        place_wake_list woken;
        const both g(*this);
        give_permits(n, woken);
    }

    /// Enters a wait for the end of the receivers. False if they have closed.
    bool wait_for_close(wait_place& w) noexcept {
        const guard g(send_lock_);
        if (!is_open_)
            return false;
        closers_waiting_.push_back(w);
        retain();
        return true;
    }
    bool leave_close(wait_place& w) noexcept {
        const guard g(send_lock_);
        if (!w.is_listed())
            return false;
        closers_waiting_.remove(w);
        return true;
    }
    bool is_open() noexcept {
        const guard g(send_lock_);
        return is_open_;
    }
    bool has_ended() noexcept { // closed by either side
        const guard g(send_lock_);
        return !is_open_ || (senders_ == 0 && reserved_ == 0);
    }
    /// Values that are ready, or behind one that is not, and not claimed.
    std::size_t length() noexcept {
        const guard g(send_lock_);
        look();
        return capacity_ - reserved_ - static_cast<std::size_t>(free_);
    }
    std::size_t free() noexcept {
        const guard g(send_lock_);
        look();
        return free_ > 0 && senders_waiting_.empty() ? static_cast<std::size_t>(free_) : 0;
    }
    std::size_t capacity() const noexcept { return capacity_; }
    unsigned levels() const noexcept { return levels_; }
    std::size_t senders() noexcept {
        const guard g(send_lock_);
        return senders_;
    }
    std::size_t weak_senders() noexcept {
        const guard g(send_lock_);
        return weak_;
    }
    std::size_t receivers() noexcept {
        const guard g(send_lock_);
        return receivers_;
    }

protected:
    // A place_wake_list that is declared before its guard wakes when the locks are released.
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

    class both {
    public:
        explicit both(channel_core& c) noexcept : receive_(c.receive_lock_), send_(c.send_lock_) {}
        both(const both&) = delete;
        both& operator=(const both&) = delete;

    private:
        const guard receive_;
        const guard send_;
    };

    explicit channel_core(const channel_shape& s)
        : many_receivers_(s.many_receivers), levels_(static_cast<std::uint8_t>(s.levels)),
          capacity_(s.capacity),
          urgent_(s.levels > 1 ? std::make_unique<message_queue[]>(s.levels - 1) : nullptr),
          free_(static_cast<std::ptrdiff_t>(s.capacity)) {}
    ~channel_core() = default;

    bool let_go() noexcept {
        // Each of these pairs with the last one's acquire: it sees what the others last did.
        return references_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }

    // Under receive_lock_:

    queue_head& head_of(unsigned level) noexcept {
        return level == 0 ? head_ : urgent_[level - 1].head;
    }
    /// A receive gives its unit. `by`: or takes it back, under both.
    void count_taken(std::ptrdiff_t by = 1) noexcept {
        // Relaxed: it is written under the lock. Release: (T).
        taken_.store(taken_.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(by),
                     std::memory_order_release);
    }

    // Under send_lock_:

    queue_tail& tail_of(unsigned level) noexcept {
        return level == 0 ? tail_ : urgent_[level - 1].tail;
    }
    /// Adds what was received to free_.
    void look() noexcept {
        const std::uint64_t taken = taken_.load(std::memory_order_acquire); // (T)
        free_ += static_cast<std::ptrdiff_t>(taken - seen_);
        seen_ = taken;
    }
    bool has_free(std::size_t n) noexcept {
        if (std::cmp_greater_equal(free_, n)) [[likely]]
            return true; // what was received since only adds to it
        look();
        return std::cmp_greater_equal(free_, n);
    }

    bool is_over() const noexcept {
        return reserved_ == 0 && (!is_open_ || (senders_ == 0 && senders_waiting_.empty()));
    }
    void note_if_over() noexcept {
        if (is_over())
            over_.store(true, std::memory_order_release); // (O)
    }

    put_status reserve(std::size_t n) noexcept {
        if (!is_open_)
            return put_status::closed;
        if (!senders_waiting_.empty() || !has_free(n))
            return put_status::full;
        free_ -= static_cast<std::ptrdiff_t>(n);
        reserved_ += n;
        return put_status::sent;
    }

    /// Whether a send concerns nobody on the other side, and may go on.
    bool may_put_alone(bool granted) noexcept {
        if (!receivers_waiting_.empty())
            return false;
        return granted ? receivers_ != 0 && capacity_ != 0
                       : is_open_ && senders_waiting_.empty() && has_free(1);
    }
    void take_permit(bool granted) noexcept {
        if (granted)
            return;
        --free_;
        ++reserved_;
    }

    // Under both:

    put_status may_put(bool granted, place_wake_list& woken) noexcept {
        if (granted) {
            if (receivers_ == 0) {
                give_permits(1, woken);
                return put_status::closed;
            }
            if (capacity_ == 0 && receivers_waiting_.empty()) { // (I4)
                give_permits(1, woken);
                return put_status::full;
            }
            return put_status::sent;
        }
        if (!is_open_)
            return put_status::closed;
        return senders_waiting_.empty() && has_free(1) ? put_status::sent : put_status::full;
    }
    void give_permits(std::size_t n, place_wake_list& woken) noexcept {
        reserved_ -= n;
        free_ += static_cast<std::ptrdiff_t>(n);
        grant(woken);
        end_if_over(woken);
    }
    void grant(place_wake_list& woken) noexcept {
        while (!senders_waiting_.empty()) {
            auto& w = static_cast<permit_wait&>(*senders_waiting_.front());
            if (!has_free(w.wanted))
                break;
            free_ -= static_cast<std::ptrdiff_t>(w.wanted);
            reserved_ += w.wanted;
            w.granted = true;
            woken.take(senders_waiting_, w);
        }
    }

    void end_if_over(place_wake_list& woken) noexcept {
        note_if_over();
        if (!receivers_waiting_.empty() && is_over())
            woken.take_all(receivers_waiting_);
    }

    void close(place_wake_list& woken) noexcept {
        is_open_ = false;
        woken.take_all(senders_waiting_);
        woken.take_all(closers_waiting_);
        end_if_over(woken);
    }

    // Both ends read this line; it is written when somebody waits, or a handle comes or goes.
    magpie::detail::atomic<std::uint32_t> references_{2};
    magpie::detail::atomic<bool> over_{false}; // written under both, or under send_lock_
    bool is_open_ = true;                      // no receiver has closed, and there is one; both
    const bool many_receivers_;
    const std::uint8_t levels_;
    const std::size_t capacity_;
    const std::unique_ptr<message_queue[]> urgent_; // the levels above 0: each lock guards its end
    place_list receivers_waiting_;                  // both
    place_list senders_waiting_;                    // both
    std::uint32_t senders_ = 1;                     // send_lock_
    std::uint32_t receivers_ = 1;                   // send_lock_

    // The receivers'.
    alignas(64) magpie::detail::spin_lock receive_lock_;
    queue_head head_;
    magpie::detail::atomic<std::uint64_t> taken_{0}; // units that receives have given, in all
    place_list closers_waiting_; // send_lock_, as the next: they stand here because there is room
    std::uint32_t weak_ = 0;

    // The senders'.
    alignas(64) magpie::detail::spin_lock send_lock_;
    std::ptrdiff_t free_;
    std::uint64_t seen_ = 0; // taken_, when it was last read
    std::size_t reserved_ = 0;
    queue_tail tail_;
};

} // namespace magpie::sync::detail
