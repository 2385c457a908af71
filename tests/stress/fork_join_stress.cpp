// Forks that are taken, taken back, fail, wait and are dropped on several workers: each child once, and
// no memory left.

#include <magpie/core/fork_join.hpp>

#include <magpie/core/parallel_for.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <magpie/sync/event.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

using magpie::fork_join;
using magpie::task;
using test::counted;

namespace {

/// A tree whose nodes do what the digits of `r` say: yield, sleep, throw at a leaf.
struct tree {
    int fails_in; ///< a leaf in so many fails; 0: none

    task<int> node(std::minstd_rand random, int depth) const {
        const counted local;
        if (random() % 16 == 0)
            co_await magpie::yield_now();
        if (depth == 0) {
            if (random() % 256 == 0)
                co_await magpie::sleep_for(std::chrono::milliseconds(1));
            if (fails_in > 0 && random() % static_cast<unsigned>(fails_in) == 0)
                throw std::runtime_error("leaf");
            co_return 1;
        }
        std::minstd_rand next(random());
        if (random() % 2 == 0) {
            const auto r = co_await fork_join(node(std::minstd_rand(next()), depth - 1),
                                              node(std::minstd_rand(next()), depth - 1));
            co_return std::get<0>(r) + std::get<1>(r);
        }
        std::vector<task<int>> children;
        for (int i = 0; i < 2; ++i)
            children.push_back(node(std::minstd_rand(next()), depth - 1));
        int sum = 0;
        const std::vector<int> r = co_await fork_join(std::move(children));
        for (const int n : r)
            sum += n;
        co_return sum;
    }
};

} // namespace

TEST_SUITE("stress.fork_join") {
    TEST_CASE("trees that yield and sleep give each leaf once") {
        counted::alive = 0;
        {
            const tree t{.fails_in = 0};
            auto rt = test::multi_thread(3).budget(7).build();
            for (unsigned seed = 1; seed <= 20; ++seed)
                CHECK(rt.block_on(t.node(std::minstd_rand(seed), test::sanitized ? 9 : 13)) ==
                      1 << (test::sanitized ? 9 : 13));
        }
        CHECK(counted::alive == 0);
    }

    TEST_CASE("trees that fail, time out and are aborted leave nothing") {
        counted::alive = 0;
        int ends = 0;
        constexpr int n = test::scaled(5000);
        {
            const tree t{.fails_in = 200}; // outlives the runtime: the last tasks are not joined
            auto rt = test::multi_thread(3)
                          .budget(16)
                          .on_unhandled_exception([](const magpie::unhandled_exception&) {})
                          .build();
            std::minstd_rand random(5);
            std::vector<magpie::join_handle<int>> handles;
            for (int i = 0; i < n; ++i) {
                auto body = [](const tree& all, std::minstd_rand r) -> task<int> {
                    const bool timed = r() % 3 == 0;
                    if (!timed)
                        co_return co_await all.node(std::minstd_rand(r()), 6);
                    const auto value = co_await magpie::timeout(std::chrono::milliseconds(1),
                                                                all.node(std::minstd_rand(r()), 8));
                    co_return value.value_or(0);
                };
                handles.push_back(rt.spawn(body(t, std::minstd_rand(random()))));
                if (i % 2 == 0)
                    handles[random() % handles.size()].abort();
                if (handles.size() == 8) {
                    for (auto& h : handles) {
                        try {
                            static_cast<void>(h.blocking_join());
                        } catch (const std::exception&) { // aborted, or failed
                        }
                        CHECK(h.is_finished());
                        ++ends;
                    }
                    handles.clear();
                    CHECK(counted::alive == 0);
                }
            }
        }
        CHECK(ends == n - n % 8);
        CHECK(counted::alive == 0);
    }

    TEST_CASE("runtimes that are destroyed while trees grow") {
        counted::alive = 0;
        for (unsigned seed = 1; seed <= static_cast<unsigned>(test::scaled(500)); ++seed) {
            const tree t{.fails_in = 0};
            {
                auto rt = test::multi_thread(3).build();
                auto h = rt.spawn(t.node(std::minstd_rand(seed), 12));
                while (counted::alive < static_cast<int>(seed % 24) && !h.is_finished())
                    std::this_thread::yield();
                h.detach();
            }
            CHECK(counted::alive == 0);
        }
    }

    TEST_CASE("children wait for each other across workers") {
        auto rt = test::multi_thread(3).build();
        auto pair = [](magpie::sync::event& mine, magpie::sync::event& other) -> task<> {
            mine.set();
            co_await other.wait();
        };
        auto f = [&]() -> task<int> {
            int rounds = 0;
            for (; rounds < test::scaled(20'000); ++rounds) {
                magpie::sync::event a;
                magpie::sync::event b;
                magpie::sync::event c;
                co_await fork_join(pair(a, b), pair(b, c), pair(c, a));
            }
            co_return rounds;
        };
        CHECK(rt.block_on(f()) == test::scaled(20'000));
    }

    TEST_CASE("loops that are shared, many at a time") {
        std::atomic<std::uint64_t> sum{0};
        auto rt = test::multi_thread(3).build();
        auto loop = [](std::atomic<std::uint64_t>& all) -> task<> {
            co_await magpie::parallel_for(0, 1000, [&](int i) {
                all.fetch_add(static_cast<unsigned>(i), std::memory_order_relaxed);
            });
        };
        std::vector<magpie::join_handle<void>> handles;
        for (int i = 0; i < test::scaled(2000); ++i)
            handles.push_back(rt.spawn(loop(sum)));
        for (auto& h : handles)
            h.blocking_join();
        CHECK(sum == static_cast<std::uint64_t>(test::scaled(2000)) * 499'500);
    }
}
