// Computing in parallel with nothing to own and nothing to join: a vector is filled by parallel_for, sorted
// by a merge sort on fork_join, and checked by parallel_reduce. First on one worker, then on all.
//
// Try it with another size: build/release/examples/parallel_sort 50000000

#include <magpie/magpie.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t grain = 10'000; // what is not worth a fork: some 0.5 ms

// splitmix64: a number for each index, so the vector is the same whoever fills which part.
std::uint64_t scramble(std::uint64_t n) {
    n *= 0x9E3779B97F4A7C15U;
    n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9U;
    n = (n ^ (n >> 27)) * 0x94D049BB133111EBU;
    return n ^ (n >> 31);
}

magpie::task<> merge_sort(std::span<std::uint64_t> numbers, std::span<std::uint64_t> scratch) {
    if (numbers.size() <= grain) {
        std::sort(numbers.begin(), numbers.end());
        co_return;
    }
    // One half is for whoever has time. If nobody has, this task does both.
    const std::size_t half = numbers.size() / 2;
    co_await magpie::fork_join(merge_sort(numbers.first(half), scratch.first(half)),
                               merge_sort(numbers.subspan(half), scratch.subspan(half)));
    std::merge(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(half),
               numbers.begin() + static_cast<std::ptrdiff_t>(half), numbers.end(), scratch.begin());
    std::copy(scratch.begin(), scratch.end(), numbers.begin());
}

magpie::task<bool> program(std::size_t n) {
    auto lap = [begin = std::chrono::steady_clock::now()]() mutable {
        const auto end = std::chrono::steady_clock::now();
        return std::chrono::duration<double>(end - std::exchange(begin, end)).count();
    };

    std::vector<std::uint64_t> numbers(n);
    std::vector<std::uint64_t> scratch(n);
    co_await magpie::parallel_for(std::size_t{0}, n, [&](std::size_t i) { numbers[i] = scramble(i); });
    const double filled = lap();

    const std::uint64_t before = co_await magpie::parallel_reduce(numbers, std::uint64_t{0},
                                                                  std::plus<>());
    static_cast<void>(lap());
    co_await merge_sort(numbers, scratch);
    const double sorted = lap();

    // The sum is what it was, and no number is larger than the one behind it.
    const std::uint64_t after = co_await magpie::parallel_reduce(numbers, std::uint64_t{0},
                                                                 std::plus<>());
    const bool in_order = co_await magpie::parallel_reduce(
        std::size_t{1}, n, true, std::logical_and<>(),
        [&](std::size_t i) { return numbers[i - 1] <= numbers[i]; });
    const double checked = lap();

    std::printf("%9.1f ms  %9.1f ms  %9.1f ms\n", filled * 1e3, sorted * 1e3, checked * 1e3);
    co_return before == after&& in_order;
}

} // namespace

int main(int argc, char** argv) {
    std::size_t n = 2'000'000;
    if (argc > 1) {
        const std::string_view text = argv[1];
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
        if (error != std::errc() || end != text.data() + text.size()) {
            std::fprintf(stderr, "usage: parallel_sort [N]   sort N numbers; default 2000000\n");
            return 2;
        }
    }
    std::printf("workers          fill          sort         check\n");
    const magpie::runtime one = magpie::runtime::builder().worker_threads(1).build();
    const magpie::runtime all; // as many workers as the process may use
    bool right = true;
    for (const magpie::runtime* runtime : {&one, &all}) {
        std::printf("%7zu  ", runtime->worker_threads());
        right = runtime->block_on(program(n)) && right;
    }
    return right ? 0 : 1;
}
