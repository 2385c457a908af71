// Rows about locks, permits and notifications between tasks.

#include "common.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {
using magpie::join_handle;
using magpie::task;
using magpie::sync::guarded;
using magpie::sync::guarded_shared;
using magpie::sync::notify;
using magpie::sync::semaphore;

constexpr std::uint64_t tasks = 64;

/// Spawns `tasks` of them, `make(number, operations of each)`, and awaits all. Gives the operations.
template <class Make>
task<std::uint64_t> run_all(std::uint64_t n, Make make) {
    const auto each = std::max<std::uint64_t>(n / tasks, 1);
    std::vector<join_handle<>> handles;
    handles.reserve(tasks);
    for (std::uint64_t i = 0; i < tasks; ++i)
        handles.push_back(magpie::spawn(make(i, each)));
    for (auto& handle : handles)
        co_await handle;
    co_return tasks* each;
}

task<> count(guarded<std::uint64_t>& counter, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
        auto value = co_await counter.lock();
        ++*value;
    }
}

task<> count_yielding(guarded<std::uint64_t>& counter, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
        auto value = co_await counter.lock();
        ++*value;
        co_await magpie::yield_now();
    }
}

task<bench::sample> mutex_uncontended(bench::options options) {
    guarded<std::uint64_t> counter(std::uint64_t{0});
    const bench::stopwatch watch;
    co_await count(counter, options.n);
    bench::check("count", **counter.try_lock(), options.n);
    co_return watch.stop(options.n);
}

task<bench::sample> mutex_contended(bench::options options) {
    guarded<std::uint64_t> counter(std::uint64_t{0});
    const bench::stopwatch watch;
    auto make = [&](std::uint64_t, std::uint64_t each) { return count(counter, each); };
    const auto ops = co_await run_all(options.n, make);
    bench::check("count", **counter.try_lock(), ops);
    co_return watch.stop(ops);
}

task<bench::sample> mutex_contended_yield(bench::options options) {
    guarded<std::uint64_t> counter(std::uint64_t{0});
    const bench::stopwatch watch;
    auto make = [&](std::uint64_t, std::uint64_t each) { return count_yielding(counter, each); };
    const auto ops = co_await run_all(options.n, make);
    bench::check("count", **counter.try_lock(), ops);
    co_return watch.stop(ops);
}

constexpr bool writes(std::uint64_t number, std::uint64_t i) { return (i + number) % 64 == 0; }

task<> read_or_write(guarded_shared<std::uint64_t>& counter, std::uint64_t number,
                     std::uint64_t times) {
    std::uint64_t seen = 0;
    for (std::uint64_t i = 0; i < times; ++i) {
        if (writes(number, i)) {
            auto value = co_await counter.lock();
            ++*value;
        } else {
            auto value = co_await counter.lock_shared();
            seen = std::max(seen, *value);
        }
    }
    bench::check("more than ever", seen > tasks * times ? 1 : 0, 0);
}

task<bench::sample> rwlock(bench::options options) {
    guarded_shared<std::uint64_t> counter(std::uint64_t{0});
    const bench::stopwatch watch;
    auto make = [&](std::uint64_t number, std::uint64_t each) {
        return read_or_write(counter, number, each);
    };
    const auto ops = co_await run_all(options.n, make);
    std::uint64_t written = 0;
    for (std::uint64_t t = 0; t < tasks; ++t)
        for (std::uint64_t i = 0; i < ops / tasks; ++i)
            written += writes(t, i) ? 1 : 0;
    auto result = watch.stop(ops);
    bench::check("written", **counter.try_lock(), written);
    co_return result;
}

task<> acquire_and_release(semaphore& s, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i)
        auto permit = co_await s.acquire();
}

task<> acquire_and_yield(semaphore& s, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
        auto permit = co_await s.acquire();
        co_await magpie::yield_now();
    }
}

task<bench::sample> semaphore_row(bench::options options) {
    semaphore s(10);
    const bench::stopwatch watch;
    auto make = [&](std::uint64_t, std::uint64_t each) { return acquire_and_release(s, each); };
    const auto ops = co_await run_all(options.n, make);
    bench::check("permits", s.available_permits(), 10);
    co_return watch.stop(ops);
}

task<bench::sample> semaphore_yield(bench::options options) {
    semaphore s(10);
    const bench::stopwatch watch;
    auto make = [&](std::uint64_t, std::uint64_t each) { return acquire_and_yield(s, each); };
    const auto ops = co_await run_all(options.n, make);
    bench::check("permits", s.available_permits(), 10);
    co_return watch.stop(ops);
}

task<> answer(notify& question, notify& reply, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
        co_await question.notified();
        reply.notify_one();
    }
}

task<std::uint64_t> ask(notify& question, notify& reply, std::uint64_t times) {
    std::uint64_t answered = 0;
    for (std::uint64_t i = 0; i < times; ++i) {
        question.notify_one();
        co_await reply.notified();
        ++answered;
    }
    co_return answered;
}

task<bench::sample> notify_row(bench::options options) {
    notify question;
    notify reply;
    const bench::stopwatch watch;
    auto answers = magpie::spawn(answer(question, reply, options.n));
    auto asks = magpie::spawn(ask(question, reply, options.n));
    bench::check("answers", co_await asks, options.n);
    co_await answers;
    co_return watch.stop(options.n);
}
} // namespace

std::vector<bench::workload> locking_workloads() {
    return {
        {"mutex_uncontended", 10'000'000, on_worker(mutex_uncontended)},
        {"mutex_contended", 1'280'000, on_worker(mutex_contended)},
        {"mutex_contended_yield", 320'000, on_worker(mutex_contended_yield)},
        {"rwlock", 1'280'000, on_worker(rwlock)},
        {"semaphore", 1'280'000, on_worker(semaphore_row)},
        {"semaphore_yield", 640'000, on_worker(semaphore_yield)},
        {"notify", 1'000'000, on_worker(notify_row)},
    };
}
