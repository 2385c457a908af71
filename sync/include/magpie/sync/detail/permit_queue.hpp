#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/sync/detail/lock_entry.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <cstdint>
#include <utility>

namespace magpie::sync {
class condition_variable;
}

namespace magpie::sync::detail {

/// A leaf that waits for permits of a `permit_queue`.
class permit_waiter : public waiter {
protected:
    permit_waiter() noexcept = default;
    permit_waiter(permit_waiter&&) noexcept = default;
    ~permit_waiter() = default;

    std::uint64_t amount_ = 1;
    bool granted_ = false;                   ///< it has them: whoever destroys it gives them back
    [[no_unique_address]] lock_entry entry_; ///< of permits that are a lock

private:
    friend class permit_queue;
};

/// Permits, given out in the order in which they were asked for: what `semaphore`, `mutex` and
/// `shared_mutex` are made of.
///
/// Who asks for many waits at the front until there are as many, and nobody overtakes. What was
/// written before permits were given is visible to those who got them.
//
// The word is a number of permits and two bits:
//   queued   the list is not empty. Then nobody takes permits, or gives any, but under the lock, and
//            there are too few for the first in the list.
//   closed   nobody gets permits any more. Final; the list is empty.
//
// I1. `queued` is set under the lock by who enters, and cleared under the lock by who empties the
//     list.
// I2. Who gives permits touches the queue for the last time before anybody can know of them: with the
//     CAS that puts them into the word, or, where they are handed to waiters, with the unlock, before
//     those are woken. So whoever gets the last permit may destroy the queue.
//
// (P) giver -> taker: a permit that comes through the word carries what the giver did. Put there by a
//     release, taken by an acquire; under the lock the word is read (acquire) before it is overwritten,
//     so what is put there later stands for all before.
class permit_queue {
public:
    static constexpr std::uint64_t max = std::uint64_t{1} << 60;

    explicit permit_queue(std::uint64_t permits) noexcept : word_(state(permits)) {}

    /// Takes `n` permits if they are there and nobody waits.
    bool try_take(std::uint64_t n) noexcept {
        state seen = word_.load(std::memory_order_relaxed); // checked by the CAS
        while (seen.has_free(n)) {
            // Success: (P).
            if (word_.compare_exchange_weak(seen, seen.minus(n), std::memory_order_acquire,
                                            std::memory_order_relaxed))
                return true;
            if (seen.has_free(n)) {
                magpie::detail::back_off();
                seen = word_.load(std::memory_order_relaxed);
            }
        }
        return false;
    }

    /// Gives `n` permits, to who waits for them first.
    void give(std::uint64_t n) noexcept {
        if (!put_back(n)) [[unlikely]]
            hand_out(n);
    }

    /// Where a waiter enters: in front of all others is for who keeps permits that they wait for.
    enum class place : unsigned char { back, front };

    /// Lets `w` wait for its permits. False: it has got them at once (`granted_`), or the queue is closed, or
    /// its entry was refused.
    bool enter(permit_waiter& w, place where = place::back) noexcept;

    /// Takes a waiter back.
    cancel_answer leave(permit_waiter& w) noexcept;

    /// Takes at most `n` permits of those that are there. Gives how many.
    std::uint64_t remove(std::uint64_t n) noexcept;

    /// Wakes who waits, with nothing. Nobody gets permits from now on. Idempotent.
    void close() noexcept;

    // What was true a moment ago: relaxed, for who asks gets nothing.
    bool is_closed() const noexcept { return word_.load(std::memory_order_relaxed).is_closed(); }
    bool is_queued() const noexcept { return word_.load(std::memory_order_relaxed).is_queued(); }
    std::uint64_t available() const noexcept { return word_.load(std::memory_order_relaxed).permits(); }

private:
    class state {
    public:
        explicit constexpr state(std::uint64_t permits) noexcept : bits_(permits * one) {}

        bool has_free(std::uint64_t n) const noexcept {
            return (bits_ & (queued_bit | closed_bit)) == 0 && permits() >= n;
        }
        bool is_queued() const noexcept { return (bits_ & queued_bit) != 0; }
        bool is_closed() const noexcept { return (bits_ & closed_bit) != 0; }
        std::uint64_t permits() const noexcept { return bits_ / one; }

        state plus(std::uint64_t permits) const noexcept { return with_bits(bits_ + permits * one); }
        state minus(std::uint64_t permits) const noexcept { return with_bits(bits_ - permits * one); }
        state queued() const noexcept { return with_bits(bits_ | queued_bit); }
        state closed() const noexcept { return with_bits((bits_ | closed_bit) & ~queued_bit); }

    private:
        static constexpr std::uint64_t closed_bit = 1;
        static constexpr std::uint64_t queued_bit = 2;
        static constexpr std::uint64_t one = 4;

        static state with_bits(std::uint64_t bits) noexcept {
            state s(0);
            s.bits_ = bits;
            return s;
        }

        std::uint64_t bits_;
    };

    /// Gives permits if nobody waits.
    bool put_back(std::uint64_t n) noexcept {
        state seen = word_.load(std::memory_order_relaxed); // checked by the CAS
        while (!seen.is_queued()) {
            // Success: (P).
            if (word_.compare_exchange_weak(seen, seen.plus(n), std::memory_order_release,
                                            std::memory_order_relaxed))
                return true;
            if (!seen.is_queued()) {
                magpie::detail::back_off();
                seen = word_.load(std::memory_order_relaxed);
            }
        }
        return false;
    }

    void hand_out(std::uint64_t n) noexcept;
    std::uint64_t grant(std::uint64_t permits, wake_list& woken) noexcept;
    void leave_to_others(std::uint64_t permits) noexcept;

    magpie::detail::atomic<state> word_;
    magpie::detail::spin_lock lock_;
    wait_list waiters_; // guarded by lock_
};

} // namespace magpie::sync::detail
