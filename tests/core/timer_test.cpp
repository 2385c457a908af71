#include <magpie/core/timer.hpp>

#include <magpie/core/timeout.hpp>

#include <test/both.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::task;
using magpie::timer;
using test::trace;

namespace {

task<> sleep(clock::duration d, trace& log, std::string name) {
    co_await magpie::sleep_for(d);
    log.add(name);
}
task<> run_both(task<> a, task<> b) {
    test::both branches(std::move(a), std::move(b));
    co_await branches;
}

/// Awaits a timer that others may move.
task<> wait_in(timer& t, trace& log) {
    co_await t;
    log.add("fired");
}

} // namespace

TEST_SUITE("core.timer") {
    TEST_CASE("TIME-CORE-23 timers end when the clock reaches them, in the order of their deadlines") {
        test::manual_executor ex;
        trace log;
        auto a = ex.spawn(sleep(30ms, log, "30"));
        auto b = ex.spawn(sleep(10ms, log, "10"));
        auto c = ex.spawn(sleep(20ms, log, "20"));
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 3);
        ex.advance(10ms - 1ns);
        CHECK(log.text().empty());
        ex.advance(1ns);
        CHECK(log.text() == "10");
        ex.advance(1h);
        CHECK(log.text() == "10 20 30");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("a sleep counts from the moment in which it is awaited") {
        test::manual_executor ex;
        trace log;
        auto f = [](test::manual_executor& x, trace& l) -> task<> {
            auto nap = magpie::sleep_for(10ms);
            CHECK(nap.deadline() == clock::time_point::max());
            x.advance(1h);
            const clock::time_point before = clock::now();
            co_await std::move(nap);
            CHECK(clock::now() == before + 10ms);
            l.add("slept");
        };
        auto h = ex.spawn(f(ex, log));
        ex.run_until_idle();
        ex.advance(9ms);
        CHECK(log.text().empty());
        ex.advance(1ms);
        CHECK(log.text() == "slept");
        h.blocking_join();
    }

    TEST_CASE("TIME-CORE-01 a deadline that has passed, or no time at all, completes at once") {
        test::manual_executor ex;
        auto f = []() -> task<> {
            co_await magpie::sleep_for(0s);
            co_await magpie::sleep_for(-1h);
            co_await magpie::sleep_for(clock::duration::min());
            co_await magpie::sleep_until(clock::now());
            co_await magpie::sleep_until(clock::now() - 1s);
            co_await magpie::sleep_until(clock::time_point::min());
            co_await magpie::sleep_until(clock::time_point());
        };
        auto h = ex.spawn(f());
        CHECK(ex.run_one());
        CHECK(h.is_finished());
        CHECK(ex.turns() == 1);
    }

    TEST_CASE("TIME-CORE-03 is_elapsed is false before the deadline, and true from then on") {
        test::manual_executor ex;
        auto f = [](test::manual_executor& x) -> task<> {
            const timer t(clock::now() + 10ms);
            CHECK_FALSE(t.is_elapsed());
            x.advance(10ms - 1ns);
            CHECK_FALSE(t.is_elapsed());
            x.advance(1ns);
            CHECK(t.is_elapsed());
            x.advance(1h);
            CHECK(t.is_elapsed());
            const timer relative(10ms); // has not begun
            CHECK_FALSE(relative.is_elapsed());
            x.advance(1h);
            CHECK_FALSE(relative.is_elapsed());
            co_return;
        };
        test::run(ex, f(ex));
    }

    TEST_CASE("one timer may be awaited again and again") {
        test::manual_executor ex;
        auto f = [](test::manual_executor& x, int& rounds) -> task<> {
            timer t(10ms);
            co_await t;
            ++rounds;
            co_await t; // has passed: does not wait
            ++rounds;
            t.reset(clock::now() + 5ms);
            CHECK_FALSE(t.is_elapsed());
            co_await t;
            ++rounds;
            x.advance(1s);
            co_await t;
            ++rounds;
        };
        int rounds = 0;
        auto h = ex.spawn(f(ex, rounds));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(rounds == 2);
        ex.advance(4ms);
        CHECK(rounds == 2);
        ex.advance(1ms);
        CHECK(rounds == 4);
        h.blocking_join();
    }

    TEST_CASE("TIME-CORE-05 TIME-CORE-29 a reset takes effect, before, during and after the wait") {
        test::manual_executor ex;
        trace log;
        const clock::time_point start = ex.now();
        SUBCASE("before the first wait") {
            auto f = [](trace& l, clock::time_point to) -> task<> {
                timer t(1h);
                t.reset(to);
                CHECK(t.deadline() == to);
                co_await t;
                l.add("fired");
            };
            auto h = ex.spawn(f(log, start + 5ms));
            ex.run_until_idle();
            ex.advance(5ms);
            CHECK(log.text() == "fired");
        }
        SUBCASE("during it, by another branch") {
            auto resets = [](timer& t, clock::duration after, clock::time_point to) -> task<> {
                co_await magpie::sleep_for(after);
                t.reset(to);
            };
            auto f = [](trace& l, clock::time_point first, clock::duration after, clock::time_point to,
                        auto other) -> task<> {
                timer t(first);
                test::both branches(wait_in(t, l), other(t, after, to));
                co_await branches;
            };
            SUBCASE("to an earlier time") {
                auto h = ex.spawn(f(log, start + 50ms, 10ms, start + 20ms, resets));
                ex.run_until_idle();
                ex.advance(19ms);
                CHECK(log.text().empty());
                ex.advance(1ms);
                CHECK(log.text() == "fired");
                ex.advance(1h);
                CHECK(log.text() == "fired");
            }
            SUBCASE("to a later time") {
                auto h = ex.spawn(f(log, start + 50ms, 10ms, start + 70ms, resets));
                ex.run_until_idle();
                ex.advance(69ms);
                CHECK(log.text().empty());
                ex.advance(1ms);
                CHECK(log.text() == "fired");
            }
            SUBCASE("into the past") {
                auto h = ex.spawn(f(log, start + 50ms, 10ms, start + 5ms, resets));
                ex.run_until_idle();
                ex.advance(10ms);
                CHECK(log.text() == "fired");
            }
        }
        SUBCASE("when it has fired but its task has not run: the new deadline counts") {
            // The other branch moves the clock itself: the timer is then on its way.
            auto resets = [](test::manual_executor& x, timer& t, clock::time_point to) -> task<> {
                co_await magpie::yield_now();
                x.advance(50ms);
                t.reset(to);
            };
            auto f = [](test::manual_executor& x, trace& l, clock::time_point first,
                        clock::time_point to, auto other) -> task<> {
                timer t(first);
                test::both branches(wait_in(t, l), other(x, t, to));
                co_await branches;
            };
            auto h = ex.spawn(f(ex, log, start + 50ms, start + 80ms, resets));
            ex.run_until_idle();
            CHECK(log.text().empty());
            CHECK(ex.now() == start + 50ms);
            ex.advance(29ms);
            CHECK(log.text().empty());
            ex.advance(1ms);
            CHECK(log.text() == "fired");
            CHECK(h.is_finished());
        }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("a reset reaches a timer that waits for its turn's budget") {
        test::manual_executor ex(1);
        trace log;
        auto f = [](trace& l) -> task<> {
            timer t(1h);
            co_await magpie::consume_budget();
            auto wait = [](timer& in, trace& into) -> task<> {
                co_await in; // no budget left: looks at the clock on the next turn
                into.add("fired");
            };
            auto reset = [](timer& in) -> task<> {
                in.reset(clock::now() + 1ms);
                co_return;
            };
            test::both branches(wait(t, l), reset(t));
            co_await branches;
        };
        auto h = ex.spawn(f(log));
        ex.run_until_idle();
        CHECK(log.text().empty());
        ex.advance(1ms);
        CHECK(log.text() == "fired");
        CHECK(h.is_finished());
    }

    TEST_CASE("a timer whose wait was dropped can be awaited again") {
        test::manual_executor ex;
        trace log;
        auto f = [](trace& l) -> task<> {
            timer t(50ms);
            auto wait = [](timer& in) -> task<> { co_await in; };
            const bool in_time = co_await magpie::timeout(10ms, wait(t));
            l.add(in_time ? "in-time" : "late");
            co_await t;
            l.add("fired");
        };
        auto h = ex.spawn(f(log));
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 2);
        ex.advance(10ms);
        CHECK(log.text() == "late");
        CHECK(ex.armed_timers() == 1);
        ex.advance(39ms);
        CHECK(log.text() == "late");
        ex.advance(1ms);
        CHECK(log.text() == "late fired");
        CHECK(h.is_finished());
    }

    TEST_CASE("TIME-CORE-29 a dropped timer does not fire, and leaves nothing armed") {
        test::manual_executor ex;
        trace log;
        auto h = ex.spawn(sleep(10ms, log, "fired"));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 0);
        ex.advance(1h);
        CHECK(log.text().empty());
    }

    TEST_CASE("TIME-CORE-09 a timer may be destroyed by what it wakes, and by what fires with it") {
        test::manual_executor ex;
        trace log;
        SUBCASE("by what it wakes") {
            auto f = [](trace& l) -> task<> {
                {
                    timer t(10ms);
                    co_await t;
                }
                l.add("gone");
            };
            auto h = ex.spawn(f(log));
            ex.run_until_idle();
            ex.advance(10ms);
            CHECK(log.text() == "gone");
        }
        SUBCASE("by what fires with it") {
            auto victim = ex.spawn(sleep(10ms, log, "victim"));
            auto f = [](magpie::abort_handle a) -> task<> {
                co_await magpie::sleep_for(5ms);
                a.abort();
            };
            auto h = ex.spawn(f(victim.abort_handle()));
            ex.run_until_idle();
            ex.advance(20ms);
            CHECK(log.text().empty());
            CHECK(victim.is_finished());
        }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("TIME-CORE-07 TIME-CORE-10 the longest times overflow nothing") {
        test::manual_executor ex;
        trace log;
        auto forever = [](auto d) -> task<> { co_await magpie::sleep_for(d); };
        std::vector<magpie::join_handle<>> handles;
        handles.push_back(ex.spawn(forever(clock::duration::max())));
        handles.push_back(ex.spawn(forever(std::chrono::hours::max())));
        handles.push_back(ex.spawn(forever(std::chrono::duration<std::int64_t, std::ratio<31556952>>(
            std::numeric_limits<std::int64_t>::max())))); // years
        handles.push_back(ex.spawn(forever(std::chrono::duration<double>(1e300))));
        handles.push_back(
            ex.spawn(forever(std::chrono::duration<double>(std::numeric_limits<double>::infinity()))));
        auto until = []() -> task<> { co_await magpie::sleep_until(clock::time_point::max()); };
        handles.push_back(ex.spawn(until()));
        auto tiny = ex.spawn(sleep(1ns, log, "tiny"));
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 7);
        ex.advance(1ns);
        CHECK(log.text() == "tiny");
        ex.advance(std::chrono::hours(24 * 365 * 100));
        for (const auto& h : handles)
            CHECK_FALSE(h.is_finished());
    }

    TEST_CASE("a duration that the clock cannot tell exactly is rounded up, never down") {
        test::manual_executor ex;
        trace log;
        auto f = [](trace& l) -> task<> {
            co_await magpie::sleep_for(std::chrono::duration<double, std::nano>(1.5));
            l.add("slept");
        };
        auto h = ex.spawn(f(log));
        ex.run_until_idle();
        ex.advance(1ns);
        CHECK(log.text().empty());
        ex.advance(1ns);
        CHECK(log.text() == "slept");
    }

    TEST_CASE("TIME-CORE-08 thousands of sleeps all end") {
        test::manual_executor ex;
        int ended = 0;
        auto f = [](clock::duration d, int& n) -> task<> {
            co_await magpie::sleep_for(d);
            ++n;
        };
        for (int i = 0; i < 5000; ++i)
            ex.spawn(f(std::chrono::microseconds(i % 97 * 100), ended)).detach();
        auto longest = ex.spawn(f(1h, ended));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(ended == 5000);
        ex.advance(1h);
        CHECK(ended == 5001);
        CHECK(longest.is_finished());
    }

    TEST_CASE("TIME-CORE-06 awaiting a timer without a timer service throws std::logic_error") {
        test::manual_executor ex;
        ex.without_timers();
        auto f = [](bool zero) -> task<> { co_await magpie::sleep_for(zero ? 0s : 1s); };
        CHECK_THROWS_AS(test::run(ex, f(false)), std::logic_error);
        CHECK_THROWS_AS(test::run(ex, f(true)), std::logic_error);
        auto lvalue = []() -> task<> {
            timer t(1s);
            co_await t;
        };
        CHECK_THROWS_AS(test::run(ex, lvalue()), std::logic_error);
    }

    TEST_CASE("the clock is that of the task's executor, and the steady clock outside") {
        test::manual_executor ex;
        const auto before = std::chrono::steady_clock::now();
        const auto outside = clock::now();
        CHECK(before <= outside);
        CHECK(outside <= std::chrono::steady_clock::now());
        ex.advance(1000h);
        auto f = []() -> task<clock::time_point> { co_return clock::now(); };
        CHECK(test::run(ex, f()) == ex.now());
        ex.without_timers();
        CHECK(test::run(ex, f()) >= before);
    }

    TEST_CASE("two timers of one task are independent") {
        test::manual_executor ex;
        trace log;
        auto h = ex.spawn(run_both(sleep(20ms, log, "20"), sleep(10ms, log, "10")));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(log.text() == "10");
        ex.advance(10ms);
        CHECK(log.text() == "10 20");
        CHECK(h.is_finished());
    }
}
