#include <magpie/sync/scoped_lock.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using magpie::task;
using magpie::sync::guarded;
using magpie::sync::mutex;
using magpie::sync::scoped_lock;

TEST_SUITE("sync.scoped_lock") {
    TEST_CASE("scoped_lock holds several locks, whatever they are") {
        test::manual_executor ex;
        guarded<int> a(1);
        mutex m;
        guarded<std::string> s("x");
        auto f = [](guarded<int>& x, mutex& y, guarded<std::string>& z) -> task<> {
            auto all = co_await scoped_lock(x, y, z);
            *all.get<0>() += 1;
            *all.get<2>() += "y";
            all.get<1>().unlock();
            co_await magpie::yield_now();
            CHECK(x.is_locked());
            CHECK_FALSE(y.is_locked());
        };
        test::run(ex, f(a, m, s));
        CHECK(*a.blocking_lock() == 2);
        CHECK(*s.blocking_lock() == "xy");
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("scoped_lock waits without holding anything") {
        test::manual_executor ex;
        mutex a;
        mutex b;
        mutex c;
        auto f = [](mutex& x, mutex& y, mutex& z) -> task<bool> {
            auto all = co_await scoped_lock(x, y, z);
            co_return x.is_locked() && y.is_locked() && z.is_locked();
        };
        auto held = b.try_lock();
        auto h = ex.spawn(f(a, b, c));
        ex.run_until_idle();
        CHECK_FALSE(a.is_locked());
        CHECK_FALSE(c.is_locked());
        auto also = a.try_lock();
        held.reset();
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished()); // b came, but a is not free: now it waits for that
        CHECK_FALSE(b.is_locked());
        SUBCASE("it gets them all") {
            also.reset();
            ex.run_until_idle();
            CHECK(h.blocking_join());
        }
        SUBCASE("dropped as it waits") {
            h.abort();
            ex.run_until_idle();
            also.reset();
        }
        SUBCASE("dropped as it comes") {
            also.reset();
            h.abort();
            ex.run_until_idle();
        }
        CHECK_FALSE(a.is_locked());
        CHECK_FALSE(b.is_locked());
        CHECK_FALSE(c.is_locked());
    }

    TEST_CASE("scoped_locks in any order, and who locks by hand, do not wait for each other for ever") {
        test::manual_executor ex;
        mutex a;
        mutex b;
        int n = 0;
        auto scoped = [](mutex& x, mutex& y, int& count) -> task<> {
            for (int i = 0; i < 1000; ++i) {
                auto both = co_await scoped_lock(x, y);
                co_await magpie::yield_now();
                ++count;
            }
        };
        auto by_hand = [](mutex& x, mutex& y, int& count) -> task<> {
            for (int i = 0; i < 1000; ++i) {
                auto first = co_await x.lock();
                co_await magpie::yield_now();
                auto second = co_await y.lock();
                ++count;
            }
        };
        std::vector<magpie::join_handle<>> handles;
        handles.push_back(ex.spawn(scoped(a, b, n)));
        handles.push_back(ex.spawn(scoped(b, a, n)));
        handles.push_back(ex.spawn(by_hand(b, a, n)));
        std::thread thread([&] {
            for (int i = 0; i < 1000; ++i) {
                const auto both = magpie::sync::blocking_scoped_lock(a, b);
                ++n;
            }
        });
        for (const auto& h : handles)
            while (!h.is_finished())
                if (!ex.run_one())
                    std::this_thread::yield();
        thread.join();
        CHECK(n == 4000);
    }

    TEST_CASE("scoped_lock refuses the same lock twice, and to be awaited twice") {
        test::manual_executor ex;
        mutex a;
        mutex b;
        CHECK_THROWS_AS(static_cast<void>(scoped_lock(a, b, a)), std::logic_error);
        auto f = [](mutex& x, mutex& y) -> task<> {
            auto wait = scoped_lock(x, y);
            { auto both = co_await wait; }
            auto both = co_await wait;
        };
        auto h = ex.spawn(f(a, b));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("anew") != std::string::npos);
        CHECK_FALSE(a.is_locked());
        CHECK_FALSE(b.is_locked());
    }
}
