#include <magpie/core/supervise.hpp>

#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/log.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/unhandled.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>

namespace magpie {
namespace {

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();
constexpr std::size_t most_remembered = 64; // without a limit: the delay has long reached its maximum

void check_window(clock::duration window) {
    if (window <= clock::duration::zero())
        detail::throw_usage_error(
            "the window of a restart_policy is the time within which failures are "
            "counted: it has to be above 0");
}

void log_restart(const failed_run& run) {
    std::string text = "a supervised run has failed";
    if (const auto id = this_task::id()) {
        text += ", in task " + std::to_string(*id);
        if (!this_task::name().empty())
            text += " \"" + std::string(this_task::name()) + "\"";
    }
    const auto delay = std::chrono::duration_cast<std::chrono::milliseconds>(run.delay);
    text += ", and is restarted in " + std::to_string(delay.count()) +
            " ms (failures: " + std::to_string(run.failures) + "): ";
    text += describe(run.error);
    log(log_level::warning, text);
}

} // namespace

restart_policy& restart_policy::back_off(clock::duration initial, double factor,
                                         clock::duration most) & {
    if (initial < clock::duration::zero() || most < initial)
        detail::throw_usage_error(
            "the delays of a restart_policy are 0 or more, and the longest is not "
            "shorter than the first");
    if (!(factor >= 1) || !std::isfinite(factor))
        detail::throw_usage_error(
            "the factor of a restart_policy is 1 or more: delays do not get shorter");
    initial_ = initial;
    factor_ = factor;
    most_ = most;
    return *this;
}

restart_policy& restart_policy::jitter(double part) & {
    if (!(part >= 0 && part <= 1))
        detail::throw_usage_error("the jitter of a restart_policy is a part of the delay: 0 to 1");
    jitter_ = part;
    return *this;
}

restart_policy& restart_policy::limit(std::size_t restarts, clock::duration window) & {
    check_window(window);
    limit_ = restarts;
    window_ = window;
    return *this;
}

restart_policy& restart_policy::without_limit(clock::duration window) & {
    return limit(no_limit, window);
}

restart_policy& restart_policy::on_failure(std::function<void(const failed_run&)> f) & {
    on_failure_ = std::move(f);
    return *this;
}

namespace detail {

clock::duration supervision::failed(const std::exception_ptr& error) {
    const clock::time_point now = clock::now();
    while (!recent_.empty() && now - recent_.front() >= policy_.window_)
        recent_.pop_front();
    if (policy_.limit_ == no_limit && recent_.size() == most_remembered)
        recent_.pop_front();
    recent_.push_back(now);
    const std::size_t failures = recent_.size();
    const bool gives_up = policy_.limit_ != no_limit && failures > policy_.limit_;
    const failed_run run{error, failures, gives_up,
                         gives_up ? clock::duration::zero() : delay_after(failures)};
    if (policy_.on_failure_)
        policy_.on_failure_(run);
    else if (!gives_up)
        log_restart(run);
    if (gives_up)
        std::rethrow_exception(error);
    return run.delay;
}

clock::duration supervision::delay_after(std::size_t failures) const noexcept {
    using seconds = std::chrono::duration<double>;
    const double most = seconds(policy_.most_).count();
    double delay = seconds(policy_.initial_).count() *
                   std::pow(policy_.factor_, static_cast<double>(failures - 1));
    if (!(delay < most)) // also if it is infinite
        delay = policy_.initial_ == clock::duration::zero() ? 0 : most;
    if (policy_.jitter_ > 0) {
        constexpr std::uint32_t steps = 1U << 20;
        const double random = static_cast<double>(random_below(steps + 1)) / steps; // 0 to 1
        delay *= 1 + policy_.jitter_ * (2 * random - 1);
    }
    return std::chrono::duration_cast<clock::duration>(seconds(std::min(delay, most)));
}

} // namespace detail
} // namespace magpie
