// Rows about time: timers, time-outs, and who gets the worker when.

#include "common.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {
using magpie::task;
using std::chrono::nanoseconds;
using namespace std::chrono_literals;

/// Sleeps `d`; gives how much later than asked it went on.
task<nanoseconds> lateness(std::chrono::milliseconds d) {
    const auto start = bench::clock::now();
    co_await magpie::sleep_for(d);
    co_return bench::clock::now() - start - d;
}

void check_none_early(const std::vector<nanoseconds>& late) {
    const auto early = std::count_if(late.begin(), late.end(), [](auto l) { return l < 0ns; });
    bench::check("early sleeps", static_cast<std::uint64_t>(early), 0);
}

task<bench::sample> timers(bench::options options) {
    const bench::stopwatch watch;
    bench::random random(42);
    std::vector<magpie::join_handle<nanoseconds>> handles;
    handles.reserve(options.n);
    for (std::uint64_t i = 0; i < options.n; ++i)
        handles.push_back(magpie::spawn(lateness(std::chrono::milliseconds(1 + random.next() % 1000))));
    std::vector<nanoseconds> late;
    late.reserve(options.n);
    for (auto& handle : handles)
        late.push_back(co_await handle);
    check_none_early(late);
    auto result = watch.stop(options.n);
    result.add_percentiles(std::move(late));
    co_return result;
}

task<std::uint64_t> churn(std::uint64_t rounds) {
    std::uint64_t in_time = 0;
    for (std::uint64_t i = 0; i < rounds; ++i)
        in_time += co_await magpie::timeout(10s, magpie::yield_now()) ? 1 : 0;
    co_return in_time;
}

task<bench::sample> timeout_churn(bench::options options) {
    const bench::stopwatch watch;
    bench::check("bodies that ended in time", co_await churn(options.n), options.n);
    co_return watch.stop(options.n);
}

task<bench::sample> timeout_churn_mt(bench::options options) {
    constexpr std::uint64_t tasks = 64;
    const auto each = std::max<std::uint64_t>(options.n / tasks, 1);
    const bench::stopwatch watch;
    std::vector<magpie::join_handle<std::uint64_t>> handles;
    for (std::uint64_t i = 0; i < tasks; ++i)
        handles.push_back(magpie::spawn(churn(each)));
    std::uint64_t in_time = 0;
    for (auto& handle : handles)
        in_time += co_await handle;
    bench::check("bodies that ended in time", in_time, tasks * each);
    co_return watch.stop(in_time);
}

task<std::uint64_t> yield_forever(std::shared_ptr<std::atomic<bool>> stop) {
    std::uint64_t yields = 0;
    for (; !stop->load(std::memory_order_relaxed); ++yields)
        co_await magpie::yield_now();
    co_return yields;
}

task<std::uint64_t> compute_forever(std::shared_ptr<std::atomic<bool>> stop) {
    std::uint64_t yields = 0;
    for (; !stop->load(std::memory_order_relaxed); ++yields) {
        for (const auto start = bench::clock::now(); bench::clock::now() - start < 100ms;) {}
        co_await magpie::yield_now();
    }
    co_return yields;
}

task<std::vector<nanoseconds>> sleep_in_a_loop(bench::clock::time_point until) {
    std::vector<nanoseconds> late;
    do // at least one: a smoke run is short, and may be over before this has begun
        late.push_back(co_await lateness(1ms));
    while (bench::clock::now() < until);
    co_return late;
}

using hog_task = task<std::uint64_t> (*)(std::shared_ptr<std::atomic<bool>> stop);

task<bench::sample> fairness(bench::options options, hog_task hog) {
    const bench::stopwatch watch;
    const auto until = bench::clock::now() + std::chrono::duration_cast<nanoseconds>(
                                                 std::chrono::duration<double>(options.seconds));
    const auto stop = std::make_shared<std::atomic<bool>>(false);
    auto hogging = magpie::spawn(hog(stop));
    std::vector<magpie::join_handle<std::vector<nanoseconds>>> sleepers;
    for (std::uint64_t i = 0; i < options.n; ++i)
        sleepers.push_back(magpie::spawn(sleep_in_a_loop(until)));
    std::vector<nanoseconds> late;
    for (auto& sleeper : sleepers) {
        const auto one = co_await sleeper;
        late.insert(late.end(), one.begin(), one.end());
    }
    stop->store(true, std::memory_order_relaxed);
    const auto yields = co_await hogging;
    check_none_early(late);
    auto result = watch.stop(late.size());
    result.add("yields_per_s", static_cast<double>(yields) / options.seconds);
    result.add_percentiles(std::move(late));
    co_return result;
}

task<> wake_each_second() {
    for (;;)
        co_await magpie::sleep_for(1s);
}

task<> accept_one(magpie::io::tcp_listener listener) { co_await listener.accept(); }

bench::sample idle_cpu(magpie::runtime& rt, const bench::options& options) {
    const auto entered = rt.enter();
    auto listener = magpie::io::tcp_listener::bind(magpie::io::endpoint::loopback_v4(0));
    rt.spawn(accept_one(std::move(listener))).detach();
    rt.spawn(wake_each_second()).detach();
    std::this_thread::sleep_for(100ms); // the workers have gone to sleep
    const auto before = bench::usage();
    const bench::stopwatch watch;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    auto result = watch.stop(1);
    const auto after = bench::usage();
    const auto switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw;
    result.add("cpu_ms_per_s", result.cpu_seconds * 1000 / result.seconds);
    result.add("switches_per_s", static_cast<double>(switches) / result.seconds);
    return result;
}

auto fairness_beside(hog_task hog) {
    return on_worker([=](bench::options options) { return fairness(options, hog); });
}
} // namespace

std::vector<bench::workload> timing_workloads() {
    const bench::figure p99{"p99_us", "p99 us"};
    const bench::figure idle{"cpu_ms_per_s", "CPU ms/s"};
    return {
        {"timers", 200'000, on_worker(timers)},
        {"timeout_churn", 2'000'000, on_worker(timeout_churn)},
        {"timeout_churn_mt", 2'000'000, on_worker(timeout_churn_mt)},
        {"fairness_yield", 100, fairness_beside(yield_forever), p99, 2, true},
        {"fairness_busy", 100, fairness_beside(compute_forever), p99, 2, true},
        {"idle_cpu", 1, on_runtime(idle_cpu), idle, 10, true},
    };
}
