#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin.hpp>

namespace magpie::detail {

/// A word that is a spin lock, and says something of what it guards: that can be seen without the lock, and
/// changed without it by a compare-exchange while nobody has it.
///
/// `State` is a small value with `is_locked()` and `locked()`, the same with the mark of the lock.
//
// I1. While it is locked, only the holder writes it: compare-exchanges of others expect it unlocked.
// I2. The holder writes what the word says from now on with the unlock, which is his last touch. So whoever
//     sees that, with the lock or without, may destroy the object that the word is in.
//
// (U) holder -> next holder, and who sees the word: the unlock is a release; the lock is an acquire, and so
//     is a look for who goes by what he has seen.
template <class State>
class lock_word {
public:
    explicit lock_word(State s) noexcept : word_(s) {}

    /// The word, locked or not.
    State load(std::memory_order o) const noexcept { return word_.load(o); }

    /// Changes `seen`, which is not locked, to `next`. False: it is something else by now, see `seen`.
    bool compare_exchange(State& seen, State next, std::memory_order success,
                          std::memory_order failure) noexcept {
        MAGPIE_ASSERT(!seen.is_locked());
        return word_.compare_exchange_weak(seen, next, success, failure);
    }

    /// Has the lock while it lives.
    class guard {
    public:
        explicit guard(lock_word& w) noexcept : state(w.lock()), word_(w.word_) {}
        ~guard() { word_.store(state, std::memory_order_release); } // (U)
        guard(const guard&) = delete;
        guard& operator=(const guard&) = delete;

        State state; ///< what the word said; what it says when the lock is let go of

    private:
        atomic<State>& word_;
    };

private:
    State lock() noexcept {
        for (;;) {
            State seen = word_.load(std::memory_order_relaxed); // checked by the CAS
            if (seen.is_locked())
                spin_until(word_, [](State s) { return !s.is_locked(); });
            else if (word_.compare_exchange_weak(seen, seen.locked(), std::memory_order_acquire, // (U)
                                                 std::memory_order_relaxed))
                return seen;
        }
    }

    atomic<State> word_;
};

} // namespace magpie::detail
