// Rows about two shards that are busy: on each a task yields without end.

#include "common.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace {
using magpie::join_handle;
using magpie::task;

// Relaxed: when exactly they end does not matter.
task<> yield_until(std::atomic<bool>& over) {
    while (!over.load(std::memory_order_relaxed))
        co_await magpie::yield_now();
}

/// Keeps the shards busy while `body` runs.
task<bench::sample> on_busy_shards(task<bench::sample> body) {
    std::atomic<bool> over = false;
    std::vector<join_handle<>> yielding;
    for (std::size_t s = 0; s < magpie::shard_count(); ++s)
        yielding.push_back(magpie::spawn_on(s, yield_until(over)));
    bench::sample result = co_await std::move(body);
    over.store(true, std::memory_order_relaxed);
    for (auto& y : yielding)
        co_await y;
    co_return result;
}

std::size_t other_shard() { return 1 - magpie::this_shard(); }

task<bench::sample> calls(bench::options options) {
    const std::size_t other = other_shard();
    const bench::stopwatch watch;
    for (std::uint64_t i = 0; i < options.n; ++i) {
        auto next = [i] { return i + 1; };
        const std::uint64_t answer = co_await magpie::submit_to(other, next);
        bench::check("answer", answer, i + 1);
    }
    co_return watch.stop(options.n);
}

task<> send_numbers(std::size_t to, std::uint64_t first, std::uint64_t end, std::uint64_t step,
                    std::uint64_t& sum) {
    for (std::uint64_t i = first; i < end; i += step) {
        auto add = [&sum, i] { sum += i; };
        co_await magpie::submit_to(to, add);
    }
}

/// As many numbers are under way as the peers' channels hold.
task<bench::sample> stream(bench::options options) {
    constexpr std::uint64_t under_way = 128;
    const std::size_t other = other_shard();
    std::uint64_t sum = 0; // the other shard's, until all is sent
    const bench::stopwatch watch;
    std::vector<join_handle<>> senders;
    for (std::uint64_t i = 0; i < under_way; ++i)
        senders.push_back(magpie::spawn(send_numbers(other, i, options.n, under_way, sum)));
    for (auto& s : senders)
        co_await s;
    auto result = watch.stop(options.n);
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return result;
}

auto on_two_shards(task<bench::sample> (*body)(bench::options)) {
    return [body](const bench::options& options) -> bench::repetition {
        auto rt = std::make_shared<magpie::runtime>(magpie::runtime::builder()
                                                        .layout(magpie::layout::thread_per_core)
                                                        .worker_threads(2)
                                                        .build());
        return [=] { return rt->block_on(on_busy_shards(body(options))); };
    };
}
} // namespace

std::vector<bench::workload> sharding_workloads() {
    return {
        {"submit_to", 200'000, on_two_shards(calls)},
        {"submit_stream", 5'000'000, on_two_shards(stream)},
    };
}
