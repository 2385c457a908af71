#pragma once

#include <magpie/core/unhandled.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <vector>

namespace test {

/// Receives the unhandled exceptions of an executor's tasks, on all threads, for as long as it lives.
class unhandled_log {
public:
    struct report {
        std::string what;
        std::uint64_t task_id;
        std::string task_name;
        std::source_location where;
    };

    explicit unhandled_log(const magpie::executor& e) : executor_(e), sink_(std::make_shared<sink>()) {
        magpie::detail::add_unhandled_sink(e, sink_);
    }
    unhandled_log(const unhandled_log&) = delete;
    ~unhandled_log() { magpie::detail::remove_unhandled_sink(executor_); }

    std::vector<report> reports() const {
        const std::lock_guard guard(sink_->lock);
        return sink_->reports;
    }
    std::size_t count() const { return reports().size(); }

private:
    struct sink final : magpie::detail::unhandled_sink {
        void report(const magpie::unhandled_exception& e) noexcept override {
            const std::lock_guard guard(lock);
            reports.push_back(
                {std::string(magpie::describe(e.error)), e.task_id, std::string(e.task_name), e.where});
        }
        std::mutex lock;
        std::vector<unhandled_log::report> reports;
    };

    const magpie::executor& executor_;
    std::shared_ptr<sink> sink_;
};

} // namespace test
