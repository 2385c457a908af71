#include <magpie/sync/condition_variable.hpp>

namespace magpie::sync {

namespace {
using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;
} // namespace

void condition_variable::enter(waiter& w) noexcept {
    const guard locked(lock_);
    w.told_ = waiter::by::nobody;
    w.granted_ = false;
    waiters_.push_back(w);
}

/// Lets one that was told, and is in no list, wait for the lock. Not under ours.
void condition_variable::pass_to_lock(waiter& w) noexcept {
    if (!w.lock_->enter(w)) // else it belongs to who lets go of the lock
        wake(w);
}

void condition_variable::notify_one() noexcept {
    waiter* w = nullptr;
    {
        const guard locked(lock_);
        w = static_cast<waiter*>(waiters_.front());
        if (w == nullptr)
            return;
        w->told_ = waiter::by::one;
        waiters_.remove(*w);
    }
    pass_to_lock(*w);
}

void condition_variable::notify_all() noexcept {
    detail::wake_list told; // who comes from now on is not told
    {
        const guard locked(lock_);
        while (detail::waiter* const front = waiters_.front()) {
            static_cast<waiter*>(front)->told_ = waiter::by::all;
            told.take(waiters_, *front);
        }
    }
    while (detail::waiter* const w = told.pop())
        pass_to_lock(static_cast<waiter&>(*w));
}

cancel_answer condition_variable::leave(waiter& w) noexcept {
    {
        const guard locked(lock_);
        if (w.told_ == waiter::by::nobody) {
            waiters_.remove(w);
            return cancel_answer::quiet;
        }
    }
    return w.lock_->leave(w); // it waits for the lock, or is on its way there
}

} // namespace magpie::sync
