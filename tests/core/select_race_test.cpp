// Selects whose branches are ready together, or whose losers take their time to go; and selects at
// random, of which nothing may be lost or come twice.

#include <magpie/core/select.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/pinned.hpp>
#include <magpie/core/shield.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/with.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/limits.hpp>
#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::sync::event;
using test::held;
using test::noisy;
using test::permits;
using test::trace;

namespace {

template <class Source>
task<> noisy_wait(trace& log, Source& s, std::string name) {
    const noisy local(log, name);
    co_await s.wait();
    log.add("woken");
}

template <class Operation>
task<> await_it(Operation op) {
    co_await std::move(op);
}

std::string said(const test::unhandled_log& log) {
    trace words;
    for (const auto& r : log.reports())
        words.add(r.what);
    return words.text();
}

} // namespace

TEST_SUITE("core.select_race") {
    TEST_CASE("a loser in a waker's hand is waited for, and not resumed") {
        test::manual_executor ex;
        trace log;
        held h;
        auto f = [](trace& l, held& hd) -> task<> {
            auto r = co_await select_biased(noisy_wait(l, hd, "loser"), magpie::yield_now());
            l.add(std::to_string(r.index()));
        };
        auto t = ex.spawn(f(log, h));
        ex.run_until_idle();
        CHECK_FALSE(t.is_finished());
        CHECK(log.text().empty());
        h.release();
        ex.run_until_idle();
        CHECK(log.text() == "loser 1");
        CHECK(h.resumed() == 0);
        CHECK(t.is_finished());
    }

    TEST_CASE("SCOPE-11 a loser that is stopped throws nothing, and what it throws goes nowhere else") {
        // A foreign operation that answers its end with an exception, which nobody wants any more.
        struct gate {
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) noexcept { waiter = h; }
            void await_resume() const { throw std::runtime_error("stopped"); }
            std::coroutine_handle<> waiter;
        };
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        gate foreign;
        event never;
        trace log;
        auto loser = [](trace& l, auto& source) -> task<> {
            const noisy local(l, "gone");
            try {
                co_await source();
            } catch (...) {
                l.add("caught");
            }
        };
        auto waits = [&]() -> event::wait_operation { return never.wait(); };
        auto waits_for_foreign = [&]() -> gate& { return foreign; };
        auto f = [](trace& l, task<> a, task<> b) -> task<> {
            auto won = co_await select_biased(std::move(a), std::move(b), magpie::yield_now());
            l.add(std::to_string(won.index()));
        };
        auto t = ex.spawn(f(log, loser(log, waits), loser(log, waits_for_foreign)));
        ex.run_until_idle();
        CHECK_FALSE(t.is_finished()); // the foreign one cannot be asked to give its coroutine back
        foreign.waiter.resume();
        ex.run_until_idle();
        CHECK(test::outcome_of(t) == "a value");
        CHECK(log.text() == "gone gone 2");
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("a winner at its start drops those that started before it") {
        test::manual_executor ex;
        trace log;
        event e;
        held h;
        auto f = [](trace& l, event& ev, held& hd) -> task<> {
            auto ready = []() -> task<int> { co_return 1; };
            auto r = co_await select_biased(noisy_wait(l, ev, "quiet"), noisy_wait(l, hd, "coming"),
                                            ready(), noisy_wait(l, ev, "unstarted"));
            l.add(std::to_string(r.index()));
        };
        auto t = ex.spawn(f(log, e, h));
        ex.run_until_idle();
        CHECK(log.text() == "quiet"); // and does not wait for the other
        h.release();
        ex.run_until_idle();
        CHECK(log.text() == "quiet coming 2");
        CHECK(t.is_finished());
    }

    TEST_CASE("a loser that was ready in the same batch has taken nothing") {
        test::manual_executor ex;
        permits a;
        permits b;
        int wins = 0;
        auto f = [](permits& x, permits& y, int& n) -> task<> {
            co_await select(x.take(), y.take());
            ++n;
        };
        auto t = ex.spawn(f(a, b, wins));
        ex.run_until_idle();
        a.add();
        b.add(); // both leaves are on their way before the task runs
        ex.run_until_idle();
        CHECK(t.is_finished());
        CHECK(wins == 1);
        CHECK(a.left() + b.left() == 1);
        CHECK(b.left() == 1); // the first to be woken has won
    }

    TEST_CASE("a permit goes back also when the select is nested, or dropped from outside") {
        test::manual_executor ex;
        permits p;
        event never;
        held h;
        SUBCASE("in a select that loses") {
            auto f = [](permits& q, event& n) -> task<> {
                co_await select_biased(select(q.take(), n.wait()), magpie::yield_now());
            };
            auto t = ex.spawn(f(p, never));
            ex.run_one();
            p.add(); // behind the yield
            ex.run_until_idle();
            CHECK(t.is_finished());
        }
        SUBCASE("in a select that has won, but whose loser is still coming") {
            auto t = ex.spawn(await_it(select(h.wait(), p.take())));
            ex.run_until_idle();
            p.add();
            ex.run_until_idle();
            CHECK(p.left() == 0);
            t.abort();
            ex.run_until_idle();
            h.release();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cancelled");
        }
        CHECK(p.left() == 1);
    }

    TEST_CASE("destructors that throw") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        event e;
        held h;
        auto body = [](event& ev, const char* what) -> task<> {
            const test::throws_at_end local(what);
            co_await ev.wait();
        };
        auto in_hand = [](held& hd, const char* what) -> task<> {
            const test::throws_at_end local(what);
            co_await hd.wait();
        };
        auto fails = []() -> task<> {
            co_await magpie::yield_now();
            throw std::runtime_error("failed");
        };
        SUBCASE("of losers: one is thrown, the others are reported") {
            auto t = ex.spawn(await_it(select(body(e, "one"), body(e, "two"), magpie::yield_now())));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "one");
            CHECK(said(unhandled) == "two");
        }
        SUBCASE("of losers that come") {
            auto t = ex.spawn(await_it(select(in_hand(h, "one"), magpie::yield_now())));
            ex.run_until_idle();
            h.release();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "one");
        }
        SUBCASE("beside a winner that has failed: the failure is thrown") {
            auto t = ex.spawn(await_it(select(body(e, "one"), fails())));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "failed");
            CHECK(said(unhandled) == "one");
        }
        SUBCASE("in an abort") {
            auto t = ex.spawn(await_it(select(body(e, "one"), in_hand(h, "two"))));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            h.release();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "one");
            CHECK(said(unhandled) == "two");
        }
    }

    TEST_CASE("composites in composites, aborted at any turn: all that they hold is destroyed once") {
        // With a budget of one each leaf that surfaces has a turn of its own.
        struct scenario {
            bool waits_in_hand;
            bool ends;
            clock::duration passes;
            int turns;
        };
        auto body = [](trace& l, event& e, held& h, bool in_hand, noisy) -> task<> {
            const noisy local(l, "local");
            co_await magpie::yield_now();
            if (in_hand)
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
        const auto run = [&](auto make, scenario s) {
            event e;
            held h;
            trace log;
            test::manual_executor ex(1);
            auto one = make(body(log, e, h, s.waits_in_hand, noisy(log, "parameter")));
            auto all = ex.spawn(await_it(magpie::join(std::move(one), later(ex, e, h, s))));
            for (int i = 0; i < s.turns; ++i)
                ex.run_one();
            all.abort();
            ex.run_until_idle();
            if (h.is_waited_for())
                h.release();
            ex.advance(1h); // beyond the limit of any shield
            CHECK(all.is_finished());
            CHECK((log.text() == "local parameter" || log.text() == "parameter"));
            CHECK(ex.armed_timers() == 0);
        };
        const auto aborted_at_any_turn = [&](auto make) {
            for (const bool in_hand : {false, true})
                for (const bool ends : {false, true})
                    for (const clock::duration passes : {7ms, 30ms})
                        for (int turns = 0; turns < 25; ++turns) {
                            CAPTURE(in_hand);
                            CAPTURE(ends);
                            CAPTURE(passes.count());
                            CAPTURE(turns);
                            run(make, {in_hand, ends, passes, turns});
                        }
        };
        SUBCASE("a select") {
            aborted_at_any_turn([](task<> b) { return select(std::move(b), magpie::sleep_for(10ms)); });
        }
        SUBCASE("a select in a timeout") {
            aborted_at_any_turn([](task<> b) {
                return magpie::timeout(10ms, select(std::move(b), magpie::sleep_for(20ms)));
            });
        }
        SUBCASE("a timeout in a select") {
            aborted_at_any_turn([](task<> b) {
                return select(magpie::sleep_for(20ms), magpie::timeout(10ms, std::move(b)));
            });
        }
        SUBCASE("a select in a select, and yields") {
            aborted_at_any_turn([](task<> b) {
                return select(select(std::move(b), magpie::sleep_for(5ms)), magpie::sleep_for(6ms));
            });
        }
        SUBCASE("a join in a select") {
            aborted_at_any_turn([](task<> b) {
                return select(magpie::join(std::move(b), magpie::yield_now(), magpie::sleep_for(6ms)),
                              magpie::sleep_for(10ms));
            });
        }
        SUBCASE("a select in a try_join in unconstrained") {
            aborted_at_any_turn([](task<> b) {
                return magpie::unconstrained(magpie::try_join(
                    select(std::move(b), magpie::sleep_for(10ms)), magpie::yield_now()));
            });
        }
        SUBCASE("a shield in a select") {
            aborted_at_any_turn([](task<> b) {
                return select(magpie::shield(8ms, std::move(b)), magpie::sleep_for(5ms));
            });
        }
        SUBCASE("a select in a shield in a timeout") {
            aborted_at_any_turn([](task<> b) {
                return magpie::timeout(
                    6ms, magpie::shield(8ms, select(std::move(b), magpie::sleep_for(10ms))));
            });
        }
        SUBCASE("a with in a select: its teardown runs if its body began") {
            auto use = [](task<>& b) { return std::move(b); };
            auto teardown = [](task<>&) -> task<> {
                co_await magpie::yield_now();
                co_await magpie::sleep_for(2ms);
            };
            aborted_at_any_turn([&](task<> b) {
                return select(magpie::with(std::move(b), use, teardown), magpie::sleep_for(5ms));
            });
        }
        SUBCASE("a pinned task, selected again and again") {
            aborted_at_any_turn([](task<> b) {
                auto selects = [](magpie::pinned_task<void>& p) -> task<> {
                    for (int i = 0; i < 4; ++i) {
                        auto won = co_await select(p, magpie::sleep_for(3ms));
                        if (won.index() == 0)
                            co_return;
                    }
                };
                return select(magpie::pinned(std::move(b), selects), magpie::sleep_for(20ms));
            });
        }
        SUBCASE("a join whose branch fails") {
            aborted_at_any_turn([](task<> b) {
                auto fails = []() -> task<> {
                    co_await magpie::sleep_for(6ms);
                    throw std::runtime_error("no");
                };
                return as_result(magpie::try_join(fails(), std::move(b)));
            });
        }
    }

    TEST_CASE(
        "SC-SELECT-12 what a select starts first is the same in each run on a thread of its own") {
        std::vector<std::size_t> first;
        std::vector<std::size_t> second;
        auto f = [](std::vector<std::size_t>& wins) -> task<> {
            auto ready = []() -> task<> { co_return; };
            for (int i = 0; i < 100; ++i) {
                auto r = co_await select(ready(), ready(), ready(), ready());
                wins.push_back(r.index());
            }
        };
        std::thread([&] { test::run(f(first)); }).join();
        std::thread([&] { test::run(f(second)); }).join();
        CHECK(first.size() == 100);
        CHECK(first == second);
        CHECK(std::ranges::count(first, first.front()) < 60);
    }

    TEST_CASE("selects at random over all that core has: nothing is lost, nothing comes twice") {
        const std::uint64_t seed = std::random_device()();
        CAPTURE(seed);
        constexpr int rounds = test::scaled(100'000);
        // Permits are added from another thread, in a number that is known; the selects take them in
        // races with timers, yields, events, join handles and each other.
        test::manual_executor ex;
        permits a;
        permits b;
        event never;
        std::atomic<bool> stop = false; // no data goes with it
        int added_a = 0;
        int added_b = 0;
        std::thread adds([&] {
            std::mt19937_64 random(seed + 1);
            while (!stop.load(std::memory_order_relaxed)) {
                const bool first = random() % 2 == 0;
                if (random() % 4 == 0)
                    std::this_thread::yield();
                (first ? added_a : added_b) += 1;
                (first ? a : b).add();
                while ((first ? a : b).left() > 3 && !stop.load(std::memory_order_relaxed))
                    std::this_thread::yield();
            }
        });
        struct counts {
            int a = 0;
            int b = 0;
            int spawned = 0;
            int joined = 0;
        };
        // Not a coroutine that takes and then waits: a drop would lose what it has taken.
        auto child = [](int yields) -> task<int> {
            for (int i = 0; i < yields; ++i)
                co_await magpie::yield_now();
            co_return 1;
        };
        auto f = [](auto make_child, permits& x, permits& y, event& n, counts& c, std::uint64_t s,
                    int total) -> task<> {
            std::mt19937_64 random(s);
            magpie::join_handle<int> handle;
            magpie::timer t(0s);
            for (int i = 0; i < total; ++i) {
                const auto die = [&random](std::uint64_t sides) { return random() % sides; };
                if (!handle) {
                    handle = magpie::spawn(make_child(static_cast<int>(die(4))));
                    ++c.spawned;
                }
                std::size_t won = 99; // 0: x, 1: y, 2: the handle
                switch (die(7)) {
                case 0: {
                    auto r = co_await select(x.take(), y.take(), magpie::yield_now());
                    won = r.index() == 2 ? 99 : r.index();
                    break;
                }
                case 1: {
                    auto r = co_await select_biased(x.take(), y.take(), handle, n.wait());
                    won = r.index();
                    break;
                }
                case 2: {
                    auto r = co_await select(handle, magpie::yield_now(), x.take());
                    won = r.index() == 0 ? 2 : r.index() == 2 ? 0 : 99;
                    break;
                }
                case 3: {
                    auto r = co_await select(select(x.take(), n.wait()), select(y.take(), handle), t);
                    if (r.index() == 0)
                        won = 0;
                    else if (r.index() == 1)
                        won = r.template get<1>().index() + 1;
                    break;
                }
                case 4: {
                    const bool in_time = (co_await magpie::timeout(0s, y.take()));
                    won = in_time ? 1 : 99;
                    break;
                }
                case 5: {
                    auto r = co_await select(magpie::join(x.take(), y.take()), magpie::yield_now());
                    if (r.index() == 0) {
                        ++c.a;
                        won = 1;
                    }
                    break;
                }
                default: {
                    auto r = co_await select(magpie::when(die(2) == 0, y.take()), magpie::yield_now(),
                                             magpie::unconstrained(x.take()));
                    won = r.index() == 0 ? 1 : r.index() == 2 ? 0 : 99;
                    break;
                }
                }
                c.a += won == 0 ? 1 : 0;
                c.b += won == 1 ? 1 : 0;
                if (won == 2) {
                    ++c.joined;
                    handle = {};
                }
            }
            if (handle)
                c.joined += co_await handle;
        };
        while (a.left() + b.left() == 0)
            std::this_thread::yield(); // the other thread has begun
        counts c;
        auto h = ex.spawn(f(child, a, b, never, c, seed, rounds));
        while (!h.is_finished())
            ex.run_one();
        h.blocking_join();
        stop.store(true, std::memory_order_relaxed);
        adds.join();
        CHECK(c.a + a.left() == added_a);
        CHECK(c.b + b.left() == added_b);
        CHECK(c.spawned == c.joined);
        CHECK(c.a + c.b > 0);
        CHECK(ex.armed_timers() == 0);
        CHECK(ex.live() == 0);
    }
}
