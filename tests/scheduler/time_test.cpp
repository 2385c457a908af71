// Timers on real runtimes: the steady clock, and the paused one.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::join_handle;
using magpie::runtime;
using magpie::sleep_for;
using magpie::sleep_until;
using magpie::task;
using magpie::timer;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

task<clock::duration> sleep_takes(clock::duration d) {
    const auto before = clock::now();
    co_await sleep_for(d);
    co_return clock::now() - before;
}

} // namespace

TEST_SUITE("scheduler.time") {
    TEST_CASE("TIME-CORE-28 TIME-CORE-02 a sleep ends on each layout, never early") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            for (const clock::duration d : {clock::duration(1ns), clock::duration(300us),
                                            clock::duration(1ms), clock::duration(7ms)}) {
                const auto took = rt.block_on(sleep_takes(d));
                CHECK(took >= d);
            }
        });
    }

    TEST_CASE("TIME-CORE-01 no time, or a time that has passed, does not suspend") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                const auto before = clock::now();
                const auto budget = *magpie::this_task::budget();
                co_await sleep_for(0s);
                co_await sleep_for(-1h);
                co_await sleep_until(before);
                co_await sleep_until(before - 1h);
                co_await sleep_until(clock::time_point());
                co_return clock::now() == before && *magpie::this_task::budget() + 5 == budget;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-02 a part of a millisecond is rounded up to the next one") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            CHECK(rt.block_on(sleep_takes(1ns)) == 1ms);
            CHECK(rt.block_on(sleep_takes(1ms - 1ns)) == 1ms);
            CHECK(rt.block_on(sleep_takes(1ms)) == 1ms);
            CHECK(rt.block_on(sleep_takes(1ms + 1ns)) == 2ms);
            CHECK(rt.block_on(sleep_takes(1500us)) == 2ms);
        });
    }

    TEST_CASE(
        "TIME-CORE-04 TIME-CORE-30 across each boundary of the wheel a sleep takes just its time") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            std::chrono::milliseconds boundary(1);
            for (int level = 0; level < 6; ++level) {
                boundary *= 64;
                for (const auto d : {boundary - 1ms, boundary, boundary + 1ms})
                    CHECK(rt.block_on(sleep_takes(d)) == d);
            }
        });
    }

    TEST_CASE("TIME-CORE-07 TIME-CORE-10 TIME-CORE-14 the longest times, beside a short one, overflow "
              "nothing") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<bool> {
                std::vector<join_handle<>> far;
                auto sleep = [](clock::duration d) -> task<> { co_await sleep_for(d); };
                auto until = [](clock::time_point t) -> task<> { co_await sleep_until(t); };
                far.push_back(magpie::spawn(sleep(clock::duration::max())));
                far.push_back(magpie::spawn(sleep(clock::duration::max() - 1ns)));
                far.push_back(magpie::spawn(sleep(24h * 365 * 200)));
                far.push_back(magpie::spawn(until(clock::time_point::max())));
                far.push_back(magpie::spawn(until(clock::time_point::max() - 1ms)));
                co_await sleep_for(2ms);
                const auto quick = []() -> task<int> {
                    co_await sleep_for(1ms);
                    co_return 4;
                };
                const auto got = co_await magpie::timeout(std::chrono::hours::max(), quick());
                bool none_fired = true;
                for (auto& h : far)
                    none_fired = none_fired && !h.is_finished();
                co_return none_fired&& got == 4;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-08 thousands of short sleeps and some long ones all fire") {
        on_each_layout([](auto builder) {
            std::atomic<int> fired{0};
            const runtime rt = builder.paused_clock(true).build();
            auto sleep = [](clock::duration d, std::atomic<int>& n) -> task<> {
                const auto before = clock::now();
                co_await sleep_for(d);
                if (clock::now() - before >= d)
                    ++n;
            };
            auto main = [](std::atomic<int>& n, auto f) -> task<> {
                std::vector<join_handle<>> all;
                for (int i = 0; i < 5000; ++i)
                    all.push_back(magpie::spawn(f(1ms * (1 + i % 97), n)));
                for (int i = 1; i <= 20; ++i)
                    all.push_back(magpie::spawn(f(24h * i * i, n)));
                for (auto& h : all)
                    co_await h;
            };
            rt.block_on(main(fired, sleep));
            CHECK(fired == 5020);
        });
    }

    TEST_CASE("TIME-CORE-08 thousands of short sleeps on the steady clock") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            std::vector<join_handle<clock::duration>> all;
            for (int i = 0; i < 2000; ++i)
                all.push_back(rt.spawn(sleep_takes(1ms * (i % 20))));
            auto main = [](std::vector<join_handle<clock::duration>>& hs) -> task<bool> {
                bool never_early = true;
                for (std::size_t i = 0; i < hs.size(); ++i)
                    never_early = co_await hs[i] >= 1ms * static_cast<int>(i % 20) && never_early;
                co_return never_early;
            };
            CHECK(rt.block_on(main(all)));
        });
    }

    TEST_CASE(
        "TIME-CORE-05 TIME-CORE-29 a reset by another branch takes effect while the timer waits") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                const auto start = clock::now();
                bool right = true;
                timer t(start + 10ms);
                t.reset(start + 5ms); // before the wait, earlier
                co_await t;
                right = right && clock::now() == start + 5ms;
                t.reset(start + 20ms); // after it has fired
                co_await t;
                right = right && clock::now() == start + 20ms;
                t.reset(start); // into the past
                co_await t;
                co_return right&& clock::now() == start + 20ms && t.is_elapsed();
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-03 is_elapsed on a runtime's clock") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                timer t(clock::now() + 10ms);
                const bool before = t.is_elapsed();
                co_await sleep_for(9ms);
                const bool just_before = t.is_elapsed();
                co_await sleep_for(1ms);
                co_return !before && !just_before && t.is_elapsed();
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-11 TIME-CORE-12 TIME-CORE-13 timeout on a runtime: in time, too late, and "
              "both at once") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto value_after = [](clock::duration d) -> task<int> {
                co_await sleep_for(d);
                co_return 1;
            };
            auto main = [](auto f) -> task<bool> {
                event never;
                const auto in_time = co_await magpie::timeout(10ms, f(9ms));
                const auto too_late = co_await magpie::timeout(10ms, f(11ms));
                const auto same_tick = co_await magpie::timeout(10ms, f(10ms));
                const bool pending = co_await magpie::timeout(0s, never.wait());
                never.set();
                const bool ready = co_await magpie::timeout(0s, never.wait());
                co_return in_time == 1 && !too_late && same_tick == 1 && !pending && ready;
            };
            CHECK(rt.block_on(main(value_after)));
        });
    }

    TEST_CASE(
        "TIME-CORE-12 a long time-out on the steady clock ends, not early, beside tasks that do not "
        "rest") {
        on_each_layout([](auto builder) {
            std::atomic<bool> done{false};
            event never;
            const runtime rt = builder.build();
            auto restless = [](std::atomic<bool>& end) -> task<> {
                while (!end)
                    co_await magpie::yield_now();
            };
            auto main = [](event& e, std::atomic<bool>& end, auto f, bool beside) -> task<bool> {
                std::optional<join_handle<>> hog;
                if (beside)
                    hog = magpie::spawn(f(end));
                const auto before = clock::now();
                const bool in_time = co_await magpie::timeout(120ms, e.wait());
                const auto took = clock::now() - before;
                end = true;
                if (hog)
                    co_await *hog;
                co_return !in_time && took >= 120ms && took < 1min;
            };
            CHECK(rt.block_on(main(never, done, restless, true)));
            CHECK(rt.block_on(main(never, done, restless, false)));
        });
    }

    TEST_CASE(
        "TIME-CORE-15 TIME-CORE-28 a loop that is always ready runs out of time on the steady clock") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto busy = []() -> task<> {
                for (;;)
                    co_await magpie::consume_budget();
            };
            auto main = [](auto f) -> task<bool> { co_return co_await magpie::timeout(5ms, f()); };
            CHECK_FALSE(rt.block_on(main(busy)));
        });
    }

    TEST_CASE("TIME-CORE-31 TIME-CORE-32 timers of tasks that move fire, or are dropped and do not") {
        const runtime rt = test::multi_thread(4).build();
        auto wanderer = [](unsigned seed) -> task<int> {
            std::minstd_rand random(seed);
            int late = 0;
            timer t(clock::now());
            for (int i = 0; i < test::scaled(500); ++i) {
                event never;
                const auto d = 1us * (random() % 3000);
                const auto before = clock::now();
                switch (random() % 3) {
                case 0: // dropped at once, perhaps from another worker than it was armed on
                    static_cast<void>(co_await magpie::timeout(1h, magpie::yield_now()));
                    break;
                case 1:
                    co_await magpie::timeout(d, never.wait());
                    late += clock::now() >= before + d ? 0 : 1;
                    break;
                default:
                    t.reset(before + d);
                    co_await magpie::yield_now();
                    co_await t;
                    late += clock::now() >= before + d ? 0 : 1;
                }
            }
            co_return late;
        };
        std::vector<join_handle<int>> all;
        for (unsigned i = 0; i < 32; ++i)
            all.push_back(rt.spawn(wanderer(i)));
        for (auto& h : all)
            CHECK(h.blocking_join() == 0);
    }

    TEST_CASE("TIME-CORE-31 a timer is dropped by an abort from another thread as it fires") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.build();
            std::thread aborter([&] {
                auto sleep = []() -> task<> { co_await sleep_for(1ms); };
                for (int i = 0; i < test::scaled(500) + 40; ++i) {
                    auto h = rt.spawn(sleep());
                    if (i % 2 == 0)
                        static_cast<void>(
                            test::eventually([&] { return h.is_finished() || i % 4 == 0; }));
                    h.abort();
                    CHECK(test::ends(h));
                }
                stop = true;
            });
            auto main = [](std::atomic<bool>& end) -> task<> {
                while (!end)
                    co_await sleep_for(1ms);
            };
            rt.block_on(main(stop));
            aborter.join();
        });
    }

    TEST_CASE("a timer armed by a task that runs in block_in_place fires") {
        const runtime rt = test::multi_thread(1).build();
        auto main = []() -> task<bool> {
            magpie::block_in_place([] {});
            co_return co_await magpie::timeout(30s, sleep_for(2ms)); // still off its worker
        };
        CHECK(rt.block_on(main()));
    }
}
