#pragma once

#include <magpie/core/error.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace magpie {

/// A task of a scope that has thrown, or the scope's body.
struct task_failure {
    std::exception_ptr error;
    std::uint64_t task_id = 0;  ///< of the body: the id of the task that awaits the scope
    std::string task_name;      ///< empty without one
    std::source_location where; ///< where the task was spawned
};

/// What a scope throws that has all of its failures to tell: under `collect_all` if any task has failed,
/// under `first_success` if none has succeeded.
class scope_error : public std::runtime_error {
public:
    explicit scope_error(std::vector<task_failure> failures);

    /// In the order in which they happened.
    const std::vector<task_failure>& failures() const noexcept { return *failures_; }

private:
    std::shared_ptr<const std::vector<task_failure>>
        failures_; // exceptions are copied without throwing
};

/// What `as_result(scope(...))` gives: a `task_result<T>` with the value or the exception that the scope
/// would have thrown, and what has failed.
template <class T>
class scope_result : public task_result<T> {
public:
    scope_result(task_result<T>&& r, std::vector<task_failure> failures) noexcept
        : task_result<T>(std::move(r)), failures_(std::move(failures)) {}

    /// In the order in which they happened. Under `first_success` there may be some beside a value.
    const std::vector<task_failure>& failures() const noexcept { return failures_; }

private:
    std::vector<task_failure> failures_;
};

} // namespace magpie
