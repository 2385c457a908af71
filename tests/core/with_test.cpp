#include <magpie/core/with.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/shield.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>
#include <test/waits.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::select_biased;
using magpie::task;
using magpie::timeout;
using magpie::with;
using magpie::sync::event;
using test::await_it;
using test::ends_later;
using test::noisy;
using test::outer;
using test::trace;

namespace {

/// What is opened, used and closed; what happens to it is told to the log.
struct thing {
    explicit thing(trace& l) : log(&l), gone(l, "thing-gone") {}
    trace* log;
    noisy gone;
    event used;   // a use ends when it is set
    event closed; // a close, too
};

/// Events cannot be moved, so the resource is a pointer.
using handle = std::unique_ptr<thing>;

task<int> use(handle& h) {
    const noisy local(*h->log, "body-gone");
    co_await h->used.wait();
    h->log->add("used");
    co_return 5;
}
task<int> use_and_fail(handle& h) {
    const noisy local(*h->log, "body-gone");
    co_await h->used.wait();
    throw std::runtime_error("body failed");
}
task<> close_it(handle& h) {
    const noisy local(*h->log, "teardown-gone");
    h->log->add("closing");
    co_await h->closed.wait();
    h->log->add("closed");
}
task<> close_and_fail(handle& h) {
    co_await close_it(h);
    throw std::runtime_error("teardown failed");
}

} // namespace

TEST_SUITE("core.with") {
    TEST_CASE("the body's value comes out when the teardown is over") {
        trace log;
        auto f = [](trace& l) -> task<int> {
            const int n = co_await with(
                std::make_unique<thing>(l),
                [](handle& h) -> task<int> {
                    h->used.set();
                    h->closed.set();
                    return use(h);
                },
                close_it);
            l.add("after");
            co_return n;
        };
        CHECK(test::run(f(log)) == 5);
        CHECK(log.text() == "used body-gone closing closed teardown-gone thing-gone after");
    }

    TEST_CASE("the teardown runs on every way out, behind the body's frames, before the outer ones") {
        test::manual_executor ex;
        trace log;
        auto owned = std::make_unique<thing>(log);
        thing& t = *owned;
        SUBCASE("a value") {
            auto h = ex.spawn(outer(log, with(std::move(owned), use, close_it)));
            ex.run_until_idle();
            t.used.set();
            ex.run_until_idle();
            CHECK(log.text() == "used body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "a value");
            CHECK(log.text() ==
                  "used body-gone closing closed teardown-gone went on outer-gone thing-gone");
        }
        SUBCASE("an exception") {
            auto h = ex.spawn(outer(log, with(std::move(owned), use_and_fail, close_it)));
            ex.run_until_idle();
            t.used.set();
            ex.run_until_idle();
            CHECK(log.text() == "body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "body failed");
            CHECK(log.text() == "body-gone closing closed teardown-gone outer-gone thing-gone");
        }
        SUBCASE("an abort") {
            auto h = ex.spawn(outer(log, with(std::move(owned), use, close_it)));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "cancelled");
            CHECK(log.text() == "body-gone closing closed teardown-gone outer-gone thing-gone");
        }
        SUBCASE("an abort while it is torn down") {
            auto h = ex.spawn(outer(log, with(std::move(owned), use, close_it)));
            t.used.set();
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "used body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "cancelled");
            CHECK(log.text() == "used body-gone closing closed teardown-gone outer-gone thing-gone");
        }
        SUBCASE("a timeout") {
            auto f = [](trace& l, handle u) -> task<> {
                auto limited = timeout(1s, with(std::move(u), use, close_it));
                const std::optional<int> n = co_await limited;
                l.add(n ? "in-time" : "late");
            };
            auto h = ex.spawn(f(log, std::move(owned)));
            ex.advance(1s);
            CHECK(log.text() == "body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(log.text() == "body-gone closing closed teardown-gone thing-gone late");
        }
        SUBCASE("a select that was lost") {
            auto h = ex.spawn(
                outer(log, select_biased(with(std::move(owned), use, close_it), ends_later())));
            ex.run_until_idle();
            CHECK(log.text() == "body-gone closing");
            t.closed.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "a value");
        }
        SUBCASE("the end of the executor") {
            auto h = ex.spawn(outer(log, with(std::move(owned), use, close_it)));
            ex.run_until_idle();
            ex.close();
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            t.closed.set();
            ex.run_until_idle();
            CHECK(log.text() == "body-gone closing closed teardown-gone outer-gone thing-gone");
        }
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a body whose wake is on its way is waited for, and then torn down") {
        test::manual_executor ex;
        trace log;
        test::held in_hand;
        auto body = [&](trace& l) -> task<> {
            const noisy local(l, "body-gone");
            co_await in_hand.wait();
            l.add("went on");
        };
        auto teardown = [](trace& l) -> task<> {
            co_await magpie::yield_now();
            l.add("torn-down");
        };
        auto h = ex.spawn(outer(log, with(log, body, teardown)));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text().empty());
        in_hand.release();
        ex.run_until_idle();
        CHECK(log.text() == "body-gone torn-down outer-gone");
        CHECK(test::outcome_of(h) == "cancelled");
    }

    TEST_CASE("one in another: the inner teardown is over before the outer one begins") {
        test::manual_executor ex;
        trace log;
        event never;
        auto says = [&](const char* what) {
            return [what](trace& l) -> task<> {
                co_await magpie::yield_now();
                l.add(what);
            };
        };
        auto body = [&](trace&) -> task<> { co_await never.wait(); };
        auto inner = [&](trace& l) -> task<> { co_await with(l, body, says("inner")); };
        auto h = ex.spawn(outer(log, with(log, inner, says("outer"))));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "inner outer outer-gone");
        CHECK(test::outcome_of(h) == "cancelled");
    }

    TEST_CASE("if both fail the body's exception is thrown and the teardown's is reported") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        trace log;
        auto t = std::make_unique<thing>(log);
        t->used.set();
        t->closed.set();
        SUBCASE("thrown") {
            auto h = ex.spawn(await_it(with(std::move(t), use_and_fail, close_and_fail)));
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "body failed");
        }
        SUBCASE("as a result") {
            auto f = [](handle& u) -> task<bool> {
                auto r = co_await as_result(with(std::move(u), use_and_fail, close_and_fail));
                co_return r.has_error() && magpie::describe(r.error()) == "body failed";
            };
            CHECK(test::run(ex, f(t)));
        }
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "teardown failed");
    }

    TEST_CASE("a teardown that fails alone is thrown, also if it was cancelled") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        trace log;
        auto t = std::make_unique<thing>(log);
        thing& kept = *t;
        kept.closed.set();
        auto h = ex.spawn(await_it(with(std::move(t), use, close_and_fail)));
        ex.run_until_idle();
        SUBCASE("a value") { kept.used.set(); }
        SUBCASE("an abort") { h.abort(); }
        ex.run_until_idle();
        CHECK(test::outcome_of(h) == "teardown failed");
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE(
        "a destructor of the body that throws in a drop does not keep the teardown from running") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        trace log;
        event never;
        auto body = [&](trace&) -> task<> {
            const test::throws_at_end local("destructor");
            co_await never.wait();
        };
        auto teardown = [](trace& l) -> task<> {
            co_await magpie::yield_now();
            l.add("torn-down");
            throw std::runtime_error("teardown failed");
        };
        auto h = ex.spawn(await_it(with(log, body, teardown)));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "torn-down");
        CHECK(test::outcome_of(h) == "destructor");
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "teardown failed");
    }

    TEST_CASE("a body that cannot be made is a body that has failed") {
        trace log;
        auto none = [](trace&) -> task<int> { throw std::runtime_error("not made"); };
        auto makes_none = [&](trace& l) -> task<int> {
            if (!l.text().empty())
                return none(l);
            throw std::runtime_error("not made");
        };
        auto teardown = [](trace& l) -> task<> {
            l.add("torn-down");
            co_return;
        };
        CHECK_THROWS_WITH_AS(test::run(await_it(with(log, makes_none, teardown))), "not made",
                             std::runtime_error);
        CHECK(log.text() == "torn-down");
    }

    TEST_CASE("body and teardown may be operations, and give values of any kind") {
        auto f = []() -> task<bool> {
            event e;
            e.set();
            auto body = [](event& ev) { return ev.wait(); };
            auto teardown = [](event&) -> task<int> { co_return 3; };
            co_await with(e, body, teardown);
            auto reference = [](event& ev) -> task<event&> { co_return ev; };
            event& same = co_await with(e, reference, teardown);
            auto pointer = [](event&) -> task<std::unique_ptr<int>> {
                co_return std::make_unique<int>(4);
            };
            auto four = co_await with(e, pointer, teardown);
            co_return &same == &e && *four == 4;
        };
        CHECK(test::run(f()));
    }

    TEST_CASE("a with that is awaited begins, also when the turn's budget is spent") {
        test::manual_executor ex(1);
        trace log;
        auto f = [](trace& l) -> task<> {
            auto body = [](trace& k) -> task<> {
                k.add("body");
                co_return;
            };
            auto teardown = [](trace& k) -> task<> {
                k.add("teardown");
                co_return;
            };
            co_await magpie::consume_budget();
            co_await with(l, body, teardown);
            l.add("went on");
        };
        auto h = ex.spawn(f(log));
        ex.run_one();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "body teardown");
        CHECK(test::outcome_of(h) == "cancelled");
    }

    TEST_CASE("a with that is never awaited runs neither") {
        trace log;
        { auto unused = with(std::make_unique<thing>(log), use, close_it); }
        CHECK(log.text() == "thing-gone");
    }

    TEST_CASE("a with that is awaited twice throws std::logic_error") {
        auto f = [](trace& l) -> task<> {
            auto nothing = [](trace&) -> task<> { co_return; };
            auto twice = with(l, nothing, nothing);
            co_await twice;
            co_await twice;
        };
        trace log;
        CHECK_THROWS_WITH_AS(test::run(f(log)), doctest::Contains("awaited before"), std::logic_error);
    }
}
