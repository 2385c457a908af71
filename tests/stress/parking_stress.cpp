// Work that comes in the very moment in which workers lie down: none of it waits for ever.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <deque>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;

namespace {

task<> nothing() { co_return; }

/// A short time, another one each time.
void pass_time(std::minstd_rand& random) {
    for (auto i = random() % 3000; i > 0; --i)
        std::atomic_signal_fence(std::memory_order_seq_cst); // keeps the loop
}

} // namespace

TEST_SUITE("stress.parking") {
    TEST_CASE("RT-SCHED-33 a task from outside runs, whenever the last worker lies down") {
        for (const std::size_t workers : {1U, 2U, 4U}) {
            CAPTURE(workers);
            const unsigned seed = 21;
            CAPTURE(seed);
            std::minstd_rand random(seed);
            const runtime rt = test::multi_thread(workers).build();
            bool all = true;
            for (int i = 0; i < test::scaled(10'000) && all; ++i) {
                auto h = rt.spawn(nothing());
                all = test::ends(h); // the workers lie down about now
                pass_time(random);
            }
            CHECK(all);
        }
    }

    TEST_CASE("RT-SCHED-33 wakes from outside, of several tasks at a time") {
        for (const std::size_t workers : {1U, 2U, 4U}) {
            CAPTURE(workers);
            std::minstd_rand random(22); // NOLINT: the same each time
            const runtime rt = test::multi_thread(workers).build();
            auto waiter = [](event& e, std::atomic<int>& ready) -> task<> {
                ready.fetch_add(1, std::memory_order_relaxed);
                co_await e.wait();
            };
            bool all = true;
            for (int i = 0; i < test::scaled(3'000) && all; ++i) {
                std::deque<event> events(4);
                std::atomic<int> ready{0};
                std::vector<join_handle<>> handles;
                for (event& e : events)
                    handles.push_back(rt.spawn(waiter(e, ready)));
                all = test::eventually([&] { return ready == 4; });
                pass_time(random);
                for (event& e : events)
                    e.set();
                for (auto& h : handles)
                    all = test::ends(h) && all;
            }
            CHECK(all);
        }
    }

    TEST_CASE("RT-SCHED-33 one worker wakes another through a chain of tasks") {
        const runtime rt = test::multi_thread(2).build();
        auto relay = [](event& in, event& out) -> task<> {
            co_await in.wait();
            out.set();
        };
        bool all = true;
        for (int i = 0; i < test::scaled(2'000) && all; ++i) {
            std::deque<event> chain(8);
            std::vector<join_handle<>> handles;
            for (std::size_t k = 0; k + 1 < chain.size(); ++k)
                handles.push_back(rt.spawn(relay(chain[k], chain[k + 1])));
            chain.front().set();
            for (auto& h : handles)
                all = test::ends(h) && all;
        }
        CHECK(all);
    }

    TEST_CASE("RT-SCHED-34 block_on ends under load, on each layout") {
        test::on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            std::atomic<int> sum{0};
            const runtime rt = builder.build();
            auto load = [](std::atomic<bool>& end) -> task<> {
                while (!end)
                    co_await magpie::yield_now();
            };
            auto background = rt.spawn(load(stop));
            auto main = []() -> task<int> {
                co_await magpie::yield_now();
                auto one = []() -> task<int> { co_return 1; };
                co_return co_await magpie::spawn(one());
            };
            std::vector<std::thread> callers;
            for (int t = 0; t < 3; ++t)
                callers.emplace_back([&] {
                    for (int i = 0; i < test::scaled(3'000); ++i)
                        sum.fetch_add(rt.block_on(main()), std::memory_order_relaxed);
                });
            for (auto& t : callers)
                t.join();
            CHECK(sum == 3 * test::scaled(3'000));
            stop = true;
        });
    }

    TEST_CASE("a fan-out of spawns reaches all workers and comes back") {
        const runtime rt = test::multi_thread(4).build();
        struct tree {
            static task<int> grow(int depth) {
                if (depth == 0)
                    co_return 1;
                std::vector<join_handle<int>> children;
                for (int i = 0; i < 4; ++i)
                    children.push_back(magpie::spawn(grow(depth - 1)));
                int n = 1;
                for (auto& c : children)
                    n += co_await c;
                co_return n;
            }
        };
        for (int i = 0; i < test::scaled(100) + 1; ++i)
            CHECK(rt.block_on(tree::grow(6)) == 5461); // (4^7 - 1) / 3
        CHECK(rt.metrics().live == 0);
    }
}
