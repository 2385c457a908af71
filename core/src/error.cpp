#include <magpie/core/error.hpp>

#include <magpie/core/executor.hpp>
#include <magpie/core/log.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/core/task_cancelled.hpp>
#include <magpie/core/unhandled.hpp>

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/immortal.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace magpie {

// --- log ---

namespace {

void to_stderr(log_level level, std::string_view text) noexcept {
    static constexpr const char* names[] = {"debug", "info", "warning", "error", "critical"};
    std::fprintf(stderr, "magpie: %s: %.*s\n", names[static_cast<unsigned>(level)],
                 static_cast<int>(text.size()), text.data());
}

detail::atomic<log_function> sink{&to_stderr};

} // namespace

log_function set_log_function(log_function f) noexcept {
    return sink.exchange(f, std::memory_order_acq_rel); // whoever calls it sees what it refers to
}

log_function default_log_function() noexcept { return &to_stderr; }

void log(log_level level, std::string_view text) noexcept {
    if (const log_function f = sink.load(std::memory_order_acquire)) // pairs with the exchange
        f(level, text);
}

// --- errors ---

namespace detail {

void fatal(const char* sentence, const char* file, int line) noexcept {
    char text[512];
    const int n = std::snprintf(text, sizeof text, "%s:%d: %s", file, line, sentence);
    log(log_level::critical,
        std::string_view(
            text, n > 0 ? std::min<std::size_t>(static_cast<std::size_t>(n), sizeof text - 1) : 0));
    std::abort();
}

void throw_usage_error(const char* sentence) { throw std::logic_error(sentence); }

} // namespace detail

void executor::send(detail::parcel) noexcept { MAGPIE_ASSERT(false); } // it is not pinned

void executor::run_blocking(detail::blocking_job&) {
    detail::throw_usage_error("this executor has no threads for blocking work: use a runtime");
}

task_cancelled::task_cancelled() noexcept : text_("the task was cancelled") {}
task_cancelled::task_cancelled(std::uint64_t id) noexcept {
    std::snprintf(text_, sizeof text_, "task %" PRIu64 " was cancelled", id);
}
const char* task_cancelled::what() const noexcept { return text_; }

std::exception_ptr task_cancelled_ptr() noexcept {
    static const std::exception_ptr one = std::make_exception_ptr(task_cancelled());
    return one;
}

// --- unhandled exceptions ---

std::string_view describe(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what(); // lives as long as the exception, which `error` keeps
    } catch (...) {
        return "an exception that is no std::exception";
    }
}

namespace detail {
namespace {

struct sink_table {
    mutex lock;
    std::map<const executor*, std::shared_ptr<unhandled_sink>> sinks;
};

// Never destroyed: a handle in a static object may still report while the program ends.
sink_table& sinks() noexcept { return immortal<sink_table>(); }

} // namespace

void add_unhandled_sink(const executor& e, std::shared_ptr<unhandled_sink> s) {
    sink_table& table = sinks();
    const lock_guard guard(table.lock);
    table.sinks[&e] = std::move(s);
}

void remove_unhandled_sink(const executor& e) noexcept {
    sink_table& table = sinks();
    const lock_guard guard(table.lock);
    table.sinks.erase(&e);
}

void report_unhandled(const executor& e, const unhandled_exception& x) noexcept {
    std::shared_ptr<unhandled_sink> receiver;
    {
        sink_table& table = sinks();
        const lock_guard guard(table.lock);
        if (const auto found = table.sinks.find(&e);
            found != table.sinks.end() && found->second->is_for(x.task_id))
            receiver = found->second;
    }
    if (receiver) {
        receiver->report(x); // not under the lock: it is the user's code
        return;
    }
    try {
        log(log_level::error, "task " + std::to_string(x.task_id) + " spawned at " +
                                  x.where.file_name() + ":" + std::to_string(x.where.line()) +
                                  " failed and nobody received it: " + std::string(describe(x.error)));
    } catch (const std::bad_alloc&) {
        log(log_level::error, "a task failed and nobody received its exception");
    }
}

} // namespace detail
} // namespace magpie
