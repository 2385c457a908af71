#pragma once

#include "strand_list.hpp"

#include <magpie/core/strand.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

namespace magpie::detail {

/// Queued strands, first in first out, any number. One thread at a time.
///
/// It keeps their addresses, in pieces of a kibibyte, and looks at none of them. (Those for whom there is no memory
/// are linked to each other all the same, behind the pieces: to queue what is ready cannot fail.) A piece is the
/// system's memory, which takes it back after a burst; the recycled one would keep it for frames.
class strand_queue {
public:
    strand_queue() noexcept = default;
    strand_queue(const strand_queue&) = delete;
    strand_queue& operator=(const strand_queue&) = delete;
    ~strand_queue() {
        free_pieces(first_);
        free_pieces(spare_);
    }

    void push(strand& s) noexcept {
        if (linked_.is_empty() && has_room()) [[likely]]
            last_->strands[end_++] = &s;
        else
            linked_.push(s); // until those are taken, for they are older
    }

    /// Takes the oldest, as many as there is room for in `out`. Gives how many.
    std::size_t pop(std::span<strand*> out) noexcept {
        std::size_t taken = 0;
        while (first_ != nullptr && taken < out.size()) {
            piece& p = *first_;
            const std::size_t filled = first_ == last_ ? end_ : piece::capacity;
            const std::size_t n = std::min(filled - begin_, out.size() - taken);
            std::copy_n(&p.strands[begin_], n, &out[taken]);
            taken += n;
            begin_ += static_cast<std::uint32_t>(n);
            if (begin_ == filled)
                leave(p);
        }
        while (first_ == nullptr && !linked_.is_empty() && taken < out.size())
            out[taken++] = linked_.pop();
        return taken;
    }

    /// The oldest, or null.
    strand* pop() noexcept {
        strand* one = nullptr;
        pop({&one, 1});
        return one;
    }

private:
    struct piece {
        static constexpr std::size_t capacity = 127;
        piece* next = nullptr;
        std::array<strand*, capacity> strands;
    };

    /// Whether the last piece has room; adds one if it has not, and there is memory.
    bool has_room() noexcept {
        if (last_ != nullptr && end_ < piece::capacity) [[likely]]
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
    /// The first piece is used up.
    void leave(piece& p) noexcept {
        begin_ = 0;
        first_ = std::exchange(p.next, nullptr);
        if (first_ == nullptr)
            last_ = nullptr;
        if (spare_ == nullptr)
            spare_ = &p;
        else
            free_pieces(&p);
    }
    static void free_pieces(piece* p) noexcept {
        while (p != nullptr)
            ::operator delete(std::exchange(p, p->next));
    }

    // Queued are those from begin_ in the first piece to end_ in the last; these two stand here, for a piece is where
    // the other processor has it.
    std::uint32_t begin_ = 0;
    std::uint32_t end_ = 0;
    piece* first_ = nullptr;
    piece* last_ = nullptr;
    piece* spare_ = nullptr; // at most one
    strand_list linked_;     // for whom there was no memory
};

} // namespace magpie::detail
