#pragma once

#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

// Any standard awaitable can be awaited in a magpie task and resumes on the task's strand. What it
// resumes is a small coroutine of ours, on whatever thread it likes; that wakes a leaf (R6). Until
// it has resumed, its frame's owner cannot die: a dropped wait ends when the foreign one does.
//
// The small coroutine may end inside its own await_suspend, or on another thread while that has not
// yet returned. So it does not free itself: it stops at its final suspend, and the operation frees
// the frame when the leaf has surfaced, on the task's turn, which began the await_suspend.

namespace magpie::detail {

template <class A>
concept has_member_await = requires(A&& a) { std::forward<A>(a).operator co_await(); };
template <class A>
concept has_free_await = requires(A&& a) { operator co_await(std::forward<A>(a)); };

template <class A>
decltype(auto) foreign_awaiter(A&& awaitable) {
    if constexpr (has_member_await<A>)
        return std::forward<A>(awaitable).operator co_await();
    else if constexpr (has_free_await<A>)
        return operator co_await(std::forward<A>(awaitable));
    else
        return std::forward<A>(awaitable);
}

template <class A>
concept standard_awaitable = requires(A&& a, std::coroutine_handle<> h) {
    static_cast<bool>(foreign_awaiter(std::forward<A>(a)).await_ready());
    foreign_awaiter(std::forward<A>(a)).await_suspend(h);
    foreign_awaiter(std::forward<A>(a)).await_resume();
};

/// The coroutine that a foreign awaitable resumes. Its owner starts it and destroys it.
struct helper_frame {
    struct promise_type : in_frame_memory {
        leaf* waiter; ///< woken at the end

        template <class Operation>
        explicit promise_type(Operation& op) noexcept : waiter(&op) {}

        struct final_awaiter {
            bool await_ready() const noexcept { return false; }
            // The last touch: another thread may destroy the frame as soon as the leaf is woken.
            void await_suspend(std::coroutine_handle<promise_type> h) const noexcept {
                wake(*h.promise().waiter);
            }
            void await_resume() const noexcept {}
        };

        helper_frame get_return_object() noexcept {
            return helper_frame(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        final_awaiter final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };

    explicit helper_frame(std::coroutine_handle<> h) noexcept : handle(h) {}
    std::coroutine_handle<> handle;
};

/// Awaits an awaiter that has already said that it is not ready.
template <class Awaiter>
class after_ready {
public:
    explicit after_ready(Awaiter& a) noexcept : awaiter_(a) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> h) {
        return awaiter_.await_suspend(std::coroutine_handle<>(h));
    }
    decltype(auto) await_resume() { return awaiter_.await_resume(); }

private:
    Awaiter& awaiter_;
};

template <class A>
class foreign_operation : public operation<foreign_operation<A>> {
    using awaiter_type = decltype(foreign_awaiter(std::declval<A>()));
    using awaiter = std::remove_reference_t<awaiter_type>;
    using value = decltype(std::declval<awaiter&>().await_resume());
    // What comes as a reference to a temporary of the awaiter's is kept as a value.
    using result =
        std::conditional_t<std::is_lvalue_reference_v<value>, value, std::remove_cvref_t<value>>;

public:
    static constexpr cancel_safety safety = cancel_safety::unknown;

    explicit foreign_operation(A&& awaitable) : awaiter_(foreign_awaiter(std::forward<A>(awaitable))) {}
    foreign_operation(foreign_operation&&) = delete;
    ~foreign_operation() noexcept override { free_helper(); }

    bool try_complete() noexcept {
        try {
            ready_ = static_cast<bool>(awaiter_.await_ready());
        } catch (...) {
            result_.fail(std::current_exception());
        }
        return ready_ || !result_.empty();
    }

    bool publish() noexcept {
        try {
            helper_ = run(*this).handle;
        } catch (...) { // no memory for the frame: nothing has started
            result_.fail(std::current_exception());
            return false;
        }
        helper_.resume();
        return true; // it may have ended already: then the leaf is in the ready list
    }

    result await_resume() {
        if (ready_)
            return awaiter_.await_resume();
        free_helper();
        return result_.take();
    }

private:
    cancel_answer cancel() noexcept override { return cancel_answer::coming; }

    /// Notices that the foreign side has destroyed the helper instead of resuming it.
    class destruction {
    public:
        explicit destruction(foreign_operation& op) noexcept : op_(op) {}
        destruction(const destruction&) = delete;
        ~destruction() {
            if (!op_.result_.empty())
                return; // the ordinary end
            op_.helper_ = {};
            op_.result_.fail(std::make_exception_ptr(
                std::logic_error("the awaited object destroyed the coroutine that waited for it")));
            wake(op_);
        }

    private:
        foreign_operation& op_;
    };

    static helper_frame run(foreign_operation& op) {
        const destruction noticed(op);
        after_ready<awaiter> waiting(op.awaiter_);
        try {
            if constexpr (std::is_void_v<result>) {
                co_await waiting;
                op.result_.emplace();
            } else if constexpr (std::is_lvalue_reference_v<result>) {
                op.result_.emplace(std::addressof(co_await waiting));
            } else {
                op.result_.emplace(co_await waiting);
            }
        } catch (...) {
            op.result_.fail(std::current_exception());
        }
    }

    void free_helper() noexcept {
        if (helper_)
            std::exchange(helper_, {}).destroy();
    }

    awaiter_type awaiter_;
    outcome<result> result_;
    std::coroutine_handle<> helper_; // at its final suspend once the leaf has surfaced
    bool ready_ = false;
};

template <class A>
class foreign_awaitable {
public:
    using plain = std::remove_cvref_t<A>;
    static_assert(
        !requires { typename plain::promise_type; } || standard_awaitable<A>,
        "this coroutine type is not awaitable as it stands: a magpie::task is awaited "
        "once, as co_await std::move(task)");
    static_assert(standard_awaitable<A>,
                  "co_await in a magpie::task takes a magpie operation, a magpie::task (as an "
                  "rvalue), a join_handle, or anything with await_ready, await_suspend(handle<>) "
                  "and await_resume");
    using operation_type = foreign_operation<A>;

    explicit foreign_awaitable(A&& awaitable) noexcept : awaitable_(awaitable) {}
    operation_type operation() { return operation_type(std::forward<A>(awaitable_)); }

private:
    std::remove_reference_t<A>& awaitable_;
};

} // namespace magpie::detail
