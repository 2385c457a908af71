// Rows about making tasks and awaiting them. A group of operations stands for a group of handles.

#include "common.hpp"

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/parallel_group.hpp>

#include <algorithm>
#include <cstdint>
#include <future>
#include <numeric>
#include <tuple>

namespace {
using namespace asio::experimental::awaitable_operators;

/// Awaits all of `children`, which `co_spawn(…, asio::deferred)` made, and adds up their results.
template <class Child>
task<std::uint64_t> sum_of(std::vector<Child> children) {
    auto group = asio::experimental::make_parallel_group(std::move(children));
    auto [order, errors, results] = co_await group.async_wait(asio::experimental::wait_for_all(),
                                                              use_task);
    co_return std::accumulate(results.begin(), results.end(), std::uint64_t{0});
}

task<std::uint64_t> number(std::uint64_t i) {
    co_await hop();
    co_return i;
}

task<bench::sample> spawn_join(std::uint64_t n) {
    constexpr std::uint64_t batch = 1000;
    const auto ex = co_await asio::this_coro::executor;
    const auto spawn = [&](std::uint64_t i) { return asio::co_spawn(ex, number(i), asio::deferred); };
    const bench::stopwatch watch;
    std::uint64_t sum = 0;
    for (std::uint64_t next = 0; next < n;) {
        const auto end = std::min(n, next + batch);
        std::vector<decltype(spawn(0))> children;
        children.reserve(batch);
        for (; next < end; ++next)
            children.push_back(spawn(next));
        sum += co_await sum_of(std::move(children));
    }
    bench::check("sum", sum, bench::sum_below(n));
    co_return watch.stop(n);
}

bench::sample spawn_remote(runtime& rt, std::uint64_t n) {
    const bench::stopwatch watch;
    std::vector<std::future<std::uint64_t>> handles;
    handles.reserve(n);
    for (std::uint64_t i = 0; i < n; ++i)
        handles.push_back(asio::co_spawn(rt.get_executor(), number(i), asio::use_future));
    std::uint64_t sum = 0;
    for (auto& handle : handles)
        sum += handle.get();
    bench::check("sum", sum, bench::sum_below(n));
    return watch.stop(n);
}

task<> chain_link(std::uint64_t left, event& done) {
    co_await hop();
    if (left == 1)
        set(done);
    else
        asio::co_spawn(co_await asio::this_coro::executor, chain_link(left - 1, done), asio::detached);
}

task<bench::sample> chained_spawn(std::uint64_t n) {
    const auto ex = co_await asio::this_coro::executor;
    const bench::stopwatch watch;
    event done(ex, 1);
    asio::co_spawn(ex, chain_link(n, done), asio::detached);
    co_await done.async_receive(use_task);
    co_return watch.stop(n);
}

task<std::uint64_t> yields(std::uint64_t count) {
    co_await hop();
    std::uint64_t done = 0;
    for (; done < count; ++done)
        co_await asio::post(use_task);
    co_return done;
}

task<bench::sample> yield_many(std::uint64_t n) {
    constexpr std::uint64_t tasks = 200;
    const auto each = std::max<std::uint64_t>(n / tasks, 1);
    const auto ex = co_await asio::this_coro::executor;
    const bench::stopwatch watch;
    std::vector<decltype(asio::co_spawn(ex, yields(each), asio::deferred))> children;
    for (std::uint64_t i = 0; i < tasks; ++i)
        children.push_back(asio::co_spawn(ex, yields(each), asio::deferred));
    const auto done = co_await sum_of(std::move(children));
    bench::check("yields", done, tasks * each);
    co_return watch.stop(done);
}

task<std::uint64_t> skynet_node(std::uint64_t first, std::uint64_t leaves) {
    co_await hop();
    if (leaves == 1)
        co_return first;
    const auto ex = co_await asio::this_coro::executor;
    const auto part = leaves / 10;
    std::vector<decltype(asio::co_spawn(ex, skynet_node(first, part), asio::deferred))> children;
    children.reserve(10);
    for (std::uint64_t i = 0; i < 10; ++i)
        children.push_back(asio::co_spawn(ex, skynet_node(first + i * part, part), asio::deferred));
    co_return co_await sum_of(std::move(children));
}

task<bench::sample> skynet(std::uint64_t n) {
    const auto leaves = bench::full_tree_leaves(n);
    const bench::stopwatch watch;
    bench::check("sum", co_await skynet_node(0, leaves), bench::sum_below(leaves));
    co_return watch.stop(leaves);
}

task<std::uint64_t> fib_task(unsigned k);

task<std::uint64_t> fib_child(unsigned k) {
    co_await hop();
    co_return co_await fib_task(k);
}

task<std::uint64_t> fib_task(unsigned k) {
    if (k < 2)
        co_return k;
    const auto [spawned, inline_] = co_await (fib_child(k - 1) && fib_task(k - 2));
    co_return spawned + inline_;
}

task<bench::sample> fib(std::uint64_t n) {
    const auto size = bench::largest_fib(n);
    const bench::stopwatch watch;
    bench::check("fib", co_await fib_task(size.k), size.result);
    co_return watch.stop(size.spawns);
}

auto on_worker(task<bench::sample> (*body)(std::uint64_t)) {
    return on_runtime([=](runtime& rt, const bench::options& o) { return rt.run(body(o.n)); });
}
} // namespace

std::vector<bench::workload> spawning_workloads() {
    return {
        {"spawn_join", 1'000'000, on_worker(spawn_join)},
        {"spawn_remote", 200'000,
         on_runtime([](runtime& rt, const bench::options& o) { return spawn_remote(rt, o.n); })},
        {"chained_spawn", 1'000'000, on_worker(chained_spawn)},
        {"yield_many", 1'000'000, on_worker(yield_many)},
        {"skynet", 1'000'000, on_worker(skynet)},
        {"fib", 317'810, on_worker(fib)},
    };
}
