#pragma once

#include "strand_queue.hpp"

#include <magpie/core/config.hpp>
#include <magpie/core/detail/adaptive_mutex.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <cstddef>
#include <span>

namespace magpie::detail {

/// The queue that all workers share: what comes from outside, and what a ring had no room for.
/// First in first out, a lock, any number of strands. Who has the lock looks at none of them: they would have to be
/// fetched one after the other from where they were made, with all who push waiting.
class injector {
public:
    void push(strand& s) noexcept {
        strand* const one = &s;
        push({&one, 1});
    }

    /// Appends them in this order.
    void push(std::span<strand* const> strands) noexcept {
        const lock_guard guard(lock_);
        for (strand* const s : strands)
            queue_.push(*s);
        // seq_cst: the pusher reads the idle word next; who goes to sleep writes that and then
        // reads this. If both read old values, work is stranded.
        size_.fetch_add(strands.size(), std::memory_order_seq_cst);
    }

    /// Takes the oldest, or gives null.
    strand* pop() noexcept {
        strand* one = nullptr;
        pop({&one, 1});
        return one;
    }

    /// Takes the oldest, as many as there is room for in `out` (1 or more). Gives how many.
    std::size_t pop(std::span<strand*> out) noexcept {
        MAGPIE_ASSERT(!out.empty());
        if (size() == 0)
            return 0;
        const lock_guard guard(lock_);
        const std::size_t taken = queue_.pop(out);
        size_.fetch_sub(taken, std::memory_order_relaxed); // under the lock; readers want a hint
        return taken;
    }

    /// How many are queued.
    std::size_t size() const noexcept { return size_.load(std::memory_order_seq_cst); } // see push

private:
    alignas(64) adaptive_mutex lock_;
    strand_queue queue_;          // guarded by lock_, and on its line
    atomic<std::size_t> size_{0}; // written under lock_
};

} // namespace magpie::detail
