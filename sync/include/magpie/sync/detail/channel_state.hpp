#pragma once

#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/error.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/detail/leaf_list.hpp>
#include <magpie/sync/detail/message_queue.hpp>
#include <magpie/sync/send_result.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
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

/// What the handles of one channel share.
//
// A send takes a permit (a unit of free_), appends a slot, moves the value into it outside the lock, and
// makes it ready. A receive claims the oldest slot, which frees a unit, moves the value out outside the
// lock, and finishes the slot. A value that runs no code is copied under the lock, in one go.
//
// I1. free_ + reserved_ + what is in the queue and not claimed = capacity. reserved_ counts the permits that
//     are out, and the values that are being moved in. Values that were given back may make free_ negative.
// I2. If a sender waits, free_ is less than the first one wants: who frees units grants them, in order.
// I3. If a receiver waits, no value is ready: who makes one ready claims it for the first receiver.
// I4. Without senders, or closed, and with no permit out nothing can come any more (`is_over`).
// I5. With capacity 0 a unit is a receiver that waits: free_ is their number less reserved_. It adds one when it
//     enters, and takes it along when it leaves. A granted sender that finds it gone waits again, in front.
// I6. Handles, permits and operations that wait, or have waited, have a reference.
template <class T>
class channel_state {
public:
    using queue = message_queue<T>;
    using slot = typename queue::slot;
    using block = typename queue::block;

    /// A send or a reservation that waits for permits.
    class permit_wait : public leaf_node {
    public:
        explicit permit_wait(leaf& l, std::size_t n) noexcept : leaf_node(l), wanted(n) {}

        const std::size_t wanted;
        bool granted = false; // written under the lock until it is woken
    };
    /// A receive that waits.
    class value_wait : public leaf_node {
    public:
        using leaf_node::leaf_node;

        slot claimed; // written under the lock until it is woken
    };

    explicit channel_state(const channel_shape& s)
        : free_(static_cast<std::ptrdiff_t>(s.capacity)), capacity_(s.capacity),
          many_receivers_(s.many_receivers), levels_(s.levels) {
        if (levels_ > 1)
            urgent_ = std::make_unique<queue[]>(levels_ - 1);
    }
    channel_state(const channel_state&) = delete;
    channel_state& operator=(const channel_state&) = delete;

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
            wake_list woken;
            const guard g(lock_);
            --senders_;
            end_if_over(woken);
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
    void drop_receiver() noexcept(std::is_nothrow_destructible_v<T>) {
        bool last = false;
        {
            wake_list woken;
            const guard g(lock_);
            last = --receivers_ == 0;
            if (last)
                close(woken);
        }
        const releaser at_end(this);
        if (last)
            drain();
    }

    void close() noexcept {
        wake_list woken;
        const guard g(lock_);
        close(woken);
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
                wake_list woken;
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
        wake_list woken;
        const guard g(lock_);
        if (!w.linked())
            return false;
        senders_waiting_.remove(w);
        grant(woken); // those behind may want less
        end_if_over(woken);
        return true;
    }
    void give_permits(std::size_t n) noexcept {
        wake_list woken;
        const guard g(lock_);
        give_permits(n, woken);
    }

    // --- to receive ---

    /// Whether a receive is over: with a value claimed, or without one because none will come.
    bool try_claim(slot& claimed) noexcept {
        wake_list woken;
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
            wake_list woken;
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
        wake_list woken;
        const guard g(lock_);
        w.claimed = claim(woken);
        if (w.claimed || is_over())
            return entry::ready;
        if (!many_receivers_ && !receivers_waiting_.empty())
            return entry::refused;
        receivers_waiting_.push_back(w);
        retain();
        if (capacity_ == 0) {
            ++free_; // (I5)
            grant(woken);
        }
        return entry::waits;
    }
    bool leave(value_wait& w) noexcept {
        const guard g(lock_);
        if (!w.linked())
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
            wake_list woken;
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

    // --- to ask ---

    /// Enters a wait for the end of the receivers. False if they have closed.
    bool wait_for_close(leaf_node& w) noexcept {
        const guard g(lock_);
        if (!is_open_)
            return false;
        closers_waiting_.push_back(w);
        retain();
        return true;
    }
    bool leave_close(leaf_node& w) noexcept {
        const guard g(lock_);
        if (!w.linked())
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
    bool is_over_and_empty() noexcept {
        const guard g(lock_);
        return length_ == 0 && is_over();
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

private:
    // A wake_list that is declared before its guard wakes when the lock is released.
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

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
            wake_list woken;
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

    put_status may_put(bool granted, wake_list& woken) noexcept {
        if (granted) {
            if (receivers_ == 0) {
                give_permits(1, woken);
                return put_status::closed;
            }
            if (capacity_ == 0 && receivers_waiting_.empty()) { // (I5)
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
    void give_permits(std::size_t n, wake_list& woken) noexcept {
        reserved_ -= n;
        free_ += static_cast<std::ptrdiff_t>(n);
        grant(woken);
        end_if_over(woken);
    }
    void grant(wake_list& woken) noexcept {
        while (!senders_waiting_.empty()) {
            auto& w = static_cast<permit_wait&>(senders_waiting_.first());
            if (std::cmp_less(free_, w.wanted))
                break;
            free_ -= static_cast<std::ptrdiff_t>(w.wanted);
            reserved_ += w.wanted;
            w.granted = true;
            woken.take(senders_waiting_, w);
        }
    }

    void make_ready(slot s, queue& q, wake_list& woken) noexcept {
        q.make_ready(s);
        --reserved_;
        if (capacity_ == 0)
            ++free_; // (I5); and with the receiver that it goes to one is gone
        ++length_;
        hand_over(woken);
    }

    slot claim(wake_list& woken) noexcept {
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

    void hand_over(wake_list& woken) noexcept {
        while (!receivers_waiting_.empty()) {
            const slot s = claim(woken);
            if (!s)
                break;
            auto& w = static_cast<value_wait&>(receivers_waiting_.first());
            w.claimed = s;
            woken.take(receivers_waiting_, w);
            if (capacity_ == 0)
                --free_;
        }
        end_if_over(woken);
    }
    void end_if_over(wake_list& woken) noexcept {
        if (!receivers_waiting_.empty() && is_over())
            woken.take_all(receivers_waiting_);
    }

    void close(wake_list& woken) noexcept {
        is_open_ = false;
        woken.take_all(senders_waiting_);
        woken.take_all(closers_waiting_);
        end_if_over(woken);
    }

    magpie::detail::atomic<std::uint32_t> references_{2};
    magpie::detail::spin_lock lock_; // of all below, but the values
    bool is_open_ = true;            // no receiver has closed, and there is one
    std::ptrdiff_t free_;
    std::size_t reserved_ = 0;
    std::size_t length_ = 0; // values that are ready, or behind one that is not, and not claimed
    queue queue_;
    leaf_list receivers_waiting_;
    leaf_list senders_waiting_;
    leaf_list closers_waiting_;
    std::uint32_t senders_ = 1;
    std::uint32_t weak_ = 0;
    std::uint32_t receivers_ = 1;
    const std::size_t capacity_;
    const bool many_receivers_;
    const unsigned levels_;
    std::unique_ptr<queue[]> urgent_; // the levels above 0
};

} // namespace magpie::sync::detail
