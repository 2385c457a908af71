#pragma once

#include <magpie/core/detail/promise.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/foreign.hpp>
#include <magpie/core/operation.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie {

template <class T>
class join_handle;
template <class T, cancel_safety Safety>
class declared_task;
template <class T>
class task_result_awaitable;

namespace detail {
struct task_access;

/// Starts a child coroutine and takes its result. Stands in the parent's frame, owns the child's.
template <class T>
class task_awaiter : protected child_slot<T> {
public:
    explicit task_awaiter(std::coroutine_handle<promise<T>> frame) noexcept {
        frame.promise().belong_to(*this);
        this->child = frame;
    }
    task_awaiter(const task_awaiter&) = delete;
    task_awaiter& operator=(const task_awaiter&) = delete;
    ~task_awaiter() {
        if (this->child) // the parent died between its first suspension and this await, or await threw
            this->child.destroy();
    }

    bool await_ready() const noexcept { return false; }

    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> caller) noexcept {
        static_assert(std::derived_from<Promise, promise_base>,
                      "a magpie::task can only be awaited in a magpie::task: spawn it on a "
                      "runtime, or use block_on");
        promise_base& parent = caller.promise();
        this->parent = &parent;
        std::coroutine_handle<promise_base>::from_address(this->child.address()).promise().branch_ =
            parent.branch_;
        return this->child;
    }

    T await_resume() {
        destroy_child();
        return this->result_.take();
    }

protected:
    /// Destroys the child's frame on a flat stack, before the parent's next line (R15).
    void destroy_child() { std::exchange(this->child, {}).destroy(); }
};

} // namespace detail

/// A coroutine that has not started: nothing runs until it is awaited or spawned.
///
/// Move-only. Awaiting consumes it: `co_await make()`, or `co_await std::move(t)`; a chain of
/// awaits of any depth uses no stack. `T` may be void, a reference, move-only, and aligned to 64
/// bytes at most. A task that is destroyed unstarted destroys its parameters and nothing else.
///
/// @par Cancellation
/// A started task is dropped by whoever waits for it: its frames are destroyed, innermost first,
/// on the turn of the spawned task to which it belongs.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe. A task may start on another thread.
///
/// @par Example
/// @code
/// magpie::task<int> twice(int n) { co_return 2 * n; }
/// magpie::task<> show() { std::cout << co_await twice(21) << '\n'; }
/// @endcode
template <class T = void>
class [[nodiscard("a task does nothing until it is awaited or spawned")]] task {
public:
    using value_type = T;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    struct promise_type : detail::promise<T> {
        task get_return_object() noexcept {
            return task(std::coroutine_handle<detail::promise<T>>::from_promise(*this));
        }
    };

    /// An empty task: good for being assigned to.
    task() noexcept = default;
    task(task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task& operator=(task&& other) noexcept {
        task old(std::exchange(frame_, std::exchange(other.frame_, {})));
        return *this;
    }
    ~task() {
        if (frame_)
            frame_.destroy();
    }

    /// Whether there is a coroutine: false after a move, an await or a spawn.
    explicit operator bool() const noexcept { return static_cast<bool>(frame_); }

    /// What `co_await` uses. @throws std::logic_error if the task is empty.
    detail::task_awaiter<T> awaiter() && { return detail::task_awaiter<T>(release()); }

    detail::task_awaiter<T> awaiter() & = delete; // awaiting consumes: co_await std::move(task)

private:
    friend struct detail::task_access;
    friend class task_result_awaitable<T>;
    template <class, cancel_safety>
    friend class declared_task;

    explicit task(std::coroutine_handle<detail::promise<T>> frame) noexcept : frame_(frame) {}

    std::coroutine_handle<detail::promise<T>> release() {
        if (!frame_) [[unlikely]]
            detail::throw_usage_error("this task is empty: it was moved from, awaited or spawned "
                                      "before; a task runs once, make a new one");
        return std::exchange(frame_, {});
    }

    std::coroutine_handle<detail::promise<T>> frame_;
};

namespace detail {

struct task_access {
    template <class T>
    static std::coroutine_handle<promise<T>> release(task<T>&& t) {
        return t.release();
    }
};

template <class T>
struct is_task : std::false_type {};
template <class T>
struct is_task<task<T>> : std::true_type {};
template <class T, cancel_safety Safety>
struct is_task<declared_task<T, Safety>> : std::true_type {};

} // namespace detail
} // namespace magpie
