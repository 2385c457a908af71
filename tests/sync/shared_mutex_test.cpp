#include <magpie/sync/shared_mutex.hpp>

#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/guarded_shared.hpp>
#include <magpie/sync/scoped_lock.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::event;
using magpie::sync::guarded_shared;
using magpie::sync::shared_mutex;
using test::trace;

namespace {

task<> reads(shared_mutex& m, trace& log, std::string name, event& go) {
    auto guard = co_await m.lock_shared();
    log.add(name);
    co_await go.wait();
}

task<> writes(shared_mutex& m, trace& log, std::string name, event& go) {
    auto guard = co_await m.lock();
    log.add(name);
    co_await go.wait();
}

task<> may_write(shared_mutex& m, trace& log, std::string name, event& go) {
    auto guard = co_await m.lock_upgradable();
    log.add(name);
    co_await go.wait();
    auto writer = co_await std::move(guard).upgrade();
    log.add(name + "-writes");
    co_await magpie::yield_now();
    log.add(name + "-wrote");
}

struct pair {
    int first = 1;
    std::string second = "two";
};

} // namespace

TEST_SUITE("sync.shared_mutex") {
    TEST_CASE("SYNC-RW-01 several read at once, a writer is alone") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        ex.spawn(reads(m, log, "r1", go)).detach();
        ex.spawn(reads(m, log, "r2", go)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2");
        CHECK(m.is_locked());
        go.set();
        ex.run_until_idle();
        CHECK_FALSE(m.is_locked());
        event later;
        ex.spawn(writes(m, log, "w1", later)).detach();
        ex.spawn(writes(m, log, "w2", later)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2 w1");
        later.set();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2 w1 w2");
    }

    TEST_CASE("SYNC-RW-02 a writer is woken by the last reader") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        event go_last;
        trace log;
        ex.spawn(reads(m, log, "r1", go)).detach();
        ex.spawn(reads(m, log, "r2", go_last)).detach();
        ex.spawn(writes(m, log, "w", go)).detach();
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2");
        go_last.set();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2 w");
    }

    TEST_CASE("SYNC-RW-03 readers wait for the writer, and all go on when it lets go") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        event later;
        trace log;
        ex.spawn(writes(m, log, "w", go)).detach();
        ex.spawn(reads(m, log, "r1", later)).detach();
        ex.spawn(reads(m, log, "r2", later)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "w");
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "w r1 r2");
        later.set();
        ex.run_until_idle();
    }

    TEST_CASE("SYNC-RW-04 there are max_readers at most, and one that goes lets one in") {
        test::manual_executor ex;
        shared_mutex m(2);
        event go;
        event later;
        trace log;
        ex.spawn(reads(m, log, "r1", go)).detach();
        for (const char* name : {"r2", "r3", "r4"})
            ex.spawn(reads(m, log, name, later)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2");
        CHECK_FALSE(m.try_lock_shared());
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2 r3");
        later.set();
        ex.run_until_idle();
        CHECK(log.text() == "r1 r2 r3 r4");
    }

    TEST_CASE("SYNC-RW-05 max_readers is at least one, and not above the most") {
        CHECK_THROWS_AS(shared_mutex(0), std::logic_error);
        CHECK_THROWS_AS(shared_mutex(shared_mutex::most_readers + 1), std::logic_error);
        shared_mutex most(shared_mutex::most_readers);
        CHECK(most.try_lock());
        shared_mutex one(1);
        CHECK(one.try_lock());
        CHECK(one.try_lock_shared());
        auto upgradable = one.try_lock_upgradable();
        CHECK(upgradable->try_upgrade());
    }

    TEST_CASE("SYNC-RW-06 SYNC-RW-07 a writer that waits holds up later readers, until it gives up") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        ex.spawn(reads(m, log, "r1", go)).detach();
        auto w = ex.spawn(writes(m, log, "w", go));
        ex.spawn(reads(m, log, "r2", go)).detach();
        ex.spawn(reads(m, log, "r3", go)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r1");
        SUBCASE("it gives up") {
            w.abort();
            ex.run_until_idle();
            CHECK(log.text() == "r1 r2 r3");
            go.set();
        }
        SUBCASE("it writes") {
            go.set();
            ex.run_until_idle();
            CHECK(log.text() == "r1 w r2 r3");
        }
        ex.run_until_idle();
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("SYNC-RW-08 writers follow each other in the order in which they came") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        auto reader = m.try_lock_shared();
        for (const char* name : {"w1", "w2", "w3"})
            ex.spawn(writes(m, log, name, go)).detach();
        ex.run_until_idle();
        go.set();
        reader.reset();
        ex.run_until_idle();
        CHECK(log.text() == "w1 w2 w3");
    }

    TEST_CASE("SYNC-RW-09 plain threads and tasks lose nothing") {
        test::manual_executor ex;
        guarded_shared<std::pair<int, int>> both(0, 0);
        auto f = [](guarded_shared<std::pair<int, int>>& b) -> task<bool> {
            bool equal = true;
            for (int i = 0; i < 500; ++i) {
                {
                    auto w = co_await b.lock();
                    ++w->first;
                    co_await magpie::yield_now();
                    ++w->second;
                }
                auto r = co_await b.lock_shared();
                equal = equal && r->first == r->second;
            }
            co_return equal;
        };
        auto a = ex.spawn(f(both));
        auto b = ex.spawn(f(both));
        bool equal = true;
        std::thread thread([&] {
            for (int i = 0; i < 500; ++i) {
                {
                    auto w = both.blocking_lock();
                    ++w->first;
                    ++w->second;
                }
                {
                    auto r = both.blocking_lock_shared();
                    equal = equal && r->first == r->second;
                }
                auto u = both.blocking_lock_upgradable();
                equal = equal && u->first == u->second;
            }
        });
        while (!a.is_finished() || !b.is_finished())
            if (!ex.run_one())
                std::this_thread::yield();
        thread.join();
        CHECK(a.blocking_join());
        CHECK(b.blocking_join());
        CHECK(equal);
        CHECK(both.blocking_lock()->first == 1500);
    }

    TEST_CASE("SYNC-RW-10 the try_ forms never wait, and respect who holds and who waits") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        {
            const auto r = m.try_lock_shared();
            CHECK(r);
            CHECK(m.try_lock_shared());
            CHECK(m.try_lock_upgradable());
            CHECK_FALSE(m.try_lock());
            ex.spawn(writes(m, log, "w", go)).detach();
            ex.run_until_idle();
            CHECK_FALSE(m.try_lock_shared()); // behind the writer
        }
        ex.run_until_idle();
        CHECK_FALSE(m.try_lock_shared());
        CHECK_FALSE(m.try_lock_upgradable());
        go.set();
        ex.run_until_idle();
        const auto w = m.try_lock();
        CHECK(w);
        CHECK_FALSE(m.try_lock());
        CHECK_FALSE(m.try_lock_shared());
    }

    TEST_CASE("SYNC-RW-11 a writer that goes on as a reader lets no writer in between") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        auto w = m.try_lock();
        ex.spawn(reads(m, log, "r", go)).detach();
        ex.spawn(writes(m, log, "w", go)).detach();
        ex.run_until_idle();
        auto r = std::move(*w).downgrade();
        CHECK_FALSE(*w); // NOLINT: what a guard is after a downgrade
        CHECK_THROWS_AS(static_cast<void>(std::move(*w).downgrade()), std::logic_error); // NOLINT
        ex.run_until_idle();
        CHECK(log.text() == "r"); // beside it
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "r");
        r.unlock();
        ex.run_until_idle();
        CHECK(log.text() == "r w");
    }

    TEST_CASE("SYNC-RW-12 downgrade with a projection, and with one that may fail") {
        guarded_shared<pair> g;
        auto w = g.blocking_lock();
        w->first = 5;
        auto first = std::move(w).downgrade().map(&pair::first);
        CHECK(*first == 5);
        static_assert(std::is_same_v<decltype(*first), const int&>);
        CHECK(g.try_lock_shared());
        CHECK_FALSE(g.try_lock());
        first.unlock();

        auto again = g.blocking_lock();
        CHECK_FALSE(again.try_downgrade_map([](const pair&) -> const int* { return nullptr; }));
        CHECK(again); // it stays a writer
        CHECK_FALSE(g.try_lock_shared());
        again->second = "three";
        auto second = again.try_downgrade_map([](const pair& p) { return &p.second; });
        CHECK(**second == "three");
        CHECK_FALSE(again);
        CHECK(g.try_lock_shared());
    }

    TEST_CASE("SYNC-RW-13 into_inner gives the value, unless it is locked") {
        guarded_shared<std::unique_ptr<int>> g(std::make_unique<int>(3));
        auto r = g.try_lock_shared();
        CHECK_THROWS_AS(std::move(g).into_inner(), std::logic_error);
        r.reset();
        CHECK(*std::move(g).into_inner() == 3); // NOLINT: nothing was moved by the call that threw
    }

    TEST_CASE("an upgradable reader becomes the writer when the others are gone, before all who wait") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        event up;
        trace log;
        ex.spawn(reads(m, log, "r", go)).detach();
        ex.spawn(may_write(m, log, "u", up)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r u"); // beside each other
        ex.spawn(writes(m, log, "w", go)).detach();
        ex.spawn(may_write(m, log, "v", up)).detach(); // one at a time
        ex.run_until_idle();
        CHECK(log.text() == "r u");
        up.set();
        ex.run_until_idle();
        CHECK(log.text() == "r u"); // waits for r
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "r u u-writes u-wrote w v v-writes v-wrote");
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("who waits to be the upgradable reader holds up no reader") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        event never;
        trace log;
        auto u = m.try_lock_upgradable();
        CHECK(u);
        CHECK_FALSE(m.try_lock_upgradable());
        auto v = ex.spawn(may_write(m, log, "v", go));
        ex.spawn(reads(m, log, "r", go)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "r");
        SUBCASE("it gives up") {
            v.abort();
            ex.run_until_idle();
            u.reset();
        }
        SUBCASE("it gives up as it comes") {
            u.reset();
            v.abort();
            ex.run_until_idle();
        }
        SUBCASE("it is woken, and waits for a writer") {
            auto r = m.try_lock_shared();
            ex.spawn(writes(m, log, "w", go)).detach();
            ex.run_until_idle();
            u.reset();
            ex.run_until_idle();
            v.abort();
            ex.run_until_idle();
        }
        SUBCASE("the other one goes on as a reader") {
            auto r = std::move(*u).downgrade();
            ex.run_until_idle();
            CHECK(log.text() == "r v");
        }
        go.set();
        ex.run_until_idle();
        CHECK(m.try_lock_upgradable());
        CHECK(m.try_lock());
    }

    TEST_CASE("an upgrade that is dropped lets go of everything") {
        test::manual_executor ex;
        shared_mutex m;
        event go;
        trace log;
        auto r = m.try_lock_shared();
        auto u = ex.spawn(may_write(m, log, "u", go));
        ex.spawn(writes(m, log, "w", go)).detach();
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "u");
        SUBCASE("as it waits") {
            u.abort();
            ex.run_until_idle();
            CHECK(log.text() == "u"); // r is still there
            r.reset();
        }
        SUBCASE("as it comes") {
            r.reset();
            u.abort();
        }
        ex.run_until_idle();
        CHECK(log.text() == "u w");
        CHECK(m.try_lock());
        CHECK(m.try_lock_upgradable());
    }

    TEST_CASE("try_upgrade, and guards that hold nothing") {
        test::manual_executor ex;
        guarded_shared<int> g(1);
        auto u = g.try_lock_upgradable();
        {
            auto r = g.try_lock_shared();
            CHECK(**r == 1);
        }
        auto f = [](guarded_shared<int>& s, guarded_shared<int>::upgradable_guard guard) -> task<int> {
            auto w = co_await std::move(guard).upgrade();
            *w = 2;
            CHECK_FALSE(s.try_lock_shared());
            auto r = std::move(w).downgrade();
            co_return *r;
        };
        CHECK(test::run(ex, f(g, std::move(*u))) == 2);
        shared_mutex m;
        auto v = m.try_lock_upgradable();
        auto r = m.try_lock_shared();
        CHECK_FALSE(v->try_upgrade());
        CHECK(*v);
        r.reset();
        auto w = v->try_upgrade();
        CHECK(w);
        CHECK_FALSE(*v);
        CHECK_THROWS_AS(v->try_upgrade(), std::logic_error);
        auto nothing = [](shared_mutex::upgradable_guard guard) -> task<> {
            auto writer = co_await std::move(guard).upgrade();
        };
        auto h = ex.spawn(nothing(std::move(*v)));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("holds no lock") != std::string::npos);
    }

    TEST_CASE("owned guards keep it alive") {
        test::manual_executor ex;
        auto g = std::make_shared<guarded_shared<int>>(1);
        auto m = std::make_shared<shared_mutex>();
        const std::weak_ptr<guarded_shared<int>> alive = g;
        auto f = [](std::shared_ptr<guarded_shared<int>> p,
                    std::shared_ptr<shared_mutex> q) -> task<int> {
            {
                auto w = co_await guarded_shared<int>::lock_owned(p);
                ++*w;
                auto x = co_await shared_mutex::lock_owned(q);
            }
            auto u = co_await guarded_shared<int>::lock_upgradable_owned(p);
            auto v = co_await shared_mutex::lock_upgradable_owned(q);
            auto s = co_await shared_mutex::lock_shared_owned(std::move(q));
            auto r = co_await guarded_shared<int>::lock_shared_owned(std::move(p));
            co_return *r;
        };
        auto h = ex.spawn(f(std::move(g), std::move(m)));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 2);
        CHECK(alive.expired());
        CHECK_THROWS_AS(static_cast<void>(guarded_shared<int>::lock_owned(nullptr)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(shared_mutex::lock_shared_owned(nullptr)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(shared_mutex::lock_upgradable_owned(nullptr)),
                        std::logic_error);
    }

    TEST_CASE("scoped_lock locks it for writing") {
        test::manual_executor ex;
        shared_mutex m;
        guarded_shared<int> g(1);
        auto f = [](shared_mutex& a, guarded_shared<int>& b) -> task<bool> {
            auto both = co_await magpie::sync::scoped_lock(a, b);
            *both.get<1>() = 4;
            co_return !a.try_lock_shared() && !b.try_lock_shared();
        };
        auto r = g.try_lock_shared();
        auto h = ex.spawn(f(m, g));
        ex.run_until_idle();
        CHECK(m.try_lock());
        r.reset();
        ex.run_until_idle();
        CHECK(h.blocking_join());
        CHECK(*g.blocking_lock() == 4);
    }

    TEST_CASE("a task may not block") {
        test::manual_executor ex;
        shared_mutex m;
        auto f = [](shared_mutex& mx) -> task<> {
            auto r = mx.blocking_lock_shared();
            co_return;
        };
        auto h = ex.spawn(f(m));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("co_await") != std::string::npos);
    }
}
