#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/adaptive_mutex.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace magpie::detail {

/// The queue that all workers share: what comes from outside, and what a ring had no room for.
/// First in first out, a lock, any number of strands.
///
/// It keeps their addresses, in pieces of a kibibyte: who takes a share looks at none of the strands
/// while it has the lock. Linked to each other they would have to be fetched one after the other from
/// where they were made, with all who push waiting. (Those for whom there is no memory are linked to each
/// other all the same, behind the pieces: to queue what is ready cannot fail.) A piece is the system's memory, which
/// takes it back after a burst; the recycled one would keep it for frames.
class injector {
public:
    injector() noexcept = default;
    injector(const injector&) = delete;
    injector& operator=(const injector&) = delete;
    ~injector() {
        free_pieces(first_);
        free_pieces(spare_);
    }

    void push(strand& s) noexcept { push(s, s, 1); }

    /// Appends a chain linked by queue_next.
    void push(strand& first, strand& last, std::size_t n) noexcept {
        const lock_guard guard(lock_);
        for (strand* s = &first;;) {
            strand* const next = s->queue_next;
            if (first_linked_ == nullptr && has_room())
                last_->strands[end_++] = s;
            else
                link(*s); // until those are taken, for they are older
            if (s == &last)
                break;
            s = next;
        }
        // seq_cst: the pusher reads the idle word next; who goes to sleep writes that and then
        // reads this. If both read old values, work is stranded.
        size_.fetch_add(n, std::memory_order_seq_cst);
    }

    /// Takes at most `most` (1 or more; never more than 128); gives the first of them, the others linked
    /// behind it by queue_next.
    strand* pop(std::size_t most, std::size_t& taken) noexcept {
        MAGPIE_ASSERT(most > 0);
        taken = 0;
        if (size() == 0)
            return nullptr;
        std::array<strand*, 128> out;
        most = std::min(most, out.size());
        piece* emptied = nullptr;
        {
            const lock_guard guard(lock_);
            while (first_ != nullptr && taken < most) {
                piece& p = *first_;
                const std::size_t filled = first_ == last_ ? end_ : piece::capacity;
                const std::size_t n = std::min(filled - begin_, most - taken);
                std::copy_n(&p.strands[begin_], n, &out[taken]);
                taken += n;
                begin_ += static_cast<std::uint32_t>(n);
                if (begin_ < filled)
                    break;
                first_ = p.next;
                begin_ = 0;
                if (first_ == nullptr)
                    last_ = nullptr;
                p.next = std::exchange(spare_ == nullptr ? spare_ : emptied, &p);
            }
            while (first_ == nullptr && first_linked_ != nullptr && taken < most) {
                out[taken++] = first_linked_;
                first_linked_ = first_linked_->queue_next;
            }
            size_.fetch_sub(taken, std::memory_order_relaxed); // under the lock; readers want a hint
        }
        free_pieces(emptied);
        if (taken == 0)
            return nullptr;
        for (std::size_t i = 0; i + 1 < taken; ++i)
            out[i]->queue_next = out[i + 1];
        out[taken - 1]->queue_next = nullptr;
        return out[0];
    }

    /// How many are queued.
    std::size_t size() const noexcept { return size_.load(std::memory_order_seq_cst); } // see push

private:
    struct piece {
        static constexpr std::size_t capacity = 127;
        piece* next = nullptr;
        std::array<strand*, capacity> strands;
    };

    /// Whether the last piece has room; adds one if it has not, and there is memory.
    bool has_room() noexcept {
        if (last_ != nullptr && end_ < piece::capacity)
            return true;
        void* memory = std::exchange(spare_, nullptr);
        if (memory == nullptr) {
            memory = ::operator new(sizeof(piece), std::nothrow);
            if (memory == nullptr)
                return false;
        }
        piece* const p = ::new (memory) piece;
        (last_ != nullptr ? last_->next : first_) = p;
        last_ = p;
        end_ = 0;
        return true;
    }
    void link(strand& s) noexcept {
        s.queue_next = nullptr;
        (first_linked_ != nullptr ? last_linked_->queue_next : first_linked_) = &s;
        last_linked_ = &s;
    }
    static void free_pieces(piece* p) noexcept {
        while (p != nullptr)
            ::operator delete(std::exchange(p, p->next));
    }

    alignas(64) adaptive_mutex lock_;
    // Guarded by lock_, as all below. Queued are those from begin_ in the first piece to end_ in the last; these two
    // stand here, for a piece is where the other processor has it.
    std::uint32_t begin_ = 0;
    std::uint32_t end_ = 0;
    piece* first_ = nullptr;
    piece* last_ = nullptr;
    piece* spare_ = nullptr;         // at most one
    strand* first_linked_ = nullptr; // for whom there was no memory
    strand* last_linked_ = nullptr;
    atomic<std::size_t> size_{0}; // written under lock_
};

} // namespace magpie::detail
