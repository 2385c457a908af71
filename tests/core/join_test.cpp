#include <magpie/core/join.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/in_child.hpp>
#include <test/limits.hpp>
#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::join;
using magpie::task;
using magpie::try_join;
using magpie::sync::event;
using test::held;
using test::noisy;
using test::trace;

namespace {

task<int> number(int n) { co_return n; }

task<int> number_after(clock::duration d, int n) {
    co_await magpie::sleep_for(d);
    co_return n;
}

task<int> number_after_yield(int n) {
    co_await magpie::yield_now();
    co_return n;
}

task<int> fails_after(clock::duration d, std::string what) {
    co_await magpie::sleep_for(d);
    throw std::runtime_error(what);
}

task<> noisy_wait(trace& log, event& e, std::string name) {
    const noisy local(log, name);
    co_await e.wait();
    log.add("woken");
}

task<> noisy_wait(trace& log, held& h, std::string name) {
    const noisy local(log, name);
    co_await h.wait();
    log.add("woken");
}

std::string what_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    }
}

std::string said(const test::unhandled_log& log) {
    trace words;
    for (const auto& r : log.reports())
        words.add(r.what);
    return words.text();
}

template <class Operation>
task<> await_it(Operation op) {
    co_await std::move(op);
}

} // namespace

TEST_SUITE("core.join") {
    TEST_CASE("SC-SELECT-16 a join gives all values in order, when the last is there") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            const std::tuple<int, std::monostate, int> r = co_await join(
                number_after(20ms, 1), magpie::sleep_for(10ms), number_after(5ms, 3));
            co_return 10 * std::get<0>(r) + std::get<2>(r);
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(19ms);
        CHECK_FALSE(h.is_finished());
        ex.advance(1ms);
        CHECK(h.blocking_join() == 13);
        CHECK(test::run(ex, []() -> task<int> {
                  const std::tuple<int> r = co_await join(number(4));
                  co_return std::get<0>(r);
              }()) == 4);
    }

    TEST_CASE("a join of a range gives a vector in the range's order") {
        test::manual_executor ex;
        SUBCASE("a vector that is given away") {
            auto f = []() -> task<bool> {
                std::vector<task<int>> all;
                for (int i = 0; i < 5; ++i)
                    all.push_back(number_after((5 - i) * 1ms, i));
                const std::vector<int> r = co_await join(std::move(all));
                co_return r == std::vector{0, 1, 2, 3, 4};
            };
            auto h = ex.spawn(f());
            ex.run_until_idle();
            ex.advance(5ms);
            CHECK(h.blocking_join());
        }
        SUBCASE("a view that makes its elements") {
            auto f = []() -> task<bool> {
                const std::vector<int> r = co_await join(std::views::iota(0, 3) |
                                                         std::views::transform(number_after_yield));
                co_return r == std::vector{0, 1, 2};
            };
            CHECK(test::run(ex, f()));
        }
        SUBCASE("join handles, which are only waited for") {
            auto f = []() -> task<bool> {
                std::vector<magpie::join_handle<int>> handles;
                for (int i = 0; i < 3; ++i)
                    handles.push_back(magpie::spawn(number_after_yield(i)));
                const std::vector<int> r = co_await join(handles);
                co_return r == std::vector{0, 1, 2} && handles[0];
            };
            CHECK(test::run(ex, f()));
        }
        SUBCASE("nothing comes of void") {
            event e;
            trace log;
            auto f = [](event& ev, trace& l) -> task<> {
                std::vector<task<>> all;
                all.push_back(noisy_wait(l, ev, "a"));
                all.push_back(noisy_wait(l, ev, "b"));
                auto both = join(std::move(all));
                static_assert(std::is_void_v<decltype(both.await_resume())>);
                co_await std::move(both);
                l.add("joined");
            };
            auto h = ex.spawn(f(e, log));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "woken a woken b joined");
        }
    }

    TEST_CASE("SC-SELECT-19 an empty join is immediate, and branches start in order") {
        test::manual_executor ex;
        auto empty = []() -> task<bool> {
            const std::vector<int> r = co_await join(std::vector<task<int>>());
            const std::vector<int> s = co_await try_join(std::vector<task<int>>());
            co_return r.empty() && s.empty();
        };
        CHECK(test::run(ex, empty()));
        CHECK(ex.turns() == 1);

        trace log;
        auto says = [](trace& l, std::string name) -> task<> {
            l.add(name + "1");
            co_await magpie::yield_now();
            l.add(name + "2");
        };
        auto f = [](auto s, trace& l) -> task<> { co_await join(s(l, "a"), s(l, "b"), s(l, "c")); };
        test::run(ex, f(says, log));
        CHECK(log.text() == "a1 b1 c1 a2 b2 c2");
    }

    TEST_CASE("values of all kinds come through") {
        auto f = []() -> task<bool> {
            int n = 5;
            auto ref = [](int& k) -> task<int&> { co_return k; };
            auto make = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
            auto r = co_await join(ref(n), make());
            static_assert(
                std::is_same_v<decltype(r),
                               std::tuple<std::reference_wrapper<int>, std::unique_ptr<int>>>);
            co_return &std::get<0>(r).get() == &n && *std::get<1>(r) == 3;
        };
        CHECK(test::run(f()));

        test::counted::alive = 0;
        auto g = []() -> task<int> {
            auto one = [](test::counted c) -> task<test::counted> {
                co_await magpie::yield_now();
                co_return test::counted(c.value + 1);
            };
            std::vector<task<test::counted>> all;
            for (int i = 0; i < 10; ++i)
                all.push_back(one(test::counted(i)));
            const std::vector<test::counted> r = co_await join(std::move(all));
            const auto s = co_await join(one(test::counted(1)), one(test::counted(2)));
            co_return r.back().value + std::get<1>(s).value;
        };
        CHECK(test::run(g()) == 13);
        CHECK(test::counted::alive.load() == 0);
    }

    TEST_CASE("SC-SELECT-17 a join is as large as its parts") {
        using one = magpie::detail::branch_for<task<int>>;
        using three = decltype(join(number(1), number(2), number(3)));
        CHECK(sizeof(three) <= 3 * sizeof(one) + 12 * sizeof(void*));
    }

    TEST_CASE("SC-SELECT-18 a branch that never has to wait does not starve another") {
        test::manual_executor ex;
        auto f = [](int& seen) -> task<> {
            bool stop = false;
            auto hot = [](bool& s) -> task<> {
                while (!s)
                    co_await magpie::consume_budget();
            };
            auto other = [](bool& s, int& n) -> task<> {
                for (; n < 10; ++n)
                    co_await magpie::yield_now();
                s = true;
            };
            co_await join(hot(stop), other(stop, seen));
        };
        int seen = 0;
        test::run(ex, f(seen));
        CHECK(seen == 10);
    }

    TEST_CASE("the first exception in order is thrown when all have ended; the others are reported") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto f = [](bool range) -> task<> {
            if (range) {
                std::vector<task<int>> all;
                all.push_back(number_after(30ms, 1));
                all.push_back(fails_after(20ms, "first"));
                all.push_back(fails_after(10ms, "second"));
                co_await join(std::move(all));
            } else {
                co_await join(number_after(30ms, 1), fails_after(20ms, "first"),
                              fails_after(10ms, "second"));
            }
        };
        for (const bool range : {false, true}) {
            auto h = ex.spawn(f(range));
            ex.run_until_idle();
            ex.advance(29ms);
            CHECK_FALSE(h.is_finished());
            ex.advance(1ms);
            CHECK(test::outcome_of(h) == "first");
        }
        CHECK(said(unhandled) == "second second");
    }

    TEST_CASE("as_result of a join has what came of each branch") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto f = []() -> task<std::string> {
            auto op = as_result(join(number_after(1ms, 7), fails_after(2ms, "a"), fails_after(0ms, "b"),
                                     magpie::sleep_for(1ms)));
            auto r = co_await std::move(op);
            std::vector<task<int>> all;
            all.push_back(number(5));
            all.push_back(fails_after(1ms, "c"));
            auto s = co_await as_result(join(std::move(all)));
            co_return std::to_string(std::get<0>(r).value()) + what_of(std::get<1>(r).error()) +
                what_of(std::get<2>(r).error()) + (std::get<3>(r).has_value() ? "+" : "-") +
                std::to_string(s.at(0).value()) + what_of(s.at(1).error());
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(5ms);
        CHECK(h.blocking_join() == "7ab+5c");
        CHECK(said(unhandled).empty());
    }

    TEST_CASE("SC-SELECT-20 try_join gives all values, or drops the others at the first failure") {
        test::manual_executor ex;
        trace log;
        event e;
        held h;
        auto good = []() -> task<int> {
            const std::tuple<int, std::monostate> r = co_await try_join(number_after(1ms, 1),
                                                                        magpie::sleep_for(2ms));
            std::vector<task<int>> all;
            all.push_back(number_after_yield(2));
            all.push_back(number(3));
            const std::vector<int> s = co_await try_join(std::move(all));
            co_return 100 * std::get<0>(r) + 10 * s[0] + s[1];
        };
        auto g = ex.spawn(good());
        ex.run_until_idle();
        ex.advance(2ms);
        CHECK(g.blocking_join() == 123);

        auto bad = [](trace& l, event& ev, held& hd, bool comes) -> task<> {
            try {
                if (comes)
                    co_await try_join(noisy_wait(l, hd, "sibling"), fails_after(1ms, "no"));
                else
                    co_await try_join(noisy_wait(l, ev, "sibling"), fails_after(1ms, "no"));
            } catch (const std::runtime_error& error) {
                l.add(error.what());
            }
        };
        auto b = ex.spawn(bad(log, e, h, false));
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(log.take() == "sibling no");
        CHECK(b.is_finished());

        auto c = ex.spawn(bad(log, e, h, true));
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(log.text().empty()); // the sibling is in a waker's hand
        h.release();
        ex.run_until_idle();
        CHECK(log.take() == "sibling no");
        CHECK(c.is_finished());
    }

    TEST_CASE("a failure at its start keeps the branches behind it from starting") {
        test::manual_executor ex;
        trace log;
        event e;
        auto started = [](trace& l) -> task<> {
            l.add("started");
            co_return;
        };
        auto fails = []() -> task<> {
            throw std::runtime_error("no");
            co_return;
        };
        auto f = [](auto s, auto x, trace& l, event& ev) -> task<> {
            co_await try_join(noisy_wait(l, ev, "first"), x(), s(l));
        };
        auto h = ex.spawn(f(started, fails, log, e));
        ex.run_until_idle();
        CHECK(test::outcome_of(h) == "no");
        CHECK(log.text() == "first");
    }

    TEST_CASE("as_result of a try_join is one result") {
        auto f = []() -> task<std::string> {
            auto fails = []() -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error("no");
            };
            auto r = co_await as_result(try_join(number_after_yield(1), number(2)));
            auto s = co_await as_result(try_join(number_after_yield(1), fails()));
            co_return std::to_string(std::get<1>(r.value())) + what_of(s.error());
        };
        CHECK(test::run(f()) == "2no");
    }

    TEST_CASE("a range in which many fail at a time throws one") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto f = []() -> task<> {
            std::vector<task<int>> all;
            for (int i = 0; i < 100; ++i)
                all.push_back(fails_after(1ms, std::to_string(i)));
            co_await try_join(std::move(all));
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(test::outcome_of(h) == "0");
        CHECK(said(unhandled).empty()); // the others were dropped before they could fail
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("misuse throws std::logic_error") {
        auto twice = []() -> task<> {
            auto j = join(number(1), number(2));
            co_await j;
            co_await j;
        };
        CHECK_THROWS_AS(test::run(twice()), std::logic_error);
        auto twice_range = []() -> task<> {
            std::vector<task<int>> all;
            all.push_back(number_after_yield(1));
            auto j = try_join(std::move(all));
            co_await j;
            co_await j;
        };
        CHECK_THROWS_AS(test::run(twice_range()), std::logic_error);
        auto empty_task = []() -> task<> {
            task<int> none;
            co_await join(number(1), std::move(none));
        };
        CHECK_THROWS_AS(test::run(empty_task()), std::logic_error);
    }

    TEST_CASE("a join that is dropped drops all its branches, whatever they wait for") {
        trace log;
        event e;
        held h;
        test::manual_executor ex;
        auto f = [](trace& l, event& ev, held& hd, bool failfast) -> task<> {
            const noisy local(l, "parent");
            auto ended = [](trace& k) -> task<noisy> { co_return noisy(k, "value"); };
            if (failfast)
                co_await try_join(ended(l), noisy_wait(l, ev, "quiet"), noisy_wait(l, hd, "coming"));
            else
                co_await join(ended(l), noisy_wait(l, ev, "quiet"), noisy_wait(l, hd, "coming"));
        };
        for (const bool failfast : {false, true}) {
            auto t = ex.spawn(f(log, e, h, failfast));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK(log.text() == "value quiet");
            CHECK_FALSE(t.is_finished());
            h.release();
            ex.run_until_idle();
            CHECK(log.take() == "value quiet coming parent");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("a join in a timeout, and a timeout in a join") {
        test::manual_executor ex;
        event e;
        trace log;
        auto f = [](trace& l, event& ev) -> task<> {
            auto r = co_await magpie::timeout(
                10ms, join(noisy_wait(l, ev, "a"), magpie::timeout(5ms, noisy_wait(l, ev, "b"))));
            l.add(r.has_value() ? "in-time" : "late");
        };
        auto h = ex.spawn(f(log, e));
        ex.run_until_idle();
        ex.advance(5ms);
        CHECK(log.text() == "b");
        ex.advance(5ms);
        CHECK(log.text() == "b a late");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("destructors that throw") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        event e;
        auto body = [](event& ev, const char* what) -> task<> {
            const test::throws_at_end local(what);
            co_await ev.wait();
        };
        auto fails = [](event& ev) -> task<> {
            co_await ev.wait();
            throw std::runtime_error("failed");
        };
        SUBCASE(
            "of frames that are dropped by an abort: the first is the task's, the others reported") {
            auto h = ex.spawn(await_it(join(body(e, "one"), body(e, "two"))));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "one");
            CHECK(said(unhandled) == "two");
        }
        SUBCASE("of siblings of one that failed: the failure is thrown") {
            event first;
            auto h = ex.spawn(await_it(try_join(body(e, "one"), fails(first), body(e, "two"))));
            ex.run_until_idle();
            first.set();
            ex.run_until_idle();
            CHECK(test::outcome_of(h) == "failed");
            CHECK(said(unhandled) == "two one");
        }
    }

    TEST_CASE("a thousand branches, again and again: all are run, in one turn's budget at a time") {
        constexpr int rounds = test::scaled(100);
        test::manual_executor ex;
        auto f = [](int n) -> task<long> {
            long sum = 0;
            for (int round = 0; round < n; ++round) {
                std::vector<task<int>> all;
                for (int i = 0; i < 1000; ++i)
                    all.push_back(round % 2 == 0 ? number(i) : number_after_yield(i));
                const std::vector<int> r = co_await join(std::move(all));
                for (const int x : r)
                    sum += x;
            }
            co_return sum;
        };
        CHECK(test::run(ex, f(rounds)) == 499'500L * rounds);
    }

    TEST_CASE("what a dropped join was handed goes back") {
        test::manual_executor ex;
        test::permits p;
        event e;
        p.add();
        auto h = ex.spawn(await_it(join(p.take(), e.wait())));
        ex.run_until_idle();
        CHECK(p.left() == 0);
        h.abort();
        ex.run_until_idle();
        CHECK(p.left() == 1);
    }
}
