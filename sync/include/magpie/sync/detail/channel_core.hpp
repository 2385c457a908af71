#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/error.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
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
// I1. free_ + reserved_ + what is in the queue and not claimed = capacity. reserved_ counts the permits that
//     are out, and the values that are being moved in. Values that were given back may make free_ negative.
// I2. If a sender waits, free_ is less than the first one wants: who frees units grants them, in order.
// I3. Without senders, or closed, and with no permit out nothing can come any more (`is_over`).
// I4. With capacity 0 a unit is a receiver that waits: free_ is their number less reserved_. It adds one when it
//     enters, and takes it along when it leaves. A granted sender that finds it gone waits again, in front.
// I5. Handles, permits and operations that wait, or have waited, have a reference.
class channel_core {
public:
    /// A send or a reservation that waits for permits.
    class permit_wait : public wait_place {
    public:
        explicit permit_wait(leaf& l, std::size_t n) noexcept : wait_place(l), wanted(n) {}

        const std::size_t wanted;
        bool granted = false; // written under the lock until it is woken
    };

    channel_core(const channel_core&) = delete;
    channel_core& operator=(const channel_core&) = delete;

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller has one
    }

    // --- handles ---

    void add_sender() noexcept {
        retain();
        const guard g(lock_);
        ++senders_;
    }
    void add_weak() noexcept {
        retain();
        const guard g(lock_);
        ++weak_;
    }
    /// Makes a sender if one lives, or a permit that counts as one.
    bool upgrade() noexcept {
        const guard g(lock_);
        if (senders_ == 0 && reserved_ == 0)
            return false;
        ++senders_;
        references_.fetch_add(1, std::memory_order_relaxed); // the weak sender has one
        return true;
    }
    void add_receiver() noexcept {
        retain();
        const guard g(lock_);
        ++receivers_;
    }

    void close() noexcept {
        place_wake_list woken;
        const guard g(lock_);
        close(woken);
    }

    /// Takes permits if that can be done now.
    put_status try_reserve(std::size_t n) noexcept {
        const guard g(lock_);
        return reserve(n);
    }
    /// The same, or lets `w` wait for them (`full`). `in_front`: it had its turn before.
    put_status reserve_or_wait(permit_wait& w, bool in_front) noexcept {
        const guard g(lock_);
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
        const guard g(lock_);
        if (!w.is_listed())
            return false;
        senders_waiting_.remove(w);
        grant(woken); // those behind may want less
        end_if_over(woken);
        return true;
    }
    void give_permits(std::size_t n) noexcept {
        place_wake_list woken;
        const guard g(lock_);
        give_permits(n, woken);
    }

    /// Enters a wait for the end of the receivers. False if they have closed.
    bool wait_for_close(wait_place& w) noexcept {
        const guard g(lock_);
        if (!is_open_)
            return false;
        closers_waiting_.push_back(w);
        retain();
        return true;
    }
    bool leave_close(wait_place& w) noexcept {
        const guard g(lock_);
        if (!w.is_listed())
            return false;
        closers_waiting_.remove(w);
        return true;
    }
    bool is_open() noexcept {
        const guard g(lock_);
        return is_open_;
    }
    bool has_ended() noexcept { // closed by either side
        const guard g(lock_);
        return !is_open_ || (senders_ == 0 && reserved_ == 0);
    }
    std::size_t length() noexcept {
        const guard g(lock_);
        return length_;
    }
    std::size_t free() noexcept {
        const guard g(lock_);
        return free_ > 0 && senders_waiting_.empty() ? static_cast<std::size_t>(free_) : 0;
    }
    std::size_t capacity() const noexcept { return capacity_; }
    unsigned levels() const noexcept { return levels_; }
    std::size_t senders() noexcept {
        const guard g(lock_);
        return senders_;
    }
    std::size_t weak_senders() noexcept {
        const guard g(lock_);
        return weak_;
    }
    std::size_t receivers() noexcept {
        const guard g(lock_);
        return receivers_;
    }

protected:
    // A place_wake_list that is declared before its guard wakes when the lock is released.
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

    explicit channel_core(const channel_shape& s) noexcept
        : free_(static_cast<std::ptrdiff_t>(s.capacity)), capacity_(s.capacity),
          many_receivers_(s.many_receivers), levels_(s.levels) {}
    ~channel_core() = default;

    bool let_go() noexcept {
        // Each of these pairs with the last one's acquire: it sees what the others last did.
        return references_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }

    // Under the lock:

    bool is_over() const noexcept {
        return (!is_open_ || (senders_ == 0 && senders_waiting_.empty())) && reserved_ == 0;
    }

    put_status reserve(std::size_t n) noexcept {
        if (!is_open_)
            return put_status::closed;
        if (!senders_waiting_.empty() || std::cmp_less(free_, n))
            return put_status::full;
        free_ -= static_cast<std::ptrdiff_t>(n);
        reserved_ += n;
        return put_status::sent;
    }

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
        return senders_waiting_.empty() && free_ > 0 ? put_status::sent : put_status::full;
    }
    void take_permit(bool granted) noexcept {
        if (granted)
            return;
        --free_;
        ++reserved_;
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
            if (std::cmp_less(free_, w.wanted))
                break;
            free_ -= static_cast<std::ptrdiff_t>(w.wanted);
            reserved_ += w.wanted;
            w.granted = true;
            woken.take(senders_waiting_, w);
        }
    }

    void end_if_over(place_wake_list& woken) noexcept {
        if (!receivers_waiting_.empty() && is_over())
            woken.take_all(receivers_waiting_);
    }

    void close(place_wake_list& woken) noexcept {
        is_open_ = false;
        woken.take_all(senders_waiting_);
        woken.take_all(closers_waiting_);
        end_if_over(woken);
    }

    magpie::detail::atomic<std::uint32_t> references_{2};
    magpie::detail::spin_lock lock_; // of all below, and of the queue
    bool is_open_ = true;            // no receiver has closed, and there is one
    std::ptrdiff_t free_;
    std::size_t reserved_ = 0;
    std::size_t length_ = 0; // values that are ready, or behind one that is not, and not claimed
    place_list receivers_waiting_;
    place_list senders_waiting_;
    place_list closers_waiting_;
    std::uint32_t senders_ = 1;
    std::uint32_t weak_ = 0;
    std::uint32_t receivers_ = 1;
    const std::size_t capacity_;
    const bool many_receivers_;
    const unsigned levels_;
};

} // namespace magpie::sync::detail
