#pragma once

#include <cstdint>
#include <exception>
#include <string>

namespace magpie {

/// What awaiting a task gives when that task was aborted, or dropped by its runtime's shutdown.
class task_cancelled : public std::exception {
public:
    task_cancelled();                           ///< "the task was cancelled"
    explicit task_cancelled(std::uint64_t id);  ///< "task 17 was cancelled"
    const char* what() const noexcept override; ///< The sentence.

private:
    std::string text_;
};

/// An `exception_ptr` to a `task_cancelled` that was made once: no allocation, no throw.
std::exception_ptr task_cancelled_ptr() noexcept;

} // namespace magpie
