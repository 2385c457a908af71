#pragma once

#include <test/manual_executor.hpp>

#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace test {

/// Runs a task on `ex` to its end and gives what it gives.
template <class T>
T run(manual_executor& ex, magpie::task<T> t,
      std::source_location where = std::source_location::current()) {
    magpie::join_handle<T> handle = ex.spawn(std::move(t), where);
    ex.run_until_idle();
    if (!handle.is_finished())
        throw std::runtime_error("the task still waits though the executor is idle");
    return handle.blocking_join();
}

/// The same on an executor of its own.
template <class T>
T run(magpie::task<T> t, std::source_location where = std::source_location::current()) {
    manual_executor ex;
    return run(ex, std::move(t), where);
}

/// Says what came of a task.
template <class T>
std::string outcome_of(magpie::join_handle<T>& h) {
    if (!h.is_finished())
        return "it has not ended";
    try {
        h.blocking_join();
    } catch (const magpie::task_cancelled&) {
        return "cancelled";
    } catch (const std::exception& e) {
        return e.what();
    }
    return "a value";
}

} // namespace test
