#pragma once

#include <magpie/core/unhandled.hpp>

#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace test {

/// Receives the unhandled exceptions of an executor's tasks for as long as it lives.
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

    const std::vector<report>& reports() const { return sink_->reports; }
    std::size_t count() const { return sink_->reports.size(); }

private:
    struct sink final : magpie::detail::unhandled_sink {
        void report(const magpie::unhandled_exception& e) noexcept override {
            reports.push_back(
                {std::string(magpie::describe(e.error)), e.task_id, std::string(e.task_name), e.where});
        }
        std::vector<unhandled_log::report> reports;
    };

    const magpie::executor& executor_;
    std::shared_ptr<sink> sink_;
};

} // namespace test
