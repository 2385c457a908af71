#pragma once

#include <magpie/core/config.hpp>
#include <magpie/sync/detail/channel_memory.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace magpie::sync::detail {

/// The values in a channel, in blocks of some slots. Its owner's lock guards all of it but the values:
/// slots are claimed under the lock, and filled and emptied outside.
//
// A slot is appended, becomes ready, is claimed, and finished. One whose claim is given up is ready again,
// in its old place. Values leave in the order of their slots: one that is not ready yet stops those behind it.
//
// I1. head_ is the first block in which a slot is not claimed, or one before it.
// I2. A block is freed when all its slots are finished; the last one is kept, and begins again when it is
//     the only one and nothing is in it. So an idle queue has one block, whatever it has held.
template <class T>
class message_queue {
public:
    class block;

    /// One value's place.
    class slot {
    public:
        slot() noexcept = default;
        slot(block* b, unsigned i) noexcept : block_(b), index_(i) {}

        explicit operator bool() const noexcept { return block_ != nullptr; }
        T& value() const noexcept { return block_->rooms[index_].value; }
        block& of() const noexcept { return *block_; }

    private:
        friend class message_queue;
        std::uint32_t bit() const noexcept { return std::uint32_t{1} << index_; }

        block* block_ = nullptr;
        unsigned index_ = 0;
    };

    // A block fits into what is recycled, if the values are small.
    static constexpr std::size_t header = 48;
    static constexpr unsigned slots = static_cast<unsigned>(
        std::clamp<std::size_t>((1024 - header) / sizeof(T), 4, 32));

    class block {
    public:
        explicit block(unsigned l) noexcept : level(l) {}

        const unsigned level; // of the queue that it belongs to

    private:
        friend class message_queue;
        friend class slot;

        block* previous = nullptr;
        block* next = nullptr;
        std::uint64_t sequence = 0;
        std::uint32_t ready = 0; // a bit a slot
        std::uint32_t claimed = 0;
        std::uint32_t finished = 0;
        room<T> rooms[slots];
    };

    message_queue() noexcept = default;
    message_queue(const message_queue&) = delete;
    message_queue& operator=(const message_queue&) = delete;
    ~message_queue() {
        MAGPIE_ASSERT(tail_ == nullptr || (tail_->previous == nullptr && tail_index_ == 0));
        if (tail_ != nullptr)
            destroy_part(tail_);
    }

    bool has_room() const noexcept { return tail_ != nullptr && tail_index_ < slots; }

    /// Adds a block. Gives one that is to be freed, or null. @pre there is no room
    block* add(block& b) noexcept {
        block* const old = std::exchange(tail_, &b);
        tail_index_ = 0;
        if (old == nullptr) {
            head_ = &b;
            return nullptr;
        }
        b.sequence = old->sequence + 1;
        b.previous = old;
        old->next = &b;
        return old->finished == mask(slots) ? unlink(*old) : nullptr;
    }

    /// The next place. @pre there is room
    slot append() noexcept { return slot(tail_, tail_index_++); }

    void make_ready(slot s) noexcept { s.of().ready |= s.bit(); }

    /// The oldest value, if it is ready.
    slot claim() noexcept {
        for (block* b = head_; b != nullptr; b = b->next) {
            const auto i = static_cast<unsigned>(std::countr_one(b->claimed));
            head_ = b;
            if (i < slots) {
                slot s(b, i);
                if ((b->ready & s.bit()) == 0)
                    break;
                b->claimed |= s.bit();
                return s;
            }
        }
        return slot();
    }

    /// Lets a claimed value be in its place.
    void give_back(slot s) noexcept {
        s.of().claimed &= ~s.bit();
        if (s.of().sequence < head_->sequence)
            head_ = &s.of();
    }

    /// The slot's value is gone, or was never made. Gives a block that is to be freed, or null.
    block* finish(slot s) noexcept {
        block& b = s.of();
        b.claimed |= s.bit();
        b.finished |= s.bit();
        block* const dead = b.finished == mask(slots) && &b != tail_ ? unlink(b) : nullptr;
        if (tail_->previous == nullptr && tail_->finished == mask(tail_index_)) {
            tail_->ready = tail_->claimed = tail_->finished = 0;
            tail_index_ = 0;
        }
        return dead;
    }

private:
    static constexpr std::uint32_t mask(unsigned count) noexcept {
        return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
    }

    block* unlink(block& b) noexcept { // not the last
        if (b.previous != nullptr)
            b.previous->next = b.next;
        b.next->previous = b.previous;
        if (head_ == &b)
            head_ = b.next;
        return &b;
    }

    block* head_ = nullptr;
    block* tail_ = nullptr;
    unsigned tail_index_ = 0;
};

} // namespace magpie::sync::detail
