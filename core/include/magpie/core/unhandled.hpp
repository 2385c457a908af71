#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string_view>

namespace magpie {

class executor;

/// An exception of a task that nobody can receive any more.
struct unhandled_exception {
    std::exception_ptr error;
    std::uint64_t task_id = 0;
    std::string_view task_name; ///< empty without one; valid during the call
    std::source_location where; ///< where the task was spawned
};

/// What the exception says: `what()`, or that it is no std::exception.
std::string_view describe(const std::exception_ptr& error) noexcept;

namespace detail {

/// Receives the unhandled exceptions of one executor's tasks.
class unhandled_sink {
public:
    unhandled_sink() noexcept = default;
    unhandled_sink(const unhandled_sink&) = delete;
    unhandled_sink& operator=(const unhandled_sink&) = delete;
    virtual ~unhandled_sink() = default;
    /// Whether the task is one of the executor's: a handle may have outlived another executor, at
    /// whose address this one has been made.
    virtual bool is_for([[maybe_unused]] std::uint64_t task_id) const noexcept { return true; }
    virtual void report(const unhandled_exception& e) noexcept = 0;
};

/// Makes `sink` the receiver for the tasks of `e`. Handles may outlive their runtime, and so may
/// the exceptions in them: the sink is found by address, in a table, on the rare path alone.
void add_unhandled_sink(const executor& e, std::shared_ptr<unhandled_sink> sink);
void remove_unhandled_sink(const executor& e) noexcept;

/// Tells the sink of the executor, or logs at error level when that is gone.
void report_unhandled(const executor& e, const unhandled_exception& x) noexcept;

} // namespace detail
} // namespace magpie
