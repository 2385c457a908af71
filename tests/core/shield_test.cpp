#include <magpie/core/shield.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>
#include <test/waits.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::select;
using magpie::select_biased;
using magpie::shield;
using magpie::task;
using magpie::timeout;
using magpie::sync::event;
using test::await_it;
using test::ends_later;
using test::noisy;
using test::outer;
using test::trace;

namespace {

/// A cleanup that takes as long as the event, and says what comes of it.
task<> cleanup(trace& log, event& e) {
    const noisy local(log, "cleanup-gone");
    co_await e.wait();
    co_await magpie::yield_now();
    log.add("cleaned");
}

task<> slow_cleanup(trace& log, clock::duration d) {
    const noisy local(log, "cleanup-gone");
    co_await magpie::sleep_for(d);
    log.add("cleaned");
}

} // namespace

TEST_SUITE("core.shield") {
    TEST_CASE("a shield gives what its body gives") {
        auto f = [](event& e) -> task<int> {
            auto number = []() -> task<int> {
                co_await magpie::yield_now();
                co_return 7;
            };
            const int seven = co_await shield(number());
            const int limited = co_await shield(1s, number());
            auto moved = co_await shield(
                []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(1); }());
            int referred = 3;
            auto reference = [](int& n) -> task<int&> { co_return n; };
            int& same = co_await shield(reference(referred));
            co_await shield(e.wait());
            co_return seven + limited + *moved + (&same == &referred ? 1 : 0);
        };
        event e;
        e.set();
        CHECK(test::run(f(e)) == 16);
    }

    TEST_CASE("its exception comes out") {
        auto f = []() -> task<> {
            co_await shield([]() -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error("failed");
            }());
        };
        CHECK_THROWS_WITH_AS(test::run(f()), "failed", std::runtime_error);
    }

    TEST_CASE("SCOPE-08 a shielded cleanup runs to its end though its task is aborted") {
        test::manual_executor ex;
        trace log;
        event e;
        const auto check = [&](auto operation) {
            auto t = ex.spawn(outer(log, std::move(operation)));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK_FALSE(t.is_finished());
            CHECK(log.text().empty());
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "cleaned cleanup-gone outer-gone");
            CHECK(test::outcome_of(t) == "cancelled");
        };
        SUBCASE("") { check(shield(cleanup(log, e))); }
        SUBCASE("below a timeout") { check(timeout(1h, shield(cleanup(log, e)))); }
        SUBCASE("below a select") { check(select(shield(cleanup(log, e)), magpie::sleep_for(1h))); }
        SUBCASE("below a join") { check(magpie::join(shield(cleanup(log, e)), magpie::sleep_for(1h))); }
        SUBCASE("below unconstrained") { check(magpie::unconstrained(shield(cleanup(log, e)))); }
        SUBCASE("below another shield") { check(shield(shield(cleanup(log, e)))); }
        SUBCASE("with a composite in it") { check(shield(timeout(1h, cleanup(log, e)))); }
        SUBCASE("with a limit that is not reached") { check(shield(1h, cleanup(log, e))); }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("SCOPE-08 and no longer than its limit, which begins with the cancelling") {
        test::manual_executor ex;
        trace log;
        event never;
        auto t = ex.spawn(outer(log, shield(5s, cleanup(log, never))));
        ex.advance(1h);
        CHECK_FALSE(t.is_finished());
        SUBCASE("an abort") {
            t.abort();
            ex.advance(4s);
            CHECK_FALSE(t.is_finished());
            ex.advance(1s);
            CHECK(log.text() == "cleanup-gone outer-gone");
        }
        SUBCASE("the end of the executor") {
            ex.close();
            ex.advance(5s);
            CHECK(log.text() == "cleanup-gone outer-gone");
        }
        CHECK(test::outcome_of(t) == "cancelled");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("a limit of zero, and one below, waits for nothing") {
        for (const clock::duration limit : {0s, -1s}) {
            test::manual_executor ex;
            trace log;
            event never;
            auto t = ex.spawn(outer(log, shield(limit, cleanup(log, never))));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK(log.text() == "cleanup-gone outer-gone");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("a body whose wake is on its way when the limit is reached is waited for") {
        test::manual_executor ex;
        trace log;
        test::held in_hand;
        auto body = [](trace& l, test::held& h) -> task<> {
            const noisy local(l, "body-gone");
            co_await h.wait();
            l.add("went on");
        };
        for (const clock::duration limit : {0s, 1s}) {
            auto t = ex.spawn(outer(log, shield(limit, body(log, in_hand))));
            ex.run_until_idle();
            t.abort();
            ex.advance(2s);
            CHECK(log.text().empty());
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.take() == "body-gone outer-gone");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("a timeout that runs out, and a select that was lost, wait for what is shielded") {
        test::manual_executor ex;
        trace log;
        auto timed = [](trace& l) -> task<> {
            const bool in_time = co_await timeout(1s, shield(slow_cleanup(l, 3s)));
            l.add(in_time ? "in-time" : "late");
        };
        auto selects = [](trace& l) -> task<> {
            auto won = co_await select_biased(shield(slow_cleanup(l, 3s)), magpie::sleep_for(1s));
            l.add(std::to_string(won.index()));
        };
        SUBCASE("timeout") {
            auto t = ex.spawn(timed(log));
            ex.advance(2s);
            CHECK(log.text().empty());
            ex.advance(1s);
            CHECK(log.text() == "cleaned cleanup-gone late");
        }
        SUBCASE("select") {
            auto t = ex.spawn(selects(log));
            ex.advance(2s);
            CHECK(log.text().empty());
            ex.advance(1s);
            CHECK(log.text() == "cleaned cleanup-gone 1");
        }
        SUBCASE("and an abort that comes meanwhile waits as well") {
            auto t = ex.spawn(timed(log));
            ex.advance(2s);
            t.abort();
            ex.run_until_idle();
            CHECK_FALSE(t.is_finished());
            ex.advance(1s);
            CHECK(log.text() == "cleaned cleanup-gone");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("what a loser holds is given back though a shield beside it goes on") {
        // The shielded body waits for the permit that its quiet sibling holds.
        test::manual_executor ex;
        test::permits p;
        p.add();
        trace log;
        auto holds = [](test::permits& from) -> task<> {
            co_await from.take();
            struct back {
                test::permits& to;
                ~back() { to.add(); }
            } const gives_back{from};
            event never;
            co_await never.wait();
        };
        auto takes = [](trace& l, test::permits& from) -> task<> {
            co_await from.take();
            from.add();
            l.add("had it");
        };
        auto t = ex.spawn(outer(log, select_biased(holds(p), shield(takes(log, p)), ends_later())));
        ex.run_until_idle();
        CHECK(t.is_finished());
        CHECK(log.text() == "had it went on outer-gone");
        CHECK(p.left() == 1);
    }

    TEST_CASE("when it was cancelled its value is dropped, and what it was handed is given back") {
        test::manual_executor ex;
        test::permits p;
        SUBCASE("an operation gives back what it is handed") {
            auto t = ex.spawn(await_it(shield(p.take())));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK_FALSE(t.is_finished());
            p.add();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cancelled");
            CHECK(p.left() == 1);
        }
        SUBCASE("a task's value is destroyed") {
            auto body = [](test::permits& from) -> task<test::counted> {
                co_await from.take();
                co_return test::counted(1);
            };
            const int before = test::counted::alive;
            auto t = ex.spawn(await_it(shield(body(p))));
            ex.run_until_idle();
            t.abort();
            p.add();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cancelled");
            CHECK(test::counted::alive == before);
        }
    }

    TEST_CASE("a cleanup that fails when it was cancelled makes what drops it fail") {
        test::manual_executor ex;
        event e;
        auto fails = [](event& ev) -> task<> {
            co_await ev.wait();
            throw std::runtime_error("cleanup failed");
        };
        SUBCASE("an abort") {
            auto t = ex.spawn(await_it(shield(fails(e))));
            ex.run_until_idle();
            t.abort();
            e.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cleanup failed");
        }
        SUBCASE("a timeout") {
            auto t = ex.spawn(await_it(timeout(1s, shield(fails(e)))));
            ex.advance(1s);
            e.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cleanup failed");
        }
    }

    TEST_CASE("a shield that is awaited begins, also when the turn's budget is spent") {
        for (const bool waits : {false, true}) {
            test::manual_executor ex(2);
            trace log;
            event e;
            auto body = [](trace& l, event& ev, bool wait) -> task<> {
                if (wait)
                    co_await ev.wait();
                l.add("ran");
            };
            auto f = [](trace& l, event& ev, auto make, bool wait) -> task<> {
                co_await magpie::consume_budget();
                co_await magpie::consume_budget();
                l.add("shield");
                co_await shield(make(l, ev, wait));
                l.add("went on");
            };
            auto t = ex.spawn(f(log, e, body, waits));
            ex.run_one();
            t.abort();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "shield ran");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("a loop of shields that are always ready leaves the worker to others") {
        test::manual_executor ex;
        auto f = []() -> task<> {
            auto ready = []() -> task<> { co_return; };
            for (int i = 0; i < 1000; ++i)
                co_await shield(ready());
        };
        auto t = ex.spawn(f());
        ex.run_until_idle();
        CHECK(t.is_finished());
        CHECK(ex.turns() >= 7);
    }

    TEST_CASE("a shield that is never awaited, or was aborted before, does nothing") {
        test::manual_executor ex;
        trace log;
        event e;
        { auto unused = shield(cleanup(log, e)); }
        auto t = ex.spawn(outer(log, shield(cleanup(log, e))));
        t.abort();
        ex.run_until_idle();
        CHECK(log.text().empty());
        CHECK(test::outcome_of(t) == "cancelled");
    }

    TEST_CASE("misuse throws std::logic_error") {
        auto twice = []() -> task<> {
            auto s = shield(magpie::yield_now());
            co_await s;
            co_await s;
        };
        CHECK_THROWS_WITH_AS(test::run(twice()), doctest::Contains("awaited before"), std::logic_error);
        test::manual_executor ex;
        ex.without_timers();
        CHECK_THROWS_WITH_AS(test::run(ex, await_it(shield(1s, magpie::yield_now()))),
                             doctest::Contains("no timers"), std::logic_error);
        CHECK_NOTHROW(test::run(ex, await_it(shield(magpie::yield_now()))));
    }
}
