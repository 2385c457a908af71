#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/strand.hpp>

#include <cstddef>

namespace magpie::detail {

/// The queue that all workers share: what comes from outside, and what a ring had no room for.
/// First in first out, a lock, any number of strands.
class injector {
public:
    injector() noexcept = default;
    injector(const injector&) = delete;
    injector& operator=(const injector&) = delete;

    void push(strand& s) noexcept { push(s, s, 1); }

    /// Appends a chain linked by queue_next.
    void push(strand& first, strand& last, std::size_t n) noexcept {
        last.queue_next = nullptr;
        const lock_guard guard(lock_);
        (last_ != nullptr ? last_->queue_next : first_) = &first;
        last_ = &last;
        // seq_cst: the pusher reads the idle word next; who goes to sleep writes that and then
        // reads this. If both read old values, work is stranded.
        size_.fetch_add(n, std::memory_order_seq_cst);
    }

    /// Takes at most `most` (1 or more); gives the first of them, the others linked behind it by queue_next.
    strand* pop(std::size_t most, std::size_t& taken) noexcept {
        MAGPIE_ASSERT(most > 0);
        taken = 0;
        if (size() == 0)
            return nullptr;
        const lock_guard guard(lock_);
        strand* const first = first_;
        strand* last = nullptr;
        for (; taken < most && first_ != nullptr; ++taken)
            last = first_, first_ = first_->queue_next;
        if (first_ == nullptr)
            last_ = nullptr;
        if (last != nullptr)
            last->queue_next = nullptr;
        size_.fetch_sub(taken, std::memory_order_relaxed); // under the lock; readers want a hint
        return first;
    }

    /// How many are queued.
    std::size_t size() const noexcept { return size_.load(std::memory_order_seq_cst); } // see push

private:
    mutex lock_;
    strand* first_ = nullptr;
    strand* last_ = nullptr;
    atomic<std::size_t> size_{0}; // written under lock_
};

} // namespace magpie::detail
