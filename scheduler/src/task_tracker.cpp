#include <magpie/scheduler/task_tracker.hpp>

#include <magpie/core/error.hpp>

#include <utility>

namespace magpie {

namespace detail {

namespace {

using guard = lock_guard<spin_lock>;

} // namespace

void tracker_state::add() noexcept {
    // Relaxed: to come is to tell nothing. The caller holds a reference.
    const tracker_word before(word_.fetch_add(tracker_word::one_token, std::memory_order_relaxed));
    if (before.tokens() == 0)
        retain(); // I1
}

void tracker_state::drop() noexcept {
    std::uint64_t seen = word_.load(std::memory_order_relaxed); // checked by the CAS below
    tracker_word after(0);
    do
        after = tracker_word(seen).without_one();
    while (!word_.compare_exchange_weak(seen, after.bits(), std::memory_order_acq_rel, // (D)
                                        std::memory_order_relaxed));
    if (after.tokens() > 0)
        return;
    if (after.is_closed())
        tell();
    release();
}

bool tracker_state::close() noexcept {
    std::uint64_t seen = word_.load(std::memory_order_relaxed); // checked by the CAS below
    do
        if (tracker_word(seen).is_closed())
            return false;
    while (!word_.compare_exchange_weak(seen, tracker_word(seen).closed().bits(),
                                        std::memory_order_acq_rel, // (D)
                                        std::memory_order_relaxed));
    if (tracker_word(seen).tokens() == 0)
        tell();
    return true;
}

bool tracker_state::reopen() noexcept {
    // Relaxed: it tells nothing, and goes on with the release sequence of (D).
    return tracker_word(word_.fetch_and(~tracker_word::closed_bit, std::memory_order_relaxed))
        .is_closed();
}

bool tracker_state::enter(tracker_waiter& w) noexcept {
    const guard waiters(lock_);
    // Acquire: (D), if it has ended. I3: else who ends it takes the lock after this.
    if (tracker_word(word_.load(std::memory_order_acquire)).ends() != w.ends)
        return false;
    waiters_.push_back(w);
    return true;
}

bool tracker_state::leave(tracker_waiter& w) noexcept {
    const guard waiters(lock_);
    if (!w.is_listed())
        return false;
    waiters_.remove(w);
    return true;
}

void tracker_state::tell() noexcept {
    sync::detail::wake_list told; // woken when it goes, and the lock has
    const guard waiters(lock_);
    // Relaxed: this thread has counted an end, and what comes after is for others.
    const std::uint32_t ends = tracker_word(word_.load(std::memory_order_relaxed)).ends();
    // Who has come since waits for the next end, and stands behind all others.
    while (auto* const w = static_cast<tracker_waiter*>(waiters_.front())) {
        if (w->ends == ends)
            break;
        told.take(waiters_, *w);
    }
}

void throw_moved_tracker() {
    throw_usage_error("this task_tracker, or its token, was moved from: keep a copy of what is still "
                      "used");
}

} // namespace detail

task_tracker::task_tracker() : state_(new detail::tracker_state) {}

} // namespace magpie
