#include <magpie/sync/notify.hpp>

namespace magpie::sync {

namespace {
using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;
} // namespace

namespace detail {

void throw_no_notify() {
    magpie::detail::throw_usage_error("there is nothing to be notified by: this notified() was moved "
                                      "from, or the shared_ptr is null");
}

} // namespace detail

void notify::tell_one(end which) noexcept {
    do {
        detail::wake_list woken;
        const guard locked(lock_);
        if (!waiters_.empty()) {
            const bool first = which == end::first;
            detail::waiter* const w = first ? waiters_.front() : waiters_.back();
            tell(static_cast<waiter&>(*w), first ? waiter::by::one : waiter::by::last, woken);
            return;
        }
    } while (!keep()); // they are gone
}

/// Under the lock.
void notify::tell(waiter& w, waiter::by who, detail::wake_list& woken) noexcept {
    w.told_ = who;
    if (w.is_awaited_)
        woken.take(waiters_, w);
    else
        waiters_.remove(w);
    leave_list();
}

/// After one was taken out, under the lock.
void notify::leave_list() noexcept {
    // Relaxed: while it says waiting, it is written under the lock alone.
    if (waiters_.empty())
        state_.store(state_.load(std::memory_order_relaxed).none(), std::memory_order_release);
}

void notify::notify_waiters() noexcept {
    detail::wake_list woken;
    const guard locked(lock_);
    state seen = state_.load(std::memory_order_relaxed);
    // Success: release, for rounds(). The list is emptied below, before the lock is free.
    while (!state_.compare_exchange_weak(
        seen, seen.is_waiting() ? seen.next_round().none() : seen.next_round(),
        std::memory_order_release, std::memory_order_relaxed)) {}
    while (detail::waiter* const front = waiters_.front()) {
        auto& w = static_cast<waiter&>(*front);
        w.told_ = waiter::by::all;
        if (w.is_awaited_)
            woken.take(waiters_, w);
        else
            waiters_.remove(w);
    }
}

/// One that is in no list: whether it was told by notify_waiters(), or takes what is kept.
bool notify::take_kept(waiter& w, state& seen) noexcept {
    for (;;) {
        if (seen.rounds() != w.rounds_) {
            w.told_ = waiter::by::all;
            return true;
        }
        if (!seen.is_kept())
            return false;
        // Success: (K). Failure: as where it was loaded.
        if (state_.compare_exchange_weak(seen, seen.none(), std::memory_order_acquire,
                                         std::memory_order_acquire)) {
            w.told_ = waiter::by::one;
            return true;
        }
    }
}

bool notify::is_over(waiter& w) noexcept {
    if (w.is_enrolled_) {
        const guard locked(lock_);
        return w.told_ != waiter::by::nobody;
    }
    if (w.told_ != waiter::by::nobody)
        return true;
    state seen = state_.load(std::memory_order_acquire); // pairs with notify_waiters()
    return take_kept(w, seen);
}

bool notify::enroll(waiter& w, bool awaited) noexcept {
    const guard locked(lock_);
    if (!w.is_enrolled_) {
        state seen = state_.load(std::memory_order_acquire); // pairs with notify_waiters()
        do {
            if (take_kept(w, seen))
                return false;
            // Relaxed: it hands nothing over; what is in the list is guarded by the lock.
        } while (!seen.is_waiting() &&
                 !state_.compare_exchange_weak(seen, seen.waiting(), std::memory_order_relaxed,
                                               std::memory_order_acquire));
        w.is_enrolled_ = true;
        waiters_.push_back(w);
    }
    if (w.told_ != waiter::by::nobody)
        return false;
    w.is_awaited_ = awaited;
    return true;
}

cancel_answer notify::withdraw(waiter& w) noexcept {
    const guard locked(lock_);
    if (w.told_ != waiter::by::nobody)
        return cancel_answer::coming;
    w.is_awaited_ = false;
    return cancel_answer::quiet;
}

void notify::leave(waiter& w) noexcept {
    if (w.is_enrolled_) {
        const guard locked(lock_);
        if (w.told_ == waiter::by::nobody) {
            waiters_.remove(w);
            leave_list();
            return;
        }
    }
    // Told, and it never went on.
    if (w.told_ == waiter::by::one)
        notify_one();
    else if (w.told_ == waiter::by::last)
        notify_last();
}

} // namespace magpie::sync
