#pragma once

#include <cstdint>
#include <exception>

namespace magpie {

/// What awaiting a task gives when that task was aborted, or dropped by its runtime's shutdown.
class task_cancelled : public std::exception {
public:
    task_cancelled() noexcept;                          ///< "the task was cancelled"
    explicit task_cancelled(std::uint64_t id) noexcept; ///< "task 17 was cancelled"
    const char* what() const noexcept override;         ///< The sentence.

private:
    char text_[48]; // no std::string: without memory for one, it would be another exception
};

/// An `exception_ptr` to a `task_cancelled` that was made once: no allocation, no throw.
std::exception_ptr task_cancelled_ptr() noexcept;

} // namespace magpie
