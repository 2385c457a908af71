#include <magpie/core/deadline.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/scope.hpp>
#include <magpie/core/shield.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task_local.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/with.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::deadline;
using magpie::deadline_at;
using magpie::task;
using magpie::sync::event;
using test::trace;
namespace this_task = magpie::this_task;

namespace {

/// Milliseconds until the nearest deadline, -1 without one.
std::int64_t left() {
    const auto until = this_task::deadline();
    return until ? std::chrono::round<std::chrono::milliseconds>(*until - clock::now()).count() : -1;
}

task<std::int64_t> what_is_left() { co_return left(); }

task<int> number_after(clock::duration d, int n) {
    co_await magpie::sleep_for(d);
    co_return n;
}

/// Says when it is destroyed how much time there is.
struct says_what_is_left {
    trace* log;
    explicit says_what_is_left(trace& t) : log(&t) {}
    says_what_is_left(const says_what_is_left&) = delete;
    ~says_what_is_left() { log->add("left=" + std::to_string(left())); }
};

task<> waits(trace& log, event& e) {
    const says_what_is_left local(log);
    co_await e.wait();
}

} // namespace

TEST_SUITE("core.deadline") {
    TEST_CASE("a body that ends in time gives its value") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            const std::optional<int> n = co_await deadline(10ms, number_after(9ms, 7));
            const bool done = co_await deadline_at(clock::now() + 5ms, magpie::sleep_for(4ms));
            co_return done ? n.value_or(-1) : -2;
        };
        auto h = ex.spawn(f());
        ex.advance(20ms);
        CHECK(h.blocking_join() == 7);
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("one that does not is dropped, at the deadline and gone before the next line") {
        test::manual_executor ex;
        event e;
        trace log;
        auto f = [&]() -> task<> {
            const bool in_time = co_await deadline(10ms, waits(log, e));
            log.add(in_time ? "in-time" : "late");
        };
        auto h = ex.spawn(f());
        ex.advance(10ms - 1ns);
        CHECK(log.text().empty());
        ex.advance(1ns);
        CHECK(h.is_finished());
        CHECK(log.text() == "left=0 late"); // its destructors still see the deadline
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("as_result gives errc::timed_out") {
        test::manual_executor ex;
        auto f = []() -> task<std::string> {
            const auto late = co_await magpie::as_result(deadline(1ms, number_after(2ms, 7)));
            const auto good = co_await magpie::as_result(deadline(3ms, number_after(2ms, 7)));
            co_return (late.error() == magpie::errc::timed_out ? "timed out, " : "?, ") +
                std::to_string(good.value());
        };
        auto h = ex.spawn(f());
        ex.advance(10ms);
        CHECK(h.blocking_join() == "timed out, 7");
    }

    TEST_CASE("the body sees the deadline, from its first line on; nobody beside it does") {
        test::manual_executor ex;
        trace log;
        auto body = [](trace& t) -> task<> {
            t.add(std::to_string(left()));
            co_await magpie::sleep_for(30ms);
            t.add(std::to_string(left()));
        };
        auto f = [&]() -> task<> {
            auto sibling = [](trace& t) -> task<> {
                co_await magpie::sleep_for(10ms);
                t.add(std::to_string(left()));
            };
            log.add(std::to_string(left()));
            co_await magpie::join(deadline(100ms, body(log)), sibling(log));
            log.add(std::to_string(left()));
        };
        auto h = ex.spawn(f());
        ex.advance(50ms);
        CHECK(h.is_finished());
        CHECK(log.text() == "-1 100 -1 70 -1");
    }

    TEST_CASE("an inner deadline can only shorten") {
        test::manual_executor ex;
        std::vector<std::int64_t> all;
        auto inner = [](std::vector<std::int64_t>& v) -> task<> {
            v.push_back(left());
            v.push_back((co_await deadline(5s, what_is_left())).value_or(-2));
            v.push_back((co_await deadline(10ms, what_is_left())).value_or(-2));
            v.push_back(
                (co_await deadline(10ms, deadline(1s, what_is_left()))).value_or(-2).value_or(-3));
            v.push_back((co_await deadline_at(clock::time_point::max(), what_is_left())).value_or(-2));
            v.push_back(left());
        };
        auto f = [&]() -> task<> { co_await deadline(100ms, inner(all)); };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(all == std::vector<std::int64_t>{100, 100, 10, 10, 100, 100});
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("the outer deadline drops the inner one with its body") {
        test::manual_executor ex;
        event e;
        trace log;
        auto inner = [](trace& t, event& go) -> task<> {
            co_await deadline(50ms, waits(t, go));
            t.add("inner-went-on");
        };
        auto f = [&]() -> task<> {
            const bool in_time = co_await deadline(10ms, inner(log, e));
            log.add(in_time ? "in-time" : "late");
        };
        auto h = ex.spawn(f());
        ex.advance(10ms);
        CHECK(h.is_finished());
        CHECK(log.text() == "left=0 late");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("it holds for what tries again and again, whatever its own limits are") {
        test::manual_executor ex;
        int attempts = 0;
        auto retries = [](int& n) -> task<> {
            for (;;) {
                ++n;
                co_await magpie::timeout(30ms, magpie::sleep_for(1h));
            }
        };
        auto f = [&]() -> task<bool> { co_return co_await deadline(100ms, retries(attempts)); };
        auto h = ex.spawn(f());
        ex.advance(1s);
        CHECK_FALSE(h.blocking_join());
        CHECK(attempts == 4);
    }

    TEST_CASE("the deadline counts from the await, the time in which the body first runs included") {
        test::manual_executor ex;
        auto body = [](test::manual_executor& e) -> task<std::int64_t> {
            e.advance(0ms); // nothing else runs; the clock is moved by hand below
            co_return left();
        };
        auto f = [&]() -> task<std::int64_t> {
            auto limited = deadline(100ms, body(ex));
            co_await magpie::sleep_for(50ms); // made, but not awaited yet
            co_return (co_await limited).value_or(-2);
        };
        auto h = ex.spawn(f());
        ex.advance(60ms);
        CHECK(h.blocking_join() == 100);
    }

    TEST_CASE("zero or less: only what is ready at once") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            const auto ready = co_await deadline(0ms, number_after(0ms, 1));
            const auto waits = co_await deadline(-1s, number_after(1ms, 1));
            co_return ready.value_or(0) * 10 + waits.value_or(7);
        };
        auto h = ex.spawn(f());
        ex.advance(10ms);
        CHECK(h.blocking_join() == 17);
    }

    TEST_CASE("a task-local and a deadline do not hide each other") {
        constinit static const magpie::task_local<int> key;
        constinit static const magpie::task_local<int, magpie::inherit::by_spawn> passed_on;
        test::manual_executor ex;
        auto body = []() -> task<std::string> {
            co_return std::to_string(left()) + " " + std::to_string(key.get()) + " " +
                std::to_string(passed_on.get());
        };
        auto f = [&]() -> task<std::string> {
            const auto a = co_await key.with(1, deadline(9ms, passed_on.with(2, body())));
            const auto b = co_await passed_on.with(4, deadline(8ms, key.with(3, body())));
            co_return a.value_or("?") + ", " + b.value_or("?");
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(h.blocking_join() == "9 1 2, 8 3 4");
    }

    TEST_CASE("a task that is spawned below a deadline does not see it: it goes on behind it") {
        test::manual_executor ex;
        trace log;
        auto child = [](trace& t) -> task<> {
            co_await magpie::sleep_for(20ms);
            t.add("child " + std::to_string(left()));
        };
        auto f = [&]() -> task<> {
            auto body = [&]() -> task<> {
                magpie::spawn(child(log)).detach();
                co_await magpie::sleep_for(1h);
            };
            co_await deadline(10ms, body());
            log.add("late");
        };
        auto h = ex.spawn(f());
        ex.advance(30ms);
        CHECK(log.text() == "late child -1");
    }

    TEST_CASE("who waits for a child can show it the deadline") {
        test::manual_executor ex;
        auto child = [](trace& t) -> task<> {
            t.add(std::to_string(left()) + std::string(this_task::name()));
            co_return;
        };
        trace log;
        auto body = [&]() -> task<> {
            for (const char* name : {"", "named"}) {
                auto t = child(log);
                auto* const c = new magpie::detail::task_cell<void>(
                    ex, magpie::detail::task_access::release(std::move(t)),
                    std::source_location::current(), std::string(name));
                c->set_deadline(magpie::detail::current_deadline());
                magpie::join_handle<> h(*c);
                static_cast<magpie::executor&>(ex).schedule(*c, magpie::executor::placement::spawn);
                co_await h;
            }
        };
        auto f = [&]() -> task<> { co_await deadline(10ms, body()); };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(log.text() == "10 10named");
    }

    TEST_CASE("the tasks of a scope see the deadline around it") {
        test::manual_executor ex;
        auto child = [](trace& t) -> task<> {
            t.add(std::to_string(left()) + std::string(this_task::name()));
            co_return;
        };
        trace log;
        auto body = [&](magpie::task_scope& s) -> task<> {
            s.spawn(child(log));
            s.spawn("named", child(log));
            co_return;
        };
        auto f = [&]() -> task<> { co_await deadline(10ms, magpie::scope(body)); };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "10 10named");
    }

    TEST_CASE("what cancelling does not touch sees no deadline outside of it, and its own inside") {
        test::manual_executor ex;
        trace log;
        auto says = [](trace& t) -> task<> {
            t.add("says=" + std::to_string(left()));
            co_await deadline(3ms, magpie::sleep_for(20ms));
            const auto own = co_await deadline(30ms, what_is_left());
            t.add("own=" + std::to_string(own.value_or(-2)));
        };
        auto shielded = [&]() -> task<> { co_await magpie::shield(says(log)); };
        auto torn_down = [&]() -> task<> {
            auto body = [](trace& t) -> task<> {
                t.add("body=" + std::to_string(left()));
                co_await magpie::sleep_for(1h);
            };
            co_await magpie::with(log, body, says);
        };
        auto f = [&](bool teardown) -> task<> {
            task<> body = teardown ? torn_down() : shielded(); // g++ 12: not inside of the co_await
            const bool in_time = co_await deadline(1ms, std::move(body));
            log.add(in_time ? "in-time" : "late");
        };
        auto h = ex.spawn(f(false));
        ex.advance(50ms);
        CHECK(h.is_finished());
        CHECK(log.take() == "says=-1 own=30 late");
        auto g = ex.spawn(f(true));
        ex.advance(50ms);
        CHECK(g.is_finished());
        CHECK(log.text() == "body=1 says=-1 own=30 late");
    }

    TEST_CASE("outside of a deadline, and of a task, there is none") {
        CHECK_FALSE(this_task::deadline().has_value());
        CHECK(test::run(what_is_left()) == -1);
    }

    TEST_CASE("an executor without timers says so") {
        test::manual_executor ex;
        ex.without_timers();
        auto f = []() -> task<> { co_await deadline(10ms, magpie::sleep_for(1ms)); };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("no timers") != std::string::npos);
    }

    TEST_CASE("a deadline that is awaited a second time says so") {
        auto f = []() -> task<> {
            auto limited = deadline(10ms, what_is_left());
            co_await limited;
            CHECK_THROWS_AS(co_await limited, std::logic_error);
        };
        test::run(f());
    }
}
