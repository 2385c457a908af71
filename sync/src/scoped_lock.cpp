#include <magpie/sync/scoped_lock.hpp>

namespace magpie::sync::detail {

void scoped_lock_waiter::check(std::span<const target> targets) {
    for (std::size_t i = 0; i < targets.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (targets[i].queue == targets[j].queue)
                magpie::detail::throw_usage_error(
                    "a scoped_lock over the same lock twice would wait for "
                    "itself: name each lock once");
}

bool scoped_lock_waiter::try_all(std::span<target> targets) noexcept {
    if (std::exchange(granted_, false)) { // woken with the one that it has waited for
        targets[next_].entry = std::move(entry_);
        return try_others(targets);
    }
    if (begun_) [[unlikely]] {
        again_ = true;
        return true;
    }
    if (!targets[next_].queue->try_take(targets[next_].amount))
        return false;
    targets[next_].entry.gets(*this);
    return try_others(targets);
}

bool scoped_lock_waiter::wait(std::span<target> targets) noexcept {
    begun_ = true;
    for (;;) {
        amount_ = targets[next_].amount;
        retry_ = true; // woken, it tries the others
        entry_ = std::move(targets[next_].entry);
        entry_.asks(*this);
        if (targets[next_].queue->enter(*this))
            return true;
        retry_ = false;
        if (entry_.is_refused())
            return false;
        granted_ = false;
        targets[next_].entry = std::move(entry_);
        if (try_others(targets))
            return false;
    }
}

/// With the next one in hand: takes the others, or gives all back. Then the one that was not free is next.
bool scoped_lock_waiter::try_others(std::span<target> targets) noexcept {
    const std::size_t first = next_;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        if (i == first)
            continue;
        if (targets[i].queue->try_take(targets[i].amount)) {
            targets[i].entry.gets(*this);
            continue;
        }
        next_ = i;
        for (std::size_t held = 0; held < targets.size(); ++held)
            if (held < i || held == first)
                give_back(targets[held]);
        return false;
    }
    has_all_ = begun_ = true;
    return true;
}

void scoped_lock_waiter::give_back(std::span<target> targets) noexcept {
    if (has_all_) {
        for (target& t : targets)
            give_back(t);
    } else if (granted_) {
        targets[next_].entry = std::move(entry_);
        give_back(targets[next_]);
    }
}

void scoped_lock_waiter::take() {
    entry_.check();
    if (again_ || !std::exchange(has_all_, false))
        throw_locked_twice();
}

} // namespace magpie::sync::detail
