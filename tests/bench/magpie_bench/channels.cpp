// Rows about channels.

#include "common.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {
using magpie::task;
using magpie::sync::received;
using magpie::sync::send_result;
using namespace std::chrono_literals;
namespace broadcast = magpie::sync::broadcast;
namespace mpsc = magpie::sync::mpsc;
namespace oneshot = magpie::sync::oneshot;
namespace watch = magpie::sync::watch;

// --- queues ---

task<> produce(mpsc::sender<std::uint64_t> tx, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
        const send_result r = co_await tx.send(i);
        bench::check("sent", r ? 1 : 0, 1);
    }
}

task<> produce_unbounded(mpsc::unbounded_sender<std::uint64_t> tx, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i)
        bench::check("sent", tx.send(i) ? 1 : 0, 1);
    co_return;
}

task<std::uint64_t> consume(mpsc::receiver<std::uint64_t> rx) {
    std::uint64_t sum = 0;
    for (;;) {
        const std::optional<std::uint64_t> n = co_await rx.recv();
        if (!n)
            co_return sum;
        sum += *n;
    }
}

task<bench::sample> bounded(bench::options options, std::uint64_t producers) {
    const bench::stopwatch clock;
    const std::uint64_t each = std::max<std::uint64_t>(options.n / producers, 1);
    auto ends = mpsc::channel<std::uint64_t>(128);
    auto consumer = magpie::spawn(consume(std::move(ends.rx)));
    for (std::uint64_t i = 0; i < producers; ++i)
        magpie::spawn(produce(ends.tx, each)).detach();
    { const auto gone = std::move(ends.tx); }
    const std::uint64_t sum = co_await consumer;
    bench::check("sum", sum, producers * bench::sum_below(each));
    co_return clock.stop(producers * each);
}

task<bench::sample> mpsc_bounded(bench::options options) { return bounded(options, 1); }
task<bench::sample> mpsc_bounded_mp(bench::options options) { return bounded(options, 4); }

task<bench::sample> mpsc_unbounded(bench::options options) {
    const bench::stopwatch clock;
    auto ends = mpsc::unbounded_channel<std::uint64_t>();
    auto consumer = magpie::spawn(consume(std::move(ends.rx)));
    magpie::spawn(produce_unbounded(std::move(ends.tx), options.n)).detach();
    const std::uint64_t sum = co_await consumer;
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return clock.stop(options.n);
}

task<bench::sample> select_loop(bench::options options) {
    const bench::stopwatch clock;
    const std::uint64_t each = std::max<std::uint64_t>(options.n / 2, 1);
    auto a = mpsc::channel<std::uint64_t>(128);
    auto b = mpsc::channel<std::uint64_t>(128);
    magpie::spawn(produce(std::move(a.tx), each)).detach();
    magpie::spawn(produce(std::move(b.tx), each)).detach();
    magpie::interval every(1ms);
    std::uint64_t sum = 0;
    std::uint64_t ticks = 0;
    bool open[2] = {true, true};
    for (std::uint64_t got = 0; got < 2 * each;) {
        auto r = co_await magpie::select(magpie::when(open[0], a.rx.recv()),
                                         magpie::when(open[1], b.rx.recv()), every.tick());
        if (r.index() == 2) {
            ++ticks;
            continue;
        }
        const std::optional<std::uint64_t> n = r.index() == 0 ? r.get<0>() : r.get<1>();
        open[r.index()] = n.has_value();
        if (n) {
            sum += *n;
            ++got;
        }
    }
    bench::check("sum", sum, 2 * bench::sum_below(each));
    auto result = clock.stop(2 * each);
    result.add("ticks", static_cast<double>(ticks));
    co_return result;
}

// --- oneshot ---

task<bench::sample> oneshot_local(bench::options options) {
    const bench::stopwatch clock;
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < options.n; ++i) {
        auto ends = oneshot::channel<std::uint64_t>();
        bench::check("sent", ends.tx.send(i) ? 1 : 0, 1);
        const std::optional<std::uint64_t> n = co_await ends.rx.recv();
        sum += *n;
    }
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return clock.stop(options.n);
}

task<> answer(oneshot::sender<std::uint64_t> tx, std::uint64_t n) {
    static_cast<void>(tx.send(n));
    co_return;
}

task<bench::sample> oneshot_cross(bench::options options) {
    const bench::stopwatch clock;
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < options.n; ++i) {
        auto ends = oneshot::channel<std::uint64_t>();
        magpie::spawn(answer(std::move(ends.tx), i)).detach();
        const std::optional<std::uint64_t> n = co_await ends.rx.recv();
        sum += *n;
    }
    bench::check("sum", sum, bench::sum_below(options.n));
    co_return clock.stop(options.n);
}

task<> pong(oneshot::receiver<std::uint64_t> rx, oneshot::sender<std::uint64_t> tx) {
    const std::optional<std::uint64_t> n = co_await rx.recv();
    static_cast<void>(tx.send(*n + 1));
}

task<std::uint64_t> ping(std::uint64_t i) {
    auto there = oneshot::channel<std::uint64_t>();
    auto back = oneshot::channel<std::uint64_t>();
    magpie::spawn(pong(std::move(there.rx), std::move(back.tx))).detach();
    static_cast<void>(there.tx.send(i));
    const std::optional<std::uint64_t> n = co_await back.rx.recv();
    co_return *n;
}

task<bench::sample> ping_pong(bench::options options) {
    constexpr std::uint64_t pairs = 1000;
    const bench::stopwatch clock;
    const std::uint64_t rounds = std::max<std::uint64_t>(options.n / pairs, 1);
    std::vector<magpie::join_handle<std::uint64_t>> handles;
    handles.reserve(pairs);
    for (std::uint64_t r = 0; r < rounds; ++r) {
        for (std::uint64_t i = 0; i < pairs; ++i)
            handles.push_back(magpie::spawn(ping(i)));
        std::uint64_t sum = 0;
        for (auto& h : handles)
            sum += co_await h;
        handles.clear();
        bench::check("sum", sum, bench::sum_below(pairs) + pairs);
    }
    co_return clock.stop(rounds * pairs);
}

// --- broadcast ---

constexpr std::uint64_t burst = 512;

task<std::uint64_t> listen(broadcast::receiver<std::uint64_t> rx, mpsc::sender<std::uint64_t> done) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 1;; ++i) {
        const received<std::uint64_t> n = co_await rx.recv();
        if (!n)
            co_return sum;
        sum += *n;
        if (i % burst == 0) {
            const send_result r = co_await done.send(i);
            bench::check("acknowledged", r ? 1 : 0, 1);
        }
    }
}

task<bench::sample> broadcast_row(bench::options options) {
    constexpr std::uint64_t receivers = 4;
    const bench::stopwatch clock;
    const std::uint64_t bursts = std::max<std::uint64_t>(options.n / burst, 1);
    auto ends = broadcast::channel<std::uint64_t>(1024);
    auto done = mpsc::channel<std::uint64_t>(receivers);
    std::vector<magpie::join_handle<std::uint64_t>> handles;
    for (std::uint64_t i = 0; i < receivers; ++i)
        handles.push_back(magpie::spawn(listen(ends.tx.subscribe(), done.tx)));
    { const auto gone = std::move(ends.rx); }
    for (std::uint64_t i = 0; i < bursts * burst; ++i) {
        bench::check("sent", ends.tx.try_send(i) ? 1 : 0, 1);
        if ((i + 1) % burst == 0)
            for (std::uint64_t k = 0; k < receivers; ++k) {
                const std::optional<std::uint64_t> one = co_await done.rx.recv();
                bench::check("acknowledged", *one, i + 1);
            }
    }
    { const auto gone = std::move(ends.tx); }
    for (auto& h : handles) {
        const std::uint64_t sum = co_await h;
        bench::check("sum", sum, bench::sum_below(bursts * burst));
    }
    co_return clock.stop(bursts * burst);
}

// --- watch ---

task<std::uint64_t> follow(watch::receiver<std::uint64_t> rx, std::uint64_t last) {
    for (;;) {
        const bool changed = co_await rx.changed();
        if (!changed || *rx.borrow() == last)
            co_return *rx.borrow();
    }
}

task<bench::sample> watch_row(bench::options options) {
    const bench::stopwatch clock;
    auto ends = watch::channel(std::uint64_t{0});
    std::vector<magpie::join_handle<std::uint64_t>> handles;
    for (int i = 0; i < 4; ++i)
        handles.push_back(magpie::spawn(follow(ends.tx.subscribe(), options.n)));
    for (std::uint64_t i = 1; i <= options.n; ++i) {
        bench::check("sent", ends.tx.send(i) ? 1 : 0, 1);
        if (i % 64 == 0)
            co_await magpie::yield_now();
    }
    for (auto& h : handles) {
        const std::uint64_t last = co_await h;
        bench::check("last", last, options.n);
    }
    co_return clock.stop(options.n);
}

task<> echo(watch::receiver<std::uint64_t> rx, watch::sender<std::uint64_t> tx) {
    for (;;) {
        const bool changed = co_await rx.changed();
        if (!changed)
            co_return;
        static_cast<void>(tx.send(std::uint64_t(*rx.borrow())));
    }
}

task<bench::sample> watch_pingpong(bench::options options) {
    const bench::stopwatch clock;
    auto there = watch::channel(std::uint64_t{0});
    auto back = watch::channel(std::uint64_t{0});
    auto other = magpie::spawn(echo(std::move(there.rx), std::move(back.tx)));
    for (std::uint64_t i = 1; i <= options.n; ++i) {
        static_cast<void>(there.tx.send(i));
        const bool changed = co_await back.rx.changed();
        bench::check("answer", changed ? *back.rx.borrow() : 0, i);
    }
    { const auto gone = std::move(there.tx); }
    co_await other;
    co_return clock.stop(options.n);
}

// --- bytes ---

template <class Make>
double bytes_each(Make make, std::uint64_t n) {
    std::vector<decltype(make())> all;
    all.reserve(n);
    const auto before = bench::resident_bytes();
    for (std::uint64_t i = 0; i < n; ++i)
        all.push_back(make());
    // The handles' own pages are touched in between, on all sides.
    return static_cast<double>(bench::resident_bytes() - before) / static_cast<double>(n);
}

task<bench::sample> channel_bytes(bench::options options) {
    const bench::stopwatch clock;
    const double bounded_bytes = bytes_each([] { return mpsc::channel<std::uint64_t>(128); },
                                            options.n);
    const double unbounded_bytes = bytes_each([] { return mpsc::unbounded_channel<std::uint64_t>(); },
                                              options.n);
    auto result = clock.stop(2 * options.n);
    result.add("bytes_per_channel", bounded_bytes);
    result.add("bytes_per_unbounded", unbounded_bytes);
    result.add("sizeof_sender", sizeof(mpsc::sender<std::uint64_t>));
    result.add("sizeof_receiver", sizeof(mpsc::receiver<std::uint64_t>));
    co_return result;
}
} // namespace

std::vector<bench::workload> channel_workloads() {
    return {
        {"mpsc_bounded", 5'000'000, on_worker(mpsc_bounded)},
        {"mpsc_bounded_mp", 5'000'000, on_worker(mpsc_bounded_mp)},
        {"mpsc_unbounded", 5'000'000, on_worker(mpsc_unbounded)},
        {"select_loop", 1'000'000, on_worker(select_loop)},
        {"oneshot_local", 5'000'000, on_worker(oneshot_local)},
        {"oneshot_cross", 1'000'000, on_worker(oneshot_cross)},
        {"ping_pong", 200'000, on_worker(ping_pong)},
        {"broadcast", 1'000'000, on_worker(broadcast_row)},
        {"watch", 1'000'000, on_worker(watch_row)},
        {"watch_pingpong", 500'000, on_worker(watch_pingpong)},
        {"channel_bytes",
         100'000,
         [](const bench::options& options) -> bench::repetition {
             return [=] { return make_runtime(options).block_on(channel_bytes(options)); };
         },
         {"bytes_per_channel", "bytes/channel"},
         0,
         true},
    };
}
