#pragma once

#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/scope_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/scope_error.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/task_scope.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

/// What a scope does when a task of it fails, and how many of them run at a time.
class scope_policy {
public:
    constexpr explicit scope_policy(detail::scope_rule rule) noexcept : rule_(rule) {}

    /// The same with at most `most` tasks at a time, for those that are spawned by `spawn_when_free`.
    /// @throws std::logic_error if it is 0
    constexpr scope_policy limit(std::size_t most) const {
        scope_policy p = *this;
        p.set_limit(most);
        return p;
    }

protected:
    constexpr void set_limit(std::size_t most) {
        if (most == 0)
            detail::throw_usage_error(
                "a scope with a limit of 0 would never run a task: give it 1 or more");
        limit_ = most;
    }

private:
    template <class Policy, class F>
    friend class scope_operation;

    std::size_t limit_ = std::numeric_limits<std::size_t>::max();
    detail::scope_rule rule_;
};

/// The policy of `first_success<T>`.
template <class T>
class first_success_policy : public scope_policy {
public:
    constexpr first_success_policy() noexcept : scope_policy(detail::scope_rule::first_success) {}

    constexpr first_success_policy limit(std::size_t most) const {
        first_success_policy p = *this;
        p.set_limit(most);
        return p;
    }
};

/// The first failure ends the scope: of a task, or of the body. The others are dropped, and when they are
/// gone its exception is rethrown. Whatever else has failed is attached to it (`attached_failures()`), and
/// goes to the hook for unhandled exceptions.
inline constexpr scope_policy fail_fast{detail::scope_rule::fail_fast};

/// Every task runs to its end; if any has failed, or the body, a `scope_error` is thrown that has them all.
inline constexpr scope_policy collect_all{detail::scope_rule::collect_all};

/// The first task to give a value ends the scope: the others and the body are dropped, and when they are
/// gone the scope gives that value. If none does, a `scope_error` is thrown that has all failures. A body
/// that fails ends the scope, which rethrows its exception.
template <class T>
inline constexpr first_success_policy<T> first_success{};

namespace detail {

template <class Policy>
struct scope_traits {
    using scope = task_scope;
    template <class BodyValue>
    using value = BodyValue;
};
template <class T>
struct scope_traits<first_success_policy<T>> {
    using scope = first_success_scope<T>;
    template <class BodyValue>
    using value = T;
};

template <class F, class Policy>
concept scope_body =
    std::invocable<std::decay_t<F>&, typename scope_traits<Policy>::scope&> &&
    task_type<std::invoke_result_t<std::decay_t<F>&, typename scope_traits<Policy>::scope&>>;

} // namespace detail

/// The wait for a scope. @see scope
template <class Policy, class F>
class [[nodiscard("co_await it")]] scope_operation : public operation<scope_operation<Policy, F>>,
                                                     private detail::scope_parent {
    using traits = detail::scope_traits<Policy>;
    using scope_type = typename traits::scope;
    using body_value = typename std::invoke_result_t<F&, scope_type&>::value_type;
    static constexpr bool wants_first = !std::is_same_v<Policy, scope_policy>;

public:
    using value_type = typename traits::template value<body_value>;
    static constexpr cancel_safety safety = cancel_safety::unknown;

    template <class Body>
    scope_operation(const Policy& p, Body&& body)
        : policy_(p), function_(std::forward<Body>(body)), scope_(p.rule_, p.limit_) {}
    /// Only before it was awaited.
    scope_operation(scope_operation&& other) noexcept(std::is_nothrow_move_constructible_v<F>)
        : operation<scope_operation>(std::move(other)), policy_(other.policy_),
          function_(std::move(other.function_)), scope_(policy_.rule_, policy_.limit_) {}

    bool try_complete() noexcept {
        awaited_twice_ = body_.has_value();
        if (awaited_twice_)
            return true;
        state().begin(this->owner().where_it_runs());
        const bool ended = start_body();
        return begin_wait(*this->where(), state(), *body_, ended);
    }
    bool publish() noexcept { return true; } // the end of the body, or of a child, resumes it

    value_type await_resume() {
        check();
        const std::exception_ptr of_body = settle_body();
        if constexpr (wants_first) {
            if (of_body)
                std::rethrow_exception(of_body);
            if (detail::scope_member* const winner = state().take_winner())
                return value_of(winner);
            throw scope_error(state().take_failures(nullptr, this->owner()));
        } else {
            if (state().rule() == detail::scope_rule::fail_fast) {
                if (std::exception_ptr first = state().take_first_failure(of_body, this->owner()))
                    std::rethrow_exception(std::move(first));
            } else if (auto failures = state().take_failures(of_body, this->owner());
                       !failures.empty()) {
                throw scope_error(std::move(failures));
            }
            return body_->take();
        }
    }

    /// The same for `as_result`: nothing is thrown but misuse.
    scope_result<value_type> take_result() {
        check();
        const std::exception_ptr of_body = settle_body();
        auto failures = state().take_failures(of_body, this->owner());
        if constexpr (wants_first) {
            detail::scope_member* const winner = state().take_winner();
            if (winner != nullptr && !of_body)
                return {value_from([&]() -> value_type { return value_of(winner); }),
                        std::move(failures)};
            if (winner != nullptr)
                winner->task->release();
            return {error_from(of_body ? of_body : all_of(failures)), std::move(failures)};
        } else {
            if (failures.empty())
                return {value_from([&]() -> value_type { return body_->take(); }), std::move(failures)};
            const bool first = state().rule() == detail::scope_rule::fail_fast;
            return {error_from(first ? failures.front().error : all_of(failures)), std::move(failures)};
        }
    }

private:
    detail::scope_state& state() noexcept { return detail::scope_access::state(scope_); }

    /// Whether it has ended.
    bool start_body() noexcept {
        body_.emplace(std::in_place, task<body_value>());
        body_->keep_frames();
        return body_->start_made(*this->where(), *this,
                                 [this] { return std::invoke(function_, scope_); });
    }

    /// Destroys the body's frames. Gives its exception.
    std::exception_ptr settle_body() noexcept {
        if (body_->has_ended())
            return body_->take_error();
        if (std::exception_ptr error = body_->discard())
            detail::report_lost(this->owner(), std::move(error));
        return nullptr;
    }

    static value_type value_of(detail::scope_member* winner) {
        class holder {
        public:
            explicit holder(detail::scope_member* m) noexcept
                : cell_(static_cast<detail::scope_cell<value_type>*>(m)) {}
            holder(const holder&) = delete;
            holder& operator=(const holder&) = delete;
            ~holder() { cell_->release(); }
            value_type take() { return cell_->result().take(); }

        private:
            detail::scope_cell<value_type>* cell_;
        };
        return holder(winner).take();
    }

    static std::exception_ptr all_of(const std::vector<task_failure>& failures) {
        return std::make_exception_ptr(scope_error(failures));
    }
    static task_result<value_type> error_from(std::exception_ptr error) noexcept {
        return {boost::system::in_place_error, std::move(error)};
    }
    template <class Take>
    static task_result<value_type> value_from(Take take) noexcept {
        try {
            if constexpr (std::is_void_v<value_type>) {
                take();
                return {boost::system::in_place_value};
            } else {
                return {boost::system::in_place_value, take()};
            }
        } catch (...) {
            return error_from(std::current_exception());
        }
    }

    void check() const {
        if (awaited_twice_) [[unlikely]]
            detail::throw_usage_error("this scope was awaited before: make a new one for each wait");
    }

    bool body_has_failed() const noexcept override { return body_->has_failed(); }

    std::coroutine_handle<> over() noexcept override { return this->surface(); }

    cancel_answer cancel() noexcept override { return cancel_scope(); }

    std::exception_ptr discard() noexcept override {
        if (!body_)
            return nullptr;
        state().discard();
        return body_->discard();
    }

    Policy policy_;
    F function_;
    scope_type scope_;
    std::optional<detail::task_branch<body_value>> body_;
    bool awaited_twice_ = false;
};

/// Runs `body(s)`, which gives a task, and the tasks that it spawns into the scope `s`; ends when all of
/// them have ended, and gives the body's value.
///
/// The body runs in the task that awaits the scope; what it spawns runs in parallel, on any worker. What
/// stands outside of the scope, and what the body has captured, lives longer than they do. Tasks must not
/// refer to locals of the body itself: it may end before them.
///
/// By default the first failure ends the scope: the other tasks and the body are dropped, and when they
/// are gone its exception is rethrown; `attached_failures()` gives what else has failed. With a policy as
/// the first argument: `fail_fast`, the default; `collect_all`; `first_success<T>`; each with a `.limit(n)`.
/// `as_result(scope(...))` gives a `scope_result<T>` with everything that has failed.
///
/// A task that is aborted alone has not failed.
///
/// @param body  called once, when the scope is awaited, with a `task_scope&` (under `first_success<T>`: a
///              `first_success_scope<T>&`). It lives as long as the scope
/// @throws what a task or the body throws, or `scope_error`, as the policy says; std::logic_error if it was
///         awaited before
/// @par Cancellation
/// Nobody can say: what the tasks have done stays done. Dropped, it drops the body and the tasks, and has
/// ended when the last of them has.
/// @par Complexity
/// No allocation but the body's frame.
///
/// @par Example
/// @code
/// magpie::task<report> make_report(const order& o) {
///     customer who;
///     std::vector<item> what;
///     auto load = [&](magpie::task_scope& s) -> magpie::task<> {
///         s.spawn(load_customer(o, who));
///         s.spawn(load_items(o, what));
///         co_return;
///     };
///     co_await magpie::scope(load);
///     co_return report(who, what);
/// }
/// @endcode
template <class F>
    requires detail::scope_body<F, scope_policy>
auto scope(F&& body) {
    return scope_operation<scope_policy, std::decay_t<F>>(fail_fast, std::forward<F>(body));
}
template <class F>
    requires detail::scope_body<F, scope_policy>
auto scope(scope_policy policy, F&& body) {
    return scope_operation<scope_policy, std::decay_t<F>>(policy, std::forward<F>(body));
}
template <class T, class F>
    requires detail::scope_body<F, first_success_policy<T>>
auto scope(first_success_policy<T> policy, F&& body) {
    return scope_operation<first_success_policy<T>, std::decay_t<F>>(policy, std::forward<F>(body));
}

} // namespace magpie
