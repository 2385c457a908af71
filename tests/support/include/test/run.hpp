#pragma once

#include <test/manual_executor.hpp>

#include <source_location>
#include <stdexcept>
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

} // namespace test
