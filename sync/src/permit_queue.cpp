#include <magpie/sync/detail/permit_queue.hpp>

#include <algorithm>

namespace magpie::sync::detail {

namespace {
using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;
} // namespace

bool permit_queue::enter(permit_waiter& w, place where) noexcept {
    w.granted_ = false;
    [[maybe_unused]] const reports_later at_the_end;
    const guard locked(lock_);
    state seen = word_.load(std::memory_order_relaxed); // checked by a CAS, or queued: under the lock
    for (;;) {
        if (seen.is_closed())
            return false;
        const bool first = !seen.is_queued() || where == place::front;
        if (w.amount_ == 0 || (first && seen.permits() >= w.amount_)) {
            // Success: (P). While it is queued nobody else changes it.
            if (word_.compare_exchange_weak(seen, seen.minus(w.amount_), std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                w.granted_ = true;
                w.entry_.gets();
                return false;
            }
        } else if (w.entry_.refuses()) {
            return false;
        } else if (seen.is_queued() ||
                   // Relaxed: it gives and takes nothing; as a read-modify-write it lets (P) pass.
                   word_.compare_exchange_weak(seen, seen.queued(), std::memory_order_relaxed,
                                               std::memory_order_relaxed)) {
            w.entry_.waits(where == place::front);
            if (where == place::front)
                waiters_.push_front(w);
            else
                waiters_.push_back(w);
            return true;
        }
    }
}

/// Gives permits to those in front, as far as they go. What is left over. Under the lock.
std::uint64_t permit_queue::grant(std::uint64_t permits, wake_list& woken) noexcept {
    while (waiter* const front = waiters_.front()) {
        auto& w = static_cast<permit_waiter&>(*front);
        if (w.amount_ > permits)
            break;
        permits -= w.amount_;
        w.granted_ = true;
        w.entry_.gets();
        woken.take(waiters_, w);
    }
    return permits;
}

/// Writes the word anew, under the lock, when it was queued.
void permit_queue::leave_to_others(std::uint64_t permits) noexcept {
    const state next(permits);
    word_.store(waiters_.empty() ? next : next.queued(), std::memory_order_release); // (P)
}

void permit_queue::hand_out(std::uint64_t n) noexcept {
    [[maybe_unused]] const reports_later at_the_end;
    wake_list woken; // woken at the very end (I2)
    do {
        const guard locked(lock_);
        const state seen = word_.load(std::memory_order_acquire); // (P), of what is overwritten
        if (seen.is_queued()) {
            n = grant(n + seen.permits(), woken);
            const bool rest_is_waited_for = !waiters_.empty();
            leave_to_others(rest_is_waited_for ? n : 0);
            if (rest_is_waited_for)
                return;
        }
        // Nobody waits any more. What is left goes into the word when the lock is free: others can
        // take it then, and destroy the queue.
    } while (n > 0 && !put_back(n));
}

cancel_answer permit_queue::leave(permit_waiter& w) noexcept {
    [[maybe_unused]] const reports_later at_the_end;
    wake_list woken;
    const guard locked(lock_);
    if (!w.is_listed())
        return cancel_answer::coming; // a giver has it in hand
    const bool was_first = waiters_.front() == &w;
    waiters_.remove(w);
    w.entry_.gives_up();
    if (was_first) { // there may be enough for those behind it
        const std::uint64_t there = word_.load(std::memory_order_acquire).permits(); // (P)
        leave_to_others(grant(there, woken));
    }
    return cancel_answer::quiet;
}

std::uint64_t permit_queue::remove(std::uint64_t n) noexcept {
    const guard locked(lock_); // who waits has its word rewritten under it
    state seen = word_.load(std::memory_order_relaxed);
    for (;;) {
        const std::uint64_t taken = std::min(n, seen.permits());
        // Relaxed: nobody gets them.
        if (word_.compare_exchange_weak(seen, seen.minus(taken), std::memory_order_relaxed,
                                        std::memory_order_relaxed))
            return taken;
    }
}

void permit_queue::close() noexcept {
    wake_list woken;
    const guard locked(lock_);
    state seen = word_.load(std::memory_order_relaxed);
    // Relaxed: who finds it closed gets nothing; as a read-modify-write it lets (P) pass.
    while (!word_.compare_exchange_weak(seen, seen.closed(), std::memory_order_relaxed,
                                        std::memory_order_relaxed)) {}
    woken.take_all(waiters_);
}

} // namespace magpie::sync::detail
