#pragma once

#include <magpie/core/as_result.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/timer.hpp>

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {
class supervision;
}

/// A run of a supervised task that has failed.
struct failed_run {
    std::exception_ptr error;
    std::size_t failures;  ///< how many runs have failed within the window, this one included
    bool gives_up;         ///< whether it was the last: the limit is reached, and `error` is rethrown
    clock::duration delay; ///< what is waited before the next run
};

/// How `supervise` restarts: with which delays, and how often.
///
/// The first restart comes after the initial delay, each next one after `factor` times as much, up to a
/// maximum. Only failures within the window count, for the limit and for the delay alike: what has run well
/// for so long begins anew.
///
/// @par Example
/// @code
/// const auto policy = magpie::restart_policy().back_off(50ms, 2.0, 5s).jitter(0.2).limit(10, 1min);
/// @endcode
class restart_policy {
public:
    /// 100 ms, doubled up to 30 s, without jitter; at most 5 restarts within a minute.
    restart_policy() noexcept = default;

    /// @param initial  the delay before the first restart; 0: none
    /// @param factor  1 or more
    /// @param most  the longest delay, not shorter than `initial`
    /// @throws std::logic_error if one of them is out of its range
    restart_policy& back_off(clock::duration initial, double factor, clock::duration most) &;
    /// Makes each delay shorter or longer at random, by up to this part of it: so that those who failed
    /// together do not return together. From the sequence of the runtime's seed.
    /// @param part  0 to 1
    /// @throws std::logic_error if it is out of its range
    restart_policy& jitter(double part) &;
    /// At most so many restarts within any window of that length; the next failure is rethrown. 0: none.
    /// @throws std::logic_error if `window` is not above 0
    restart_policy& limit(std::size_t restarts, clock::duration window) &;
    /// No limit. Failures within `window` count for the delay. @throws as `limit`
    restart_policy& without_limit(clock::duration window) &;
    /// Called at each failure, in the supervised task. Without it a failure that is followed by a restart is
    /// logged as a warning. What it throws ends the supervision.
    restart_policy& on_failure(std::function<void(const failed_run&)> f) &;

    restart_policy&& back_off(clock::duration initial, double factor, clock::duration most) && {
        return std::move(back_off(initial, factor, most));
    }
    restart_policy&& jitter(double part) && { return std::move(jitter(part)); }
    restart_policy&& limit(std::size_t restarts, clock::duration window) && {
        return std::move(limit(restarts, window));
    }
    restart_policy&& without_limit(clock::duration window) && {
        return std::move(without_limit(window));
    }
    restart_policy&& on_failure(std::function<void(const failed_run&)> f) && {
        return std::move(on_failure(std::move(f)));
    }

private:
    friend class detail::supervision;

    clock::duration initial_ = std::chrono::milliseconds(100);
    clock::duration most_ = std::chrono::seconds(30);
    clock::duration window_ = std::chrono::minutes(1);
    double factor_ = 2;
    double jitter_ = 0;
    std::size_t limit_ = 5;
    std::function<void(const failed_run&)> on_failure_;
};

namespace detail {

/// What a supervisor remembers. @see supervise
class supervision {
public:
    explicit supervision(restart_policy p) : policy_(std::move(p)) {}

    /// Takes note of a failure: gives how long to wait, or rethrows it if the limit is reached.
    clock::duration failed(const std::exception_ptr& error);

private:
    clock::duration delay_after(std::size_t failures) const noexcept;

    restart_policy policy_;
    std::deque<clock::time_point> recent_; // failures within the window, oldest first
};

template <class F>
task<spawned_type<F>> run_supervised(F f, restart_policy policy) {
    supervision state(std::move(policy));
    for (;;) {
        task<spawned_type<F>> run = std::invoke(f);
        auto result = co_await as_result(std::move(run));
        if (result.has_value()) {
            if constexpr (std::is_void_v<spawned_type<F>>)
                co_return;
            else
                co_return std::move(*result);
        }
        co_await sleep_for(state.failed(result.error()));
    }
}

} // namespace detail

/// Runs the task that `f()` gives; when it fails, waits a while and runs the next, until one succeeds, whose
/// value it gives.
///
/// When the limit of the policy is reached, the last failure is rethrown, of its own type; how many there
/// were, `restart_policy::on_failure` says. Each failure before that is logged, or given to `on_failure`.
/// It runs in the calling task: spawn it, or spawn it into a `scope`, to supervise several.
///
/// @param f  called for each run; lives until the end, so it may be a lambda with captures that is a coroutine
/// @throws what the last run has thrown; std::logic_error if the executor has no timers
/// @par Cancellation
/// Dropped, it drops the run at hand, or the wait, and starts none.
/// @par Example
/// @code
/// const auto policy = magpie::restart_policy().limit(10, 1min);
/// co_await magpie::supervise([&] { return follow(feed); }, policy);
/// @endcode
template <class F>
    requires task_callable<F>
auto supervise(F f, restart_policy policy = {}) {
    return detail::run_supervised<F>(std::move(f), std::move(policy));
}

} // namespace magpie
