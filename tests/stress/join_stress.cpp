// Ends of tasks meet those who wait for them, stop waiting, and drop their handles.

#include <magpie/core/join_handle.hpp>

#include <test/limits.hpp>
#include <test/permits.hpp>
#include <test/shared_executor.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using test::counted;
using test::permits;
using test::shared_executor;
using test::unhandled_log;
using test::workers;

namespace {

task<counted> number(int n) {
    if (n % 3 == 0)
        co_await magpie::yield_now();
    co_return counted(n);
}

} // namespace

TEST_SUITE("stress.join") {
    TEST_CASE("tasks are joined by tasks, by tasks of another executor, and by threads") {
        constexpr int n = test::scaled(200'000);
        counted::alive = 0;
        {
            shared_executor ex;
            shared_executor other;
            auto joins = [](join_handle<counted> h) -> task<int> {
                const counted c = co_await std::move(h);
                co_return c.value;
            };
            std::vector<join_handle<int>> joined;
            std::vector<join_handle<counted>> plain;
            const workers turns(ex, 2);
            const workers elsewhere(other, 1);
            std::int64_t expected = 0;
            for (int i = 0; i < n; ++i) {
                expected += i;
                auto h = ex.spawn(number(i));
                if (i % 4 == 0)
                    plain.push_back(std::move(h));
                else
                    joined.push_back((i % 2 == 0 ? ex : other).spawn(joins(std::move(h))));
            }
            std::int64_t sum = 0;
            std::int64_t sum_elsewhere = 0;
            std::thread t([&] {
                for (auto& h : joined)
                    sum_elsewhere += h.blocking_join();
            });
            for (auto& h : plain)
                sum += h.blocking_join().value;
            t.join();
            CHECK(sum + sum_elsewhere == expected);
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a tree of tasks, grown on many threads") {
        struct tree {
            static task<int> grow(int depth) {
                int sum = 1;
                if (depth > 0) {
                    auto left = magpie::spawn(grow(depth - 1));
                    auto right = magpie::spawn(grow(depth - 1));
                    sum += co_await left;
                    sum += co_await right;
                }
                co_return sum;
            }
        };
        constexpr int depth = test::sanitized ? 10 : 15;
        shared_executor ex;
        auto root = ex.spawn(tree::grow(depth));
        const workers turns(ex, 3);
        CHECK(root.blocking_join() == (2 << depth) - 1);
    }

    TEST_CASE(
        "TASK-CORE-16 handles dropped, given away or waited for as their tasks end: each result once") {
        constexpr int n = test::scaled(200'000);
        const unsigned seed = 7;
        CAPTURE(seed);
        counted::alive = 0;
        std::atomic<int> received{0};
        int thrown = 0;
        int reported = 0;
        {
            shared_executor ex;
            const unhandled_log unhandled(ex);
            {
                const workers turns(ex, 2);
                std::minstd_rand random(seed);
                auto body = [](bool fails) -> task<counted> {
                    const counted local;
                    if (fails)
                        throw std::runtime_error("no");
                    co_return counted(1);
                };
                auto waits = [](join_handle<counted> h, std::atomic<int>& got) -> task<> {
                    try {
                        co_await h;
                    } catch (const std::runtime_error&) {
                        got.fetch_add(1, std::memory_order_relaxed);
                    }
                };
                for (int i = 0; i < n; ++i) {
                    const bool fails = random() % 2 == 0;
                    thrown += fails ? 1 : 0;
                    auto h = ex.spawn(body(fails));
                    for (auto spin = random() % 200; spin > 0; --spin)
                        static_cast<void>(h.is_finished());
                    switch (random() % 4) {
                    case 0: h.detach(); break;
                    case 1: ex.spawn(waits(std::move(h), received)).detach(); break;
                    case 2: {
                        auto w = ex.spawn(waits(std::move(h), received));
                        for (auto spin = random() % 200; spin > 0; --spin)
                            static_cast<void>(w.is_finished());
                        w.abort(); // the wait is dropped: perhaps just as it ends
                        break;
                    }
                    default: try { h.blocking_join();
                        } catch (const std::runtime_error&) {
                            received.fetch_add(1, std::memory_order_relaxed);
                        }
                    }
                }
                while (ex.live() > 0)
                    std::this_thread::yield();
            }
            reported = static_cast<int>(unhandled.count());
        }
        CHECK(received + reported == thrown);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a wait that is dropped as its task ends leaves the value to the next") {
        constexpr int n = test::scaled(50'000);
        shared_executor ex;
        const workers turns(ex, 2);
        std::minstd_rand random(3); // NOLINT: the same each time
        auto waits = [](join_handle<counted>& h) -> task<int> {
            const counted c = co_await h;
            co_return c.value;
        };
        auto value = [](permits& p) -> task<counted> {
            co_await p.take();
            co_return counted(5);
        };
        int right = 0;
        for (int i = 0; i < n; ++i) {
            permits go;
            auto h = ex.spawn(value(go));
            auto first = ex.spawn(waits(h));
            for (auto spin = random() % 300; spin > 0; --spin)
                static_cast<void>(first.is_finished());
            go.add();
            for (auto spin = random() % 100; spin > 0; --spin)
                static_cast<void>(first.is_finished());
            first.abort();
            int got = 0;
            try {
                got = first.blocking_join();
            } catch (const magpie::task_cancelled&) {
                got = h.blocking_join().value; // not taken by the one that was dropped
            }
            right += got == 5 ? 1 : 0;
        }
        CHECK(right == n);
        CHECK(counted::alive.load() == 0);
    }
}
