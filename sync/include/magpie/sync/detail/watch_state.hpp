#pragma once

#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/sync/detail/channel_memory.hpp>
#include <magpie/sync/detail/snapshot.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstdint>
#include <utility>

namespace magpie::sync::detail {

/// What the handles of one watch share.
//
// I1. The value is replaced as a whole, under the lock; whoever reads has a snapshot, and no lock.
// I2. version_ counts the changes that receivers are told of, edits_ all.
// I3. A receiver waits only while it has seen version_, and a sender lives: who changes either wakes all.
// I4. Handles, and operations that wait, have a reference.
template <class T>
class watch_state {
public:
    using value = snapshot<T>;

    explicit watch_state(value&& first) noexcept : value_(std::move(first)) {}
    watch_state(const watch_state&) = delete;
    watch_state& operator=(const watch_state&) = delete;

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller has one
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: it sees what the others last did.
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            destroy_part(this);
    }

    void add_sender() noexcept {
        retain();
        senders_.fetch_add(1, std::memory_order_relaxed); // the caller is one
    }
    void drop_sender() noexcept {
        {
            place_wake_list woken;
            const guard g(lock_);
            // Release, after the last send: pairs with has_senders(). No acquire: the lock has ordered the
            // sends, and who enters a wait has it too.
            if (senders_.fetch_sub(1, std::memory_order_release) == 1)
                woken.take_all(receivers_waiting_);
        }
        release();
    }
    std::uint64_t add_receiver() noexcept {
        retain();
        const guard g(lock_);
        ++receivers_;
        return version_.load(std::memory_order_relaxed); // written under the lock
    }
    void drop_receiver() noexcept {
        {
            place_wake_list woken;
            const guard g(lock_);
            if (--receivers_ == 0)
                woken.take_all(closers_waiting_);
        }
        release();
    }

    /// How many changes there were. What was written before the last one is visible.
    std::uint64_t version() const noexcept {
        return version_.load(std::memory_order_acquire); // pairs with the store in tell()
    }
    bool has_senders() const noexcept { return senders() > 0; }
    bool is_open() noexcept {
        const guard g(lock_);
        return receivers_ > 0;
    }
    std::uint32_t senders() const noexcept {
        return senders_.load(std::memory_order_acquire); // pairs with drop_sender(): all sends are seen
    }
    std::uint32_t receivers() noexcept {
        const guard g(lock_);
        return receivers_;
    }

    /// The value, and the version that it has.
    value read(std::uint64_t& version) noexcept {
        const guard g(lock_);
        version = version_.load(std::memory_order_relaxed); // written under the lock
        return value_;
    }
    /// The value, and how often it was replaced.
    value read_to_edit(std::uint64_t& edits) noexcept {
        const guard g(lock_);
        edits = edits_;
        return value_;
    }

    /// Replaces the value by `next`, which becomes the old one, and tells the receivers. With `if_wanted` only if
    /// there is one: else this is false.
    bool replace(value& next, bool if_wanted) noexcept {
        place_wake_list woken;
        const guard g(lock_);
        if (if_wanted && receivers_ == 0)
            return false;
        exchange(next);
        tell(woken);
        return true;
    }
    /// Replaces the value by `next` if it was not replaced since there were `edits`.
    bool replace_unedited(value& next, std::uint64_t edits, bool told) noexcept {
        place_wake_list woken;
        const guard g(lock_);
        if (edits_ != edits)
            return false;
        exchange(next);
        if (told)
            tell(woken);
        return true;
    }

    /// Enters a receiver that has seen `version`. False if there is something new, or no sender is left.
    bool wait_for_change(wait_place& n, std::uint64_t version) noexcept {
        const guard g(lock_);
        if (version_.load(std::memory_order_relaxed) != version || !has_senders()) // under the lock
            return false;
        receivers_waiting_.push_back(n);
        retain();
        return true;
    }
    /// Enters a sender that waits for the receivers to go. False if there is none.
    bool wait_for_close(wait_place& n) noexcept {
        const guard g(lock_);
        if (receivers_ == 0)
            return false;
        closers_waiting_.push_back(n);
        retain();
        return true;
    }
    bool leave_change(wait_place& n) noexcept { return leave(receivers_waiting_, n); }
    bool leave_close(wait_place& n) noexcept { return leave(closers_waiting_, n); }

private:
    // A place_wake_list that is declared before its guard wakes when the lock is released.
    using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;

    bool leave(place_list& list, wait_place& n) noexcept {
        const guard g(lock_);
        if (!n.is_listed())
            return false;
        list.remove(n);
        return true;
    }
    void exchange(value& next) noexcept {
        value old(std::move(value_));
        value_ = std::move(next);
        next = std::move(old);
        ++edits_;
    }
    void tell(place_wake_list& woken) noexcept {
        // Relaxed: written under the lock. Release: pairs with version().
        version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
        woken.take_all(receivers_waiting_);
    }

    magpie::detail::atomic<std::uint64_t> version_{0};
    magpie::detail::atomic<std::uint32_t> references_{2};
    magpie::detail::atomic<std::uint32_t> senders_{1};
    magpie::detail::spin_lock
        lock_; // of all below, of writes to version_, and of the last sender's end
    std::uint32_t receivers_ = 1;
    std::uint64_t edits_ = 0;
    value value_;
    place_list receivers_waiting_;
    place_list closers_waiting_;
};

} // namespace magpie::sync::detail
