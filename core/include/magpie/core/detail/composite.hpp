#pragma once

#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/task.hpp>

#include <coroutine>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

// What composites (timeout, unconstrained, later join and select) are made of: a branch that runs
// one awaitable, and reports to the composite that owns it.

namespace magpie::detail {

/// What a branch tells the composite above it. Both give who runs next.
class branch_owner {
public:
    branch_owner() noexcept = default;
    branch_owner(branch_owner&&) noexcept {}
    virtual std::coroutine_handle<> branch_ended(branch& b) noexcept = 0;
    virtual std::coroutine_handle<> branch_gone(branch& b) noexcept = 0;

protected:
    ~branch_owner() = default;
};

/// What each branch of a composite has in common. Movable until it starts.
class owned_branch : public branch {
public:
    owned_branch() noexcept = default;
    owned_branch(owned_branch&&) noexcept = default;

    bool has_ended() const noexcept { return state() == phase::ended; }
    bool is_coming() const noexcept { return state() == phase::coming; }

    /// Asks the branch to end: `quiet` if nothing more will be heard of it (its frames may stand).
    cancel_answer request_cancel() noexcept {
        return state() == phase::running ? cancel()
               : is_coming()             ? cancel_answer::coming
                                         : cancel_answer::quiet;
    }

protected:
    ~owned_branch() = default;

    void attach(const branch& parent, branch_owner& owner) noexcept {
        place_below(parent);
        owner_ = &owner;
        starting_ = true;
    }
    void started() noexcept { starting_ = false; }

private:
    // While it starts, an end is only recorded: the parent is not resumed inside its own
    // suspension (R20).
    std::coroutine_handle<> ended() noexcept override {
        return starting_ ? std::noop_coroutine() : owner_->branch_ended(*this);
    }
    std::coroutine_handle<> gone() noexcept override { return owner_->branch_gone(*this); }

    branch_owner* owner_ = nullptr;
    bool starting_ = false;
};

/// A branch that is an operation alone: no frame.
template <class Operation>
class operation_branch final : public owned_branch {
public:
    using value_type = decltype(std::declval<Operation&>().await_resume());

    template <class Source>
    explicit operation_branch(std::in_place_t, Source&& source)
        : operation_(std::forward<Source>(source)) {}
    operation_branch(operation_branch&& other) noexcept
        : owned_branch(std::move(other)), operation_(std::move(other.operation_)) {}
    ~operation_branch() { discard(); }

    /// Returns true if it ended at once.
    bool start(const branch& parent, branch_owner& owner) noexcept {
        attach(parent, owner);
        start_leaf();
        const bool waits = operation_.start_in(*this);
        started();
        if (!waits)
            end_leaf();
        return !waits;
    }

    /// The result of an operation that has ended.
    value_type take() { return operation_.await_resume(); }

    /// Destroys the operation: one that was handed something gives it back.
    std::exception_ptr discard() noexcept {
        std::exception_ptr error;
        if (std::exchange(alive_, false)) {
            // A composite that has ended may still hold frames, for its await_resume to destroy; not
            // its destructor (R15).
            if constexpr (composite) {
                error = operation_.discard();
                if (noted_)
                    error = std::move(noted_);
            }
            operation_.Operation::~Operation();
        }
        return error;
    }

private:
    static constexpr bool composite = requires(Operation& o) { o.discard(); };

    void note(std::exception_ptr error) noexcept override {
        if constexpr (composite) // a plain operation has no frames that could throw
            noted_ = std::move(error);
    }

    struct nothing {};
    [[no_unique_address]] std::conditional_t<composite, std::exception_ptr, nothing> noted_;
    union {
        Operation operation_;
    };
    bool alive_ = true;
};

/// A branch that runs a task.
template <class T>
class task_branch final : public owned_branch {
public:
    using value_type = T;

    explicit task_branch(std::in_place_t, task<T>&& t) noexcept : task_(std::move(t)) {}
    task_branch(task_branch&& other) noexcept
        : owned_branch(std::move(other)), task_(std::move(other.task_)) {}
    ~task_branch() noexcept {} // a value whose destructor throws was dropped before, by discard()

    bool start(const branch& parent, branch_owner& owner) noexcept {
        attach(parent, owner);
        if (!task_) {
            outcome_.fail(std::make_exception_ptr(
                std::logic_error("this task is empty: it was moved from, awaited or spawned before")));
            end_leaf();
            return true;
        }
        auto root = task_access::release(std::move(task_));
        root.promise().result = &outcome_;
        set_root(root.promise());
        start_root();
        started();
        return has_ended();
    }

    T take() {
        destroy_root();
        return outcome_.take();
    }

    /// Destroys the frames that stand and the result. Gives what a destructor threw (R16).
    std::exception_ptr discard() noexcept {
        if (state() == phase::standing) {
            unwind();
        } else if (has_ended()) {
            try {
                outcome_.reset();
            } catch (...) {
                outcome_.fail(std::current_exception());
            }
            destroy_root();
        }
        return outcome_.has_error() ? outcome_.take_error() : std::exception_ptr();
    }

private:
    void note(std::exception_ptr e) noexcept override { outcome_.fail(std::move(e)); }

    task<T> task_;
    outcome<T> outcome_;
};

/// Runs any awaitable in a coroutine of its own.
template <class A>
using awaited_type =
    decltype(detail::await_transform(std::declval<promise_base&>(), std::declval<A>()).await_resume());

template <class A>
task<awaited_type<A>> as_task(A awaitable) {
    co_return co_await std::forward<A>(awaitable);
}

/// The branch for an awaitable: operations alone, tasks as they are, all else in a coroutine.
template <class A>
auto make_branch(A&& awaitable) {
    if constexpr (leaf_operation<A>) {
        static_assert(!std::is_lvalue_reference_v<A>, "pass the operation as an rvalue");
        return operation_branch<std::remove_cvref_t<A>>(std::in_place, std::move(awaitable));
    } else if constexpr (gives_operation<A>) {
        return operation_branch<decltype(std::forward<A>(awaitable).operation())>(
            std::in_place, std::forward<A>(awaitable).operation());
    } else if constexpr (is_task<std::remove_cvref_t<A>>::value) {
        static_assert(!std::is_lvalue_reference_v<A>, "pass the task as an rvalue: std::move(task)");
        return task_branch<typename std::remove_cvref_t<A>::value_type>(std::in_place,
                                                                        std::move(awaitable));
    } else {
        return task_branch<awaited_type<A>>(std::in_place, as_task<A>(std::forward<A>(awaitable)));
    }
}

template <class A>
using branch_for = decltype(make_branch(std::declval<A>()));

} // namespace magpie::detail
