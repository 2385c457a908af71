#pragma once

#include <test/manual_executor.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace test {

/// A runtime on which `run` runs a task, if the program was told to use a layout (tests/README.md).
class layout_runtime {
public:
    layout_runtime() = default;
    layout_runtime(const layout_runtime&) = delete;
    virtual ~layout_runtime() = default;
    virtual magpie::executor& executor() = 0;
    /// Waits until the task has ended, and runs what `ex` has meanwhile, if there is one.
    /// @throws std::runtime_error if it does not end in five minutes
    virtual void drive(const magpie::abort_handle& root, manual_executor* ex) = 0;
};
/// Makes one, as support/layouts.cpp says; null: no layout is asked for.
inline std::unique_ptr<layout_runtime> (*make_layout_runtime)() = nullptr;
/// Whether tasks for an executor that the test drives run there, too: beside what that executor has.
inline bool layout_beside_executor = false;

/// `run` on a layout.
template <class T>
T run_on_layout(manual_executor* ex, magpie::task<T> t, std::source_location where) {
    const std::unique_ptr<layout_runtime> rt = make_layout_runtime();
    magpie::join_handle<T> handle = magpie::detail::spawn_on(rt->executor(), std::move(t), where);
    rt->drive(handle.abort_handle(), ex);
    return handle.blocking_join();
}

/// Runs a task on `ex` to its end and gives what it gives. Where a layout is asked for, and that beside executors,
/// the task runs on a runtime of it, and what else `ex` has on `ex`, at the same time.
template <class T>
T run(manual_executor& ex, magpie::task<T> t,
      std::source_location where = std::source_location::current()) {
    if (make_layout_runtime != nullptr && layout_beside_executor)
        return run_on_layout(&ex, std::move(t), where);
    magpie::join_handle<T> handle = ex.spawn(std::move(t), where);
    ex.run_until_idle();
    if (!handle.is_finished())
        throw std::runtime_error("the task still waits though the executor is idle");
    return handle.blocking_join();
}

/// The same on an executor of its own.
template <class T>
T run(magpie::task<T> t, std::source_location where = std::source_location::current()) {
    if (make_layout_runtime != nullptr)
        return run_on_layout(nullptr, std::move(t), where);
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
