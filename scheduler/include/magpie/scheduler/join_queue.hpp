#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/scheduler/detail/set_operation.hpp>
#include <magpie/scheduler/detail/task_queue.hpp>

#include <cstddef>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace magpie {

template <class T>
class join_queue_next_operation;

/// Spawned tasks of one type, joined in the order of their spawns, whatever the order of their ends.
///
/// The queue owns its tasks: each is joined once, and then forgotten; a queue that is destroyed aborts
/// those that are left, and does not wait for their ends; `co_await queue.shutdown()` does. A task's
/// exception that nobody joins goes to the hook for unhandled exceptions.
///
/// @par Thread safety
/// Belongs to one task, or to one thread, at a time. Several branches of its task may use it: one may
/// join while others spawn, and one at a time may wait. The queue must stay where it is, and live, while
/// an operation of it exists.
/// @par Complexity
/// To spawn, to end and to join: O(1). One allocation a task beside its frame, as without a queue. Only
/// the end of the oldest task wakes who waits.
///
/// @par Example
/// @code
/// magpie::join_queue<page> pages;
/// for (const url& u : urls)
///     pages.spawn(fetch(u));
/// for (;;) {
///     std::optional<page> next = co_await pages.join_next(); // in the order of the urls
///     if (!next)
///         break;
///     print(*next);
/// }
/// @endcode
template <class T = void>
class join_queue : private detail::queue_of<T> {
    using base = detail::queue_of<T>;

public:
    /// What a join gives: a `std::optional` of the task's value. For void a `bool`, for references
    /// an optional `std::reference_wrapper`.
    using value_type = typename detail::timeout_value<T>::type;

    join_queue() noexcept = default;
    /// The other one is empty afterwards. No operation of either may exist.
    join_queue(join_queue&&) noexcept = default;
    join_queue& operator=(join_queue&& other) noexcept {
        join_queue old(std::move(other));
        base::swap(old);
        return *this;
    }
    ~join_queue() = default; ///< Aborts what is left.

    /// Spawns a task at the end of the queue, on the caller's runtime.
    ///
    /// @param where  the place that logs and reports name
    /// @return a way to abort it alone; may be ignored
    /// @throws std::logic_error outside of a runtime, or if `t` is empty; std::bad_alloc
    abort_handle spawn(task<T> t, std::source_location where = std::source_location::current()) {
        return base::start(std::move(t), where);
    }
    /// The same with a name that logs, reports and `this_task::name` show.
    abort_handle spawn(std::string name, task<T> t,
                       std::source_location where = std::source_location::current()) {
        return base::start(std::move(t), where, std::move(name));
    }
    /// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
    template <class F>
        requires task_callable<F>
    abort_handle spawn(F&& f, std::source_location where = std::source_location::current()) {
        return base::start(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
    }

    /// Waits for the end of the oldest task in the queue.
    ///
    /// Gives the value, or nothing when the queue is empty (for void: true, or false), and throws the
    /// task's exception, or `task_cancelled`. `as_result` gives an optional `task_result<T>`.
    ///
    /// @throws std::logic_error if somebody else waits
    /// @par Cancellation
    /// Cancel-safe: dropped, it has taken no result out of the queue.
    /// @par Complexity
    /// O(1), no allocation. Completes at once if the task has ended.
    join_queue_next_operation<T> join_next() noexcept { return join_queue_next_operation<T>(*this); }

    /// The same on a plain thread. @throws as it does; std::logic_error inside a task
    value_type blocking_join_next() { return detail::blocking_wait(join_next()); }

    /// The same without waiting: nothing if the oldest task has not ended.
    /// @throws the task's exception, or `task_cancelled`
    value_type try_join_next() {
        auto op = join_next();
        static_cast<void>(op.try_complete());
        return op.await_resume();
    }

    /// Asks for all tasks to be dropped at their next suspension. They stay in the queue until they
    /// are joined: as cancelled, or with their values if they have ended before. O(tasks).
    void abort_all() const noexcept { base::abort_all(); }

    /// Aborts all tasks, and waits until they have ended. Their results are destroyed; exceptions that
    /// nobody has received go to the hook for unhandled exceptions.
    ///
    /// @throws std::logic_error if somebody else waits
    /// @par Cancellation
    /// Cancel-safe: dropped, it leaves those that have not ended in the queue, aborted.
    detail::set_shutdown_operation<base> shutdown() noexcept {
        return detail::set_shutdown_operation<base>(*this);
    }

    /// Lets all tasks run on without the queue, which is empty then. Results that nobody has joined
    /// are lost; exceptions among them go to the hook for unhandled exceptions.
    void detach_all() noexcept { base::detach_all(); }

    /// How many tasks were spawned and not joined yet, whether they have ended or not.
    std::size_t size() const noexcept { return base::size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; } ///< Whether that is none.
};

/// The wait for the end of the oldest task in a queue. @see join_queue::join_next
template <class T>
class [[nodiscard("co_await it")]] join_queue_next_operation
    : public detail::next_value_operation<T, join_queue_next_operation<T>, detail::queue_of<T>,
                                          detail::queue_cell<T>> {
public:
    using detail::next_value_operation<T, join_queue_next_operation, detail::queue_of<T>,
                                       detail::queue_cell<T>>::next_value_operation;
};

} // namespace magpie
