#include <magpie/sync/mutex.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::event;
using magpie::sync::mutex;
using test::trace;

namespace {

/// Locks and holds it until `go`.
task<> hold(mutex& m, trace& log, std::string name, event& go) {
    auto guard = co_await m.lock();
    log.add(name);
    co_await go.wait();
}

task<> hold_owned(std::shared_ptr<mutex> m, trace& log, std::string name, event& go) {
    auto guard = co_await mutex::lock_owned(std::move(m));
    log.add(name);
    co_await go.wait();
}

} // namespace

TEST_SUITE("sync.mutex") {
    TEST_CASE("SYNC-MUTEX-01 a free lock is taken at once, and let go of when its guard goes") {
        test::manual_executor ex;
        mutex m;
        CHECK_FALSE(m.is_locked());
        auto f = [](mutex& mx) -> task<bool> {
            auto guard = co_await mx.lock();
            co_return guard&& mx.is_locked();
        };
        auto h = ex.spawn(f(m));
        CHECK(ex.run_one());
        CHECK(h.blocking_join());
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("SYNC-MUTEX-02 who waits is woken when the holder lets go, first come first") {
        test::manual_executor ex;
        mutex m;
        trace log;
        event go;
        event go_b;
        ex.spawn(hold(m, log, "a", go)).detach();
        ex.spawn(hold(m, log, "b", go_b)).detach();
        ex.spawn(hold(m, log, "c", go)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "a");
        const std::size_t turns = ex.turns();
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "a b");
        CHECK(ex.turns() == turns + 2); // the holder's, and of who was woken
        go_b.set();
        ex.run_until_idle();
        CHECK(log.text() == "a b c");
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("SYNC-MUTEX-03 a task that is dropped lets go of what it holds") {
        test::manual_executor ex;
        mutex m;
        trace log;
        event go;
        auto a = ex.spawn(hold(m, log, "a", go));
        ex.spawn(hold(m, log, "b", go)).detach();
        ex.run_until_idle();
        a.abort();
        ex.run_until_idle();
        CHECK(log.text() == "a b");
        go.set();
        ex.run_until_idle();
    }

    TEST_CASE("SYNC-MUTEX-04 a waiter that is dropped leaves the queue") {
        test::manual_executor ex;
        mutex m;
        trace log;
        event go;
        auto guard = m.try_lock();
        auto a = ex.spawn(hold(m, log, "a", go));
        ex.run_until_idle();
        SUBCASE("the only one") {
            a.abort();
            ex.run_until_idle();
            guard.reset();
            CHECK_FALSE(m.is_locked());
            CHECK(m.try_lock());
        }
        SUBCASE("before another one") {
            ex.spawn(hold(m, log, "b", go)).detach();
            ex.run_until_idle();
            a.abort();
            ex.run_until_idle();
            CHECK(log.text().empty());
            guard.reset();
            ex.run_until_idle();
            CHECK(log.text() == "b");
        }
        go.set();
        ex.run_until_idle();
    }

    TEST_CASE("SYNC-MUTEX-05 a waiter that is dropped when it has got the lock hands it on") {
        test::manual_executor ex;
        mutex m;
        trace log;
        event go;
        auto guard = m.try_lock();
        auto a = ex.spawn(hold(m, log, "a", go));
        auto b = ex.spawn(hold(m, log, "b", go));
        ex.run_until_idle();
        guard.reset(); // it is a's now
        a.abort();
        ex.run_until_idle();
        CHECK(log.text() == "b");
        CHECK(m.is_locked());
        b.abort();
        ex.run_until_idle();
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("a lock that loses a select is not taken") {
        test::manual_executor ex;
        mutex m;
        auto f = [](mutex& mx) -> task<std::size_t> {
            auto r = co_await magpie::select_biased(mx.lock(), magpie::yield_now());
            co_return r.index();
        };
        auto guard = m.try_lock();
        auto h = ex.spawn(f(m));
        ex.run_one();
        SUBCASE("as it waits") {
            ex.run_until_idle();
            CHECK(h.blocking_join() == 1);
            guard.reset();
        }
        SUBCASE("as it comes") {
            guard.reset(); // behind the yield
            ex.run_until_idle();
            CHECK(h.blocking_join() == 1);
        }
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("with a timeout, and as a result") {
        test::manual_executor ex;
        mutex m;
        auto f = [](mutex& mx) -> task<std::string> {
            auto guard = co_await mx.lock();
            auto late = co_await magpie::timeout(1s, mx.lock());
            guard.unlock();
            auto in_time = co_await magpie::timeout(1s, mx.lock());
            in_time.reset();
            auto r = co_await as_result(mx.lock());
            co_return std::string(late ? "?" : "late") + (in_time ? "?" : " in-time") +
                (r.has_value() && *r ? " result" : " ?");
        };
        auto h = ex.spawn(f(m));
        ex.advance(1s);
        CHECK(h.blocking_join() == "late in-time result");
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("SYNC-MUTEX-07 try_lock fails while it is held, and before those who wait") {
        test::manual_executor ex;
        mutex m;
        trace log;
        event go;
        {
            const auto guard = m.try_lock();
            CHECK(guard);
            CHECK_FALSE(m.try_lock());
        }
        auto guard = m.try_lock();
        CHECK(guard);
        ex.spawn(hold(m, log, "a", go)).detach();
        ex.run_until_idle();
        guard.reset();
        CHECK_FALSE(m.try_lock()); // it is a's
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(m.try_lock());
    }

    TEST_CASE("SYNC-MUTEX-08 printing says whether it is locked, and waits for nothing") {
        mutex m;
        std::ostringstream out;
        out << m;
        const auto guard = m.try_lock();
        out << ' ' << m;
        CHECK(out.str() == "mutex(free) mutex(locked)");
    }

    TEST_CASE("SYNC-MUTEX-09 owned guards keep the mutex alive, and are like all others") {
        test::manual_executor ex;
        trace log;
        event go;
        auto m = std::make_shared<mutex>();
        const std::weak_ptr<mutex> alive = m;
        auto guard = mutex::try_lock_owned(m);
        CHECK(guard);
        CHECK_FALSE(mutex::try_lock_owned(m));
        auto a = ex.spawn(hold_owned(m, log, "a", go));
        auto b = ex.spawn(hold_owned(std::move(m), log, "b", go));
        ex.run_until_idle();
        CHECK(log.text().empty());
        SUBCASE("granted one after another") {
            guard.reset();
            ex.run_until_idle();
            CHECK(log.text() == "a");
            go.set();
            ex.run_until_idle();
            CHECK(log.text() == "a b");
        }
        SUBCASE("dropped as it waits") {
            a.abort();
            ex.run_until_idle();
            guard->unlock();
            ex.run_until_idle();
            CHECK(log.text() == "b");
        }
        SUBCASE("dropped as it comes, and as it holds") {
            guard.reset();
            a.abort();
            ex.run_until_idle();
            CHECK(log.text() == "b");
            CHECK_FALSE(alive.expired());
            b.abort();
        }
        go.set();
        ex.run_until_idle();
        CHECK(alive.expired());
        CHECK_THROWS_AS(static_cast<void>(mutex::lock_owned(nullptr)), std::logic_error);
        CHECK_THROWS_AS(mutex::try_lock_owned(nullptr), std::logic_error);
    }

    TEST_CASE("SYNC-MUTEX-10 a task may not block for a lock") {
        test::manual_executor ex;
        mutex m;
        auto f = [](mutex& mx) -> task<> {
            auto guard = mx.blocking_lock();
            co_return;
        };
        auto h = ex.spawn(f(m));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("co_await") != std::string::npos);
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("plain threads lock it too, in turn with tasks") {
        test::manual_executor ex;
        mutex m;
        int n = 0; // a race would be reported under ThreadSanitizer
        auto f = [](mutex& mx, int& count) -> task<> {
            for (int i = 0; i < 1000; ++i) {
                auto guard = co_await mx.lock();
                ++count;
                co_await magpie::yield_now();
            }
        };
        auto a = ex.spawn(f(m, n));
        auto b = ex.spawn(f(m, n));
        std::thread thread([&] {
            for (int i = 0; i < 1000; ++i) {
                const auto guard = m.blocking_lock();
                ++n;
            }
        });
        while (!a.is_finished() || !b.is_finished())
            if (!ex.run_one())
                std::this_thread::yield();
        thread.join();
        CHECK(n == 3000);
    }

    TEST_CASE("a guard may be moved, unlocked early, and let go of on another thread") {
        mutex m;
        auto a = m.try_lock();
        mutex::guard b = std::move(*a);
        CHECK_FALSE(*a); // NOLINT: what a guard is after a move
        CHECK(b);
        b.unlock();
        CHECK_FALSE(b);
        CHECK_FALSE(m.is_locked());
        CHECK_THROWS_AS(b.unlock(), std::logic_error);
        b = std::move(*m.try_lock());
        CHECK(m.is_locked());
        std::thread([guard = std::move(b)] {}).join();
        CHECK_FALSE(m.is_locked());
        mutex other;
        auto c = m.try_lock();
        auto d = other.try_lock();
        *c = std::move(*d); // lets go of what it held
        CHECK_FALSE(m.is_locked());
        CHECK(other.is_locked());
    }

    TEST_CASE("a wait that was awaited before is refused") {
        test::manual_executor ex;
        mutex m;
        auto f = [](mutex& mx) -> task<> {
            auto wait = mx.lock();
            { auto guard = co_await wait; }
            auto guard = co_await wait;
        };
        auto h = ex.spawn(f(m));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("anew") != std::string::npos);
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("who holds it may destroy it, if nobody waits") {
        test::manual_executor ex;
        auto m = std::make_unique<mutex>();
        int left = 3;
        auto f = [](std::unique_ptr<mutex>& mx, int& n) -> task<> {
            auto guard = co_await mx->lock();
            co_await magpie::yield_now();
            if (--n == 0) {
                guard.unlock();
                mx.reset();
            }
        };
        for (int i = 0; i < 3; ++i)
            ex.spawn(f(m, left)).detach();
        ex.run_until_idle();
        CHECK_FALSE(m);
    }
}
