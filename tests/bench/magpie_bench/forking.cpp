// Rows about fork_join: parallel computing.

#include "forking.hpp"
#include "common.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <tuple>
#include <vector>

namespace {
using magpie::fork_join;
using magpie::task;

task<std::uint64_t> fib(unsigned k) {
    if (k < 2)
        co_return k;
    const auto both = co_await fork_join(fib(k - 1), fib(k - 2));
    co_return std::get<0>(both) + std::get<1>(both);
}

task<bench::sample> fork_fib(bench::options options) {
    const auto size = bench::largest_fib(options.n);
    const bench::stopwatch watch;
    bench::check("fib", co_await fib(size.k), size.result);
    co_return watch.stop(size.spawns);
}

task<std::uint64_t> node(std::uint64_t first, std::uint64_t leaves) {
    if (leaves == 1)
        co_return first;
    const auto part = leaves / 10;
    const auto child = [first, part](std::uint64_t i) { return node(first + i * part, part); };
    const auto sums = co_await fork_join(std::views::iota(std::uint64_t{0}, std::uint64_t{10}) |
                                         std::views::transform(child));
    std::uint64_t sum = 0;
    for (const std::uint64_t s : sums)
        sum += s;
    co_return sum;
}

task<bench::sample> fork_skynet(bench::options options) {
    const auto leaves = bench::full_tree_leaves(options.n);
    const bench::stopwatch watch;
    bench::check("sum", co_await node(0, leaves), bench::sum_below(leaves));
    co_return watch.stop(leaves);
}

/// Counts the solutions that begin as the board does.
task<> place(bench::board b, std::uint64_t& count) {
    if (b.rows == b.size) {
        count = 1;
        co_return;
    }
    bench::legal_columns columns(b);
    if (columns.size() == 0)
        co_return;
    std::array<std::uint64_t, bench::most_queens> counts{};
    const auto child = [&](unsigned column) { return place(b.with(column), counts[column]); };
    co_await fork_join(columns | std::views::transform(child));
    for (const std::uint64_t n : counts)
        count += n;
}

task<bench::sample> fork_nqueens(bench::options options) {
    const auto size = static_cast<unsigned>(std::min<std::uint64_t>(options.n, bench::most_queens));
    const bench::stopwatch watch;
    std::uint64_t count = 0;
    co_await place({.size = size}, count);
    bench::check("solutions", count, bench::queens_solutions(size));
    co_return watch.stop(size);
}

task<> multiply(bench::part a, bench::part b, bench::part c) {
    if (a.size <= bench::smallest_part) {
        bench::multiply_small(a, b, c);
        co_return;
    }
    for (std::size_t k = 0; k < 2; ++k)
        co_await fork_join(multiply(a.quarter(0, k), b.quarter(k, 0), c.quarter(0, 0)),
                           multiply(a.quarter(0, k), b.quarter(k, 1), c.quarter(0, 1)),
                           multiply(a.quarter(1, k), b.quarter(k, 0), c.quarter(1, 0)),
                           multiply(a.quarter(1, k), b.quarter(k, 1), c.quarter(1, 1)));
}

task<bench::sample> fork_matmul(bench::options options) {
    bench::product p(options.n);
    const bench::stopwatch watch;
    co_await multiply(p.a(), p.b(), p.c());
    auto result = watch.stop(p.operations());
    p.check();
    co_return result;
}
} // namespace

std::vector<bench::workload> forking_workloads() {
    const bench::figure seconds = {"seconds", "s"};
    return {
        {"fork_fib", 14'930'351, on_worker(fork_fib), seconds},
        {"fork_skynet", 10'000'000, on_worker(fork_skynet), seconds},
        {"fork_nqueens", 12, on_worker(fork_nqueens), seconds},
        {"fork_matmul", 1024, on_worker(fork_matmul), seconds},
    };
}
