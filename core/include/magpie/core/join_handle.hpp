#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/task_cancelled.hpp>

#include <cstdint>
#include <utility>

namespace magpie {

/// Aborts a task without being able to join it. May be copied, and may outlive the task.
///
/// @par Thread safety
/// Distinct objects: safe, also for one task. Shared objects: unsafe.
class abort_handle {
public:
    abort_handle() noexcept = default;
    explicit abort_handle(detail::cell& c) noexcept : cell_(&c) { c.retain(); }
    abort_handle(const abort_handle& other) noexcept : cell_(other.cell_) {
        if (cell_ != nullptr)
            cell_->retain();
    }
    abort_handle(abort_handle&& other) noexcept : cell_(std::exchange(other.cell_, nullptr)) {}
    abort_handle& operator=(abort_handle other) noexcept {
        std::swap(cell_, other.cell_);
        return *this;
    }
    ~abort_handle() {
        if (cell_ != nullptr)
            cell_->release();
    }

    /// Asks for the task to be dropped at its next suspension. Idempotent; nothing once it ended.
    void abort() const noexcept {
        if (cell_ != nullptr)
            cell_->abort();
    }
    /// Whether the task has ended.
    bool is_finished() const noexcept { return cell_ == nullptr || cell_->is_finished(); }
    /// The task's id, 0 for an empty handle.
    std::uint64_t id() const noexcept { return cell_ != nullptr ? cell_->id : 0; }

private:
    detail::cell* cell_ = nullptr;
};

/// The wait for a task's end.
///
/// @throws std::logic_error if the handle is empty, its result was taken, or someone else waits
/// @par Cancellation
/// Cancel-safe: dropped, it leaves the task and its result alone. (Awaiting a handle as an rvalue
/// gives the handle away: dropped then, the task is detached.)
template <class T>
class [[nodiscard("co_await it")]] join_operation : public operation<join_operation<T>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    join_operation(detail::result_cell<T>* c, bool owns) noexcept : cell_(c), owns_(owns) {}
    join_operation(join_operation&& other) noexcept
        : operation<join_operation>(std::move(other)), cell_(std::exchange(other.cell_, nullptr)),
          owns_(std::exchange(other.owns_, false)) {}
    ~join_operation() {
        if (owns_ && cell_ != nullptr)
            cell_->detach();
    }

    bool try_complete() noexcept {
        if (cell_ == nullptr)
            return true;
        state_ = cell_->joined();
        // Nothing else of this task could go on meanwhile: its own turn is the best place for the one
        // it waits for, and neither of them needs to be queued or woken for the other. (The executor is
        // the waiting task's: that of the other one, if it is another, may be gone by now.)
        if (state_ == detail::cell::join_state::pending && this->is_alone() &&
            this->owner().where_it_runs().run_now(*cell_))
            state_ = cell_->joined();
        return state_ != detail::cell::join_state::pending;
    }
    bool publish() noexcept {
        if (cell_ == nullptr)
            return false;
        state_ = cell_->wait(*this);
        return state_ == detail::cell::join_state::pending;
    }

    T await_resume() {
        check();
        if (cell_->result().empty())
            throw_cancelled();
        cell_->mark_taken();
        return cell_->result().take();
    }

    /// What `as_result` gives: nothing is thrown but misuse.
    task_result<T> take_result() {
        check();
        cell_->mark_taken();
        auto& r = cell_->result();
        if (r.empty())
            return {boost::system::in_place_error, task_cancelled_ptr()};
        if (r.has_error())
            return {boost::system::in_place_error, r.take_error()};
        if constexpr (std::is_void_v<T>)
            return {boost::system::in_place_value};
        else
            return {boost::system::in_place_value, r.take()};
    }

private:
    cancel_answer cancel() noexcept override { return cell_->withdraw(*this); }

    void check() {
        using state = detail::cell::join_state;
        if (cell_ == nullptr)
            detail::throw_usage_error("this join_handle is empty: it was moved from, detached or "
                                      "awaited as an rvalue before");
        if (state_ == state::taken)
            detail::throw_usage_error("the result of this task was taken before: a join_handle "
                                      "gives it once");
        if (state_ == state::occupied)
            detail::throw_usage_error("somebody else waits for this task already: a join_handle "
                                      "has one waiter at a time");
    }
    [[noreturn]] void throw_cancelled() {
        cell_->mark_taken();
        throw task_cancelled(cell_->id);
    }

    detail::result_cell<T>* cell_;
    detail::cell::join_state state_ = detail::cell::join_state::done;
    bool owns_;
};

/// The spawner's end of a task: waits for it, aborts it. Dropping it detaches the task.
///
/// `co_await handle` gives the task's value, throws its exception, or throws `task_cancelled`; it
/// does so once. As an lvalue the handle may be waited for again when a wait was dropped.
/// `co_await as_result(handle)` gives a `task_result<T>` instead, and throws nothing.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe, `is_finished` and `id` aside.
template <class T = void>
class [[nodiscard("dropping the handle detaches the task: say so with detach()")]] join_handle {
public:
    join_handle() noexcept = default;
    explicit join_handle(detail::result_cell<T>& c) noexcept : cell_(&c) {}
    join_handle(join_handle&& other) noexcept : cell_(std::exchange(other.cell_, nullptr)) {}
    join_handle& operator=(join_handle&& other) noexcept {
        join_handle old(std::exchange(cell_, std::exchange(other.cell_, nullptr)));
        return *this;
    }
    ~join_handle() { detach(); }

    explicit operator bool() const noexcept { return cell_ != nullptr; }

    /// What `co_await` uses.
    join_operation<T> operation() & noexcept { return join_operation<T>(cell_, false); }
    join_operation<T> operation() && noexcept {
        return join_operation<T>(std::exchange(cell_, nullptr), true);
    }

    /// Waits on a plain thread. @throws as `co_await` does; std::logic_error inside a task
    T blocking_join() {
        if (!is_finished())
            detail::require_own(id());
        return detail::blocking_wait(operation());
    }

    /// Asks for the task to be dropped at its next suspension: its frames are destroyed on its own
    /// turn, then the join reports `task_cancelled`. Idempotent, from any thread.
    void abort() const noexcept {
        if (cell_ != nullptr)
            cell_->abort();
    }

    /// Whether the task has ended; true for an empty handle.
    bool is_finished() const noexcept { return cell_ == nullptr || cell_->is_finished(); }

    /// The task's id, 0 for an empty handle.
    std::uint64_t id() const noexcept { return cell_ != nullptr ? cell_->id : 0; }

    /// Lets the task run on without a handle. Its exception then goes to the unhandled hook.
    void detach() noexcept {
        if (cell_ != nullptr)
            std::exchange(cell_, nullptr)->detach();
    }

    /// Another way to abort it, that may be copied and kept. @throws std::logic_error if empty
    magpie::abort_handle abort_handle() const {
        if (cell_ == nullptr)
            detail::throw_usage_error("this join_handle is empty: there is no task to abort");
        return magpie::abort_handle(*cell_);
    }

private:
    explicit join_handle(detail::result_cell<T>* c) noexcept : cell_(c) {}

    detail::result_cell<T>* cell_ = nullptr;
};

} // namespace magpie
