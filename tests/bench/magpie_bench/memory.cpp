// Rows about bytes.

#include "common.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>

namespace {
using magpie::task;
using namespace std::chrono_literals;

struct shared {
    std::atomic<std::uint64_t> started = 0;
    magpie::sync::event never;
};

task<> wait_for_ever(std::shared_ptr<shared> s) {
    s->started.fetch_add(1, std::memory_order_relaxed);
    co_await s->never.wait();
}

task<> all_started(const shared& s, std::uint64_t count) {
    while (s.started.load(std::memory_order_relaxed) < count)
        co_await magpie::sleep_for(1ms);
}

task<bench::sample> spawn_waiters(std::shared_ptr<shared> s, std::uint64_t n) {
    magpie::spawn(wait_for_ever(s)).detach();
    co_await all_started(*s, 1);
    const auto before = bench::resident_bytes();
    const bench::stopwatch watch;
    for (std::uint64_t i = 0; i < n; ++i)
        magpie::spawn(wait_for_ever(s)).detach();
    co_await all_started(*s, n + 1);
    auto result = watch.stop(n);
    const auto growth = static_cast<double>(bench::resident_bytes() - before);
    result.add("bytes_per_task", growth / static_cast<double>(n));
    co_return result;
}

bench::sample memory_per_task(const bench::options& options) {
    std::optional<magpie::runtime> rt(make_runtime(options));
    const auto s = std::make_shared<shared>();
    auto result = rt->block_on(spawn_waiters(s, options.n));
    bench::check("references", static_cast<std::uint64_t>(s.use_count()), options.n + 2);
    const auto start = bench::clock::now();
    rt.reset();
    result.add("drop_s", std::chrono::duration<double>(bench::clock::now() - start).count());
    bench::check("references after the drop", static_cast<std::uint64_t>(s.use_count()), 1);
    return result;
}
} // namespace

std::vector<bench::workload> memory_workloads() {
    const auto prepare = [](const bench::options& options) -> bench::repetition {
        return [=] { return memory_per_task(options); };
    };
    return {{"memory_per_task", 1'000'000, prepare, {"bytes_per_task", "bytes/task"}, 0, true}};
}
