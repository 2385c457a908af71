#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/operation.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>

// How parallel_for and parallel_reduce cut their range into pieces. A piece runs its elements in chunks
// of some microseconds, and looks in between whether somebody could help: then it is split.

namespace magpie::detail {

/// Where a loop stands: an index, or an iterator.
template <class I>
concept loop_position = std::integral<I> || std::random_access_iterator<I>;

template <loop_position I>
std::uint64_t loop_distance(I first, I last) noexcept {
    if (!(first < last))
        return 0;
    if constexpr (std::integral<I>) // without the overflow of a signed difference
        return static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(first);
    else
        return static_cast<std::uint64_t>(last - first);
}
template <loop_position I>
I loop_advance(I first, std::uint64_t n) noexcept {
    if constexpr (std::integral<I>)
        return static_cast<I>(static_cast<std::uint64_t>(first) + n);
    else
        return first + static_cast<std::iter_difference_t<I>>(n);
}
template <loop_position I>
decltype(auto) loop_element(I at) {
    if constexpr (std::integral<I>)
        return at;
    else
        return *at;
}

/// Whether the calling worker should put something on offer: there is somebody who could take it, and
/// nothing is there yet (or that does not matter).
bool should_offer(bool though_stocked) noexcept;

/// What the pieces of a loop know of each other: how many elements make a chunk.
class loop_pace {
public:
    /// Whether a piece with `left` elements is to be split. As long as nobody has measured an element they
    /// may be long, and each piece is split: the first element is reached through the logarithm of them.
    bool splits(std::uint64_t left) const noexcept {
        const std::uint64_t chunk = chunk_.load(std::memory_order_relaxed); // a hint, as below
        return left > std::max<std::uint64_t>(chunk, 1) && should_offer(chunk == 0);
    }
    std::uint64_t chunk() const noexcept {
        return std::max<std::uint64_t>(chunk_.load(std::memory_order_relaxed), 1);
    }
    /// A chunk of `n` elements took `d`.
    void note(std::uint64_t n, std::chrono::nanoseconds d) noexcept {
        if (d < chunk_time / 2 && n < chunk())
            return; // the rest of a piece: it says nothing about a whole chunk
        if (d < chunk_time / 2)
            n *= 2;
        else if (d > chunk_time * 2)
            n = std::max<std::uint64_t>(n / 2, 1);
        chunk_.store(n, std::memory_order_relaxed); // any recent one will do
    }

    static constexpr std::chrono::nanoseconds chunk_time{10'000};

private:
    atomic<std::uint64_t> chunk_{0}; // 0: not known
};

/// Takes the budget for a time that was computed: a turn's budget is about a millisecond.
class [[nodiscard("co_await it")]] spend_time : public operation<spend_time> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit spend_time(std::chrono::nanoseconds d) noexcept : units_(d / loop_pace::chunk_time) {}

    bool try_complete() noexcept {
        for (; units_ > 1 && has_budget(); --units_)
            take_budget();
        return true;
    }
    bool publish() noexcept { return false; }
    void await_resume() const noexcept {}

private:
    cancel_answer cancel() noexcept override { return cancel_answer::coming; }

    std::int64_t units_;
};

/// Runs `step(position)` for a chunk of a piece. Gives how long it took.
template <class I, class Step>
std::chrono::nanoseconds run_chunk(loop_pace& pace, I& first, I last, Step step) {
    const std::uint64_t n = std::min(pace.chunk(), loop_distance(first, last));
    const I end = loop_advance(first, n);
    const auto begin = std::chrono::steady_clock::now();
    for (; first != end; ++first)
        step(first);
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
    pace.note(n, took);
    return took;
}

} // namespace magpie::detail
