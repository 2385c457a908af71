// Rows about groups of tasks.

#include "common.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace {
using magpie::task;

constexpr std::uint64_t batch = 1000;

task<std::uint64_t> number(std::uint64_t i) { co_return i; }

task<bench::sample> join_set(bench::options options) {
    const bench::stopwatch watch;
    magpie::join_set<std::uint64_t> set;
    std::uint64_t sum = 0;
    for (std::uint64_t next = 0; next < options.n;) {
        const auto end = std::min(options.n, next + batch);
        for (; next < end; ++next)
            set.spawn(number(next));
        for (;;) {
            const std::optional<std::uint64_t> joined = co_await set.join_next();
            if (!joined)
                break;
            sum += *joined;
        }
    }
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return watch.stop(options.n);
}

task<> wait_for(magpie::cancellation_token token) { co_await token.cancelled(); }

task<bench::sample> cancel_tree(bench::options options) {
    const auto rounds = std::max<std::uint64_t>(options.n / batch, 1);
    const bench::stopwatch watch;
    std::vector<magpie::join_handle<>> waiting;
    waiting.reserve(batch);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const magpie::cancellation_token parent;
        for (std::uint64_t i = 0; i < batch; ++i)
            waiting.push_back(magpie::spawn(wait_for(parent.child_token())));
        co_await magpie::yield_now(); // most of them wait by now
        parent.cancel();
        for (auto& w : waiting)
            co_await w;
        waiting.clear();
    }
    co_return watch.stop(rounds * batch);
}
} // namespace

std::vector<bench::workload> grouping_workloads() {
    return {
        {"join_set", 1'000'000, on_worker(join_set)},
        {"cancel_tree", 1'000'000, on_worker(cancel_tree)},
    };
}
