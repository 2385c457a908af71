#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/scheduler/detail/task_list.hpp>
#include <magpie/scheduler/detail/tracker_state.hpp>

#include <coroutine>
#include <cstddef>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace magpie {

class task_tracker;

namespace detail {

[[noreturn]] void throw_moved_tracker();

} // namespace detail

/// Keeps a `task_tracker` from being empty, for as long as it lives. Copies count as well.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: const members are safe.
class [[nodiscard("the token is given back when it goes")]] tracker_token {
public:
    tracker_token(const tracker_token& other) noexcept : state_(other.state_) {
        if (state_ != nullptr)
            state_->add();
    }
    /// What is moved from keeps nothing open.
    tracker_token(tracker_token&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    tracker_token& operator=(tracker_token other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~tracker_token() { reset(); }

    /// Gives the token back before it goes.
    void reset() noexcept {
        if (state_ != nullptr)
            std::exchange(state_, nullptr)->drop();
    }

private:
    friend class task_tracker;

    explicit tracker_token(detail::tracker_state& s) noexcept : state_(&s) { s.add(); }

    detail::tracker_state* state_;
};

namespace detail {

/// The cell of a task that is tracked.
template <class T>
class tracked_cell final : public result_cell<T> {
public:
    template <class... Name>
    tracked_cell(executor& e, std::coroutine_handle<promise<T>> root, tracker_token token,
                 std::source_location where, Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...), token_(std::move(token)) {
        this->hold(root.promise());
    }

private:
    // The token goes when the frames have, and before the handle is told: who has joined the task does
    // not find it counted.
    void end() noexcept override {
        token_.reset();
        this->complete();
    }

    tracker_token token_;
};

} // namespace detail

class tracker_wait_operation;

/// Counts tasks, and says when the last of them has ended: for a shutdown in good order. It keeps no
/// results, and aborts nothing.
///
/// A wait ends when the tracker is *closed* and empty at one time; to close it does not prevent more
/// tasks. Copies are the same tracker. The tasks do not need it: it may go before they end.
///
/// What a task did is visible to who has waited for its end.
///
/// @par Thread safety
/// Distinct objects: safe, also those of one tracker. Shared objects: const members are safe, and that
/// is all but assignment and destruction.
/// @par Complexity
/// To spawn and to end: a read-modify-write more than without it, and no allocation more.
///
/// @par Example
/// @code
/// magpie::task<> serve(magpie::io::tcp_listener& listener, magpie::cancellation_token stop) {
///     magpie::task_tracker sessions;
///     for (;;) {
///         auto next = co_await stop.run_until_cancelled(listener.accept());
///         if (!next)
///             break;
///         sessions.spawn(session(std::move(next->stream), stop.child_token())).detach();
///     }
///     sessions.close();
///     co_await magpie::timeout(10s, sessions.wait()); // then they are dropped
/// }
/// @endcode
class task_tracker {
public:
    task_tracker(); ///< Open and empty. @throws std::bad_alloc

    task_tracker(const task_tracker& other) noexcept : state_(other.state_) {
        if (state_ != nullptr)
            state_->retain();
    }
    /// What is moved from can only be assigned to and destroyed: else it throws std::logic_error.
    task_tracker(task_tracker&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    task_tracker& operator=(task_tracker other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~task_tracker() {
        if (state_ != nullptr)
            state_->release();
    }

    /// Spawns a task that is counted until its frames are destroyed, on the caller's runtime.
    ///
    /// @param where  the place that logs and reports name
    /// @return the handle, as `magpie::spawn` gives it
    /// @throws std::logic_error outside of a runtime, or if `t` is empty; std::bad_alloc
    template <class T>
    join_handle<T> spawn(task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return start(std::move(t), where);
    }
    /// The same with a name that logs, reports and `this_task::name` show.
    template <class T>
    join_handle<T> spawn(std::string name, task<T> t,
                         std::source_location where = std::source_location::current()) const {
        return start(std::move(t), where, std::move(name));
    }
    /// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
    template <class F>
        requires task_callable<F>
    auto spawn(F&& f, std::source_location where = std::source_location::current()) const {
        return start(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
    }

    /// A token that counts as a task does: for what is not a task, as a call of `spawn_blocking`.
    tracker_token token() const { return tracker_token(state()); }

    /// Lets waits end when the tracker is empty; at once if it is.
    /// @return whether it was open
    bool close() const { return state().close(); } // NOLINT(modernize-use-nodiscard)
    /// The reverse. A wait that has ended, or is about to, remains so.
    /// @return whether it was closed
    bool reopen() const { return state().reopen(); } // NOLINT(modernize-use-nodiscard)

    bool is_closed() const { return state().word().is_closed(); } ///< Whether it is closed.
    /// How many tasks and tokens there are, below 2^32.
    std::size_t size() const { return state().word().tokens(); }
    [[nodiscard]] bool empty() const { return size() == 0; } ///< Whether that is none.

    /// Waits until the tracker is closed and empty at one time, from the call on. Holds a copy of it.
    ///
    /// @par Cancellation
    /// Cancel-safe.
    /// @par Complexity
    /// O(1), also to drop it; no allocation.
    tracker_wait_operation wait() const;
    /// The same on a plain thread. @throws std::logic_error inside a task
    void blocking_wait() const;

    /// Whether they are copies of each other.
    friend bool operator==(const task_tracker&, const task_tracker&) noexcept = default;

private:
    friend class tracker_wait_operation;

    detail::tracker_state& state() const {
        if (state_ == nullptr) [[unlikely]]
            detail::throw_moved_tracker();
        return *state_;
    }

    template <class T, class... Name>
    join_handle<T> start(task<T>&& t, std::source_location where, Name&&... name) const {
        executor& e = detail::current_executor(where);
        auto* const c = detail::make_cell<detail::tracked_cell<T>>(e, std::move(t), token(), where,
                                                                   std::forward<Name>(name)...);
        join_handle<T> handle(*c);
        e.adopt(*c);
        return handle;
    }

    detail::tracker_state* state_;
};

/// The wait for a tracker's end. @see task_tracker::wait
class [[nodiscard("co_await it")]] tracker_wait_operation
    : public operation<tracker_wait_operation, detail::tracker_waiter> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit tracker_wait_operation(task_tracker tracker) : tracker_(std::move(tracker)) {
        const detail::tracker_word now = tracker_.state().word();
        ends = now.is_over() ? now.ends() - 1 : now.ends(); // that end counts
    }
    tracker_wait_operation(tracker_wait_operation&&) noexcept = default;

    bool try_complete() const noexcept {
        return tracker_.state_ == nullptr || tracker_.state_->word().ends() != ends;
    }
    bool publish() noexcept { return tracker_.state_->enter(*this); }

    /// @throws std::logic_error if the operation was moved from
    void await_resume() const { tracker_.state(); }

private:
    cancel_answer cancel() noexcept override {
        return tracker_.state_->leave(*this) ? cancel_answer::quiet : cancel_answer::coming;
    }

    task_tracker tracker_;
};

inline tracker_wait_operation task_tracker::wait() const { return tracker_wait_operation(*this); }

inline void task_tracker::blocking_wait() const { detail::blocking_wait(wait()); }

} // namespace magpie
