#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/sync/detail/channel_memory.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace magpie::sync::detail {

// The values in a channel stand in blocks of some slots. Senders append at the tail, receivers claim at the
// head; each end has a lock of its own, which its owner holds, and lines of its own. Values are filled in and
// taken out outside the locks, unless that runs no code.
//
// A slot is appended, becomes ready, is claimed, and finished. One whose claim is given up is ready again,
// in its old place. Values leave in the order of their slots: one that is not ready yet stops those behind it.
//
// I1. Slots are numbered. All below sent_ are ready: that number is all that the tail tells the head. Those
//     that are ready behind one that is not are `early`.
// I2. The tail touches no block of which all slots are below sent_, unless it is the last one; and it links
//     the next block before a slot of that is ready. So the head reads `next` if it knows of a slot behind it,
//     and may then free the block.
// I3. The head's `head_` is a block in front of which every slot is claimed.
// I4. A block is freed when all its slots are finished, and one behind it is known to be ready; by who
//     finishes the last, or else by who finishes one in the block behind it. So an idle queue has one block,
//     whatever it has held.
//
// (S) tail -> head: sent_ (release), read by claim() (acquire): the values, and the links of their blocks.

class queue_head;
class queue_tail;

/// Slots for values, but for the values.
class message_block {
public:
    explicit message_block(unsigned l) noexcept : level(l) {}

    const unsigned level; // of the queue that it belongs to

private:
    friend class message_slot;
    friend class queue_head;
    friend class queue_tail;

    // The tail's.
    std::uint32_t early = 0; // a bit a slot
    message_block* next = nullptr;

    // The tail's until a slot is ready, then the head's.
    message_block* previous = nullptr;
    std::uint64_t first = 0; // the number of its first slot
    std::uint32_t claimed = 0;
    std::uint32_t finished = 0;
};

/// The same with its values: they begin in a line of their own, for receivers write into the one before.
template <class T>
class sized_block : public message_block {
public:
    using message_block::message_block;

    // A block fits into what is recycled, if the values are small.
    static constexpr std::size_t line = 64;
    static constexpr unsigned slots = static_cast<unsigned>(
        std::clamp<std::size_t>((1024 - line) / sizeof(T), 4, 32));

    alignas(line) alignas(room<T>) room<T> rooms[slots];
};

/// One value's place.
class message_slot {
public:
    message_slot() noexcept = default;
    message_slot(message_block* b, unsigned i) noexcept : block_(b), index_(i) {}

    explicit operator bool() const noexcept { return block_ != nullptr; }
    unsigned level() const noexcept { return block_->level; }

    template <class T>
    T& value() const noexcept {
        return static_cast<sized_block<T>*>(block_)->rooms[index_].value;
    }

private:
    friend class queue_head;
    friend class queue_tail;
    std::uint32_t bit() const noexcept { return std::uint32_t{1} << index_; }

    message_block* block_ = nullptr;
    unsigned index_ = 0;
};

/// Where slots are claimed. `slots` is the number of them in a block.
class queue_head {
public:
    /// The oldest value, if it is ready.
    message_slot claim(const queue_tail& tail, unsigned slots) noexcept;

    /// Lets a claimed value be in its place.
    void give_back(message_slot s) noexcept {
        s.block_->claimed &= ~s.bit();
        if (s.block_->first < head_->first)
            head_ = s.block_;
    }

    /// The slot's value is gone, or was never made. Gives a block that is to be freed, or null.
    message_block* finish(message_slot s, unsigned slots) noexcept {
        message_block& b = *s.block_;
        b.claimed |= s.bit();
        b.finished |= s.bit();
        const std::uint32_t all = ~std::uint32_t{0} >> (32 - slots);
        if (b.finished == all && known_ > b.first + slots)
            return unlink(b);
        message_block* const before = b.previous;
        return before != nullptr && before->finished == all && known_ >= before->first + slots
                   ? unlink(*before)
                   : nullptr;
    }

private:
    friend class queue_tail;

    bool look(const queue_tail& tail, std::uint64_t number) noexcept;

    message_block* unlink(message_block& b) noexcept { // not the last
        if (b.previous != nullptr)
            b.previous->next = b.next;
        b.next->previous = b.previous;
        if (head_ == &b)
            head_ = b.next;
        return &b;
    }

    message_block* head_ = nullptr; // the tail's, until a slot is ready
    std::uint64_t known_ = 0;       // sent_, when it was last read
};

/// Where slots are appended.
class queue_tail {
public:
    bool has_room(unsigned slots) const noexcept { return last_ != nullptr && size_ < slots; }

    /// Adds a block. @pre there is no room
    void add(message_block& b, queue_head& head, unsigned slots) noexcept {
        message_block* const before = last_;
        last_ = &b;
        size_ = 0;
        if (before == nullptr) {
            ready_block_ = &b;
            head.head_ = &b; // nobody reads it before a slot is ready
            return;
        }
        b.first = before->first + slots;
        b.previous = before;
        before->next = &b;
        if (ready_block_ == before && ready_size_ == slots) {
            ready_block_ = &b;
            ready_size_ = 0;
        }
    }

    /// The next place. @pre there is room
    message_slot append() noexcept { return message_slot(last_, size_++); }

    /// Makes a value ready.
    void make_ready(message_slot s, unsigned slots) noexcept {
        if (s.block_ != ready_block_ || s.index_ != ready_size_) {
            s.block_->early |= s.bit();
            ++early_;
            return;
        }
        std::uint64_t count = 0;
        do {
            ++count;
            if (++ready_size_ == slots && ready_block_ != last_) {
                ready_block_ = ready_block_->next;
                ready_size_ = 0;
            }
        } while (early_ != 0 && take_early(slots));
        publish(count);
    }

    /// The same if each value is made ready before the next place is given out.
    void make_ready_in_order() noexcept { publish(1); }

    /// All blocks, to be freed: each with the one before it.
    message_block* take_all() noexcept { return std::exchange(last_, nullptr); }
    static message_block* before(const message_block& b) noexcept { return b.previous; }

private:
    friend class queue_head;

    bool take_early(unsigned slots) noexcept {
        if (ready_size_ == slots || (ready_block_->early >> ready_size_ & 1) == 0)
            return false;
        --early_;
        return true;
    }
    void publish(std::uint64_t count) noexcept {
        // Relaxed: only this end writes it. Release: (S).
        sent_.store(sent_.load(std::memory_order_relaxed) + count, std::memory_order_release);
    }

    message_block* last_ = nullptr;
    message_block* ready_block_ = nullptr; // where the first slot is that is not ready, or will be
    std::uint16_t size_ = 0;               // of last_
    std::uint16_t ready_size_ = 0;
    std::uint32_t early_ = 0;
    magpie::detail::atomic<std::uint64_t> sent_{0};
};

inline bool queue_head::look(const queue_tail& tail, std::uint64_t number) noexcept {
    known_ = tail.sent_.load(std::memory_order_acquire); // (S)
    return number < known_;
}

inline message_slot queue_head::claim(const queue_tail& tail, unsigned slots) noexcept {
    if (known_ == 0 && !look(tail, 0))
        return message_slot();
    for (;;) {
        message_block& b = *head_;
        const auto i = static_cast<unsigned>(std::countr_one(b.claimed));
        const std::uint64_t number = b.first + i;
        if (number >= known_ && !look(tail, number))
            return message_slot();
        if (i < slots) {
            const message_slot s(&b, i);
            b.claimed |= s.bit();
            return s;
        }
        head_ = b.next;
    }
}

/// Both ends where they need no lines of their own.
class message_queue {
public:
    queue_head head;
    queue_tail tail;
};

} // namespace magpie::sync::detail
