#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstdint>

namespace magpie::detail {

/// What changes together in a tracker: how many tokens there are, whether it is closed, and how often
/// it was both closed and empty.
class tracker_word {
public:
    constexpr explicit tracker_word(std::uint64_t bits) noexcept : bits_(bits) {}

    std::uint64_t bits() const noexcept { return bits_; }
    bool is_closed() const noexcept { return (bits_ & closed_bit) != 0; }
    std::uint32_t tokens() const noexcept { return static_cast<std::uint32_t>(bits_ >> 1); }
    bool is_over() const noexcept { return is_closed() && tokens() == 0; }
    /// Goes up, and around, each time that the tracker becomes closed and empty.
    std::uint32_t ends() const noexcept { return static_cast<std::uint32_t>(bits_ >> 33); }

    tracker_word closed() const noexcept { return counted(tracker_word(bits_ | closed_bit)); }
    tracker_word without_one() const noexcept { return counted(tracker_word(bits_ - one_token)); }

    static constexpr std::uint64_t closed_bit = 1;
    static constexpr std::uint64_t one_token = 2;

private:
    /// Counts an end, if the change makes one.
    static tracker_word counted(tracker_word w) noexcept {
        return w.is_over() ? tracker_word(w.bits_ + (std::uint64_t{1} << 33)) : w;
    }

    std::uint64_t bits_;
};

/// A branch that waits for a tracker's end.
class tracker_waiter : public sync::detail::waiter {
public:
    std::uint32_t ends = 0; ///< how many there had been

protected:
    tracker_waiter() noexcept = default;
    tracker_waiter(tracker_waiter&&) noexcept = default;
    ~tracker_waiter() = default;
};

/// What the copies of a tracker, its tokens and its tasks share.
//
// I1. `references_` counts trackers, operations that wait, and one for all tokens together, which is
//     taken with the first of them and given back after the last one has told the waiters.
// I2. Who makes the tracker closed and empty counts that in the same step, and tells the waiters after:
//     those, and no others, who came before that step. One who came later has a later count.
// I3. A waiter enters under the lock if the count is still the one it has. Who counts takes the lock
//     later: either the waiter sees the count, or it is seen in the list.
//
// (D) drop() (release) pairs with whoever counts the end and with who sees it (acquire): what a task
//     did is visible to who has waited. Each drop is a read-modify-write: the last one has them all.
class tracker_state {
public:
    tracker_state() noexcept = default;
    tracker_state(const tracker_state&) = delete;
    tracker_state& operator=(const tracker_state&) = delete;

    void retain() noexcept {
        references_.fetch_add(1, std::memory_order_relaxed); // the caller holds one already
    }
    void release() noexcept {
        // Each release pairs with the last one's acquire: it sees what the others last did.
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            delete this;
    }

    tracker_word word() const noexcept {
        return tracker_word(word_.load(std::memory_order_acquire)); // (D)
    }

    void add() noexcept;
    void drop() noexcept;
    bool close() noexcept;
    bool reopen() noexcept;

    bool enter(tracker_waiter& w) noexcept;
    bool leave(tracker_waiter& w) noexcept;

private:
    ~tracker_state() = default;

    void tell() noexcept;

    atomic<std::uint64_t> word_{0};
    atomic<std::uint32_t> references_{1};
    spin_lock lock_;
    sync::detail::wait_list waiters_; // guarded by lock_
};

} // namespace magpie::detail
