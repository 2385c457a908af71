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

bool scoped_lock_waiter::try_all(std::span<const target> targets) noexcept {
    if (std::exchange(granted_, false)) // woken with the one that it has waited for
        return try_others(targets);
    if (begun_) [[unlikely]] {
        again_ = true;
        return true;
    }
    return targets[next_].queue->try_take(targets[next_].amount) && try_others(targets);
}

bool scoped_lock_waiter::wait(std::span<const target> targets) noexcept {
    begun_ = true;
    for (;;) {
        amount_ = targets[next_].amount;
        retry_ = true; // woken, it tries the others
        if (targets[next_].queue->enter(*this))
            return true;
        granted_ = false;
        retry_ = false;
        if (try_others(targets))
            return false;
    }
}

/// With the next one in hand: takes the others, or gives all back. Then the one that was not free is next.
bool scoped_lock_waiter::try_others(std::span<const target> targets) noexcept {
    const std::size_t first = next_;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        if (i == first || targets[i].queue->try_take(targets[i].amount))
            continue;
        next_ = i;
        for (std::size_t held = 0; held < targets.size(); ++held)
            if (held < i || held == first)
                targets[held].queue->give(targets[held].amount);
        return false;
    }
    has_all_ = begun_ = true;
    return true;
}

void scoped_lock_waiter::give_back(std::span<const target> targets) noexcept {
    if (has_all_) {
        for (const target& t : targets)
            t.queue->give(t.amount);
    } else if (granted_) {
        targets[next_].queue->give(targets[next_].amount);
    }
}

void scoped_lock_waiter::take() {
    if (again_ || !std::exchange(has_all_, false))
        throw_locked_twice();
}

} // namespace magpie::sync::detail
