// Rows about waking a task that waits. No abort_parked: a channel looks for the operation that is to
// be cancelled through all that wait in it, which makes 50,000 of them take minutes.

#include "common.hpp"

#include <atomic>

namespace {
using std::chrono::nanoseconds;

struct doorbell {
    doorbell(executor ex, std::uint64_t count) : bell(ex, 1), rings(count) {}

    void ring() { // on a plain thread
        bench::set_finest_timer_slack();
        for (std::uint64_t i = 0; i < rings; ++i) {
            do // at least once: the task must be parked when the bell rings
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            while (answered.load(std::memory_order_acquire) != i);
            rung_at.store(bench::clock::now(), std::memory_order_release);
            set(bell);
        }
    }

    event bell;
    std::uint64_t rings;
    std::atomic<bench::clock::time_point> rung_at{};
    std::atomic<std::uint64_t> answered = 0;
};

task<bench::sample> answer(doorbell& door) {
    const bench::stopwatch watch;
    std::vector<nanoseconds> delays;
    delays.reserve(door.rings);
    for (std::uint64_t i = 0; i < door.rings; ++i) {
        co_await door.bell.async_receive(use_task);
        delays.push_back(bench::clock::now() - door.rung_at.load(std::memory_order_acquire));
        door.answered.store(i + 1, std::memory_order_release);
    }
    auto result = watch.stop(door.rings);
    result.add_percentiles(std::move(delays));
    co_return result;
}

bench::sample external_wake(runtime& rt, const bench::options& options) {
    doorbell door(rt.get_executor(), options.n);
    const std::jthread ringer([&] { door.ring(); });
    return rt.run(answer(door));
}
} // namespace

std::vector<bench::workload> waking_workloads() {
    return {{"external_wake", 20'000, on_runtime(external_wake), {"p99_us", "p99 us"}}};
}
