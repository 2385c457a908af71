#include <magpie/sync/event.hpp>

namespace magpie::sync {

void event::set() noexcept {
    detail::wake_list woken; // woken when the event has been touched for the last time
    lock_word::guard locked(word_);
    locked.state = locked.state.set();
    woken.take_all(waiters_);
}

bool event::wait_operation::publish() noexcept {
    const lock_word::guard locked(event_->word_);
    if (locked.state.is_set())
        return false;
    event_->waiters_.push_back(*this);
    return true;
}

cancel_answer event::wait_operation::cancel() noexcept {
    const lock_word::guard locked(event_->word_);
    if (!is_listed())
        return cancel_answer::coming; // set() has it in hand
    event_->waiters_.remove(*this);
    return cancel_answer::quiet;
}

} // namespace magpie::sync
