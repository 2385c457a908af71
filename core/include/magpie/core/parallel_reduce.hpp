#pragma once

#include <magpie/core/detail/parallel_loop.hpp>
#include <magpie/core/fork_join.hpp>
#include <magpie/core/task.hpp>

#include <chrono>
#include <functional>
#include <ranges>
#include <tuple>
#include <utility>

namespace magpie {

namespace detail {

/// What all pieces of a reduction refer to.
template <class Reduce, class Transform>
struct reduction {
    Reduce reduce;
    Transform transform;
    loop_pace pace;
};

/// Of a piece that is not empty.
template <class T, class I, class Reduction>
task<T> reduce_piece(I first, I last, Reduction& r) {
    const std::uint64_t all = loop_distance(first, last);
    if (r.pace.splits(all)) {
        const I middle = loop_advance(first, all / 2);
        auto halves = co_await fork_join(reduce_piece<T>(first, middle, r),
                                         reduce_piece<T>(middle, last, r));
        co_return std::invoke(r.reduce, std::move(std::get<0>(halves)), std::move(std::get<1>(halves)));
    }
    const auto begin = std::chrono::steady_clock::now();
    T sum = std::invoke(r.transform, loop_element(first));
    first = loop_advance(first, 1);
    r.pace.note(1, std::chrono::steady_clock::now() - begin);
    while (first < last) {
        const auto took = run_chunk(r.pace, first, last, [&](I at) {
            sum = std::invoke(r.reduce, std::move(sum), T(std::invoke(r.transform, loop_element(at))));
        });
        co_await spend_time(took);
        if (const std::uint64_t left = loop_distance(first, last); r.pace.splits(left)) {
            T rest = co_await reduce_piece<T>(first, last, r);
            co_return std::invoke(r.reduce, std::move(sum), std::move(rest));
        }
    }
    co_return sum;
}

template <class T, class I, class Reduce, class Transform>
task<T> run_reduce(I first, I last, T init, Reduce reduce, Transform transform) {
    if (!(first < last))
        co_return init;
    reduction<Reduce, Transform> r{std::move(reduce), std::move(transform), {}};
    T sum = co_await reduce_piece<T>(first, last, r);
    co_return std::invoke(r.reduce, std::move(init), std::move(sum));
}

} // namespace detail

/// Adds up, or combines otherwise, what the elements of a range give, on as many workers as have time.
///
/// Gives `reduce(init, reduce(transform(e0), reduce(transform(e1), ...)))`, with brackets somewhere: the
/// order of the elements is kept, so `reduce` has to be associative and need not be commutative. (Sums
/// of floating-point numbers differ in their last digits from one run to the next.) Both are called from
/// several threads at a time. The range is cut as in `parallel_for`.
///
/// @param first,last  integers or random access iterators, which have to stay valid
/// @param init  what an empty range gives; its type is the result's, and has to be movable
/// @param transform  gives a `T` for an index, or for what the iterator refers to; by default that itself
/// @throws what the first call to fail has thrown, when all others have ended; std::bad_alloc;
///         std::logic_error outside of a task (when awaited)
/// @par Cancellation
/// Nobody can say. Dropped, it ends between two chunks.
/// @par Example
/// @code
/// const double area = co_await magpie::parallel_reduce(0, steps, 0.0, std::plus<>(), height_at);
/// @endcode
template <detail::loop_position I, class T, class Reduce, class Transform = std::identity>
task<T> parallel_reduce(I first, I last, T init, Reduce reduce, Transform transform = {}) {
    return detail::run_reduce<T, I, Reduce, Transform>(
        std::move(first), std::move(last), std::move(init), std::move(reduce), std::move(transform));
}

/// The same for a range, which has to stay where it is until the end.
template <std::ranges::random_access_range Range, class T, class Reduce,
          class Transform = std::identity>
    requires std::ranges::borrowed_range<Range>
task<T> parallel_reduce(Range&& range, T init, Reduce reduce, Transform transform = {}) {
    auto first = std::ranges::begin(range);
    auto last = first + std::ranges::distance(range);
    return detail::run_reduce<T, decltype(first), Reduce, Transform>(
        std::move(first), std::move(last), std::move(init), std::move(reduce), std::move(transform));
}

} // namespace magpie
