#include <magpie/scheduler/runtime.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::eventually;

namespace {

task<> nothing() { co_return; }

} // namespace

TEST_SUITE("scheduler.current_thread") {
    TEST_CASE("RT-SCHED-01 nothing runs but inside block_on, and then on the calling thread") {
        const runtime rt = test::current_thread().build();
        std::thread::id ran_on;
        auto f = [](std::thread::id& at) -> task<> {
            at = std::this_thread::get_id();
            co_return;
        };
        auto h = rt.spawn(f(ran_on));
        CHECK_FALSE(h.is_finished());
        CHECK(rt.metrics().injection_depth == 1);
        auto wait = [](magpie::join_handle<>& x) -> task<> { co_await x; };
        rt.block_on(wait(h));
        CHECK(ran_on == std::this_thread::get_id());
        auto other = rt.spawn(f(ran_on));
        std::thread([&] { rt.block_on(wait(other)); }).join();
        CHECK(ran_on != std::this_thread::get_id());
    }

    TEST_CASE("RT-SCHED-06 SC-SELECT-12 with a seed the choice among ready branches is the same in "
              "each run") {
        auto choices = [](std::uint64_t seed, bool pool) {
            auto f = [](std::vector<std::size_t>& wins) -> task<> {
                for (int i = 0; i < 50; ++i) {
                    auto won = co_await magpie::select(nothing(), nothing(), nothing());
                    wins.push_back(won.index());
                }
            };
            std::vector<std::size_t> wins;
            auto builder = pool ? test::multi_thread(1) : test::current_thread();
            const runtime rt = builder.seed(seed).build();
            for (int i = 0; i < 4; ++i)
                rt.block_on(f(wins));
            return wins;
        };
        for (const bool pool : {false, true}) {
            const std::vector<std::size_t> wins = choices(1, pool);
            CHECK(wins == choices(1, pool));
            CHECK(wins != choices(2, pool));
        }
        auto one_each = [](std::vector<std::size_t>& wins) -> task<> {
            auto won = co_await magpie::select(nothing(), nothing(), nothing());
            wins.push_back(won.index());
        };
        std::vector<std::size_t> wins;
        const runtime rt = test::current_thread().seed(1).build();
        for (int i = 0; i < 100; ++i)
            rt.block_on(one_each(wins)); // a program of many block_ons is treated fairly too
        for (std::size_t branch = 0; branch < 3; ++branch)
            CHECK(std::count(wins.begin(), wins.end(), branch) > 10);
    }

    TEST_CASE("what block_on leaves unfinished goes on in the next one") {
        event go;
        event over;
        const runtime rt = test::current_thread().build();
        auto f = [](event& g, event& o) -> task<> {
            co_await g.wait();
            o.set();
        };
        auto h = rt.spawn(f(go, over));
        rt.block_on(nothing());
        CHECK_FALSE(h.is_finished());
        go.set(); // from outside, with nobody driving
        auto wait = [](event& o) -> task<> { co_await o.wait(); };
        rt.block_on(wait(over));
        CHECK(over.is_set());
    }

    TEST_CASE("RT-SCHED-05 a spawn, a wake and an abort from another thread reach the sleeping loop") {
        event asleep;
        event go;
        std::atomic<bool> spawned{false};
        std::atomic<bool> at{false};
        const runtime rt = test::current_thread().build();
        std::thread remote([&] {
            asleep.blocking_wait();
            auto h = rt.spawn(nothing());
            spawned = test::ends(h);
            go.set();
        });
        auto main = [](event& a, event& g) -> task<> {
            a.set();
            co_await g.wait();
        };
        rt.block_on(main(asleep, go));
        remote.join();
        CHECK(spawned);

        auto for_ever = []() -> task<> { co_await magpie::sleep_for(1h); };
        auto h = rt.spawn(for_ever());
        auto join = [](magpie::join_handle<>& x, std::atomic<bool>& joins) -> task<bool> {
            joins = true;
            const auto r = co_await magpie::as_result(x);
            co_return r.has_error();
        };
        std::thread aborter([&, a = h.abort_handle()] {
            static_cast<void>(eventually([&] { return at.load(); }));
            a.abort();
        });
        CHECK(rt.block_on(join(h, at)));
        aborter.join();
    }

    TEST_CASE("RT-SCHED-14 of concurrent block_on calls one drives, and another when that returns") {
        constexpr int callers = 4;
        std::vector<event> gates(callers);
        std::atomic<int> inside{0};
        std::atomic<int> left{0};
        const runtime rt = test::current_thread().build();
        auto main = [](event& gate, std::atomic<int>& n) -> task<> {
            ++n;
            co_await gate.wait();
            co_await magpie::sleep_for(1ms); // somebody has to drive the timers, too
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < callers; ++i)
            threads.emplace_back([&, i] {
                rt.block_on(main(gates[static_cast<std::size_t>(i)], inside));
                ++left;
            });
        REQUIRE(eventually([&] { return inside == callers; }));
        for (int i = 0; i < callers;
             ++i) { // in whatever order they sit, each goes when its own task ends
            gates[static_cast<std::size_t>(i)].set();
            CHECK(eventually([&] { return left == i + 1; }));
        }
        for (auto& t : threads)
            t.join();
    }

    TEST_CASE("RT-SCHED-14 many short block_on calls from many threads") {
        std::atomic<int> sum{0};
        const runtime rt = test::current_thread().build();
        auto main = [](std::atomic<int>& s) -> task<> {
            co_await magpie::yield_now();
            auto child = [](std::atomic<int>& x) -> task<> {
                ++x;
                co_return;
            };
            co_await magpie::spawn(child(s));
        };
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&] {
                for (int i = 0; i < 500; ++i)
                    rt.block_on(main(sum));
            });
        for (auto& t : threads)
            t.join();
        CHECK(sum == 2000);
        CHECK(rt.metrics().live == 0);
    }

    TEST_CASE("what is spawned from outside runs in that order") {
        // A glance at the shared queue, between what was taken from it before, would mix the order.
        const runtime rt = test::current_thread().global_queue_interval(65536).build();
        std::vector<int> order;
        auto f = [](std::vector<int>& o, int n) -> task<> {
            o.push_back(n);
            co_return;
        };
        std::vector<magpie::join_handle<>> handles;
        for (int i = 0; i < 1000; ++i) // more than a worker's ring holds
            handles.push_back(rt.spawn(f(order, i)));
        auto join = [](std::vector<magpie::join_handle<>>& all) -> task<> {
            for (auto& h : all)
                co_await h;
        };
        rt.block_on(join(handles));
        REQUIRE(order.size() == 1000);
        for (int i = 0; i < 1000; ++i)
            CHECK(order[static_cast<std::size_t>(i)] == i);
    }
}
