// Rows about making tasks and awaiting them.

#include "common.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace {
using magpie::join_handle;
using magpie::task;

task<std::uint64_t> number(std::uint64_t i) { co_return i; }

task<bench::sample> spawn_join(bench::options options) {
    constexpr std::uint64_t batch = 1000;
    const bench::stopwatch watch;
    std::vector<join_handle<std::uint64_t>> handles;
    handles.reserve(batch);
    std::uint64_t sum = 0;
    for (std::uint64_t next = 0; next < options.n;) {
        const auto end = std::min(options.n, next + batch);
        for (; next < end; ++next)
            handles.push_back(magpie::spawn(number(next)));
        for (auto& handle : handles)
            sum += co_await handle;
        handles.clear();
    }
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return watch.stop(options.n);
}

bench::sample spawn_remote(magpie::runtime& rt, const bench::options& options) {
    const bench::stopwatch watch;
    std::vector<join_handle<std::uint64_t>> handles;
    handles.reserve(options.n);
    for (std::uint64_t i = 0; i < options.n; ++i)
        handles.push_back(rt.spawn(number(i)));
    std::uint64_t sum = 0;
    for (auto& handle : handles)
        sum += handle.blocking_join();
    handles.clear();
    bench::check("sum", sum, bench::sum_below(options.n));
    return watch.stop(options.n);
}

// The event is shared: its waiter may be gone before set() has returned.
task<> chain_link(std::uint64_t left, std::shared_ptr<magpie::sync::event> done) {
    if (left == 1)
        done->set();
    else
        magpie::spawn(chain_link(left - 1, std::move(done))).detach();
    co_return;
}

task<bench::sample> chained_spawn(bench::options options) {
    const bench::stopwatch watch;
    const auto done = std::make_shared<magpie::sync::event>();
    magpie::spawn(chain_link(options.n, done)).detach();
    co_await done->wait();
    co_return watch.stop(options.n);
}

task<std::uint64_t> yields(std::uint64_t count) {
    std::uint64_t done = 0;
    for (; done < count; ++done)
        co_await magpie::yield_now();
    co_return done;
}

task<bench::sample> yield_many(bench::options options) {
    constexpr std::uint64_t tasks = 200;
    const auto each = std::max<std::uint64_t>(options.n / tasks, 1);
    const bench::stopwatch watch;
    std::vector<join_handle<std::uint64_t>> handles;
    for (std::uint64_t i = 0; i < tasks; ++i)
        handles.push_back(magpie::spawn(yields(each)));
    std::uint64_t done = 0;
    for (auto& handle : handles)
        done += co_await handle;
    bench::check("yields", done, tasks * each);
    co_return watch.stop(done);
}

task<std::uint64_t> skynet_node(std::uint64_t first, std::uint64_t leaves) {
    if (leaves == 1)
        co_return first;
    const auto part = leaves / 10;
    std::array<join_handle<std::uint64_t>, 10> children;
    for (std::uint64_t i = 0; i < children.size(); ++i)
        children[i] = magpie::spawn(skynet_node(first + i * part, part));
    std::uint64_t sum = 0;
    for (auto& child : children)
        sum += co_await child;
    co_return sum;
}

task<bench::sample> skynet(bench::options options) {
    const auto leaves = bench::full_tree_leaves(options.n);
    const bench::stopwatch watch;
    auto root = magpie::spawn(skynet_node(0, leaves));
    bench::check("sum", co_await root, bench::sum_below(leaves));
    co_return watch.stop(leaves);
}

task<std::uint64_t> fib_task(unsigned k) {
    if (k < 2)
        co_return k;
    auto spawned = magpie::spawn(fib_task(k - 1));
    const auto inlined = co_await fib_task(k - 2);
    co_return co_await spawned + inlined;
}

task<bench::sample> fib(bench::options options) {
    const auto size = bench::largest_fib(options.n);
    const bench::stopwatch watch;
    bench::check("fib", co_await fib_task(size.k), size.result);
    co_return watch.stop(size.spawns);
}

task<bench::sample> spawn_blocking_seq(bench::options options) {
    const bench::stopwatch watch;
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < options.n; ++i) {
        auto handle = magpie::spawn_blocking([i] { return i; });
        sum += co_await handle;
    }
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return watch.stop(options.n);
}

task<bench::sample> spawn_blocking_conc(bench::options options) {
    const bench::stopwatch watch;
    std::vector<join_handle<std::uint64_t>> handles;
    handles.reserve(options.n);
    for (std::uint64_t i = 0; i < options.n; ++i)
        handles.push_back(magpie::spawn_blocking([i] { return i; }));
    std::uint64_t sum = 0;
    for (auto& handle : handles)
        sum += co_await handle;
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return watch.stop(options.n);
}
} // namespace

std::vector<bench::workload> spawning_workloads() {
    return {
        {"spawn_join", 1'000'000, on_worker(spawn_join)},
        {"spawn_remote", 200'000, on_runtime(spawn_remote)},
        {"chained_spawn", 1'000'000, on_worker(chained_spawn)},
        {"yield_many", 1'000'000, on_worker(yield_many)},
        {"skynet", 1'000'000, on_worker(skynet)},
        {"fib", 317'810, on_worker(fib)},
        {"spawn_blocking_seq", 100'000, on_worker(spawn_blocking_seq)},
        {"spawn_blocking_conc", 10'000, on_worker(spawn_blocking_conc)},
    };
}
