#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/join_results.hpp>
#include <magpie/core/error.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

/// The wait for several branches. @see join
template <class Branches>
class [[nodiscard("co_await it")]] join_all_operation
    : public detail::composite_operation<join_all_operation<Branches>, Branches> {
    using base = detail::composite_operation<join_all_operation, Branches>;

public:
    using value_type = typename detail::join_results<Branches>::values;
    static constexpr cancel_safety safety = Branches::safety;

    using base::base;

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        this->ends_with_all();
        this->branches_.any([&](auto& b) {
            if (!b.start(*this->where(), *this))
                ++pending_;
            return false;
        });
        return pending_ == 0;
    }

    value_type await_resume() {
        this->check();
        std::exception_ptr first;
        auto keep = [&](std::exception_ptr error) noexcept {
            this->keep_first(first, std::move(error));
        };
        return detail::join_results<Branches>::take(this->branches_, first, keep);
    }

    /// The same for `as_result`: what came of each branch.
    auto take_result() {
        this->check();
        return detail::join_results<Branches>::take_outcomes(this->branches_);
    }

private:
    std::coroutine_handle<> branch_ended(branch&) noexcept override {
        return --pending_ == 0 ? this->surface() : std::noop_coroutine();
    }

    std::size_t pending_ = 0; // branches that have started and not ended
};

/// The wait for several branches as long as none fails. @see try_join
template <class Branches>
class [[nodiscard("co_await it")]] try_join_operation
    : public detail::composite_operation<
          try_join_operation<Branches>, Branches,
          detail::fail_fast_leaf<detail::owning_operation<try_join_operation<Branches>>, Branches>> {
    using base = detail::composite_operation<
        try_join_operation, Branches,
        detail::fail_fast_leaf<detail::owning_operation<try_join_operation>, Branches>>;

public:
    using value_type = typename detail::join_results<Branches>::values;
    // Its branches take what they are given at once, and so cannot give it back when they are dropped.
    static constexpr cancel_safety safety = Branches::safety == cancel_safety::lossy
                                                ? cancel_safety::lossy
                                                : cancel_safety::unknown;

    using base::base;

    bool try_complete() noexcept {
        if (!this->begin())
            return true;
        this->branches_.any([&](auto& b) {
            if (b.start(*this->where(), *this))
                this->look_at(b);
            else
                ++pending_;
            return this->has_failed(); // nothing starts after a failure
        });
        return this->has_failed() ? this->cancel_running() : pending_ == 0;
    }

    value_type await_resume() {
        this->check();
        if (this->has_failed()) [[unlikely]]
            std::rethrow_exception(this->take_failure());
        std::exception_ptr first; // of a destructor, or of a value's move
        auto keep = [&](std::exception_ptr error) noexcept {
            this->keep_first(first, std::move(error));
        };
        return detail::join_results<Branches>::take(this->branches_, first, keep);
    }

    /// The same for `as_result`: the values or the exception.
    task_result<value_type> take_result() {
        this->check();
        if (this->has_failed())
            return {boost::system::in_place_error, this->take_failure()};
        if constexpr (std::is_void_v<value_type>) {
            await_resume();
            return {boost::system::in_place_value};
        } else {
            return {boost::system::in_place_value, await_resume()};
        }
    }

private:
    std::coroutine_handle<> branch_ended(branch& b) noexcept override {
        --pending_;
        this->look_at(b);
        const bool over = this->has_failed() ? this->cancel_running() : pending_ == 0;
        return over ? this->surface() : std::noop_coroutine();
    }

    std::size_t pending_ = 0;
};

namespace detail {

template <class... Awaitables>
inline constexpr bool one_range = sizeof...(Awaitables) == 1 &&
                                  (std::ranges::input_range<Awaitables> && ...);

/// A branch that takes the result as soon as it is there, in a coroutine of its own.
template <class A>
auto make_task_branch(A&& awaitable) {
    if constexpr (is_task<std::remove_cvref_t<A>>::value) {
        return make_branch(std::forward<A>(awaitable));
    } else {
        constexpr auto safety = branch_for<A>::safety == cancel_safety::lossy ? cancel_safety::lossy
                                                                              : cancel_safety::unknown;
        return task_branch<awaited_type<A>, safety>(std::in_place,
                                                    as_task<A>(std::forward<A>(awaitable)));
    }
}

/// What `join` runs. A composite destroys what it has dropped when its result is taken, and that must
/// not wait for the other branches: they may need what is held there.
template <class A>
auto make_join_branch(A&& awaitable) {
    if constexpr (leaf_operation<A> && is_composite<std::remove_cvref_t<A>>)
        return make_task_branch(std::forward<A>(awaitable));
    else
        return make_branch(std::forward<A>(awaitable));
}

template <class A>
using join_branch_for = decltype(make_join_branch(std::declval<A>()));

template <class A>
using task_branch_for = decltype(make_task_branch(std::declval<A>()));

/// They make the branches when they are called.
template <class A>
auto task_branch_maker(A&& awaitable) {
    return [&awaitable] { return make_task_branch(std::forward<A>(awaitable)); };
}
template <class A>
auto join_branch_maker(A&& awaitable) {
    return [&awaitable] { return make_join_branch(std::forward<A>(awaitable)); };
}

/// A composite of what each of `make` gives.
template <class Operation, class... Make>
Operation made_in_place(Make... make) {
    return Operation(std::in_place, make...);
}

} // namespace detail

/// Awaits several awaitables at a time, inside one task, and ends when all have ended.
///
/// `join(a, b, ...)` gives a `std::tuple` of their values: `std::monostate` for void, a
/// `std::reference_wrapper` for a reference. `join(range)` gives a `std::vector` of them in the order
/// of the range, and nothing for a range of void; a range that is empty is ready at once. The
/// elements are moved out of a container that is passed as an rvalue.
///
/// The branches start in order, and take turns where they wait: never two at once, so they need no
/// locks among themselves. What may be an lvalue: join handles and timers.
///
/// If some fail, the exception of the first of them, in the order of the arguments, is thrown when
/// all have ended; the others are attached to it (`attached_failures()`) and reported as unhandled.
/// `as_result(join(...))` has them all: a tuple or vector of `task_result<T>`, and nothing is thrown.
///
/// @throws what the branches throw; std::logic_error if the join was awaited before
/// @par Cancellation
/// As safe as the least safe branch. Dropped, it drops every branch.
/// @par Complexity
/// No allocation but the range's branches, in one block, the vector of the results, and a frame for a
/// branch that is a composite itself (`timeout`, `select`, ...). The parameters of a branch's outermost
/// coroutine live until the join ends.
/// @par Example
/// @code
/// auto [user, orders] = co_await magpie::join(load_user(id), load_orders(id)); // not with g++ 12
/// @endcode
template <class... Awaitables>
    requires(sizeof...(Awaitables) > 0)
auto join(Awaitables&&... awaitables) {
    if constexpr (detail::one_range<Awaitables...>) {
        auto make = []<class A>(A&& a) { return detail::make_join_branch(std::forward<A>(a)); };
        detail::range_of_branches source(std::forward<Awaitables>(awaitables)..., make);
        using branches = detail::branch_list<typename decltype(source)::made>;
        return join_all_operation<branches>(std::in_place, source);
    } else {
        using branches = detail::branch_tuple<detail::join_branch_for<Awaitables>...>;
        return detail::made_in_place<join_all_operation<branches>>(
            detail::join_branch_maker(std::forward<Awaitables>(awaitables))...);
    }
}

/// The same, but the first branch to fail ends it: the others are dropped, and when they are gone
/// its exception is thrown. A branch that fails at its start keeps those behind it from starting.
///
/// `as_result(try_join(...))` gives one `task_result` of all the values.
///
/// @par Cancellation
/// Nobody can say: a branch that has ended before another one failed has its effect, and its value
/// is lost.
/// @par Complexity
/// As `join`, and a frame for each branch that is not a task.
template <class... Awaitables>
    requires(sizeof...(Awaitables) > 0)
auto try_join(Awaitables&&... awaitables) {
    if constexpr (detail::one_range<Awaitables...>) {
        auto make = []<class A>(A&& a) { return detail::make_task_branch(std::forward<A>(a)); };
        detail::range_of_branches source(std::forward<Awaitables>(awaitables)..., make);
        using branches = detail::branch_list<typename decltype(source)::made>;
        return try_join_operation<branches>(std::in_place, source);
    } else {
        using branches = detail::branch_tuple<detail::task_branch_for<Awaitables>...>;
        return detail::made_in_place<try_join_operation<branches>>(
            detail::task_branch_maker(std::forward<Awaitables>(awaitables))...);
    }
}

} // namespace magpie
