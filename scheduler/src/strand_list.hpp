#pragma once

#include <magpie/core/strand.hpp>

#include <utility>

namespace magpie::detail {

/// Queued strands, linked to each other: first in first out, needs no memory. One thread at a time.
///
/// To push one touches no other: a pinned strand that is in may be woken by its own thread meanwhile. So they are
/// linked as a stack, which is turned round when the older ones have been taken.
class strand_list {
public:
    bool is_empty() const noexcept { return newest_ == nullptr && oldest_ == nullptr; }

    void push(strand& s) noexcept { s.link(std::exchange(newest_, &s)); }

    /// The oldest; there is one. Touches all that are in: if they are pinned, on their thread.
    strand* pop() noexcept {
        if (oldest_ == nullptr)
            while (strand* const s = newest_) {
                newest_ = s->unlink();
                s->link(std::exchange(oldest_, s));
            }
        strand* const s = oldest_;
        oldest_ = s->unlink();
        return s;
    }

private:
    strand* newest_ = nullptr; // leads to those before it
    strand* oldest_ = nullptr; // leads to those behind it, all older than those above
};

} // namespace magpie::detail
