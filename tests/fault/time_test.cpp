// The clock jumps, by hours and by centuries: what is due comes, what is not waits, nothing overflows.

#include "time.hpp"

#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using test::jump;

namespace {

constexpr auto year = 24h * 365;
constexpr auto for_ever = magpie::clock::duration::max();

task<> turns(int n) {
    for (int i = 0; i < n; ++i)
        co_await magpie::yield_now();
}

task<> count(std::atomic<int>& n) {
    n.fetch_add(1, std::memory_order_relaxed);
    co_return;
}

/// Runs it on each shard, so that each looks at the clock: a thread that sleeps in the kernel sees no jump.
template <class Task>
void on_each_shard(const magpie::runtime& rt, Task make) {
    // What is spawned from outside goes to each in turn.
    for (std::size_t i = 0; i < rt.worker_threads(); ++i)
        rt.block_on(make());
}

/// How often a thread has got up, and how many there are: of the runtime that lives.
std::atomic<std::uint64_t> got_up{0};
std::atomic<std::uint64_t> threads{0};

/// Whether all workers have lain down. A long time-out counts from when its worker looks at the clock, at the
/// latest then: behind the jump it would be as late.
bool all_sleep(const magpie::runtime& rt) {
    return test::eventually([&] {
        const std::uint64_t up = got_up.load(std::memory_order_relaxed);
        std::uint64_t lay_down = 0;
        for (const magpie::worker_metrics& w : rt.metrics().workers)
            lay_down += w.parks; // after that look
        // No threads of its own: one that sits there.
        const bool all = lay_down == up + threads.load(std::memory_order_relaxed);
        // One that got up and lay down again meanwhile would be counted for one that is up.
        return all && got_up.load(std::memory_order_relaxed) == up;
    });
}

/// On each layout, on its futex and on the reactor.
template <class F>
void on_each_driver(F f) {
    for (const bool with_io : {false, true}) {
        CAPTURE(with_io);
        test::on_each_layout([&](magpie::runtime_builder b) {
            const test::jumping_clock at_end;
            got_up = 0;
            threads = 0;
            b.on_thread_unpark([] { got_up.fetch_add(1, std::memory_order_relaxed); });
            b.on_thread_start([] { threads.fetch_add(1, std::memory_order_relaxed); });
            const magpie::runtime rt = b.build();
            std::optional<magpie::io::tcp_listener> listener;
            if (with_io) {
                const auto in = rt.enter();
                listener = magpie::io::tcp_listener::bind(magpie::io::endpoint::loopback_v4(0));
            }
            f(rt);
        });
    }
}

} // namespace

TEST_SUITE("fault.time") {
    TEST_CASE(
        "a jump of hours, of years, of two centuries x sleeps: those that are due end, no other") {
        on_each_driver([](const magpie::runtime& rt) {
            std::vector<magpie::join_handle<>> sleeps;
            const std::vector<magpie::clock::duration> durations{
                30s, 1h, 5h, 300 * 24h, 3 * year, 50 * year, 250 * year};
            auto sleep = [](magpie::clock::duration d) -> task<> { co_await magpie::sleep_for(d); };
            // A task may begin behind the jump, and is as late then.
            auto until = [](magpie::clock::time_point at) -> task<> {
                co_await magpie::sleep_until(at);
            };
            const auto begin = std::chrono::steady_clock::now();
            for (const auto d : durations)
                sleeps.push_back(rt.spawn(until(begin + d)));
            auto never = rt.spawn(sleep(for_ever));
            on_each_shard(rt, [] { return turns(10); });
            for (const magpie::clock::duration d :
                 {magpie::clock::duration(2h), magpie::clock::duration(year),
                  magpie::clock::duration(60 * year), magpie::clock::duration(140 * year)}) {
                jump(d);
                // The event that comes; and what is armed now ends in its time.
                on_each_shard(rt, [&] { return sleep(1ms); });
                const auto since = std::chrono::steady_clock::now() - begin;
                for (std::size_t i = 0; i < sleeps.size(); ++i) {
                    CAPTURE(i);
                    if (durations[i] <= since)
                        CHECK(test::ends(sleeps[i]));
                    else
                        CHECK(!sleeps[i].is_finished());
                }
            }
            CHECK(!never.is_finished());
        });
    }

    TEST_CASE("a jump x intervals, time-outs, deadlines, shutdown: each goes on") {
        on_each_driver([](const magpie::runtime& rt) {
            std::atomic<int> ticks{0};
            std::atomic<int> waits{0}; // how often somebody has begun to
            auto tick = [](std::atomic<int>& n, std::atomic<int>& begun,
                           magpie::missed_tick what) -> task<> {
                magpie::interval every(1h, what);
                for (;;) {
                    co_await magpie::join(every.tick(), count(begun)); // in this order
                    n.fetch_add(1, std::memory_order_relaxed);
                }
            };
            magpie::sync::event never;
            auto limited = [](magpie::sync::event& e, std::atomic<int>& begun) -> task<bool> {
                const auto both = co_await magpie::join(magpie::timeout(1h, e.wait()), count(begun));
                co_return !std::get<0>(both);
            };
            auto dated = [](magpie::sync::event& e, std::atomic<int>& begun) -> task<bool> {
                const auto both = co_await magpie::join(magpie::deadline(10 * year, e.wait()),
                                                        count(begun));
                co_return !std::get<0>(both);
            };
            auto skips = rt.spawn(tick(ticks, waits, magpie::missed_tick::skip));
            auto delays = rt.spawn(tick(ticks, waits, magpie::missed_tick::delay));
            auto limit = rt.spawn(limited(never, waits));
            auto date = rt.spawn(dated(never, waits));
            on_each_shard(rt, [] { return turns(10); });
            CHECK(test::eventually([&] { return ticks == 2 && waits == 6; })); // the first is at once
            CHECK(all_sleep(rt));
            jump(100 * year);
            on_each_shard(rt, [] { return turns(10); });
            CHECK(test::eventually(
                [&] { return ticks == 4 && waits == 8; })); // not one for each that was missed
            CHECK(limit.blocking_join());
            CHECK(date.blocking_join());
            jump(90 * year);
            on_each_shard(rt, [] { return turns(10); });
            CHECK(test::eventually([&] { return ticks == 6; }));
            skips.abort();
            delays.abort();
            on_each_shard(rt, [] { return turns(10); });
            CHECK(test::ends_cancelled(skips));
            CHECK(test::ends_cancelled(delays));
        });
    }

    TEST_CASE("a jump x threads that are kept for a while, and for ever") {
        for (const auto keep : {std::chrono::nanoseconds(1h), std::chrono::nanoseconds::max()}) {
            const test::jumping_clock at_end;
            const magpie::runtime rt = test::multi_thread(1).thread_keep_alive(keep).build();
            auto call = []() -> task<int> {
                co_return co_await magpie::spawn_blocking([] { return 1; });
            };
            CHECK(rt.block_on(call()) == 1);
            CHECK(test::eventually([&] { return rt.metrics().idle_blocking_threads == 1; }));
            jump(2h);
            CHECK(rt.block_on(call()) == 1);
            CHECK(test::eventually([&] { return rt.metrics().idle_blocking_threads == 1; }));
        }
    }

    TEST_CASE("the longest durations x everything that takes one: it waits, and does not overflow") {
        test::on_each_layout([](const magpie::runtime_builder& b) {
            const magpie::runtime rt = b.build();
            rt.block_on([]() -> task<> {
                magpie::sync::event never;
                auto limited = [&]() -> task<> {
                    static_cast<void>(co_await magpie::timeout(for_ever, never.wait()));
                };
                auto dated = [&]() -> task<> {
                    static_cast<void>(co_await magpie::deadline(for_ever, never.wait()));
                };
                auto slept = []() -> task<> { co_await magpie::sleep_for(for_ever); };
                auto ticked = []() -> task<> {
                    magpie::interval every(for_ever);
                    co_await every.tick();
                    co_await every.tick();
                };
                auto shielded = [&]() -> task<> { co_await magpie::shield(for_ever, never.wait()); };
                auto [tx, rx] = magpie::sync::mpsc::channel<int>(1);
                static_cast<void>(tx.try_send(1));
                auto& full = tx;
                auto sent = [&]() -> task<> {
                    static_cast<void>(co_await full.send_timeout(2, for_ever));
                };
                magpie::join_set<> all;
                all.spawn(limited());
                all.spawn(dated());
                all.spawn(slept());
                all.spawn(ticked());
                all.spawn(sent());
                co_await magpie::sleep_for(2ms);
                CHECK(all.size() == 5);
                const auto none = co_await magpie::timeout(1ms, all.join_next());
                CHECK(!none);
                auto s = magpie::spawn(shielded());
                co_await magpie::yield_now();
                never.set();
                co_await s;
                co_await all.shutdown();
            }());
        });
    }
}
