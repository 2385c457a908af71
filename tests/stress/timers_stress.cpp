// Timers that fire, are moved and are dropped, on all workers at once: each fires once or not at all.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <random>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::timer;
using magpie::sync::event;

namespace {

/// Sleeps, times out and moves timers. Gives how often something came too early, or not at all.
task<int> use_timers(unsigned seed, int rounds) {
    std::minstd_rand random(seed);
    int wrong = 0;
    timer own(clock::now());
    for (int i = 0; i < rounds; ++i) {
        const auto d = 10us * (random() % 400);
        const auto before = clock::now();
        event never;
        switch (random() % 4) {
        case 0:
            co_await magpie::sleep_for(d);
            wrong += clock::now() < before + d ? 1 : 0;
            break;
        case 1:
            wrong += co_await magpie::timeout(d, never.wait()) ? 1 : 0;
            wrong += clock::now() < before + d ? 1 : 0;
            break;
        case 2: // two timers, the inner one dropped or not
            static_cast<void>(co_await magpie::timeout(d, magpie::sleep_for(2ms)));
            break;
        default:
            own.reset(before + d);
            static_cast<void>(co_await magpie::timeout(d / 2, magpie::yield_now()));
            co_await own;
            wrong += clock::now() < before + d ? 1 : 0;
        }
    }
    co_return wrong;
}

/// Sets the events one after the other, now and then a little later.
task<> set_all(std::vector<event>& events, unsigned seed) {
    std::minstd_rand random(seed);
    for (event& e : events) {
        if (random() % 8 == 0)
            co_await magpie::sleep_for(10us * (random() % 200));
        else
            co_await magpie::yield_now();
        e.set();
    }
}

/// Waits for each, with a limit that is timed later, and at last for what never comes. Gives how often a limit
/// was kept badly.
task<int> wait_for_all(std::vector<event>& events) {
    int wrong = 0;
    for (event& e : events)
        wrong += co_await magpie::timeout(1h, e.wait()) ? 0 : 1;
    event never;
    const auto before = clock::now();
    wrong += co_await magpie::timeout(100ms, never.wait()) ? 1 : 0;
    wrong += clock::now() < before + 100ms ? 1 : 0;
    co_return wrong;
}

} // namespace

TEST_SUITE("stress.timers") {
    TEST_CASE("TIME-CORE-31 timers of many tasks on many workers, fired, dropped and moved") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<int> {
                std::vector<join_handle<int>> all;
                for (unsigned i = 0; i < 100; ++i)
                    all.push_back(magpie::spawn(use_timers(i, test::scaled(250))));
                int wrong = 0;
                for (auto& h : all)
                    wrong += co_await h;
                co_return wrong;
            };
            CHECK(rt.block_on(main()) == 0);
        });
    }

    TEST_CASE("TIME-CORE-31 long limits, taken back wherever the task has come to, and kept") {
        test::on_each_layout([](auto builder) {
            std::vector<std::vector<event>> events;
            for (int i = 0; i < 40; ++i)
                events.emplace_back(static_cast<std::size_t>(test::scaled(500)));
            const runtime rt = builder.build();
            auto main = [](std::vector<std::vector<event>>& all) -> task<int> {
                std::vector<join_handle<int>> waiters;
                std::vector<join_handle<>> setters;
                for (auto& those : all) {
                    waiters.push_back(magpie::spawn(wait_for_all(those)));
                    setters.push_back(
                        magpie::spawn(set_all(those, static_cast<unsigned>(waiters.size()))));
                }
                int wrong = 0;
                for (auto& h : waiters)
                    wrong += co_await h;
                for (auto& h : setters)
                    co_await h;
                co_return wrong;
            };
            CHECK(rt.block_on(main(events)) == 0);
        });
    }

    TEST_CASE("TIME-CORE-31 timers of many tasks on a paused clock: no deadlock, nothing early") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<int> {
                std::vector<join_handle<int>> all;
                for (unsigned i = 0; i < 50; ++i)
                    all.push_back(magpie::spawn(use_timers(i, test::scaled(500))));
                int wrong = 0;
                for (auto& h : all)
                    wrong += co_await h;
                co_return wrong;
            };
            CHECK(rt.block_on(main()) == 0);
        });
    }

    TEST_CASE("TIME-CORE-31 aborts from another thread meet timers that fire") {
        const unsigned seed = 4;
        CAPTURE(seed);
        const runtime rt = test::multi_thread(2).build();
        std::minstd_rand random(seed);
        auto sleep = [](clock::duration d) -> task<> { co_await magpie::sleep_for(d); };
        bool all = true;
        for (int i = 0; i < test::scaled(1'000) && all; ++i) {
            std::vector<join_handle<>> handles;
            for (int k = 0; k < 10; ++k)
                handles.push_back(rt.spawn(sleep(100us * (random() % 30))));
            for (auto& h : handles) {
                std::this_thread::yield();
                h.abort();
            }
            for (auto& h : handles)
                all = test::ends(h) && all;
        }
        CHECK(all);
        CHECK(test::eventually([&] { return rt.metrics().live == 0; }));
    }
}
