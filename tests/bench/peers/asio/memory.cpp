// Rows about bytes.

#include "common.hpp"

#include <atomic>

namespace {
struct shared {
    explicit shared(executor ex) : never(ex, 1) {}

    std::atomic<std::uint64_t> started = 0;
    event never;
};

task<> wait_for_ever(std::shared_ptr<shared> s) {
    co_await hop();
    s->started.fetch_add(1, std::memory_order_relaxed);
    co_await s->never.async_receive(use_task);
}

task<> all_started(const shared& s, std::uint64_t count) {
    timer t(co_await asio::this_coro::executor);
    while (s.started.load(std::memory_order_relaxed) < count) {
        t.expires_after(std::chrono::milliseconds(1));
        co_await t.async_wait(use_task);
    }
}

task<bench::sample> spawn_waiters(std::shared_ptr<shared> s, std::uint64_t n) {
    const auto ex = co_await asio::this_coro::executor;
    asio::co_spawn(ex, wait_for_ever(s), asio::detached);
    co_await all_started(*s, 1);
    const auto before = bench::resident_bytes();
    const bench::stopwatch watch;
    for (std::uint64_t i = 0; i < n; ++i)
        asio::co_spawn(ex, wait_for_ever(s), asio::detached);
    co_await all_started(*s, n + 1);
    auto result = watch.stop(n);
    const auto growth = static_cast<double>(bench::resident_bytes() - before);
    result.add("bytes_per_task", growth / static_cast<double>(n));
    co_return result;
}

bench::sample memory_per_task(const bench::options& options) {
    auto rt = std::make_unique<runtime>(options.workers);
    auto s = std::make_shared<shared>(rt->get_executor());
    auto result = rt->run(spawn_waiters(s, options.n));
    const std::weak_ptr watched = std::exchange(s, nullptr);
    const auto start = bench::clock::now();
    rt.reset();
    result.add("drop_s", std::chrono::duration<double>(bench::clock::now() - start).count());
    bench::check("references after the drop", static_cast<std::uint64_t>(watched.use_count()), 0);
    return result;
}
} // namespace

std::vector<bench::workload> memory_workloads() {
    const auto prepare = [](const bench::options& options) -> bench::repetition {
        return [=] { return memory_per_task(options); };
    };
    return {{"memory_per_task", 1'000'000, prepare, {"bytes_per_task", "bytes/task"}, 0, true}};
}
