#include <magpie/sync/notify.hpp>

namespace magpie::sync {

namespace detail {

void throw_no_notify() {
    magpie::detail::throw_usage_error("there is nothing to be notified by: this notified() was moved "
                                      "from, or the shared_ptr is null");
}

} // namespace detail

template <notify::end Which>
void notify::tell() noexcept {
    waiter* told = nullptr;
    {
        lock_word::guard locked(word_);
        constexpr bool first = Which == end::first;
        detail::waiter* const w = first ? waiters_.front() : waiters_.back();
        if (w == nullptr) {
            locked.state = locked.state.kept();
            return;
        }
        auto& one = static_cast<waiter&>(*w);
        one.told_ = first ? waiter::by::one : waiter::by::last;
        remove(one, locked);
        if (one.is_awaited_)
            told = &one;
    }
    if (told != nullptr)
        wake(*told);
}

template void notify::tell<notify::end::first>() noexcept;
template void notify::tell<notify::end::last>() noexcept;

void notify::remove(waiter& w, lock_word::guard& locked) noexcept {
    waiters_.remove(w);
    if (waiters_.empty())
        locked.state = locked.state.none();
}

void notify::notify_waiters() noexcept {
    detail::wake_list woken;
    lock_word::guard locked(word_);
    locked.state = locked.state.next_round();
    if (waiters_.empty())
        return;
    locked.state = locked.state.none();
    while (detail::waiter* const front = waiters_.front()) {
        auto& w = static_cast<waiter&>(*front);
        w.told_ = waiter::by::all;
        if (w.is_awaited_)
            woken.take(waiters_, w);
        else
            waiters_.remove(w);
    }
}

bool notify::is_over_after_all(waiter& w) noexcept {
    if (w.is_enrolled_) {
        const lock_word::guard locked(word_);
        return w.told_ != waiter::by::nobody;
    }
    if (w.told_ != waiter::by::nobody)
        return true;
    for (;;) {
        state seen = word_.load(std::memory_order_acquire); // (K)
        if (seen.rounds() != w.rounds_) {
            w.told_ = waiter::by::all;
            return true;
        }
        if (!seen.is_kept() || seen.is_locked()) // then enroll() looks once more
            return false;
        // Success: (K), of the last one that has kept it. Failure: relaxed, it is looked at again.
        if (word_.compare_exchange(seen, seen.none(), std::memory_order_acquire,
                                   std::memory_order_relaxed)) {
            w.told_ = waiter::by::one;
            return true;
        }
    }
}

bool notify::enroll(waiter& w, bool awaited) noexcept {
    lock_word::guard locked(word_);
    if (!w.is_enrolled_) {
        if (locked.state.rounds() != w.rounds_) {
            w.told_ = waiter::by::all;
            return false;
        }
        if (locked.state.is_kept()) {
            locked.state = locked.state.none();
            w.told_ = waiter::by::one;
            return false;
        }
        locked.state = locked.state.waiting();
        w.is_enrolled_ = true;
        waiters_.push_back(w);
    }
    if (w.told_ != waiter::by::nobody)
        return false;
    w.is_awaited_ = awaited;
    return true;
}

cancel_answer notify::withdraw(waiter& w) noexcept {
    const lock_word::guard locked(word_);
    if (w.told_ != waiter::by::nobody)
        return cancel_answer::coming;
    w.is_awaited_ = false;
    return cancel_answer::quiet;
}

void notify::leave_untaken(waiter& w) noexcept {
    if (w.is_enrolled_) {
        lock_word::guard locked(word_);
        if (w.told_ == waiter::by::nobody) {
            remove(w, locked);
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
