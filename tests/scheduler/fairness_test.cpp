// Nobody starves: not the root, not a newcomer, not timers, not the shared queue.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

/// Ready again as soon as it has run, until the runtime ends.
task<> never_idle(std::atomic<bool>& stop) {
    while (!stop)
        co_await magpie::yield_now();
}

/// A chain of tasks: each spawns the next one, into the slot, and ends.
task<> chain(std::atomic<bool>& stop, std::atomic<std::uint64_t>& links) {
    links.fetch_add(1, std::memory_order_relaxed);
    if (!stop)
        magpie::spawn(chain(stop, links)).detach();
    co_return;
}

task<> nothing() { co_return; }

} // namespace

TEST_SUITE("scheduler.fairness") {
    TEST_CASE("RT-SCHED-09 the root ends under a load that never does") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.build();
            std::vector<join_handle<>> load;
            for (int i = 0; i < 8; ++i)
                load.push_back(rt.spawn(never_idle(stop)));
            auto main = []() -> task<int> {
                for (int i = 0; i < 100; ++i)
                    co_await magpie::yield_now();
                co_await magpie::sleep_for(1ms);
                auto one = []() -> task<int> { co_return 1; };
                co_return co_await magpie::spawn(one());
            };
            CHECK(rt.block_on(main()) == 1);
            stop = true;
        });
    }

    TEST_CASE(
        "RT-SCHED-10 timers, and what comes from outside, are served though the queue is never empty") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.build();
            std::vector<join_handle<>> load;
            for (int i = 0; i < 4; ++i)
                load.push_back(rt.spawn(never_idle(stop)));
            std::thread outside([&] {
                for (int i = 0; i < 20; ++i) {
                    auto h = rt.spawn(nothing());
                    CHECK(test::ends(h));
                }
                auto call = [] { return true; };
                const auto in = rt.enter();
                CHECK(magpie::spawn_blocking(call).blocking_join());
                stop = true;
            });
            auto main = [](std::atomic<bool>& end) -> task<> {
                while (!end)
                    co_await magpie::sleep_for(1ms);
            };
            rt.block_on(main(stop));
            outside.join();
        });
    }

    TEST_CASE("RT-SCHED-11 a task that yields runs again only after due timers were fired") {
        on_each_layout([](auto builder) {
            std::atomic<bool> fired{false};
            const runtime rt = builder.event_interval(65536).build();
            auto sleeper = [](std::atomic<bool>& f) -> task<> {
                co_await magpie::sleep_for(1ms);
                f = true;
            };
            auto main = [](std::atomic<bool>& f, auto s) -> task<bool> {
                auto h = magpie::spawn(s(f));
                co_await magpie::yield_now(); // it sleeps now, or another worker runs it
                const auto due = std::chrono::steady_clock::now() + 30s;
                while (!f && std::chrono::steady_clock::now() < due)
                    co_await magpie::yield_now(); // the periodic look is far away: 65536 turns
                co_return f.load();
            };
            CHECK(rt.block_on(main(fired, sleeper)));
        });
    }

    TEST_CASE("RT-SCHED-11 the same for a task that was made to yield by its budget") {
        on_each_layout([](auto builder) {
            std::atomic<bool> fired{false};
            const runtime rt = builder.event_interval(65536).build();
            auto sleeper = [](std::atomic<bool>& f) -> task<> {
                co_await magpie::sleep_for(1ms);
                f = true;
            };
            auto main = [](std::atomic<bool>& f, auto s) -> task<bool> {
                auto h = magpie::spawn(s(f));
                const auto due = std::chrono::steady_clock::now() + 30s;
                while (!f && std::chrono::steady_clock::now() < due)
                    co_await magpie::consume_budget();
                co_return f.load();
            };
            CHECK(rt.block_on(main(fired, sleeper)));
        });
    }

    TEST_CASE("RT-SCHED-12 the builder's budget is what a turn has") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.budget(3).build();
            auto main = []() -> task<std::vector<std::uint32_t>> {
                std::vector<std::uint32_t> left;
                for (int i = 0; i < 5; ++i) {
                    left.push_back(*magpie::this_task::budget());
                    co_await magpie::consume_budget();
                }
                co_return left;
            };
            CHECK(rt.block_on(main()) == std::vector<std::uint32_t>{3, 2, 1, 0, 2});
        });
    }

    TEST_CASE(
        "RT-SCHED-13 RT-SCHED-17 tasks that keep one another in the slot do not starve a newcomer") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            std::atomic<std::uint64_t> links{0};
            const runtime rt = builder.build();
            auto main = [](std::atomic<bool>& end,
                           std::atomic<std::uint64_t>& n) -> task<std::uint64_t> {
                for (int i = 0; i < 10; ++i)
                    magpie::spawn(chain(end, n)).detach();
                while (n < 1000)
                    co_await magpie::yield_now();
                const std::uint64_t before = n;
                co_await magpie::spawn(nothing());
                co_await magpie::yield_now();
                const std::uint64_t waited = n - before;
                end = true;
                co_return waited;
            };
            const auto waited = rt.block_on(main(stop, links));
            if (rt.layout() == magpie::layout::current_thread)
                CHECK(waited < 1000); // a few rounds of ten chains
        });
    }

    TEST_CASE("RT-SCHED-17 what stands in the queue waits for a few of the newest, not for ever") {
        std::atomic<bool> stop{false};
        std::atomic<std::uint64_t> links{0};
        std::uint64_t waited = 0;
        const runtime rt = test::current_thread().build();
        auto newcomer = [](std::atomic<std::uint64_t>& n, std::uint64_t& w,
                           std::atomic<bool>& end) -> task<> {
            w = n;
            end = true;
            co_return;
        };
        auto main = [](std::atomic<bool>& end, std::atomic<std::uint64_t>& n, std::uint64_t& w,
                       auto f) -> task<> {
            auto h = magpie::spawn(f(n, w, end)); // the chain is newer, each time again
            magpie::spawn(chain(end, n)).detach();
            // (A handle that is awaited by itself would have its task run at once.)
            CHECK(co_await magpie::timeout(1h, std::move(h)));
        };
        rt.block_on(main(stop, links, waited, newcomer));
        CHECK(waited <= 64);
    }

    TEST_CASE("RT-SCHED-18 without the slot tasks run in the order in which they became ready") {
        const runtime rt = test::current_thread().lifo_slot(false).build();
        std::vector<int> order;
        auto f = [](std::vector<int>& o, int n) -> task<> {
            o.push_back(n);
            co_return;
        };
        auto main = [](std::vector<int>& o, auto g) -> task<> {
            std::vector<join_handle<>> all;
            for (int i = 0; i < 5; ++i)
                all.push_back(magpie::spawn(g(o, i)));
            co_await magpie::yield_now(); // a task that is awaited would go before the others
            for (auto& h : all)
                co_await h;
        };
        rt.block_on(main(order, f));
        CHECK(order == std::vector<int>{0, 1, 2, 3, 4});

        order.clear();
        const runtime with = test::current_thread().build();
        with.block_on(main(order, f));
        REQUIRE(order.size() == 5);
        CHECK(order.front() == 4); // the newest first
    }

    TEST_CASE("RT-SCHED-19 an interval of one looks at the shared queue first each time") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.global_queue_interval(1).event_interval(1).build();
            std::vector<join_handle<>> load;
            for (int i = 0; i < 4; ++i)
                load.push_back(rt.spawn(never_idle(stop)));
            std::thread outside([&] {
                for (int i = 0; i < 20; ++i) {
                    auto h = rt.spawn(nothing());
                    CHECK(test::ends(h));
                }
                stop = true;
            });
            auto main = [](std::vector<join_handle<>>& all) -> task<> {
                for (auto& h : all)
                    co_await h;
            };
            rt.block_on(main(load));
            outside.join();
        });
    }

    TEST_CASE("what comes from outside is met after as many turns as the builder says") {
        std::atomic<bool> stop{false};
        const runtime rt = test::current_thread().global_queue_interval(10).build();
        auto load = rt.spawn(never_idle(stop));
        auto count = [](const runtime& r, std::atomic<bool>& end) -> task<std::uint64_t> {
            auto sets = [](std::atomic<bool>& e) -> task<> {
                e = true;
                co_return;
            };
            std::uint64_t turns = 0;
            std::thread([&] { r.spawn(sets(end)).detach(); }).join(); // it is in the shared queue now
            while (!end) {
                ++turns;
                co_await magpie::yield_now();
            }
            co_return turns;
        };
        CHECK(rt.block_on(count(rt, stop)) <= 11);
    }
}
