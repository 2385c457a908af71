#include <magpie/core/pinned.hpp>

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::pinned;
using magpie::pinned_task;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::sync::event;
using test::noisy;
using test::trace;

namespace {

/// Reads a header, then a body: what must not be begun anew in each round of a loop.
task<int> read_message(trace& log) {
    const noisy local(log, "message-gone");
    co_await magpie::sleep_for(10ms);
    log.add("header");
    co_await magpie::sleep_for(10ms);
    log.add("body");
    co_return 42;
}

task<int> number(int n) { co_return n; }

task<int> fails_later() {
    co_await magpie::yield_now();
    throw std::runtime_error("failed");
}

task<> noisy_wait(trace& log, event& e, std::string name) {
    const noisy local(log, std::move(name));
    co_await e.wait();
}

template <class Operation>
task<> await_it(Operation op) {
    co_await std::move(op);
}

} // namespace

TEST_SUITE("core.pinned") {
    TEST_CASE("SC-SELECT-08 a pinned task goes on when it loses a select, and is selected again") {
        test::manual_executor ex;
        trace log;
        auto f = [](trace& l) -> task<int> {
            auto body = [&l](pinned_task<int>& reading) -> task<int> {
                for (;;) {
                    auto won = co_await select(reading, magpie::sleep_for(6ms));
                    if (won.index() == 0)
                        co_return std::move(won).get<0>();
                    l.add("tick");
                }
            };
            const int n = co_await pinned(read_message(l), body);
            co_return n;
        };
        auto t = ex.spawn(f(log));
        ex.advance(1s);
        CHECK(t.blocking_join() == 42);
        CHECK(log.text() == "tick header tick tick body message-gone");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("it is awaited like a join handle: value, exception, result, and looked at") {
        auto f = []() -> task<int> {
            auto value = [](pinned_task<int>& p) -> task<int> {
                const bool before = p.is_finished();
                const int n = co_await p;
                co_return n + (before ? 10 : 0) + (p.is_finished() ? 100 : 0);
            };
            const int at_once = co_await pinned(number(1), value);
            CHECK(at_once == 111);
            auto later = []() -> task<int> {
                co_await magpie::yield_now();
                co_return 2;
            };
            const int waited = co_await pinned(later(), value);
            CHECK(waited == 102);
            auto result = [](pinned_task<int>& p) -> task<bool> {
                auto r = co_await as_result(p);
                co_return r.has_error() && magpie::describe(r.error()) == "failed";
            };
            const bool failed = co_await pinned(fails_later(), result);
            CHECK(failed);
            auto none = []() -> task<> { co_return; };
            auto of_void = [](pinned_task<void>& p) -> task<bool> {
                auto r = co_await as_result(p);
                co_return r.has_value();
            };
            const bool ended = co_await pinned(none(), of_void);
            CHECK(ended);
            auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
            auto moved = [](pinned_task<std::unique_ptr<int>>& p) -> task<std::unique_ptr<int>> {
                co_return co_await p;
            };
            auto three = co_await pinned(unique(), moved);
            CHECK(*three == 3);
            co_return co_await pinned(fails_later(), value);
        };
        CHECK_THROWS_WITH_AS(test::run(f()), "failed", std::runtime_error);
    }

    TEST_CASE("leaving the body drops the task before pinned returns") {
        test::manual_executor ex;
        trace log;
        event never;
        auto check = [&](auto body) {
            auto f = [](trace& l, event& e, auto b) -> task<> {
                co_await pinned(noisy_wait(l, e, "task-gone"), b);
                l.add("after");
            };
            auto t = ex.spawn(f(log, never, body));
            ex.run_until_idle();
            return test::outcome_of(t);
        };
        SUBCASE("by its end") {
            auto body = [](pinned_task<void>&) -> task<> { co_return; };
            CHECK(check(body) == "a value");
            CHECK(log.text() == "task-gone after");
        }
        SUBCASE("by its end, later") {
            auto body = [](pinned_task<void>& p) -> task<> {
                co_await select(p, magpie::yield_now());
                co_await magpie::timeout(0s, p);
            };
            CHECK(check(body) == "a value");
            CHECK(log.text() == "task-gone after");
        }
        SUBCASE("by an exception") {
            auto body = [](pinned_task<void>&) -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error("no");
            };
            CHECK(check(body) == "no");
            CHECK(log.text() == "task-gone");
        }
        SUBCASE("while its wake is on its way") {
            test::held in_hand;
            auto waits = [](trace& l, test::held& h) -> task<> {
                const noisy local(l, "task-gone");
                co_await h.wait();
            };
            auto body = [](pinned_task<void>&) -> task<> { co_await magpie::yield_now(); };
            auto t = ex.spawn(await_it(pinned(waits(log, in_hand), body)));
            ex.run_until_idle();
            CHECK_FALSE(t.is_finished());
            in_hand.release();
            ex.run_until_idle();
            CHECK(t.is_finished());
            CHECK(log.text() == "task-gone");
        }
    }

    TEST_CASE("dropped, it drops both") {
        test::manual_executor ex;
        trace log;
        event never;
        auto body = [&](pinned_task<void>& p) -> task<> {
            const noisy local(log, "body-gone");
            co_await p;
        };
        SUBCASE("by an abort") {
            auto t = ex.spawn(await_it(pinned(noisy_wait(log, never, "task-gone"), body)));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cancelled");
        }
        SUBCASE("by a select") {
            auto t = ex.spawn(await_it(
                select(pinned(noisy_wait(log, never, "task-gone"), body), magpie::yield_now())));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "a value");
        }
        CHECK(log.text() == "task-gone body-gone");
    }

    TEST_CASE("an exception of the task that nobody receives is reported") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto body = [](pinned_task<int>& p) -> task<> {
            while (!p.is_finished())
                co_await magpie::yield_now();
        };
        auto t = ex.spawn(await_it(pinned(fails_later(), body)));
        ex.run_until_idle();
        CHECK(test::outcome_of(t) == "a value");
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "failed");
    }

    TEST_CASE("a destructor of the dropped task that throws") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        event never;
        auto waits = [](event& e) -> task<> {
            const test::throws_at_end local("destructor");
            co_await e.wait();
        };
        SUBCASE("is thrown") {
            auto body = [](pinned_task<void>&) -> task<int> { co_return 1; };
            auto t = ex.spawn(await_it(pinned(waits(never), body)));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "destructor");
        }
        SUBCASE("is reported if the body has failed") {
            auto body = [](pinned_task<void>&) -> task<int> {
                co_await magpie::yield_now();
                throw std::runtime_error("body");
            };
            auto t = ex.spawn(await_it(pinned(waits(never), body)));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "body");
            REQUIRE(unhandled.count() == 1);
            CHECK(unhandled.reports()[0].what == "destructor");
        }
    }

    TEST_CASE("a second use of a finished one throws std::logic_error") {
        auto twice = [](pinned_task<int>& p) -> task<> {
            co_await p;
            co_await p;
        };
        CHECK_THROWS_WITH_AS(test::run(await_it(pinned(number(1), twice))),
                             doctest::Contains("taken before"), std::logic_error);
        auto selected = [](pinned_task<int>& p) -> task<> {
            co_await select(p, magpie::sleep_for(1h));
            co_await select(p, magpie::sleep_for(1h));
        };
        CHECK_THROWS_WITH_AS(test::run(await_it(pinned(number(1), selected))),
                             doctest::Contains("taken before"), std::logic_error);
    }

    TEST_CASE("misuse throws std::logic_error") {
        test::manual_executor ex;
        auto two = [](pinned_task<int>& p) -> task<> { co_await select_biased(p, p); };
        CHECK_THROWS_WITH_AS(test::run(ex, await_it(pinned(fails_later(), two))),
                             doctest::Contains("one waiter"), std::logic_error);
        auto elsewhere = [&](pinned_task<int>& p) -> task<> {
            auto waits = [](pinned_task<int>& q) -> task<> { co_await q; };
            auto other = ex.spawn(waits(p));
            co_await other;
        };
        CHECK_THROWS_WITH_AS(test::run(ex, await_it(pinned(number(1), elsewhere))),
                             doctest::Contains("another task"), std::logic_error);
        auto again = []() -> task<> {
            auto body = [](pinned_task<int>&) -> task<> { co_return; };
            auto p = pinned(number(1), body);
            co_await p;
            co_await p;
        };
        CHECK_THROWS_WITH_AS(test::run(ex, again()), doctest::Contains("awaited before"),
                             std::logic_error);
        auto empty = [](pinned_task<int>& p) -> task<> { co_await p; };
        CHECK_THROWS_WITH_AS(test::run(ex, await_it(pinned(task<int>(), empty))),
                             doctest::Contains("empty"), std::logic_error);
    }

    TEST_CASE("two tasks, one pinned beside the other") {
        auto f = []() -> task<int> {
            auto slow = [](int n) -> task<int> {
                for (int i = 0; i < n; ++i)
                    co_await magpie::yield_now();
                co_return n;
            };
            auto outer = [slow](pinned_task<int>& a) -> task<int> {
                auto inner = [&a](pinned_task<int>& b) -> task<int> {
                    auto first = co_await select_biased(a, b);
                    if (first.index() == 0)
                        co_return first.get<0>() * 10 + co_await b;
                    co_return first.get<1>() * 10 + co_await a;
                };
                co_return co_await pinned(slow(3), inner);
            };
            co_return co_await pinned(slow(5), outer);
        };
        CHECK(test::run(f()) == 35);
    }
}
