#pragma once

#include <magpie/core/detail/parallel_loop.hpp>
#include <magpie/core/fork_join.hpp>
#include <magpie/core/task.hpp>

#include <chrono>
#include <functional>
#include <ranges>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {

template <class F, class I>
using loop_result = std::invoke_result_t<F&, decltype(loop_element(std::declval<I>()))>;

template <class I, class F>
task<> for_piece(I first, I last, F& f, loop_pace& pace) {
    while (first < last) {
        const std::uint64_t left = loop_distance(first, last);
        if (pace.splits(left)) {
            const I middle = loop_advance(first, left / 2);
            co_await fork_join(for_piece(first, middle, f, pace), for_piece(middle, last, f, pace));
            co_return;
        }
        if constexpr (is_task<loop_result<F, I>>::value) {
            const auto begin = std::chrono::steady_clock::now();
            co_await std::invoke(f, loop_element(first));
            pace.note(1, std::chrono::steady_clock::now() - begin);
            first = loop_advance(first, 1);
            co_await spend_time(loop_pace::chunk_time);
        } else {
            const auto took = run_chunk(pace, first, last,
                                        [&f](I at) { std::invoke(f, loop_element(at)); });
            co_await spend_time(took);
        }
    }
}

/// Holds what all pieces refer to.
template <class I, class F>
task<> run_for(I first, I last, F f) {
    loop_pace pace;
    co_await for_piece(first, last, f, pace);
}

} // namespace detail

/// Calls `f` for each index, or each element, from `first` to before `last`, on as many workers as have
/// time.
///
/// `f` is called with the index or with what the iterator refers to, from several threads at a time and in
/// no particular order; there is one `f` for all. It may give a `task`, which is then awaited before the
/// next element of the same piece.
///
/// How much goes to other workers is found out on the way: the range is halved as long as elements may be
/// long, and from then on whenever a worker has nothing on offer, down to pieces of about ten
/// microseconds. On a runtime of one worker it is a loop. It yields about once a millisecond.
///
/// @param first,last  integers or random access iterators, which have to stay valid; `last` before `first` is
///                    an empty range
/// @throws what the first call to fail has thrown, when all others have ended; std::bad_alloc;
///         std::logic_error outside of a task (when awaited)
/// @par Cancellation
/// Nobody can say: calls that have been made have their effect. Dropped, it ends between two chunks.
/// @par Complexity
/// n calls. Between two chunks a look at the clock and at what is on offer.
/// @par Example
/// @code
/// co_await magpie::parallel_for(0, height, [&](int y) { render_line(image, y); });
/// co_await magpie::parallel_for(particles, [](particle& p) { p.move(); });
/// @endcode
template <detail::loop_position I, class F>
task<> parallel_for(I first, I last, F f) {
    return detail::run_for<I, F>(std::move(first), std::move(last), std::move(f));
}

/// The same for a range, which has to stay where it is until the end.
template <std::ranges::random_access_range Range, class F>
    requires std::ranges::borrowed_range<Range>
task<> parallel_for(Range&& range, F f) {
    auto first = std::ranges::begin(range);
    auto last = first + std::ranges::distance(range);
    return detail::run_for<decltype(first), F>(std::move(first), std::move(last), std::move(f));
}

} // namespace magpie
