// Locks and notifications between tasks on several workers, plain threads, and tasks that are aborted.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using namespace magpie::sync;

namespace {

/// Aborts some of them, and waits for all.
void abort_some(std::vector<join_handle<>>& handles, unsigned seed) {
    std::minstd_rand random(seed);
    for (auto& h : handles)
        if (random() % 3 == 0) {
            std::this_thread::yield();
            h.abort();
        }
    for (auto& h : handles)
        try {
            h.blocking_join();
        } catch (const magpie::task_cancelled&) {}
}

} // namespace

TEST_SUITE("stress.locks") {
    TEST_CASE("SYNC-MUTEX-06 no increment under the lock is lost, whoever is dropped in between") {
        constexpr int rounds = test::scaled(20'000);
        guarded<std::int64_t> counter(0);
        std::atomic<std::int64_t> counted{0};
        auto rt = test::multi_thread(4).build();
        auto counts = [](guarded<std::int64_t>& c, std::atomic<std::int64_t>& n,
                         unsigned seed) -> task<> {
            std::minstd_rand random(seed);
            for (int i = 0; i < rounds; ++i) {
                if (random() % 8 == 0) {
                    auto given_up = co_await magpie::select_biased(c.lock(), magpie::yield_now());
                    if (given_up.index() == 1)
                        continue;
                    n.fetch_add(1, std::memory_order_relaxed); // read when all have ended
                    ++*given_up.template get<0>();
                    continue;
                }
                auto value = co_await c.lock();
                n.fetch_add(1, std::memory_order_relaxed);
                ++*value;
                if (random() % 16 == 0)
                    co_await magpie::yield_now();
            }
        };
        std::vector<join_handle<>> handles;
        for (unsigned seed = 1; seed <= 32; ++seed)
            handles.push_back(rt.spawn(counts(counter, counted, seed)));
        std::thread thread([&] {
            for (int i = 0; i < rounds; ++i) {
                auto value = counter.blocking_lock();
                counted.fetch_add(1, std::memory_order_relaxed);
                ++*value;
            }
        });
        abort_some(handles, 3);
        thread.join();
        CHECK(**counter.try_lock() == counted.load());
    }

    TEST_CASE("SYNC-RW-09 readers see whole writes, also of who was a reader before") {
        constexpr int rounds = test::scaled(10'000);
        guarded_shared<std::pair<int, int>> both(0, 0);
        std::atomic<bool> torn{false};
        auto rt = test::multi_thread(4).build();
        auto user = [](guarded_shared<std::pair<int, int>>& b, std::atomic<bool>& bad,
                       unsigned seed) -> task<> {
            std::minstd_rand random(seed);
            for (int i = 0; i < rounds; ++i) {
                switch (random() % 8) {
                case 0: {
                    auto w = co_await b.lock();
                    ++w->first;
                    ++w->second;
                    auto r = std::move(w).downgrade();
                    if (r->first != r->second)
                        bad.store(true, std::memory_order_relaxed);
                    break;
                }
                case 1: {
                    auto u = co_await b.lock_upgradable();
                    const int before = u->first;
                    if (random() % 2 == 0)
                        co_await magpie::yield_now();
                    auto w = co_await std::move(u).upgrade();
                    if (w->first != before) // somebody wrote in between
                        bad.store(true, std::memory_order_relaxed);
                    ++w->first;
                    ++w->second;
                    break;
                }
                case 2: {
                    auto r = co_await magpie::select_biased(b.lock_upgradable(), magpie::yield_now());
                    static_cast<void>(r.index());
                    break;
                }
                default: {
                    auto r = co_await b.lock_shared();
                    if (r->first != r->second)
                        bad.store(true, std::memory_order_relaxed);
                }
                }
            }
        };
        std::vector<join_handle<>> handles;
        for (unsigned seed = 1; seed <= 24; ++seed)
            handles.push_back(rt.spawn(user(both, torn, seed)));
        abort_some(handles, 5);
        CHECK_FALSE(torn.load());
        CHECK(both.try_lock());
        CHECK(both.try_lock_upgradable());
    }

    TEST_CASE("scoped_lock in all orders comes to an end") {
        constexpr int rounds = test::scaled(5'000);
        guarded<int> a(0);
        guarded<int> b(0);
        guarded<int> c(0);
        auto rt = test::multi_thread(4).build();
        auto user = [](guarded<int>& x, guarded<int>& y, guarded<int>& z) -> task<> {
            for (int i = 0; i < rounds; ++i) {
                auto all = co_await scoped_lock(x, y, z);
                ++*all.get<0>();
                ++*all.get<1>();
                ++*all.get<2>();
            }
        };
        std::vector<join_handle<>> handles;
        handles.push_back(rt.spawn(user(a, b, c)));
        handles.push_back(rt.spawn(user(b, c, a)));
        handles.push_back(rt.spawn(user(c, b, a)));
        handles.push_back(rt.spawn(user(a, c, b)));
        for (auto& h : handles)
            h.blocking_join();
        CHECK(*a.blocking_lock() == 4 * rounds);
        CHECK(*b.blocking_lock() == 4 * rounds);
        CHECK(*c.blocking_lock() == 4 * rounds);
    }

    TEST_CASE("SYNC-NOTIFY-16 a call of notify_one is never lost, beside notify_waiters and drops") {
        // Items are counted by an atomic; each is announced. Who waits takes all that are there.
        constexpr int items = test::scaled(100'000);
        notify more;
        std::atomic<int> there{0};
        std::atomic<int> taken{0};
        auto rt = test::multi_thread(4).build();
        auto consumes = [](notify& n, std::atomic<int>& in, std::atomic<int>& out,
                           unsigned seed) -> task<> {
            std::minstd_rand random(seed);
            while (out.load(std::memory_order_acquire) < items) {
                int seen = in.load(std::memory_order_acquire);
                if (seen > 0) {
                    if (in.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel,
                                                 std::memory_order_relaxed))
                        out.fetch_add(1, std::memory_order_acq_rel);
                    continue;
                }
                if (random() % 4 == 0) {
                    auto r = co_await magpie::select_biased(n.notified(), magpie::yield_now());
                    static_cast<void>(r.index());
                } else {
                    co_await n.notified();
                }
                n.notify_one(); // there may be more than one item: one after another looks
            }
            n.notify_one();
        };
        std::vector<join_handle<>> handles;
        for (unsigned seed = 1; seed <= 6; ++seed)
            handles.push_back(rt.spawn(consumes(more, there, taken, seed)));
        std::thread produces([&] {
            std::minstd_rand random(9);
            for (int i = 0; i < items; ++i) {
                there.fetch_add(1, std::memory_order_acq_rel);
                if (random() % 64 == 0)
                    more.notify_waiters();
                if (random() % 2 == 0)
                    more.notify_one();
                else
                    more.notify_last();
            }
        });
        produces.join();
        for (auto& h : handles)
            h.blocking_join();
        CHECK(taken.load() == items);
    }

    TEST_CASE("a queue behind a condition_variable gives each item once, whoever is dropped") {
        constexpr int items = test::scaled(50'000);
        guarded<std::vector<int>> queue;
        condition_variable more;
        std::atomic<int> taken{0};
        auto rt = test::multi_thread(4).build();
        auto consumes = [](guarded<std::vector<int>>& q, condition_variable& c,
                           std::atomic<int>& n) -> task<> {
            for (;;) {
                auto content = co_await q.lock();
                const std::vector<int>& all = *content;
                auto any = [&all] { return !all.empty(); };
                co_await c.wait(content, any);
                content->pop_back();
                n.fetch_add(1, std::memory_order_relaxed);
            }
        };
        std::vector<join_handle<>> handles;
        for (int i = 0; i < 8; ++i)
            handles.push_back(rt.spawn(consumes(queue, more, taken)));
        for (int i = 0; i < items; ++i) {
            queue.blocking_lock()->push_back(i);
            more.notify_one();
            if (i % 100 == 0) {
                const auto at = static_cast<std::size_t>(i / 100) % handles.size();
                handles[at].abort();
                handles[at] = rt.spawn(consumes(queue, more, taken));
            }
        }
        while (taken.load(std::memory_order_relaxed) < items) // a call that was lost ends here
            std::this_thread::yield();
        for (auto& h : handles)
            h.abort();
        for (auto& h : handles)
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        CHECK(queue.blocking_lock()->empty());
        CHECK(taken.load() == items);
    }

    TEST_CASE("SYNC-ONCE-02 a barrier of tasks on several workers") {
        constexpr int rounds = test::scaled(5'000);
        constexpr int tasks = 16;
        barrier b(tasks);
        std::atomic<int> arrived{0};
        std::atomic<int> leaders{0};
        std::atomic<bool> early{false};
        auto rt = test::multi_thread(4).build();
        auto user = [](barrier& x, std::atomic<int>& in, std::atomic<int>& lead,
                       std::atomic<bool>& bad) -> task<> {
            for (int round = 1; round <= rounds; ++round) {
                in.fetch_add(1, std::memory_order_relaxed); // the barrier orders it
                const bool leads = co_await x.wait();
                lead.fetch_add(leads ? 1 : 0, std::memory_order_relaxed);
                if (in.load(std::memory_order_relaxed) < tasks * round)
                    bad.store(true, std::memory_order_relaxed);
            }
        };
        std::vector<join_handle<>> handles;
        for (int i = 0; i < tasks; ++i)
            handles.push_back(rt.spawn(user(b, arrived, leaders, early)));
        for (auto& h : handles)
            h.blocking_join();
        CHECK_FALSE(early.load());
        CHECK(leaders.load() == rounds);
    }

    TEST_CASE("SYNC-ONCE-08 initialisers that fail and are dropped, until one is through") {
        constexpr int rounds = test::scaled(2'000);
        auto rt = test::multi_thread(4).build();
        auto user = [](once_cell<int>& cell, std::atomic<int>& made, unsigned seed) -> task<> {
            auto make = [&made, seed]() -> task<int> {
                co_await magpie::yield_now();
                if (seed % 4 == 0)
                    throw std::runtime_error("no");
                co_await magpie::yield_now();
                made.fetch_add(1, std::memory_order_relaxed);
                co_return 5;
            };
            try {
                const int& value = co_await cell.get_or_init(make);
                CHECK(value == 5);
            } catch (const std::runtime_error&) {}
        };
        for (int round = 0; round < rounds; ++round) {
            once_cell<int> cell;
            std::atomic<int> made{0};
            std::vector<join_handle<>> handles;
            for (unsigned seed = 0; seed < 6; ++seed)
                handles.push_back(rt.spawn(user(cell, made, seed)));
            abort_some(handles, static_cast<unsigned>(round));
            REQUIRE(made.load() <= 1);
            REQUIRE((cell.get() != nullptr) == (made.load() == 1));
        }
    }

    TEST_CASE("SYNC-MUTEX-11 a shutdown with locks held, waited for, and taken by destructors") {
        constexpr int rounds = test::scaled(200);
        struct locks_at_end {
            mutex* m;
            ~locks_at_end() { static_cast<void>(m->try_lock()); }
        };
        auto user = [](mutex& m, semaphore& s) -> task<> {
            const locks_at_end local{&m};
            for (;;) {
                auto guard = co_await m.lock();
                auto permit = co_await s.acquire();
                co_await magpie::yield_now();
            }
        };
        for (int round = 0; round < rounds; ++round) {
            mutex m;
            semaphore s(1);
            {
                auto rt = test::multi_thread(2).build();
                for (int i = 0; i < 10; ++i)
                    rt.spawn(user(m, s)).detach();
                std::this_thread::yield();
            }
            REQUIRE_FALSE(m.is_locked());
            REQUIRE(s.available_permits() == 1);
        }
    }
}
