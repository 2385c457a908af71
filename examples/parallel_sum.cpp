// Divide and conquer: the lengths of all Collatz sequences that begin below a limit, summed up.
// A range is halved until it is small; one half is spawned, the other is done here. First on one
// worker, then on all: the program is the same.
//
// Try it with another limit: build/release/examples/parallel_sum 10000000

#include <magpie/magpie.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <system_error>

namespace {

constexpr std::uint64_t grain = 5'000; // numbers that are not worth another task: some 0.5 ms

// How many steps n takes to 1: n / 2 if even, 3n + 1 if odd.
std::uint64_t steps(std::uint64_t n) {
    std::uint64_t count = 0;
    for (; n > 1; ++count)
        n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    return count;
}

magpie::task<std::uint64_t> sum(std::uint64_t first, std::uint64_t last) {
    if (last - first <= grain) {
        std::uint64_t total = 0;
        for (std::uint64_t n = first; n < last; ++n)
            total += steps(n);
        co_return total;
    }
    const std::uint64_t middle = first + (last - first) / 2;
    magpie::join_handle<std::uint64_t> right = magpie::spawn(sum(middle, last)); // for whoever has time
    const std::uint64_t left = co_await sum(first, middle);
    co_return left + co_await right;
}

struct figures {
    std::uint64_t total = 0;
    double seconds = 0;
    std::uint64_t tasks = 0;
    std::uint64_t steals = 0;
    std::uint64_t stolen = 0;
};

figures run_on(const magpie::runtime& runtime, std::uint64_t limit) {
    figures f;
    const auto begin = std::chrono::steady_clock::now();
    f.total = runtime.block_on(sum(1, limit));
    f.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const magpie::runtime_metrics m = runtime.metrics();
    f.tasks = m.spawned;
    for (const magpie::worker_metrics& w : m.workers) {
        f.steals += w.steals;
        f.stolen += w.stolen_tasks;
    }
    return f;
}

void print(std::size_t workers, const figures& f, double base) {
    std::printf("%7zu  %9.1f ms  %8.2f  %6llu  %6llu  %6llu\n", workers, f.seconds * 1e3,
                base / f.seconds, static_cast<unsigned long long>(f.tasks),
                static_cast<unsigned long long>(f.steals), static_cast<unsigned long long>(f.stolen));
}

} // namespace

int main(int argc, char** argv) {
    std::uint64_t limit = 3'000'000;
    if (argc > 1) {
        const std::string_view text = argv[1];
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
        if (error != std::errc() || end != text.data() + text.size() || limit < 1) {
            std::fprintf(stderr,
                         "usage: parallel_sum [LIMIT]   sum below LIMIT, 1 or more; default 3000000\n");
            return 2;
        }
    }

    const magpie::runtime one = magpie::runtime::builder().worker_threads(1).build();
    const magpie::runtime all; // as many workers as the process may use
    const figures alone = run_on(one, limit);
    const figures together = run_on(all, limit);

    std::printf("workers         time  speed-up   tasks  steals  stolen\n");
    print(one.worker_threads(), alone, alone.seconds);
    print(all.worker_threads(), together, alone.seconds);
    std::printf("sum: %llu\n", static_cast<unsigned long long>(together.total));
    return alone.total == together.total ? 0 : 1;
}
