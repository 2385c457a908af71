#include <magpie/scheduler/builder.hpp>

#include "placement.hpp"
#include "runtime_group.hpp"

#include <magpie/scheduler/runtime.hpp>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace magpie {

namespace {

bool blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

/// Collects what is wrong, so that one error names it all.
class complaints {
public:
    void unless(bool good, std::string text) {
        if (!good)
            text_ += (text_.empty() ? "" : "; ") + std::move(text);
    }
    const std::string& text() const noexcept { return text_; }

private:
    std::string text_;
};

constexpr std::size_t most_workers = 4096;

} // namespace

runtime_builder& runtime_builder::layout(magpie::layout which) {
    return options_.layout = which, *this;
}
runtime_builder& runtime_builder::worker_threads(std::size_t n) {
    // 0 in the options means "not said"; a 0 that was said is kept apart to be refused.
    return options_.worker_threads = n == 0 ? most_workers + 1 : n, *this;
}
runtime_builder& runtime_builder::name(std::string text) {
    options_.has_name = true;
    return options_.name = std::move(text), *this;
}
runtime_builder& runtime_builder::thread_name(std::string text) {
    return options_.thread_name = std::move(text), *this;
}
runtime_builder& runtime_builder::thread_stack_size(std::size_t bytes) {
    return options_.thread_stack_size = bytes == 0 ? 1 : bytes, *this; // 1 byte is refused
}
runtime_builder& runtime_builder::max_blocking_threads(std::size_t n) {
    return options_.max_blocking_threads = n, *this;
}
runtime_builder& runtime_builder::thread_keep_alive(std::chrono::nanoseconds d) {
    return options_.thread_keep_alive = d, *this;
}
runtime_builder& runtime_builder::global_queue_interval(std::uint32_t n) {
    return options_.global_queue_interval = n, *this;
}
runtime_builder& runtime_builder::event_interval(std::uint32_t n) {
    return options_.event_interval = n, *this;
}
runtime_builder& runtime_builder::budget(std::uint16_t n) { return options_.budget = n, *this; }
runtime_builder& runtime_builder::lifo_slot(bool on) { return options_.lifo_slot = on, *this; }
runtime_builder& runtime_builder::seed(std::uint64_t n) { return options_.seed = n, *this; }
runtime_builder& runtime_builder::paused_clock(bool on) { return options_.paused_clock = on, *this; }
runtime_builder& runtime_builder::io(bool on) { return options_.io = on, *this; }
runtime_builder& runtime_builder::reactor_per_worker(bool on) {
    return options_.reactor_per_worker = on, *this;
}
runtime_builder& runtime_builder::affinity(std::vector<std::size_t> cpus) {
    options_.has_affinity = true;
    return options_.affinity = std::move(cpus), *this;
}
runtime_builder& runtime_builder::skip_cpus(std::vector<std::size_t> cpus) {
    options_.has_skip_cpus = true;
    return options_.skip_cpus = std::move(cpus), *this;
}
runtime_builder& runtime_builder::reserve_cores(std::size_t n) {
    return options_.reserve_cores = n, *this;
}
runtime_builder& runtime_builder::stuck_limit(std::chrono::nanoseconds d) {
    return options_.stuck_limit = d, *this;
}
runtime_builder& runtime_builder::on_thread_start(std::function<void()> f) {
    return options_.on_thread_start = std::move(f), *this;
}
runtime_builder& runtime_builder::on_thread_stop(std::function<void()> f) {
    return options_.on_thread_stop = std::move(f), *this;
}
runtime_builder& runtime_builder::on_thread_park(std::function<void()> f) {
    return options_.on_thread_park = std::move(f), *this;
}
runtime_builder& runtime_builder::on_thread_unpark(std::function<void()> f) {
    return options_.on_thread_unpark = std::move(f), *this;
}
runtime_builder& runtime_builder::on_task_spawn(std::function<void(std::uint64_t)> f) {
    return options_.on_task_spawn = std::move(f), *this;
}
runtime_builder& runtime_builder::on_task_end(std::function<void(std::uint64_t)> f) {
    return options_.on_task_end = std::move(f), *this;
}
runtime_builder& runtime_builder::on_unhandled_exception(
    std::function<void(const unhandled_exception&)> f) {
    return options_.on_unhandled_exception = std::move(f), *this;
}
runtime_builder& runtime_builder::on_unhandled(unhandled_policy policy) {
    return options_.unhandled = policy, *this;
}

runtime runtime_builder::build(std::source_location where) const {
    detail::runtime_options o = options_;
    complaints wrong;
    wrong.unless(o.worker_threads <= most_workers, "worker_threads: 1 to 4096");
    wrong.unless(!o.has_name || !blank(o.name), "name: not blank");
    wrong.unless(!blank(o.thread_name) && o.thread_name.size() <= 12,
                 "thread_name: 1 to 12 characters, not blank");
    wrong.unless(o.thread_stack_size == 0 || o.thread_stack_size >= 64 * 1024,
                 "thread_stack_size: at least 65536 bytes");
    wrong.unless(o.max_blocking_threads >= 1 && o.max_blocking_threads <= 65536,
                 "max_blocking_threads: 1 to 65536");
    wrong.unless(o.thread_keep_alive > std::chrono::nanoseconds(0), "thread_keep_alive: above 0");
    wrong.unless(o.global_queue_interval >= 1 && o.global_queue_interval <= 65536,
                 "global_queue_interval: 1 to 65536");
    wrong.unless(o.event_interval >= 1 && o.event_interval <= 65536, "event_interval: 1 to 65536");
    wrong.unless(o.budget >= 1, "budget: 1 to 65535");
    wrong.unless(o.stuck_limit > std::chrono::nanoseconds(0), "stuck_limit: above 0");
    for (std::string& text : detail::place_workers(o, {.usable = detail::usable_cpu_list()}))
        wrong.unless(false, std::move(text));
    if (!wrong.text().empty())
        throw std::invalid_argument(std::string(where.file_name()) + ":" +
                                    std::to_string(where.line()) +
                                    ": a runtime cannot be built with these settings: " + wrong.text());
    auto group = std::make_shared<detail::runtime_group>(std::move(o), where);
    group->start();
    return runtime(std::move(group));
}

} // namespace magpie
