// Rows about waking a task that waits.

#include "common.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <thread>
#include <vector>

namespace {
using magpie::task;
using namespace std::chrono_literals;

// An event is set once, so each ring has its own.
struct doorbell {
    explicit doorbell(std::uint64_t rings) : bells(rings) {}

    void ring() { // on a plain thread
        bench::set_finest_timer_slack();
        for (std::uint64_t i = 0; i < bells.size(); ++i) {
            do // at least once: the task must be parked when the bell rings
                std::this_thread::sleep_for(50us);
            while (answered.load(std::memory_order_acquire) != i);
            rung_at.store(bench::clock::now(), std::memory_order_release);
            bells[i].set();
        }
    }

    std::deque<magpie::sync::event> bells;
    std::atomic<bench::clock::time_point> rung_at{};
    std::atomic<std::uint64_t> answered = 0;
};

task<bench::sample> answer(doorbell& door) {
    const bench::stopwatch watch;
    std::vector<std::chrono::nanoseconds> delays;
    delays.reserve(door.bells.size());
    for (auto& bell : door.bells) {
        co_await bell.wait();
        delays.push_back(bench::clock::now() - door.rung_at.load(std::memory_order_acquire));
        door.answered.store(delays.size(), std::memory_order_release);
    }
    auto result = watch.stop(door.bells.size());
    result.add_percentiles(std::move(delays));
    co_return result;
}

bench::sample external_wake(magpie::runtime& rt, const bench::options& options) {
    doorbell door(options.n);
    const std::jthread ringer([&] { door.ring(); });
    return rt.block_on(answer(door));
}

struct parked {
    explicit parked(std::uint64_t count) : left(count) {}

    std::atomic<std::uint64_t> started = 0;
    std::atomic<std::uint64_t> left;
    magpie::sync::event all_gone;
    magpie::sync::event never;
};

/// Counts its destruction.
class counted {
public:
    explicit counted(std::shared_ptr<parked> p) : parked_(std::move(p)) {}
    counted(counted&&) = default;
    ~counted() {
        if (parked_ && parked_->left.fetch_sub(1, std::memory_order_acq_rel) == 1)
            parked_->all_gone.set();
    }
    parked* operator->() const { return parked_.get(); }

private:
    std::shared_ptr<parked> parked_;
};

task<> sleep_an_hour(counted p) {
    p->started.fetch_add(1, std::memory_order_relaxed);
    co_await magpie::sleep_for(1h);
}

task<> wait_for_ever(counted p) {
    p->started.fetch_add(1, std::memory_order_relaxed);
    co_await p->never.wait();
}

task<bench::sample> abort_parked(bench::options options) {
    const auto half = std::max<std::uint64_t>(options.n / 2, 1);
    const auto n = 2 * half;
    const auto p = std::make_shared<parked>(n);
    std::vector<magpie::join_handle<>> handles;
    handles.reserve(n);
    for (std::uint64_t i = 0; i < half; ++i) {
        handles.push_back(magpie::spawn(sleep_an_hour(counted(p))));
        handles.push_back(magpie::spawn(wait_for_ever(counted(p))));
    }
    while (p->started.load(std::memory_order_relaxed) < n)
        co_await magpie::sleep_for(1ms);
    co_await magpie::sleep_for(10ms); // the last one parks meanwhile
    const bench::stopwatch watch;
    for (const auto& handle : handles)
        handle.abort();
    co_await p->all_gone.wait();
    bench::check("tasks left", p->left.load(std::memory_order_relaxed), 0);
    co_return watch.stop(n);
}
} // namespace

std::vector<bench::workload> waking_workloads() {
    return {
        {"external_wake", 20'000, on_runtime(external_wake), {"p99_us", "p99 us"}},
        {"abort_parked", 100'000, on_worker(abort_parked)},
    };
}
