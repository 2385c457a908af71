#pragma once

#include <magpie/core/as_result.hpp>
#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/task.hpp>

#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie {

template <class T, class Body>
class pinned_operation;
template <class T>
class pinned_wait_operation;

/// A task that runs beside the body of a `pinned`. Awaited it gives its value, or throws its
/// exception; it does so once. As it stands, an lvalue, it may be awaited again when the wait for it
/// was dropped: the task itself goes on. @see pinned
///
/// @par Thread safety
/// Belongs to the task that awaits the `pinned`.
template <class T>
class pinned_task {
public:
    pinned_task& operator=(const pinned_task&) = delete;

    /// Whether the task has ended.
    bool is_finished() const noexcept { return branch_->has_ended(); }

    /// What `co_await` uses.
    pinned_wait_operation<T> operation() noexcept { return pinned_wait_operation<T>(*this); }

private:
    template <class, class>
    friend class pinned_operation;
    friend class pinned_wait_operation<T>;

    pinned_task() noexcept = default;
    pinned_task(pinned_task&&) noexcept = default; // before it starts

    detail::task_branch<T>* branch_ = nullptr;
    pinned_wait_operation<T>* waiter_ = nullptr;
    bool taken_ = false;
};

/// The wait for a pinned task.
///
/// @throws std::logic_error if its result was taken, if someone else waits for it, or in a task that
///         has not pinned it
/// @par Cancellation
/// Cancel-safe: dropped, it leaves the task and its result alone.
/// @par Complexity
/// O(1), no allocation, no atomic operation.
template <class T>
class [[nodiscard("co_await it")]] pinned_wait_operation : public operation<pinned_wait_operation<T>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit pinned_wait_operation(pinned_task<T>& t) noexcept : task_(&t) {}
    pinned_wait_operation(pinned_wait_operation&&) = default;

    bool try_complete() noexcept {
        if (&this->owner() != &task_->branch_->owner())
            misuse_ = "this pinned task belongs to another task: only the one that pinned it may wait "
                      "for it";
        else if (task_->taken_)
            misuse_ = "the result of this pinned task was taken before: it gives it once";
        else if (task_->waiter_ != nullptr)
            misuse_ = "this pinned task is waited for already: it has one waiter at a time";
        return misuse_ != nullptr || task_->is_finished();
    }
    bool publish() noexcept {
        task_->waiter_ = this;
        return true;
    }

    T await_resume() {
        take();
        return task_->branch_->take();
    }

    /// The same for `as_result`: nothing is thrown but misuse.
    task_result<T> take_result() {
        take();
        if (std::exception_ptr error = task_->branch_->take_error())
            return {boost::system::in_place_error, std::move(error)};
        if constexpr (std::is_void_v<T>) {
            task_->branch_->take();
            return {boost::system::in_place_value};
        } else {
            return {boost::system::in_place_value, task_->branch_->take()};
        }
    }

private:
    template <class, class>
    friend class pinned_operation;

    void take() {
        if (misuse_ != nullptr) [[unlikely]]
            detail::throw_usage_error(misuse_);
        task_->taken_ = true;
    }
    std::coroutine_handle<> task_ended() noexcept { return this->surface(); }

    cancel_answer cancel() noexcept override {
        task_->waiter_ = nullptr;
        return cancel_answer::quiet;
    }

    pinned_task<T>* task_;
    const char* misuse_ = nullptr;
};

/// A task beside a body that may wait for it again and again. @see pinned
template <class T, class Body>
class [[nodiscard("co_await it")]] pinned_operation
    : public detail::composite_operation<
          pinned_operation<T, Body>,
          detail::branch_tuple<detail::task_branch<T>,
                               detail::task_branch<detail::called_type<Body, pinned_task<T>>>>> {
    using task_branch = detail::task_branch<T>;
    using body_branch = detail::task_branch<detail::called_type<Body, pinned_task<T>>>;
    using branches = detail::branch_tuple<task_branch, body_branch>;
    using base = detail::composite_operation<pinned_operation, branches>;

public:
    using value_type = typename body_branch::value_type;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    pinned_operation(task<T>&& t, Body&& body)
        : pinned_operation(
              detail::branch_maker(std::move(t)), [] { return body_branch(); }, std::move(body)) {}

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        pinned_.branch_ = &side();
        side().start(*this->where(), *this);
        auto make = [this] { return detail::call_as_task(make_body_, pinned_); };
        return body().start_made(*this->where(), *this, make) && this->cancel_running();
    }

    value_type await_resume() {
        if (std::exception_ptr error = take_failure()) [[unlikely]]
            std::rethrow_exception(std::move(error));
        return body().take();
    }

    /// The same for `as_result`.
    task_result<value_type> take_result() {
        if (std::exception_ptr error = take_failure())
            return {boost::system::in_place_error, std::move(error)};
        if constexpr (std::is_void_v<value_type>) {
            body().take();
            return {boost::system::in_place_value};
        } else {
            return {boost::system::in_place_value, body().take()};
        }
    }

private:
    template <class MakeSide, class MakeBody>
    pinned_operation(MakeSide side, MakeBody start, Body&& body)
        : base(std::in_place, side, start), make_body_(std::move(body)) {}

    task_branch& side() noexcept { return this->branches_.template get<0>(); }
    body_branch& body() noexcept { return this->branches_.template get<1>(); }

    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        if (&b == static_cast<branch*>(&side())) {
            auto* const waiter = std::exchange(pinned_.waiter_, nullptr);
            return waiter != nullptr ? waiter->task_ended() : std::noop_coroutine();
        }
        return this->cancel_running() ? this->surface() : std::noop_coroutine();
    }

    /// Destroys the task. Gives what its destructors threw.
    std::exception_ptr drop_task() noexcept {
        if (side().has_ended()) // nobody has received its exception
            if (std::exception_ptr error = side().take_error())
                detail::report_lost(this->owner(), std::move(error));
        return side().discard();
    }

    std::exception_ptr take_failure() {
        this->check();
        std::exception_ptr of_task = drop_task();
        std::exception_ptr first = body().take_error();
        if (of_task) [[unlikely]] {
            this->keep_first(first, std::move(of_task));
            if (std::exception_ptr of_value = body().discard())
                this->keep_first(first, std::move(of_value));
        }
        return first;
    }

    std::exception_ptr discard() noexcept override {
        std::exception_ptr first = drop_task();
        if (std::exception_ptr of_body = body().discard())
            this->keep_first(first, std::move(of_body));
        return first;
    }

    pinned_task<T> pinned_;
    Body make_body_;
};

/// Runs `t` beside `body(pinned)`, inside the task that awaits this, and gives what the body gives.
/// `pinned` is a `pinned_task<T>&`: what the body awaits, or passes to `select` as an lvalue, again
/// and again. So a coroutine outlives a `select` in which it has lost, without being spawned.
///
/// The two take turns where they wait, never at once. When the body has ended, the task is dropped if
/// it has not: its frames are destroyed before this returns. An exception of the task that nobody has
/// received by then goes to the hook for unhandled ones.
///
/// @throws what the body throws; what a destructor of the dropped task throws; std::logic_error if it
///         was awaited before
/// @par Cancellation
/// Nobody can say: both are coroutines. Dropped, it drops both.
/// @par Thread safety
/// Belongs to one task.
/// @par Complexity
/// No allocation but the body's frame; no atomic operation.
/// @par Example
/// @code
/// co_await magpie::pinned(read_message(stream), [&](auto& reading) -> magpie::task<> {
///     for (;;) {
///         auto won = co_await magpie::select(reading, every.tick()); // reading goes on if it loses
///         if (won.index() == 0)
///             co_return handle(std::move(won).template get<0>());
///         report_progress();
///     }
/// });
/// @endcode
template <class T, class Body>
auto pinned(task<T> t, Body body) {
    return pinned_operation<T, Body>(std::move(t), std::move(body));
}

/// Gives the result of a pinned task as a `task_result<T>`: the value or the exception.
template <class T>
detail::result_source<pinned_task<T>&> as_result(pinned_task<T>& t) noexcept {
    return detail::result_source<pinned_task<T>&>(t);
}

} // namespace magpie
