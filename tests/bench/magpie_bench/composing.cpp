// Rows about several things at a time inside one task: select and join.

#include "common.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

namespace {
using magpie::task;
using namespace std::chrono_literals;

task<bench::sample> select_ready(bench::options options) {
    const magpie::cancellation_token never;
    std::uint64_t won = 0;
    const bench::stopwatch watch;
    for (std::uint64_t i = 0; i < options.n; ++i) {
        auto first = co_await magpie::select(magpie::yield_now(), magpie::sleep_for(10s),
                                             never.cancelled());
        won += first.index() == 0 ? 1 : 0;
    }
    bench::check("yields that won", won, options.n);
    co_return watch.stop(options.n);
}

task<std::uint64_t> number(std::uint64_t i) { co_return i; }

task<std::uint64_t> number_after_yield(std::uint64_t i) {
    co_await magpie::yield_now();
    co_return i;
}

/// Joins 1000 at a time, until they are n.
task<bench::sample> join(bench::options options, task<std::uint64_t> (*child)(std::uint64_t)) {
    const auto width = std::min<std::uint64_t>(options.n, 1000);
    const auto rounds = options.n / width;
    const bench::stopwatch watch;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::vector<task<std::uint64_t>> children;
        children.reserve(width);
        for (std::uint64_t i = 0; i < width; ++i)
            children.push_back(child(i));
        const auto values = co_await magpie::join(std::move(children));
        std::uint64_t sum = 0;
        for (const auto value : values)
            sum += value;
        bench::check("sum of the children's numbers", sum, bench::sum_below(width));
    }
    co_return watch.stop(rounds * width);
}

task<bench::sample> join_ready(bench::options options) { return join(options, number); }
task<bench::sample> join_yielding(bench::options options) { return join(options, number_after_yield); }
} // namespace

std::vector<bench::workload> composing_workloads() {
    return {
        {"select_ready", 1'000'000, on_worker(select_ready)},
        {"join_ready", 1'000'000, on_worker(join_ready)},
        {"join_yielding", 1'000'000, on_worker(join_yielding)},
    };
}
