// Permits are taken, given back, forgotten and given up by many tasks and threads at once.

#include <magpie/core/select.hpp>
#include <magpie/sync/semaphore.hpp>

#include <test/limits.hpp>
#include <test/shared_executor.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::semaphore;
using test::shared_executor;
using test::workers;

TEST_SUITE("stress.permits") {
    TEST_CASE("SYNC-SEM-08 SYNC-SEM-16 the total is the same in the end, and never exceeded") {
        constexpr std::size_t permits = 5;
        constexpr int rounds = test::scaled(20'000);
        semaphore s(permits);
        std::atomic<int> out{0};
        std::atomic<bool> exceeded{false};
        {
            shared_executor ex;
            const workers turns(ex, 2);
            auto user = [](semaphore& sem, std::atomic<int>& n, std::atomic<bool>& bad,
                           unsigned seed) -> task<> {
                std::minstd_rand random(seed);
                for (int i = 0; i < rounds; ++i) {
                    const std::size_t amount = random() % (permits + 1);
                    auto r = co_await magpie::select_biased(sem.acquire_many(amount),
                                                            magpie::yield_now());
                    if (r.index() == 1)
                        continue; // given up
                    auto& p = *r.template get<0>();
                    // Relaxed: the permits themselves are what is looked at.
                    if (n.fetch_add(static_cast<int>(amount), std::memory_order_relaxed) +
                            static_cast<int>(amount) >
                        static_cast<int>(permits))
                        bad.store(true, std::memory_order_relaxed);
                    if (random() % 4 == 0)
                        co_await magpie::yield_now();
                    n.fetch_sub(static_cast<int>(amount), std::memory_order_relaxed);
                    auto part = p.split(amount / 2);
                    if (random() % 2 == 0)
                        p.merge(std::move(*part));
                }
            };
            std::vector<magpie::join_handle<>> handles;
            for (unsigned seed = 1; seed <= 12; ++seed)
                handles.push_back(ex.spawn(user(s, out, exceeded, seed)));
            std::thread other([&] {
                for (int i = 0; i < rounds; ++i) {
                    auto p = s.blocking_acquire(1 + static_cast<std::size_t>(i) % permits);
                    if (out.load(std::memory_order_relaxed) + static_cast<int>(p->count()) >
                        static_cast<int>(permits))
                        exceeded.store(true, std::memory_order_relaxed);
                }
            });
            other.join();
            for (auto& h : handles)
                h.blocking_join();
        }
        CHECK_FALSE(exceeded.load());
        CHECK(s.available_permits() == permits);
    }

    TEST_CASE("SYNC-SEM-16 waits that are aborted as they are served") {
        constexpr int rounds = test::scaled(20'000);
        semaphore s(0);
        std::atomic<int> passed{0};
        std::size_t given = 0;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            auto waits = [](semaphore& sem, std::atomic<int>& n, std::size_t amount) -> task<> {
                auto p = co_await sem.acquire_many(amount);
                if (p)
                    n.fetch_add(1, std::memory_order_relaxed); // read when all have ended
            };
            std::minstd_rand random(7);
            std::vector<magpie::join_handle<>> handles;
            for (int i = 0; i < rounds; ++i) {
                handles.push_back(ex.spawn(waits(s, passed, 1 + random() % 3)));
                if (i % 4 == 0) {
                    s.add_permits(1);
                    ++given;
                }
                if (random() % 2 == 0)
                    handles[random() % handles.size()].abort();
                if (i % 16 == 0)
                    given -= s.forget_permits(1);
            }
            s.add_permits(3); // at least: the rest is served, one after another
            given += 3;
            for (auto& h : handles)
                try {
                    h.blocking_join();
                } catch (const magpie::task_cancelled&) {}
        }
        CHECK(passed.load() > 0);
        CHECK(s.available_permits() == given);
    }

    TEST_CASE("SYNC-SEM-16 a semaphore is closed under those who wait") {
        constexpr int rounds = test::scaled(5'000);
        shared_executor ex;
        const workers turns(ex, 2);
        auto waits = [](semaphore& sem, int times) -> task<int> {
            int got = 0;
            for (int i = 0; i < times; ++i)
                got += co_await sem.acquire() ? 1 : 0;
            co_return got;
        };
        for (int round = 0; round < rounds; ++round) {
            semaphore s(1);
            auto a = ex.spawn(waits(s, 20));
            auto b = ex.spawn(waits(s, 20));
            s.close();
            const int got = a.blocking_join() + b.blocking_join();
            REQUIRE(got <= 40);
            REQUIRE(s.available_permits() == 1);
        }
    }
}
