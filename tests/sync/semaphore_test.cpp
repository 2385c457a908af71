#include <magpie/sync/semaphore.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::event;
using magpie::sync::semaphore;
using test::trace;

namespace {

/// Takes permits and keeps them until `go`.
task<> hold(semaphore& s, std::size_t n, trace& log, std::string name, event& go) {
    auto p = co_await s.acquire_many(n);
    log.add(p ? name : name + "-closed");
    co_await go.wait();
}

/// Takes permits and gives them back at once.
task<> pass(semaphore& s, std::size_t n, trace& log, std::string name) {
    auto p = co_await s.acquire_many(n);
    log.add(p ? name : name + "-closed");
}

} // namespace

TEST_SUITE("sync.semaphore") {
    TEST_CASE("SYNC-SEM-01 without permits an acquire waits, and a try fails") {
        test::manual_executor ex;
        semaphore s(0);
        trace log;
        CHECK_FALSE(s.try_acquire());
        auto h = ex.spawn(pass(s, 1, log, "a"));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        s.add_permits(1);
        ex.run_until_idle();
        CHECK(log.text() == "a");
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("SYNC-SEM-02 a permit gives itself back when it goes; one that is forgotten does not") {
        semaphore s(2);
        {
            auto a = s.try_acquire();
            CHECK(a);
            CHECK(a->count() == 1);
            CHECK(s.available_permits() == 1);
            auto b = s.try_acquire();
            CHECK(b);
            CHECK_FALSE(s.try_acquire());
            b->forget();
            CHECK(b->count() == 0);
        }
        CHECK(s.available_permits() == 1);
        auto c = s.try_acquire();
        c->release();
        c->release(); // nothing is left to give back
        CHECK(s.available_permits() == 1);
        auto d = s.try_acquire();
        auto e = std::move(d);
        CHECK(d->count() == 0); // NOLINT: what a permit is after a move
        e = std::move(c);       // gives back what it had
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("SYNC-SEM-03 an acquire is woken by a permit that comes back, and by one that is added") {
        test::manual_executor ex;
        semaphore s(1);
        event go;
        trace log;
        ex.spawn(hold(s, 1, log, "first", go)).detach();
        ex.spawn(pass(s, 1, log, "second")).detach();
        ex.run_until_idle();
        CHECK(log.text() == "first");
        SUBCASE("back") { go.set(); }
        SUBCASE("added") { s.add_permits(1); }
        SUBCASE("added by another thread") {
            std::thread([&] { s.add_permits(1); }).join();
        }
        ex.run_until_idle();
        CHECK(log.text() == "first second");
        go.set();
        ex.run_until_idle();
    }

    TEST_CASE("SYNC-SEM-04 permits may be added whether it is open, empty or closed") {
        semaphore s(0);
        s.add_permits(0);
        CHECK(s.available_permits() == 0);
        s.add_permits(3);
        CHECK(s.available_permits() == 3);
        s.close();
        s.add_permits(2);
        CHECK(s.available_permits() == 5);
        CHECK_FALSE(s.try_acquire());
    }

    TEST_CASE("SYNC-SEM-05 forget_permits takes what is there at most, and says how many") {
        semaphore s(5);
        SUBCASE("open") {}
        SUBCASE("closed") { s.close(); }
        CHECK(s.forget_permits(0) == 0);
        CHECK(s.forget_permits(3) == 3);
        CHECK(s.available_permits() == 2);
        CHECK(s.forget_permits(9) == 2);
        CHECK(s.available_permits() == 0);
        CHECK(s.forget_permits(1) == 0);
        s.add_permits(1);
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("SYNC-SEM-05 permits that somebody gathers can be forgotten as well") {
        test::manual_executor ex;
        semaphore s(2);
        trace log;
        auto h = ex.spawn(pass(s, 3, log, "three"));
        ex.run_until_idle();
        CHECK(s.forget_permits(1) == 1);
        s.add_permits(1);
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        s.add_permits(1);
        ex.run_until_idle();
        CHECK(h.is_finished());
    }

    TEST_CASE("SYNC-SEM-06 permits of one semaphore merge, those of two do not") {
        semaphore s(5);
        semaphore other(5);
        auto a = s.try_acquire_many(2);
        auto b = s.try_acquire_many(3);
        a->merge(std::move(*b));
        CHECK(a->count() == 5);
        CHECK(b->count() == 0); // NOLINT: what a permit is after a merge
        a->merge(std::move(*a));
        CHECK(a->count() == 5);
        auto c = other.try_acquire();
        CHECK_THROWS_AS(a->merge(std::move(*c)), std::logic_error);
        CHECK(c->count() == 1); // NOLINT: it was left alone
        CHECK_THROWS_AS(a->merge(std::move(*b)), std::logic_error);
        a.reset();
        CHECK(s.available_permits() == 5);
    }

    TEST_CASE("SYNC-SEM-07 split makes an object of some of the permits, if there are enough") {
        semaphore s(5);
        auto a = s.try_acquire_many(5);
        auto b = a->split(2);
        CHECK(b->count() == 2);
        CHECK(a->count() == 3);
        CHECK_FALSE(a->split(4));
        CHECK(a->split(0)->count() == 0);
        b.reset();
        CHECK(s.available_permits() == 2);
        auto rest = a->split(3);
        CHECK(a->count() == 0);
        a.reset();
        CHECK(s.available_permits() == 2);
        rest.reset();
        CHECK(s.available_permits() == 5);
    }

    TEST_CASE("SYNC-SEM-09 the most permits are accepted, one more is refused") {
        constexpr auto most = semaphore::max_permits;
        CHECK_THROWS_AS(semaphore(most + 1), std::logic_error);
        semaphore full(most);
        CHECK(full.available_permits() == most);
        CHECK_THROWS_AS(full.add_permits(1), std::logic_error);
        full.add_permits(0);
        auto p = full.try_acquire();
        CHECK_THROWS_AS(full.add_permits(1), std::logic_error); // one that is out comes back
        p->forget();
        full.add_permits(1);
        CHECK(full.available_permits() == most);
        CHECK(full.try_acquire_many(most));
        CHECK_THROWS_AS(full.try_acquire_many(most + 1), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(full.acquire_many(most + 1)), std::logic_error);
        semaphore empty(0);
        empty.add_permits(most);
        CHECK(empty.forget_permits(most) == most);
        empty.add_permits(most - 1);
        CHECK_THROWS_AS(empty.add_permits(2), std::logic_error);
    }

    TEST_CASE("SYNC-SEM-10 a plain thread waits for a permit") {
        semaphore s(0);
        std::optional<semaphore::permit> got;
        std::thread waits([&] { got = s.blocking_acquire(2); });
        s.add_permits(1);
        s.add_permits(1);
        waits.join();
        CHECK(got->count() == 2);
        CHECK(s.available_permits() == 0);
    }

    TEST_CASE("SYNC-SEM-10 a plain thread that waits gets nothing from a closed one") {
        semaphore s(0);
        bool got = true;
        std::thread waits([&] { got = s.blocking_acquire().has_value(); });
        s.close();
        waits.join();
        CHECK_FALSE(got);
        CHECK_FALSE(s.blocking_acquire());
    }

    TEST_CASE("SYNC-SEM-10 a task may not block for a permit") {
        test::manual_executor ex;
        semaphore s(1);
        auto f = [](semaphore& sem) -> task<> {
            sem.blocking_acquire();
            co_return;
        };
        auto h = ex.spawn(f(s));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("co_await") != std::string::npos);
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("SYNC-SEM-11 many permits are taken together or not at all") {
        test::manual_executor ex;
        semaphore s(5);
        trace log;
        CHECK(test::run(ex, [](semaphore& sem) -> task<bool> {
            auto p = co_await sem.acquire_many(5);
            co_return p->count() == 5 && sem.available_permits() == 0;
        }(s)));
        auto taken = s.try_acquire_many(3);
        ex.spawn(pass(s, 4, log, "four")).detach();
        ex.run_until_idle();
        auto one = taken->split(1);
        one.reset();
        ex.run_until_idle();
        CHECK(log.text().empty());
        CHECK(s.available_permits() == 3); // there, but for the one that waits
        CHECK_FALSE(s.try_acquire());
        one = taken->split(1);
        one.reset();
        ex.run_until_idle();
        CHECK(log.text() == "four");
        CHECK(s.available_permits() == 4);
    }

    TEST_CASE("SYNC-SEM-12 a small request does not overtake a large one that waits") {
        test::manual_executor ex;
        semaphore s(3);
        event go;
        trace log;
        auto taken = s.try_acquire_many(1);
        for (const auto& [name, n] : {std::pair("three", 3), {"one", 1}, {"two", 2}, {"more", 1}})
            ex.spawn(hold(s, static_cast<std::size_t>(n), log, name, go)).detach();
        ex.run_until_idle();
        CHECK(log.text().empty());
        taken.reset();
        ex.run_until_idle();
        CHECK(log.text() == "three");
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "three one two more");
        CHECK(s.available_permits() == 3);
    }

    TEST_CASE("SYNC-SEM-13 closing wakes all who wait, with nothing, and keeps out who comes") {
        test::manual_executor ex;
        semaphore s(1);
        trace log;
        auto taken = s.try_acquire();
        ex.spawn(pass(s, 1, log, "a")).detach();
        ex.spawn(pass(s, 2, log, "b")).detach();
        ex.run_until_idle();
        CHECK_FALSE(s.is_closed());
        s.close();
        s.close();
        CHECK(s.is_closed());
        ex.run_until_idle();
        CHECK(log.take() == "a-closed b-closed");
        taken.reset(); // still valid
        CHECK(s.available_permits() == 1);
        ex.spawn(pass(s, 1, log, "c")).detach();
        ex.spawn(pass(s, 0, log, "d")).detach();
        ex.run_until_idle();
        CHECK(log.text() == "c-closed d-closed");
    }

    TEST_CASE("SYNC-SEM-14 when one that waits is dropped, what it gathered is for the next") {
        test::manual_executor ex;
        semaphore s(2);
        event go;
        trace log;
        auto large = ex.spawn(hold(s, 3, log, "large", go));
        ex.spawn(hold(s, 1, log, "a", go)).detach();
        ex.spawn(hold(s, 1, log, "b", go)).detach();
        ex.spawn(hold(s, 1, log, "c", go)).detach();
        ex.run_until_idle();
        CHECK(log.text().empty());
        SUBCASE("dropped while it waits") {
            large.abort();
            ex.run_until_idle();
            CHECK(log.text() == "a b");
        }
        SUBCASE("dropped when it has got its permits, and has not run") {
            s.add_permits(1);
            large.abort();
            ex.run_until_idle();
            CHECK(log.text() == "a b c");
        }
        go.set();
        ex.run_until_idle();
    }

    TEST_CASE("SYNC-SEM-14 one that is dropped behind others leaves them in order") {
        test::manual_executor ex;
        semaphore s(0);
        trace log;
        std::vector<magpie::join_handle<>> handles;
        for (const char* name : {"a", "b", "c", "d"})
            handles.push_back(ex.spawn(pass(s, 1, log, name)));
        ex.run_until_idle();
        handles[1].abort();
        handles[3].abort();
        ex.run_until_idle();
        s.add_permits(1);
        ex.run_until_idle();
        CHECK(log.text() == "a c");
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("SYNC-SEM-15 waiting again and again in one place leaves one waiter at most") {
        test::manual_executor ex;
        semaphore s(0);
        int lost = 0;
        auto f = [](semaphore& sem, int& n) -> task<> {
            for (;;) {
                auto r = co_await magpie::select_biased(sem.acquire(), magpie::yield_now());
                if (r.index() == 0)
                    co_return;
                ++n;
            }
        };
        auto h = ex.spawn(f(s, lost));
        for (int i = 0; i < 1000; ++i)
            ex.run_one();
        CHECK(lost > 400);
        s.add_permits(2);
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(s.available_permits() == 2);
    }

    TEST_CASE("SYNC-SEM-17 who has given up a request may ask for another number") {
        test::manual_executor ex;
        semaphore s(2);
        auto f = [](semaphore& sem) -> task<std::string> {
            auto five = co_await magpie::timeout(1s, sem.acquire_many(5));
            auto two = co_await magpie::timeout(1s, sem.acquire_many(2));
            co_return std::string(five ? "five" : "late") + (two ? " two" : " late");
        };
        auto h = ex.spawn(f(s));
        ex.advance(1s);
        CHECK(h.blocking_join() == "late two");
        CHECK(s.available_permits() == 2);
    }

    TEST_CASE("owned permits keep the semaphore alive") {
        test::manual_executor ex;
        auto s = std::make_shared<semaphore>(2);
        const std::weak_ptr<semaphore> alive = s;
        auto first = semaphore::try_acquire_owned(s);
        CHECK(first);
        auto f = [](std::shared_ptr<semaphore> sem) -> task<std::size_t> {
            auto p = co_await semaphore::acquire_owned(std::move(sem), 2);
            co_return p->count();
        };
        auto h = ex.spawn(f(std::move(s)));
        ex.run_until_idle();
        SUBCASE("granted") {
            auto part = first->split(1);
            CHECK(part);
            part.reset();
            first.reset();
            ex.run_until_idle();
            CHECK(h.blocking_join() == 2);
        }
        SUBCASE("dropped as they wait") {
            h.abort();
            ex.run_until_idle();
            CHECK_FALSE(alive.expired());
            first.reset();
        }
        SUBCASE("dropped as they come") {
            first.reset();
            h.abort();
            ex.run_until_idle();
        }
        CHECK(alive.expired());
        CHECK_THROWS_AS(static_cast<void>(semaphore::acquire_owned(nullptr)), std::logic_error);
        CHECK_THROWS_AS(semaphore::try_acquire_owned(nullptr), std::logic_error);
    }

    TEST_CASE("who has got the last permit may destroy the semaphore") {
        test::manual_executor ex;
        auto s = std::make_unique<semaphore>(1);
        auto taken = s->try_acquire();
        auto f = [](std::unique_ptr<semaphore>& sem) -> task<> {
            (co_await sem->acquire())->forget();
            sem.reset();
        };
        auto h = ex.spawn(f(s));
        ex.run_until_idle();
        taken.reset();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK_FALSE(s);
    }

    TEST_CASE("an acquire that was awaited before is refused") {
        semaphore s(1);
        auto f = [](semaphore& sem) -> task<> {
            auto op = sem.acquire();
            auto p = co_await op;
            co_await op;
        };
        test::manual_executor ex;
        auto h = ex.spawn(f(s));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("anew") != std::string::npos);
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("an acquire that is not awaited takes nothing") {
        semaphore s(1);
        {
            [[maybe_unused]] auto op = s.acquire();
            [[maybe_unused]] auto moved = std::move(op);
        }
        CHECK(s.available_permits() == 1);
    }

    TEST_CASE("acquires that complete at once take budget") {
        test::manual_executor ex;
        semaphore s(1);
        trace log;
        auto busy = [](semaphore& sem, trace& l) -> task<> {
            for (int i = 0; i < 200; ++i)
                static_cast<void>(co_await sem.acquire());
            l.add("busy");
        };
        auto other = [](trace& l) -> task<> {
            l.add("other");
            co_return;
        };
        ex.spawn(busy(s, log)).detach();
        ex.spawn(other(log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "other busy");
    }

    TEST_CASE("as a result") {
        semaphore s(1);
        auto f = [](semaphore& sem) -> task<bool> {
            auto r = co_await as_result(sem.acquire());
            co_return r.has_value() && r->has_value();
        };
        CHECK(test::run(f(s)));
    }
}
