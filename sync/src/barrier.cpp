#include <magpie/sync/barrier.hpp>

namespace magpie::sync {

namespace {
using guard = magpie::detail::lock_guard<magpie::detail::spin_lock>;
} // namespace

/// True if `w` is the last one. Else it waits, if it may.
bool barrier::come(wait_operation& w, bool may_wait) noexcept {
    detail::wake_list woken;
    const guard locked(lock_);
    if (waiting_ + 1 >= parties_) {
        w.leads_ = true;
        waiting_ = 0;
        woken.take_all(waiters_);
        return true;
    }
    if (may_wait) {
        ++waiting_;
        waiters_.push_back(w);
    }
    return false;
}

cancel_answer barrier::wait_operation::cancel() noexcept {
    const guard locked(barrier_->lock_);
    if (!is_listed())
        return cancel_answer::coming; // the leader has it in hand
    barrier_->waiters_.remove(*this);
    --barrier_->waiting_;
    return cancel_answer::quiet;
}

} // namespace magpie::sync
