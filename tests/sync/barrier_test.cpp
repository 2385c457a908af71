#include <magpie/sync/barrier.hpp>

#include <magpie/core/join.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <thread>
#include <vector>

using magpie::task;
using magpie::sync::barrier;

TEST_SUITE("sync.barrier") {
    TEST_CASE("SYNC-ONCE-01 none and one wait for nobody, and lead") {
        for (const std::size_t parties : {0U, 1U}) {
            barrier b(parties);
            auto f = [](barrier& x) -> task<bool> {
                const bool first = co_await x.wait();
                const bool second = co_await x.wait();
                co_return first&& second;
            };
            CHECK(test::run(f(b)));
            CHECK(b.blocking_wait());
        }
    }

    TEST_CASE("SYNC-ONCE-02 all meet, one of them leads, again and again") {
        test::manual_executor ex;
        barrier b(3);
        int leaders = 0;
        int inside = 0;
        auto f = [](barrier& x, int& lead, int& in) -> task<> {
            for (int round = 1; round <= 4; ++round) {
                ++in;
                const bool leads = co_await x.wait();
                CHECK(in == 3 * round);
                lead += leads ? 1 : 0;
                co_await x.wait(); // nobody begins the next round before all have looked
            }
        };
        auto a = ex.spawn(f(b, leaders, inside));
        auto c = ex.spawn(f(b, leaders, inside));
        ex.run_until_idle();
        CHECK(leaders == 0);
        auto d = ex.spawn(f(b, leaders, inside));
        ex.run_until_idle();
        CHECK(a.is_finished());
        CHECK(c.is_finished());
        CHECK(d.is_finished());
        CHECK(leaders == 4);
    }

    TEST_CASE("SYNC-ONCE-02 a hundred tasks and a thread, many rounds") {
        test::manual_executor ex;
        constexpr int tasks = 100;
        constexpr int rounds = 50;
        barrier b(tasks + 1);
        int leaders = 0; // by tasks: one at a time here
        auto f = [](barrier& x, int& lead) -> task<> {
            for (int round = 0; round < rounds; ++round) {
                const bool leads = co_await x.wait();
                lead += leads ? 1 : 0;
            }
        };
        std::vector<magpie::join_handle<>> handles;
        for (int i = 0; i < tasks; ++i)
            handles.push_back(ex.spawn(f(b, leaders)));
        int led = 0;
        std::thread thread([&] {
            for (int round = 0; round < rounds; ++round)
                led += b.blocking_wait() ? 1 : 0;
        });
        for (const auto& h : handles)
            while (!h.is_finished())
                if (!ex.run_one())
                    std::this_thread::yield();
        thread.join();
        CHECK(leaders + led == rounds);
    }

    TEST_CASE("one that is dropped before the others have come has not come") {
        test::manual_executor ex;
        barrier b(2);
        auto f = [](barrier& x) -> task<bool> { co_return co_await x.wait(); };
        auto a = ex.spawn(f(b));
        ex.run_until_idle();
        a.abort();
        ex.run_until_idle();
        auto c = ex.spawn(f(b));
        ex.run_until_idle();
        CHECK_FALSE(c.is_finished());
        auto d = ex.spawn(f(b));
        SUBCASE("dropped when the others have come, it makes no difference") {
            ex.run_one();
            c.abort();
            ex.run_until_idle();
            CHECK(test::outcome_of(c) == "cancelled");
        }
        ex.run_until_idle();
        CHECK(d.blocking_join());
    }
}
