#pragma once

#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/scope_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/scope.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/task_scope.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

namespace detail {

template <class F, class R>
using made_of_element = std::remove_cvref_t<std::invoke_result_t<F&, passed_element<R>>>;

/// A callable that makes a task of each element of a range.
template <class F, class R>
concept makes_tasks_of = std::ranges::input_range<R> && std::invocable<F&, passed_element<R>> &&
                         task_type<made_of_element<F, R>>;

/// Spawns into `s` what `make(element)` gives, in the order of the range, each when there is a place.
template <class R, class Make>
task<> spawn_each(task_scope& s, R& range, Make& make, std::source_location where) {
    const auto end = std::ranges::end(range);
    for (auto i = std::ranges::begin(range); i != end; ++i) {
        place_operation place(scope_access::state(s));
        co_await place;
        scope_access::start_reserved(s, std::invoke(make, static_cast<passed_element<R>>(*i)), where);
    }
}

template <class R, class F>
task<> run_for_each(R range, scope_policy policy, F f, std::source_location where) {
    auto body = [&](task_scope& s) { return spawn_each<R>(s, range, f, where); };
    co_await scope(policy, body);
}

template <class T>
task<> keep_value(std::optional<composite_value_t<T>>& place, task<T> t) {
    place.emplace(co_await std::move(t));
}

template <class R, class F>
auto run_map(R range, scope_policy policy, F f, std::source_location where)
    -> task<std::vector<composite_value_t<typename made_of_element<F, R>::value_type>>> {
    using kept = composite_value_t<typename made_of_element<F, R>::value_type>;
    std::deque<std::optional<kept>> values; // one that is written stays where it is when there are more
    auto make = [&](passed_element<R> element) {
        std::optional<kept>& place = values.emplace_back();
        return keep_value(place, std::invoke(f, static_cast<passed_element<R>>(element)));
    };
    auto body = [&](task_scope& s) { return spawn_each<R>(s, range, make, where); };
    co_await scope(policy, body);
    std::vector<kept> all;
    all.reserve(values.size());
    for (std::optional<kept>& v : values)
        all.push_back(std::move(*v));
    co_return all;
}

inline scope_policy at_a_time(std::size_t n) {
    if (n == 0)
        throw_usage_error("for_each_concurrent and map_concurrent with 0 tasks at a time would never "
                          "run one: give them 1 or more");
    return fail_fast.limit(n);
}

} // namespace detail

/// Calls `f(element)`, which gives a task, for each element of a range, and runs these tasks in parallel,
/// at most `n` at a time.
///
/// `f` is called, and the range moved on, in the calling task, when there is a place: a range may be made
/// up as it goes. The tasks are spawned, into a `scope`: the first that fails, or a call of `f` that
/// throws, drops the others, and is rethrown when they are gone; their values are dropped.
///
/// @param range  an lvalue must live until the end; of an rvalue the elements are moved out, and live as
///               long. Where it gives its elements by value (a view that makes them), `f` takes them by value
/// @param n  1 or more
/// @param f  lives until the end, so it may be a lambda with captures that is a coroutine
/// @param where  the place that logs, reports and failures name
/// @throws std::logic_error if `n` is 0; what a task throws
/// @par Cancellation
/// As `scope`: dropped, it drops all, and has ended when the last has.
/// @par Complexity
/// An allocation a task beside its frame.
/// @par Example
/// @code
/// co_await magpie::for_each_concurrent(urls, 8, [](const url& u) { return fetch_and_store(u); });
/// @endcode
template <std::ranges::input_range R, class F>
    requires detail::makes_tasks_of<F, R>
task<> for_each_concurrent(R&& range, std::size_t n, F f,
                           std::source_location where = std::source_location::current()) {
    return detail::run_for_each<R, F>(std::forward<R>(range), detail::at_a_time(n), std::move(f),
                                      where);
}

/// The same, and gives the values of the tasks as a `std::vector`, in the order of the range (of
/// references: `std::reference_wrapper`s).
///
/// @par Complexity
/// Two allocations a task beside its frame.
/// @par Example
/// @code
/// std::vector<page> pages = co_await magpie::map_concurrent(urls, 8, fetch);
/// @endcode
template <std::ranges::input_range R, class F>
    requires detail::makes_tasks_of<F, R>
auto map_concurrent(R&& range, std::size_t n, F f,
                    std::source_location where = std::source_location::current()) {
    static_assert(!std::is_void_v<typename detail::made_of_element<F, R>::value_type>,
                  "these tasks give no values: use for_each_concurrent");
    return detail::run_map<R, F>(std::forward<R>(range), detail::at_a_time(n), std::move(f), where);
}

} // namespace magpie
