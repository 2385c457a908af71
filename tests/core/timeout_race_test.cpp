// A timeout whose body and timer are ready together, or whose loser takes its time to go.

#include <magpie/core/timeout.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <coroutine>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::task;
using magpie::timeout;
using magpie::sync::event;
using test::counted;
using test::held;
using test::noisy;
using test::trace;

namespace {

task<int> number_after(clock::duration d, int n) {
    co_await magpie::sleep_for(d);
    co_return n;
}

/// Waits for an event with something to destroy.
task<> noisy_wait(trace& log, event& e, std::string name) {
    const noisy local(log, name);
    co_await e.wait();
    log.add("woken");
}

task<> noisy_hold(trace& log, held& h, std::string name) {
    const noisy local(log, name);
    co_await h.wait();
    log.add("woken");
}

/// Says how the timeout of a task ended.
task<> limited(trace& log, clock::duration limit, task<> body) {
    const bool in_time = co_await timeout(limit, std::move(body));
    log.add(in_time ? "in-time" : "late");
}

task<> run_both(task<> a, task<> b) {
    test::both branches(std::move(a), std::move(b));
    co_await branches;
}

} // namespace

TEST_SUITE("core.timeout_race") {
    TEST_CASE("TIME-CORE-11 body and timer ready on the same turn: the first to become so wins") {
        test::manual_executor ex;
        event e;
        trace log;
        // The other branch makes both ready on the task's own turn.
        auto makes_ready = [](test::manual_executor& x, event& ev, bool body_first) -> task<> {
            co_await magpie::yield_now();
            if (body_first)
                ev.set();
            x.advance(10ms);
            if (!body_first)
                ev.set();
        };
        SUBCASE("the body") {
            auto h = ex.spawn(
                run_both(limited(log, 10ms, noisy_wait(log, e, "body")), makes_ready(ex, e, true)));
            ex.run_until_idle();
            CHECK(log.text() == "woken body in-time");
            CHECK(h.is_finished());
        }
        SUBCASE("the timer") {
            auto h = ex.spawn(
                run_both(limited(log, 10ms, noisy_wait(log, e, "body")), makes_ready(ex, e, false)));
            ex.run_until_idle();
            CHECK(log.text() == "body late");
            CHECK(h.is_finished());
        }
        SUBCASE("the body, which is an operation") {
            auto f = [](trace& l, event& ev) -> task<> {
                const bool in_time = co_await timeout(10ms, ev.wait());
                l.add(in_time ? "in-time" : "late");
            };
            auto h = ex.spawn(run_both(f(log, e), makes_ready(ex, e, true)));
            ex.run_until_idle();
            CHECK(log.text() == "in-time");
            CHECK(h.is_finished());
        }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("an operation that is on its way ends before the timeout does") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto h = ex.spawn(limited(log, 10ms, noisy_hold(log, in_hand, "body")));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(log.text().empty());
        CHECK_FALSE(h.is_finished());
        SUBCASE("") {
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "body late");
            CHECK(h.is_finished());
        }
        SUBCASE("also when the timeout itself is dropped meanwhile") {
            h.abort();
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "body");
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        }
        SUBCASE("also when an outer timeout runs out meanwhile") {
            held other;
            auto outer = ex.spawn(
                limited(log, 20ms, limited(log, 10ms, noisy_hold(log, other, "inner"))));
            ex.run_until_idle();
            ex.advance(10ms);
            ex.advance(10ms);
            CHECK_FALSE(outer.is_finished());
            other.release();
            ex.run_until_idle();
            CHECK(log.text() == "inner late");
            CHECK(outer.is_finished());
            in_hand.release();
            ex.run_until_idle();
        }
        CHECK(in_hand.cancels() == 1);
        CHECK(in_hand.resumed() == 0);
    }

    TEST_CASE("an operation on its way when a limit of zero finds it") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto h = ex.spawn(limited(log, 0s, noisy_hold(log, in_hand, "body")));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        in_hand.release();
        ex.run_until_idle();
        CHECK(log.text() == "body late");
    }

    TEST_CASE("a body that ends while its timer is on its way has won") {
        test::manual_executor ex;
        trace log;
        auto body = [](test::manual_executor& x) -> task<int> {
            co_await magpie::yield_now();
            x.advance(10ms); // the timer is woken on the task's own turn
            co_return 4;
        };
        auto f = [](task<int> b, trace& l) -> task<> {
            const std::optional<int> n = co_await timeout(10ms, std::move(b));
            l.add(n.has_value() ? "in-time" : "late");
        };
        auto h = ex.spawn(f(body(ex), log));
        ex.run_until_idle();
        CHECK(log.text() == "in-time");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE(
        "a value, or an exception, that is held while the timer comes is dropped with the timeout") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        counted::alive = 0;
        bool fails = false;
        SUBCASE("a value") {}
        SUBCASE("an exception") { fails = true; }
        {
            auto body = [](test::manual_executor& x, magpie::abort_handle& me,
                           bool f) -> task<counted> {
                co_await magpie::yield_now();
                me.abort();
                x.advance(10ms);
                if (f)
                    throw std::runtime_error("no");
                co_return counted(4);
            };
            auto f = [](task<counted> b) -> task<> { co_await timeout(10ms, std::move(b)); };
            magpie::abort_handle self;
            auto h = ex.spawn(f(body(ex, self, fails)));
            self = h.abort_handle();
            ex.run_until_idle();
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        }
        CHECK(counted::alive.load() == 0);
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("timeouts in timeouts") {
        test::manual_executor ex;
        event e;
        trace log;
        SUBCASE("the inner one is shorter") {
            auto h = ex.spawn(limited(log, 20ms, limited(log, 10ms, noisy_wait(log, e, "body"))));
            ex.run_until_idle();
            ex.advance(20ms);
            CHECK(log.text() == "body late in-time");
            CHECK(h.is_finished());
        }
        SUBCASE("the outer one is shorter") {
            auto h = ex.spawn(limited(log, 10ms, limited(log, 20ms, noisy_wait(log, e, "body"))));
            ex.run_until_idle();
            ex.advance(20ms);
            CHECK(log.text() == "body late");
            CHECK(h.is_finished());
        }
        SUBCASE("both run out on the same turn") {
            auto late = [](test::manual_executor& x) -> task<> {
                co_await magpie::yield_now();
                x.advance(30ms);
            };
            SUBCASE("the inner one first") {
                auto h = ex.spawn(run_both(
                    limited(log, 20ms, limited(log, 10ms, noisy_wait(log, e, "body"))), late(ex)));
                ex.run_until_idle();
                CHECK(log.text() == "body late in-time");
                CHECK(h.is_finished());
            }
            SUBCASE("the outer one first") {
                auto h = ex.spawn(run_both(
                    limited(log, 10ms, limited(log, 20ms, noisy_wait(log, e, "body"))), late(ex)));
                ex.run_until_idle();
                CHECK(log.text() == "body late");
                CHECK(h.is_finished());
            }
            SUBCASE("the outer one first, and the body as well") {
                auto late_and_set = [](test::manual_executor& x, event& ev) -> task<> {
                    co_await magpie::yield_now();
                    x.advance(30ms);
                    ev.set();
                };
                auto h = ex.spawn(
                    run_both(limited(log, 10ms, limited(log, 20ms, noisy_wait(log, e, "body"))),
                             late_and_set(ex, e)));
                ex.run_until_idle();
                CHECK(log.text() == "body late");
                CHECK(h.is_finished());
            }
        }
        SUBCASE("without a task between them") {
            auto f = [](trace& l, event& ev, clock::duration outer, clock::duration inner) -> task<> {
                const std::optional<bool> r = co_await timeout(outer, timeout(inner, ev.wait()));
                l.add(!r.has_value() ? "outer" : *r ? "in-time" : "inner");
            };
            auto a = ex.spawn(f(log, e, 10ms, 20ms));
            auto b = ex.spawn(f(log, e, 20ms, 15ms));
            auto c = ex.spawn(f(log, e, 0ms, 15ms));
            ex.run_until_idle();
            ex.advance(30ms);
            auto d = ex.spawn(f(log, e, 10ms, 20ms));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "outer outer inner in-time");
        }
        SUBCASE("aborted from outside") {
            auto h = ex.spawn(
                limited(log, 10ms, limited(log, 20ms, limited(log, 15ms, noisy_wait(log, e, "body")))));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "body");
            CHECK(h.is_finished());
        }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("operations in operations: aborted at any turn, all that they hold is destroyed once") {
        // With a budget of one each leaf that surfaces has a turn of its own. So there is one in which
        // the inner operation has ended, and the outer one waits for its timer, which is on its way.
        enum class waits_for { an_event, an_event_when_it_has_worked, a_wake_on_its_way };
        struct scenario {
            waits_for kind;
            bool ends; // the body does, before the time passes
            clock::duration limit;
            clock::duration passes;
            int turns; // before the abort
        };
        auto body = [](trace& l, event& e, held& h, waits_for kind, noisy) -> task<> {
            const noisy local(l, "local");
            if (kind == waits_for::an_event_when_it_has_worked)
                for (int i = 0; i < 3; ++i)
                    co_await magpie::consume_budget();
            if (kind == waits_for::a_wake_on_its_way)
                co_await h.wait();
            else
                co_await e.wait();
        };
        auto later = [](test::manual_executor& x, event& e, held& h, scenario s) -> task<> {
            for (int i = 0; i < 5; ++i)
                co_await magpie::yield_now();
            if (s.ends)
                e.set();
            if (s.ends && h.is_waited_for())
                h.release();
            x.advance(s.passes);
        };
        const auto run = [&](auto operation, scenario s) {
            event e;
            held h;
            trace log;
            test::manual_executor ex(1);
            auto all = ex.spawn(
                run_both(operation(body(log, e, h, s.kind, noisy(log, "parameter")), s.limit),
                         later(ex, e, h, s)));
            for (int i = 0; i < s.turns; ++i)
                ex.run_one();
            all.abort();
            ex.run_until_idle();
            if (h.is_waited_for())
                h.release();
            ex.run_until_idle();
            CHECK(all.is_finished());
            CHECK((log.text() == "local parameter" || log.text() == "parameter"));
            CHECK(ex.armed_timers() == 0);
        };
        const auto aborted_at_any_turn = [&](auto operation) {
            for (const auto kind : {waits_for::an_event, waits_for::an_event_when_it_has_worked,
                                    waits_for::a_wake_on_its_way})
                for (const bool ends : {false, true})
                    for (const clock::duration limit : {5ms, 20ms})
                        for (const clock::duration passes : {7ms, 30ms})
                            for (int turns = 0; turns < 25; ++turns) {
                                CAPTURE(static_cast<int>(kind));
                                CAPTURE(ends);
                                CAPTURE(limit.count());
                                CAPTURE(passes.count());
                                CAPTURE(turns);
                                run(operation, {kind, ends, limit, passes, turns});
                            }
        };
        using limit = clock::duration;
        SUBCASE("a timeout in a timeout") {
            aborted_at_any_turn(
                [](task<> b, limit d) -> task<> { co_await timeout(d, timeout(10ms, std::move(b))); });
        }
        SUBCASE("the result of a timeout in a timeout") {
            aborted_at_any_turn([](task<> b, limit d) -> task<> {
                co_await timeout(d, as_result(timeout(10ms, std::move(b))));
            });
        }
        SUBCASE("unconstrained in a timeout") {
            aborted_at_any_turn([](task<> b, limit d) -> task<> {
                co_await timeout(d, magpie::unconstrained(std::move(b)));
            });
        }
        SUBCASE("a timeout in unconstrained") {
            aborted_at_any_turn([](task<> b, limit d) -> task<> {
                co_await magpie::unconstrained(timeout(d, std::move(b)));
            });
        }
        SUBCASE("three deep") {
            aborted_at_any_turn([](task<> b, limit d) -> task<> {
                co_await timeout(d, timeout(10ms, magpie::unconstrained(std::move(b))));
            });
        }
        SUBCASE("with tasks between") {
            aborted_at_any_turn([](task<> b, limit d) -> task<> {
                auto inner = [](task<> t) -> task<> { co_await timeout(10ms, std::move(t)); };
                co_await timeout(d, inner(std::move(b)));
            });
        }
    }

    TEST_CASE("a hundred timeouts in each other are dropped innermost first") {
        test::manual_executor ex;
        event e;
        struct nest {
            static task<> down(int depth, event& ev, int& next, bool& ordered) {
                struct check {
                    int depth;
                    int& next;
                    bool& ordered;
                    check(int d, int& n, bool& o) : depth(d), next(n), ordered(o) {}
                    ~check() { ordered &= depth == next++; }
                };
                const check at_end(depth, next, ordered);
                if (depth == 0)
                    co_await ev.wait();
                else
                    co_await timeout(1h, down(depth - 1, ev, next, ordered));
            }
        };
        int next = 0;
        bool ordered = true;
        auto h = ex.spawn(nest::down(100, e, next, ordered));
        ex.run_until_idle();
        SUBCASE("by an abort") { h.abort(); }
        SUBCASE("by the time") { ex.advance(2h); }
        SUBCASE("by their ends") { e.set(); }
        ex.run_until_idle();
        CHECK(next == 101);
        CHECK(ordered);
        CHECK(h.is_finished());
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("a foreign awaitable is waited for, though it resumes late and elsewhere") {
        struct foreign {
            std::coroutine_handle<>& waiter;
            explicit foreign(std::coroutine_handle<>& w) : waiter(w) {}
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) noexcept { waiter = h; }
            int await_resume() const noexcept { return 1; }
        };
        test::manual_executor ex;
        trace log;
        std::coroutine_handle<> waiter;
        auto body = [](trace& l, std::coroutine_handle<>& w) -> task<int> {
            const noisy local(l, "body");
            const int n = co_await foreign(w);
            l.add("woken");
            co_return n;
        };
        auto f = [](trace& l, task<int> b) -> task<> {
            const std::optional<int> n = co_await timeout(10ms, std::move(b));
            l.add(n.has_value() ? "in-time" : "late");
        };
        auto h = ex.spawn(f(log, body(log, waiter)));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK_FALSE(h.is_finished());
        std::thread([&] { waiter.resume(); }).join();
        CHECK(log.text().empty());
        ex.run_until_idle();
        CHECK(log.text() == "body late");

        auto direct = [](trace& l, std::coroutine_handle<>& w) -> task<> {
            const std::optional<int> n = co_await timeout(10ms, foreign(w));
            l.add(n.has_value() ? "in-time" : "late");
        };
        auto d = ex.spawn(direct(log, waiter));
        ex.run_until_idle();
        std::thread([&] { waiter.resume(); }).join();
        ex.run_until_idle();
        CHECK(log.text() == "body late in-time");
    }

    TEST_CASE("a join that runs out of time leaves an lvalue handle, and lets go of one given away") {
        test::manual_executor ex;
        event e;
        auto body = [](event& ev) -> task<int> {
            co_await ev.wait();
            co_return 6;
        };
        auto kept = ex.spawn(body(e));
        auto f = [](magpie::join_handle<int>& h) -> task<std::optional<int>> {
            const std::optional<int> n = co_await timeout(10ms, h);
            co_return n;
        };
        auto first = ex.spawn(f(kept));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(first.blocking_join() == std::nullopt);
        CHECK(kept);

        auto away = [](magpie::join_handle<int> h) -> task<std::optional<int>> {
            const std::optional<int> n = co_await timeout(10ms, std::move(h));
            co_return n;
        };
        auto second = ex.spawn(away(ex.spawn(body(e))));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(second.blocking_join() == std::nullopt);
        CHECK(ex.live() == 2); // both run on

        auto third = ex.spawn(f(kept));
        auto fourth = ex.spawn(away(ex.spawn(body(e))));
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        CHECK(third.blocking_join() == 6);
        CHECK(fourth.blocking_join() == 6);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a join whose task ends as the time runs out keeps the value for the next") {
        // The other branch lets the timer and the other task's end meet on this task's turn.
        test::manual_executor ex;
        auto other = ex.spawn(number_after(10ms, 3));
        auto f = [](magpie::join_handle<int>& h, trace& l) -> task<> {
            const std::optional<int> n = co_await timeout(10ms, h);
            l.add(n.has_value() ? "in-time" : "late");
        };
        auto late = [](test::manual_executor& x) -> task<> {
            co_await magpie::yield_now();
            x.advance(10ms);
        };
        trace log;
        ex.run_until_idle();
        auto t = ex.spawn(run_both(f(other, log), late(ex)));
        ex.run_until_idle();
        CHECK(t.is_finished());
        CHECK(other.is_finished());
        if (log.text() == "late")
            CHECK(other.blocking_join() == 3);
        else
            CHECK_THROWS_AS(other.blocking_join(), std::logic_error);
    }
}
