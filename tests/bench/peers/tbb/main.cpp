// oneTBB: a task_group at each node, run for all children but the last, which the node calls itself.

#include "forking.hpp"
#include "harness.hpp"
#include "server.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>
#include <oneapi/tbb/version.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace {
using tbb::task_group;

std::uint64_t fib(unsigned k) {
    if (k < 2)
        return k;
    std::uint64_t first = 0;
    task_group group;
    group.run([&first, k] { first = fib(k - 1); });
    const std::uint64_t second = fib(k - 2);
    group.wait();
    return first + second;
}

bench::sample fork_fib(const bench::options& options) {
    const auto size = bench::largest_fib(options.n);
    const bench::stopwatch watch;
    bench::check("fib", fib(size.k), size.result);
    return watch.stop(size.spawns);
}

std::uint64_t node(std::uint64_t first, std::uint64_t leaves) {
    if (leaves == 1)
        return first;
    const auto part = leaves / 10;
    std::array<std::uint64_t, 10> sums{};
    task_group group;
    for (std::uint64_t i = 0; i < 9; ++i)
        group.run([&s = sums[i], first, i, part] { s = node(first + i * part, part); });
    sums[9] = node(first + 9 * part, part);
    group.wait();
    std::uint64_t sum = 0;
    for (const std::uint64_t s : sums)
        sum += s;
    return sum;
}

bench::sample fork_skynet(const bench::options& options) {
    const auto leaves = bench::full_tree_leaves(options.n);
    const bench::stopwatch watch;
    bench::check("sum", node(0, leaves), bench::sum_below(leaves));
    return watch.stop(leaves);
}

std::uint64_t place(const bench::board& b) {
    if (b.rows == b.size)
        return 1;
    const bench::legal_columns columns(b);
    if (columns.size() == 0)
        return 0;
    const unsigned* const last = columns.end() - 1;
    std::array<std::uint64_t, bench::most_queens> sums{};
    task_group group;
    for (const unsigned* c = columns.begin(); c != last; ++c)
        group.run([&s = sums[*c], next = b.with(*c)] { s = place(next); });
    std::uint64_t sum = place(b.with(*last));
    group.wait();
    for (const std::uint64_t s : sums)
        sum += s;
    return sum;
}

bench::sample fork_nqueens(const bench::options& options) {
    const auto size = static_cast<unsigned>(std::min<std::uint64_t>(options.n, bench::most_queens));
    const bench::stopwatch watch;
    bench::check("solutions", place({.size = size}), bench::queens_solutions(size));
    return watch.stop(size);
}

void multiply(bench::part a, bench::part b, bench::part c) {
    if (a.size <= bench::smallest_part) {
        bench::multiply_small(a, b, c);
        return;
    }
    for (std::size_t k = 0; k < 2; ++k) {
        task_group group;
        group.run([=] { multiply(a.quarter(0, k), b.quarter(k, 0), c.quarter(0, 0)); });
        group.run([=] { multiply(a.quarter(0, k), b.quarter(k, 1), c.quarter(0, 1)); });
        group.run([=] { multiply(a.quarter(1, k), b.quarter(k, 0), c.quarter(1, 0)); });
        multiply(a.quarter(1, k), b.quarter(k, 1), c.quarter(1, 1));
        group.wait();
    }
}

bench::sample fork_matmul(const bench::options& options) {
    bench::product p(options.n);
    const bench::stopwatch watch;
    multiply(p.a(), p.b(), p.c());
    auto result = watch.stop(p.operations());
    p.check();
    return result;
}

/// Threads that stay for all repetitions.
class threads {
public:
    explicit threads(unsigned n)
        : limit_(tbb::global_control::max_allowed_parallelism, n), arena_(static_cast<int>(n)) {}
    template <class F>
    auto run(F f) {
        return arena_.execute(f);
    }

private:
    tbb::global_control limit_;
    tbb::task_arena arena_;
};

auto in_arena(bench::sample (*body)(const bench::options&)) {
    return [body](const bench::options& options) -> bench::repetition {
        auto all = std::make_shared<threads>(options.workers);
        return [=] { return all->run([&] { return body(options); }); };
    };
}
} // namespace

std::string bench::peer_name() { return "tbb"; }

std::string bench::peer_version() {
    return std::to_string(TBB_VERSION_MAJOR) + '.' + std::to_string(TBB_VERSION_MINOR);
}

std::vector<bench::workload> bench::workloads() {
    const bench::figure seconds = {"seconds", "s"};
    return {
        {"fork_fib", 14'930'351, in_arena(fork_fib), seconds},
        {"fork_skynet", 10'000'000, in_arena(fork_skynet), seconds},
        {"fork_nqueens", 12, in_arena(fork_nqueens), seconds},
        {"fork_matmul", 1024, in_arena(fork_matmul), seconds},
    };
}

std::vector<bench::server> bench::servers() { return {}; }
