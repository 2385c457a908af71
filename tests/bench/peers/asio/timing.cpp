// Rows about time: timers, time-outs, and who gets the worker when.

#include "common.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <atomic>

namespace {
using namespace std::chrono_literals;
using std::chrono::nanoseconds;

/// Tasks that end without a handle, counted: the last one sets the event.
struct countdown {
    countdown(executor ex, std::uint64_t count) : left(count), done(ex, 1) {}
    void arrive() {
        if (left.fetch_sub(1, std::memory_order_acq_rel) == 1)
            set(done);
    }
    auto wait() { return done.async_receive(use_task); }

    std::atomic<std::uint64_t> left;
    event done;
};

void check_none_early(const std::vector<nanoseconds>& late) {
    bench::check("early sleeps",
                 static_cast<std::uint64_t>(
                     std::count_if(late.begin(), late.end(), [](auto l) { return l < 0ns; })),
                 0);
}

/// Sleeps `d`; gives how much later than asked it went on.
task<nanoseconds> lateness(std::chrono::milliseconds d) {
    const auto start = bench::clock::now();
    timer t(co_await asio::this_coro::executor, d);
    co_await t.async_wait(use_task);
    co_return bench::clock::now() - start - d;
}

task<> one_timer(std::chrono::milliseconds d, nanoseconds& late, countdown& all) {
    co_await hop();
    late = co_await lateness(d);
    all.arrive();
}

task<bench::sample> timers(std::uint64_t n) {
    const auto ex = co_await asio::this_coro::executor;
    const bench::stopwatch watch;
    bench::random random(42);
    std::vector<nanoseconds> late(n);
    countdown all(ex, n);
    for (auto& l : late) {
        const std::chrono::milliseconds d(1 + random.next() % 1000);
        asio::co_spawn(ex, one_timer(d, l, all), asio::detached);
    }
    co_await all.wait();
    check_none_early(late);
    auto result = watch.stop(n);
    result.add_percentiles(std::move(late));
    co_return result;
}

strand_task<> one_yield() { co_await asio::post(use_strand_task); }

strand_task<> churn(std::uint64_t rounds, std::atomic<std::uint64_t>& done, countdown& all) {
    using namespace asio::experimental::awaitable_operators;
    const auto ex = co_await asio::this_coro::executor;
    for (std::uint64_t i = 0; i < rounds; ++i) {
        strand_timer deadline(ex, 10s);
        const auto first = co_await (one_yield() || deadline.async_wait(use_strand_task));
        if (first.index() == 0)
            done.fetch_add(1, std::memory_order_relaxed);
    }
    all.arrive();
}

task<bench::sample> timeout_churn(std::uint64_t n, std::uint64_t tasks) {
    const auto ex = co_await asio::this_coro::executor;
    const auto each = std::max<std::uint64_t>(n / tasks, 1);
    const bench::stopwatch watch;
    std::atomic<std::uint64_t> done = 0;
    countdown all(ex, tasks);
    for (std::uint64_t i = 0; i < tasks; ++i)
        asio::co_spawn(strand(ex), churn(each, done, all), asio::detached);
    co_await all.wait();
    bench::check("bodies that ended in time", done, tasks * each);
    co_return watch.stop(tasks * each);
}

struct hog {
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> yields = 0;
};

void compute() {
    for (const auto start = bench::clock::now(); bench::clock::now() - start < 100ms;) {}
}

task<> run_hog(hog& h, void (*work)(), countdown& all) {
    co_await hop();
    while (!h.stop.load(std::memory_order_relaxed)) {
        work();
        co_await asio::post(use_task);
        h.yields.fetch_add(1, std::memory_order_relaxed);
    }
    all.arrive();
}

task<> sleep_in_a_loop(bench::clock::time_point until, std::vector<nanoseconds>& late, countdown& all) {
    co_await hop();
    while (bench::clock::now() < until)
        late.push_back(co_await lateness(1ms));
    all.arrive();
}

task<bench::sample> fairness(bench::options options, void (*work)()) {
    const auto ex = co_await asio::this_coro::executor;
    const bench::stopwatch watch;
    const auto until = bench::clock::now() + std::chrono::duration_cast<nanoseconds>(
                                                 std::chrono::duration<double>(options.seconds));
    hog h;
    countdown hog_ended(ex, 1);
    asio::co_spawn(ex, run_hog(h, work, hog_ended), asio::detached);
    std::vector<std::vector<nanoseconds>> late(options.n);
    countdown sleepers(ex, options.n);
    for (auto& l : late)
        asio::co_spawn(ex, sleep_in_a_loop(until, l, sleepers), asio::detached);
    co_await sleepers.wait();
    h.stop = true;
    co_await hog_ended.wait();
    std::vector<nanoseconds> all;
    for (const auto& l : late)
        all.insert(all.end(), l.begin(), l.end());
    check_none_early(all);
    auto result = watch.stop(all.size());
    result.add("yields_per_s", static_cast<double>(h.yields) / options.seconds);
    result.add_percentiles(std::move(all));
    co_return result;
}

using asio::ip::tcp;
using acceptor = asio::basic_socket_acceptor<tcp, executor>;

task<> accept_one(acceptor& listener) { co_await listener.async_accept(asio::as_tuple(use_task)); }

task<> wake_each_second() {
    for (;;)
        co_await lateness(1s);
}

bench::sample idle_cpu(runtime& rt, const bench::options& options) {
    acceptor listener(rt.get_executor(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    asio::co_spawn(rt.get_executor(), accept_one(listener), asio::detached);
    asio::co_spawn(rt.get_executor(), wake_each_second(), asio::detached);
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

auto churn_with(std::uint64_t tasks) {
    return on_runtime(
        [=](runtime& rt, const bench::options& o) { return rt.run(timeout_churn(o.n, tasks)); });
}

auto fairness_beside(void (*work)()) {
    return on_runtime([=](runtime& rt, const bench::options& o) { return rt.run(fairness(o, work)); });
}
} // namespace

std::vector<bench::workload> timing_workloads() {
    const bench::figure p99{"p99_us", "p99 us"};
    return {
        {"timers", 200'000,
         on_runtime([](runtime& rt, const bench::options& o) { return rt.run(timers(o.n)); })},
        {"timeout_churn", 2'000'000, churn_with(1)},
        {"timeout_churn_mt", 2'000'000, churn_with(64)},
        {"fairness_yield", 100, fairness_beside([] {}), p99, 2, true},
        {"fairness_busy", 100, fairness_beside(compute), p99, 2, true},
        {"idle_cpu", 1, on_runtime(idle_cpu), {"cpu_ms_per_s", "CPU ms/s"}, 10, true},
    };
}
