#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace magpie::detail {

/// How a message stands in a ring.
enum class posted : unsigned char {
    letter, ///< by its address alone; nothing comes back
    call,   ///< with what is enclosed, and its place is kept for the answer
    answer, ///< it is back, with what is enclosed
    note,   ///< it is back, and has the answer itself
};

/// What one shard sends another: bounded, one thread puts in, one takes out. Who finds it full can ask to be
/// told when there is room.
///
/// A place is a cache line. It says itself what it is, and has what goes with that; and a call is answered in
/// its place. So there and back it is one line that goes over, which the receiver looks at until there is something
/// in it, and the sender until that is answered. (With the answer in another line either of them is written while the
/// other side still has a copy: 280 ns each way in place of 190, on a machine on which a line takes long.)
///
/// @tparam T         is sent by its address
/// @tparam Enclosed  goes with it, in the place
template <class T, class Enclosed, std::size_t Capacity = 128>
class shard_ring {
    static_assert((Capacity & (Capacity - 1)) == 0, "indices wrap around by a mask");
    static_assert(alignof(T) >= 8, "the lowest three bits of an address are free");

    struct alignas(64) place {
        atomic<std::uintptr_t> word{0};
        Enclosed enclosed;
    };

public:
    static constexpr std::size_t capacity = Capacity;

    /// What stands in a place.
    class found {
    public:
        found() noexcept = default;

        T& what() const noexcept { return *reinterpret_cast<T*>(word_ & ~all_bits); }
        posted how() const noexcept { return static_cast<posted>((word_ & how_bits) >> 1); }
        Enclosed& enclosed() const noexcept { return place_->enclosed; }

        /// Of a call: the receiver is through with it. It is the sender's from here on. @param how  answer or note
        void answer(posted how) const noexcept {
            place_->word.store((word_ & ~how_bits) | bits_of(how), std::memory_order_release); // (A)
        }

    private:
        friend class shard_ring;
        found(place& p, std::uintptr_t word) noexcept : place_(&p), word_(word) {}

        place* place_ = nullptr;
        std::uintptr_t word_ = 0;
    };

    shard_ring() noexcept = default;
    shard_ring(const shard_ring&) = delete;
    shard_ring& operator=(const shard_ring&) = delete;

    // --- the sender ---

    /// Where that stands which goes with the next push; null if there is no room for one.
    Enclosed* next_enclosed() noexcept {
        if (tail_ - free_ == Capacity) {
            free_ = std::min(head_.load(std::memory_order_acquire), answered_); // (R)
            if (tail_ - free_ == Capacity)
                return nullptr;
        }
        return &at(tail_).enclosed;
    }

    /// There is room. @param how  letter or call
    void push(T& x, posted how) noexcept {
        const std::uintptr_t word = reinterpret_cast<std::uintptr_t>(&x) | bits_of(how) | lap_of(tail_);
        at(tail_).word.store(word, std::memory_order_release); // (S)
        if (how == posted::letter && answered_ == tail_)
            ++answered_;
        ++tail_;
    }

    /// Whether the oldest call that is not answered has been.
    bool has_answer() const noexcept { // relaxed: take_answers() reads what counts
        return answered_ != tail_ &&
               how_of(places_[answered_ % Capacity].word.load(std::memory_order_relaxed)) !=
                   posted::call;
    }

    /// Calls `f(found)` for each call that is answered, in the order in which they were pushed.
    template <class F>
    void take_answers(F f) noexcept {
        for (; answered_ != tail_; ++answered_) {
            place& p = at(answered_);
            const found x(p, p.word.load(std::memory_order_acquire)); // (A)
            if (x.how() == posted::call)
                return;
            if (x.how() != posted::letter)
                f(x);
        }
    }

    /// Asks to be told when there is room. Afterwards the sender looks once more: the receiver may have
    /// made room before it could see this.
    void ask_for_room() noexcept {
        wants_room_.exchange(true, std::memory_order_acquire); // (W)
    }

    // --- the receiver ---

    /// Whether there is something.
    bool has_any() const noexcept { // relaxed: look() reads what counts
        return is_of(next_, places_[next_ % Capacity].word.load(std::memory_order_relaxed));
    }

    /// The oldest, as many as there are and `into` has room for; they stay. Returns how many.
    std::size_t look(std::span<found> into) noexcept {
        std::size_t n = 0;
        for (; n < into.size(); ++n) {
            place& p = at(next_ + n);
            const std::uintptr_t word = p.word.load(std::memory_order_acquire); // (S)
            if (!is_of(next_ + n, word))
                break;
            into[n] = found(p, word);
        }
        return n;
    }

    /// The oldest `n`, which were looked at, are done with, and calls answered.
    void drop(std::size_t n) noexcept {
        next_ += n;
        if (next_ - head_.load(std::memory_order_relaxed) < told_after) // ours
            return;
        head_.store(next_, std::memory_order_release); // (R)
        made_room_ = true;
    }

    /// Afterwards: whether the sender is to be told that there is room.
    bool room_is_wanted() noexcept {
        return std::exchange(made_room_, false) &&
               wants_room_.exchange(false, std::memory_order_release); // (W)
    }

private:
    // Indices only grow; index i lives in place i % Capacity. A word is null, or the address of what was pushed,
    // with how it stands there, and with a bit that tells the laps around the ring apart: set in the first
    // one, not in the second, and so on. So what stands there from the lap before is not taken for what is to
    // come, though nobody takes it out.
    //
    // I1. head_ <= next_ <= tail_ and answered_ <= tail_; free_ <= head_, answered_; tail_ <= free_ + Capacity; and
    //     next_ < head_ + told_after after a drop. The sender writes at tail_ only: no place is written that is
    //     still to be received, or whose answer is still to be taken.
    // I2. A call's place is the receiver's from the push to the answer, else the sender's.
    // I3. When there is no room, either more than Capacity - told_after are still to be received: with these head_
    //     moves on, and room is made, and said. Or answers are to be taken: the sender comes to them.
    //
    // (S) push -> look: the word (release) carries what goes with it, and what it points at.
    // (A) answer -> take_answers: the word (release) carries the answer, and what was done for it.
    // (R) drop -> next_enclosed: the head (release) says that the places below it were read.
    // (W) Of the two exchanges one is later: either the receiver sees the wish, and looks at nothing else, or
    //     the sender (acquire), which looks again, sees the room that was made before the receiver's (release).
    static constexpr std::uintptr_t lap_bit = 1;
    static constexpr std::uintptr_t how_bits = 6;
    static constexpr std::uintptr_t all_bits = lap_bit | how_bits;
    // The sender is told of room now and then, for what says it is a line that it has to fetch.
    static constexpr std::uint64_t told_after = std::max<std::size_t>(Capacity / 4, 1);

    static constexpr std::uintptr_t bits_of(posted how) noexcept {
        return static_cast<std::uintptr_t>(how) << 1;
    }
    static constexpr posted how_of(std::uintptr_t word) noexcept {
        return static_cast<posted>((word & how_bits) >> 1);
    }
    static constexpr std::uintptr_t lap_of(std::uint64_t index) noexcept {
        return ~(index / Capacity) & lap_bit;
    }
    static bool is_of(std::uint64_t index, std::uintptr_t word) noexcept {
        return word != 0 && (word & lap_bit) == lap_of(index);
    }
    place& at(std::uint64_t index) noexcept { return places_[index % Capacity]; }

    // The receiver's, and what it says now and then.
    alignas(64) std::uint64_t next_ = 0;
    bool made_room_ = false; // since it looked for a wish
    atomic<std::uint64_t> head_{0};
    // The sender's.
    alignas(64) std::uint64_t tail_ = 0;
    std::uint64_t free_ = 0;     // below it places may be written again
    std::uint64_t answered_ = 0; // below it no answer is awaited
    alignas(64) atomic<bool> wants_room_{false};
    std::array<place, Capacity> places_;
};

} // namespace magpie::detail
