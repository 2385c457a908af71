// A pool that steals, whose workers have a reactor each. (The other suites run on it as on the layouts.)

#include <magpie/core.hpp>
#include <magpie/io.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <span>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::runtime_handle;
using magpie::spawn_on_worker;
using magpie::task;
using magpie::io::endpoint;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;

namespace {

magpie::runtime_builder pool(std::size_t workers) {
    return test::multi_thread(workers).reactor_per_worker(true);
}

task<> echo(tcp_stream s) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    while (co_await s.read(one) > 0)
        co_await magpie::io::write_all(s, one);
}

/// Serves one end on the whole pool, and asks it so many times.
task<int> ask(test::stream_pair pair, int times) {
    tcp_stream here = std::move(pair.here);
    runtime_handle::current().spawn(echo(std::move(pair.there))).detach();
    int right = 0;
    for (int i = 0; i < times; ++i) {
        std::byte b{static_cast<unsigned char>(i)};
        const std::span<std::byte> one(&b, 1);
        co_await magpie::io::write_all(here, one);
        co_await magpie::io::read_exact(here, one);
        right += b == std::byte{static_cast<unsigned char>(i)};
    }
    co_return right;
}

// What these make belongs to the reactor of the worker on which they run.
task<int> ask(int times) {
    auto pair = co_await test::connected();
    co_return co_await ask(std::move(pair), times);
}
task<int> ask_nearby(int times) { co_return co_await ask(test::local_pair(), times); }

double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

} // namespace

TEST_SUITE("io.reactor_per_worker") {
    TEST_CASE("sockets of each worker's reactor are served, whoever runs the tasks") {
        const runtime rt = pool(4).build();
        std::vector<join_handle<int>> all;
        for (std::size_t i = 0; i < 16; ++i)
            all.push_back(spawn_on_worker(rt.handle(), i % 4, ask(200)));
        for (std::size_t i = 0; i < 16; ++i)
            all.push_back(rt.spawn(ask(200)));
        for (join_handle<int>& h : all)
            CHECK(h.blocking_join() == 200);
    }

    TEST_CASE("who is idle polls the reactor of one that is busy") {
        for (const std::size_t workers : {std::size_t{2}, std::size_t{4}}) {
            for (int round = 0; round < 5; ++round) {
                std::atomic<bool> got{false};
                magpie::sync::event reads;
                const runtime rt = pool(workers).build();
                auto reader = [](tcp_stream s, magpie::sync::event& begun,
                                 std::atomic<bool>& done) -> task<> {
                    std::byte b{};
                    const std::span<std::byte> one(&b, 1);
                    begun.set();
                    co_await magpie::io::read_exact(s, one);
                    done = true;
                };
                // The worker that has both ends in its reactor runs until the reader, which may run anywhere,
                // has read: nobody else hears of the byte but by asking that reactor.
                auto busy = [](auto read, magpie::sync::event& begun,
                               std::atomic<bool>& done) -> task<bool> {
                    auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                    tcp_stream here = co_await tcp_stream::connect(listener.local_endpoint());
                    magpie::io::accepted there = co_await listener.accept();
                    join_handle<> h = runtime_handle::current().spawn(
                        read(std::move(there.stream), begun, done));
                    co_await begun.wait();
                    for (int i = 0; i < 50; ++i)
                        co_await magpie::yield_now(); // it waits by now
                    const std::byte b{1};
                    co_await here.write_all(std::span(&b, 1));
                    const bool heard = test::eventually([&] { return done.load(); });
                    co_await h;
                    co_return heard;
                };
                CHECK(spawn_on_worker(rt.handle(), 0, busy(reader, reads, got)).blocking_join());
            }
        }
    }

    TEST_CASE("timers go off on time, on each worker, beside a busy one") {
        std::atomic<bool> free{false};
        std::atomic<int> begun{0};
        const runtime rt = pool(3).build();
        auto keeps = [](std::atomic<int>& n, std::atomic<bool>& done) -> task<> {
            ++n;
            while (!done)
                std::this_thread::yield();
            co_return;
        };
        auto sleeps = []() -> task<> {
            for (int i = 0; i < 20; ++i)
                co_await magpie::sleep_for(1ms);
        };
        auto two_phases = [](auto f) -> task<> { // armed here, before the worker is kept
            co_await magpie::sleep_for(20ms);
            co_await f();
        };
        join_handle<> armed = spawn_on_worker(rt.handle(), 1, two_phases(sleeps));
        rt.block_on(sleeps());
        join_handle<> busy = spawn_on_worker(rt.handle(), 0, keeps(begun, free));
        REQUIRE(test::eventually([&] { return begun == 1; }));
        for (int i = 0; i < 5; ++i)
            rt.block_on(sleeps());
        armed.blocking_join();
        free = true;
        busy.blocking_join();
    }

    TEST_CASE("when all sleep, nobody gets up for nothing") {
        const runtime rt = pool(4).build();
        for (std::size_t w = 0; w < 4; ++w)
            CHECK(spawn_on_worker(rt.handle(), w, ask(10)).blocking_join() == 10);
        std::uint64_t before = 0;
        // From some moment on no worker runs a turn or lies down again.
        const auto parks = [&] {
            std::uint64_t n = 0;
            for (const magpie::worker_metrics& w : rt.metrics().workers)
                n += w.parks;
            return n;
        };
        CHECK(test::eventually([&] {
            before = parks();
            const double cpu = cpu_seconds();
            const auto until = std::chrono::steady_clock::now() + 100ms;
            std::this_thread::sleep_until(until); // a measurement of nothing
            return parks() == before && cpu_seconds() - cpu < 0.02;
        }));
    }

    TEST_CASE("a shutdown ends what waits in each of the reactors") {
        std::atomic<int> begun{0};
        auto waits = [](std::atomic<int>& n) -> task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            ++n;
            static_cast<void>(co_await listener.accept());
        };
        runtime rt = pool(3).build();
        for (std::size_t i = 0; i < 9; ++i)
            spawn_on_worker(rt.handle(), i % 3, waits(begun)).detach();
        REQUIRE(test::eventually([&] { return begun == 9; }));
        CHECK(rt.shutdown_timeout(30s));
    }

    TEST_CASE("the paused clock waits for all reactors") {
        const runtime rt = pool(3).paused_clock(true).build();
        auto main = []() -> task<int> {
            int right = 0;
            for (int i = 0; i < 20; ++i) {
                const auto begin = magpie::clock::now();
                for (std::size_t w = 0; w < 3; ++w) {
                    // An hour is far, and the answer near.
                    const auto in_time = co_await magpie::timeout(1h,
                                                                  spawn_on_worker(w, ask_nearby(5)));
                    right += in_time.has_value() && *in_time == 5;
                }
                right += magpie::clock::now() - begin < 1h;
                co_await magpie::sleep_for(1h);
            }
            co_return right;
        };
        CHECK(rt.block_on(main()) == 80);
    }
}
