#include <magpie/sync/event.hpp>

namespace magpie::sync {

void event::set() noexcept {
    detail::wake_list woken;
    const magpie::detail::lock_guard guard(lock_);
    set_.store(true, std::memory_order_release); // pairs with is_set()
    woken.take_all(waiters_);
}

bool event::wait_operation::publish() noexcept {
    const magpie::detail::lock_guard guard(event_->lock_);
    if (event_->set_.load(std::memory_order_relaxed)) // written under the lock
        return false;
    event_->waiters_.push_back(*this);
    return true;
}

cancel_answer event::wait_operation::cancel() noexcept {
    const magpie::detail::lock_guard guard(event_->lock_);
    if (!is_listed())
        return cancel_answer::coming; // set() has it in hand
    event_->waiters_.remove(*this);
    return cancel_answer::quiet;
}

} // namespace magpie::sync
