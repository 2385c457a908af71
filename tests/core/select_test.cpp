#include <magpie/core/select.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/may_lose.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/in_child.hpp>
#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::on;
using magpie::otherwise;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::when;
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

task<> noisy_wait(trace& log, event& e, std::string name) {
    const noisy local(log, name);
    co_await e.wait();
    log.add("woken");
}

/// Gives 0, 1, ... n-1 and then nothing, a number a call.
class numbers {
public:
    explicit numbers(int n) : n_(n) {}
    task<std::optional<int>> next(bool yields) {
        if (yields)
            co_await magpie::yield_now();
        if (at_ == n_)
            co_return std::nullopt;
        co_return at_++;
    }

private:
    int n_;
    int at_ = 0;
};

/// Loses a part of its effect when it is dropped.
class lossy_wait : public magpie::operation<lossy_wait> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::lossy;

    bool try_complete() noexcept { return true; }
    bool publish() noexcept { return false; }
    int await_resume() const noexcept { return 9; }

private:
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }
};

} // namespace

TEST_SUITE("core.select") {
    TEST_CASE("SC-SELECT-01 one ready branch gives its result; one branch alone is an await") {
        test::manual_executor ex;
        auto f = [](event& never) -> task<int> {
            auto r = co_await select(never.wait(), number(5), magpie::sleep_for(1h));
            co_return r.index() == 1 ? r.get<1>() : -1;
        };
        event never;
        CHECK(test::run(ex, f(never)) == 5);
        CHECK(ex.armed_timers() == 0);
        auto alone = []() -> task<int> {
            auto r = co_await select(number_after(5ms, 4));
            co_return std::move(r).get<0>();
        };
        auto h = ex.spawn(alone());
        ex.run_until_idle();
        ex.advance(5ms);
        CHECK(h.blocking_join() == 4);
    }

    TEST_CASE("SCOPE-12 the losers are gone before the next line") {
        test::manual_executor ex;
        trace log;
        event e;
        auto f = [](trace& l, event& ev) -> task<> {
            auto r = co_await select(noisy_wait(l, ev, "a"), magpie::sleep_for(5ms),
                                     noisy_wait(l, ev, "b"));
            l.add("winner-" + std::to_string(r.index()));
        };
        auto h = ex.spawn(f(log, e));
        ex.run_until_idle();
        ex.advance(5ms);
        CHECK(log.text() == "a b winner-1");
        e.set();
        ex.run_until_idle();
        CHECK(log.text() == "a b winner-1");
    }

    TEST_CASE("handlers are given the value, and give the result") {
        test::manual_executor ex;
        auto f = [](bool first) -> task<std::string> {
            auto with_number = [](int n) { return std::to_string(n); };
            auto without = []() { return std::string("time"); };
            auto s = select(on(number_after(first ? 1ms : 9ms, 3), with_number),
                            on(magpie::sleep_for(5ms), without));
            std::string result = co_await std::move(s);
            co_return result;
        };
        for (const bool first : {false, true}) {
            auto h = ex.spawn(f(first));
            ex.run_until_idle();
            ex.advance(10ms);
            CHECK(h.blocking_join() == (first ? "3" : "time"));
        }
    }

    TEST_CASE("a handler that is a coroutine makes the select give a task") {
        auto f = []() -> task<int> {
            auto later = [](int n) -> task<int> {
                co_await magpie::yield_now();
                co_return n + 1;
            };
            task<int> t = co_await select(on(number(1), later));
            co_return co_await std::move(t);
        };
        CHECK(test::run(f()) == 2);
    }

    TEST_CASE("SC-SELECT-02 otherwise is what happens when no branch is enabled; without it: "
              "std::logic_error") {
        auto f = []() -> task<int> {
            auto r = co_await select_biased(when(false, number(1)), otherwise([] { return 7; }));
            int sum = r.index() == 1 ? r.get<1>() : -100;
            auto id = [](int n) { return n; };
            sum += co_await select(on(when(false, number(1)), id), when(false, on(number(2), id)),
                                   otherwise([] { return 10; }));
            sum += co_await select(otherwise([] { return 100; }));
            sum += co_await select(on(number(1000), id), otherwise([] { return 0; }));
            co_return sum;
        };
        CHECK(test::run(f()) == 1117);
        auto g = []() -> task<> { co_await select(when(false, number(1)), when(false, number(2))); };
        CHECK_THROWS_WITH_AS(test::run(g()), doctest::Contains("otherwise"), std::logic_error);
    }

    TEST_CASE("SC-SELECT-04 a disabled branch is never started, and is destroyed with the select") {
        trace log;
        auto f = [](trace& l) -> task<> {
            auto says = [](trace& k, noisy) -> task<> {
                k.add("ran");
                co_return;
            };
            auto s = select(when(false, says(l, noisy(l, "parameter"))), magpie::yield_now());
            auto r = co_await s;
            l.add(std::to_string(r.index()));
        };
        test::run(f(log));
        CHECK(log.text() == "1 parameter");
    }

    TEST_CASE("SC-SELECT-05 values may be moved into handlers, which may use the same object") {
        auto f = []() -> task<int> {
            std::vector<int> shared;
            auto make = [](int n) -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(n); };
            for (int i = 0; i < 10; ++i) {
                auto keep = [&shared](std::unique_ptr<int> p) { shared.push_back(*p); };
                co_await select(on(make(1), keep), on(make(2), keep));
            }
            co_return static_cast<int>(shared.size());
        };
        CHECK(test::run(f()) == 10);
    }

    TEST_CASE("SC-SELECT-06 a select in a loop drains all sources to their ends") {
        auto f = [](bool yields) -> task<int> {
            numbers a(100);
            numbers b(50);
            bool more_a = true;
            bool more_b = true;
            int sum = 0;
            while (more_a || more_b) {
                // Only a source that does not wait half-way may be made anew: the loser is dropped.
                auto r = co_await select(when(more_a, a.next(yields)), when(more_b, b.next(yields)));
                const bool first = r.index() == 0;
                const std::optional<int> n = std::move(r).visit([](std::optional<int> v) { return v; });
                if (n)
                    sum += *n;
                else
                    (first ? more_a : more_b) = false;
            }
            co_return sum;
        };
        CHECK(test::run(f(false)) == 4950 + 1225);
        CHECK(test::run(f(true)) == 4950 + 1225);
    }

    TEST_CASE("SC-SELECT-07 a select in a select") {
        test::manual_executor ex;
        trace log;
        event e;
        auto f = [](trace& l, event& ev, clock::duration d) -> task<> {
            auto inner = select(noisy_wait(l, ev, "a"), number_after(d, 1));
            auto r = co_await select(std::move(inner),
                                     select(noisy_wait(l, ev, "b"), magpie::sleep_for(5ms)));
            l.add(std::to_string(r.index()));
        };
        auto h = ex.spawn(f(log, e, 3ms));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(log.take() == "b a 0");
        auto g = ex.spawn(f(log, e, 7ms));
        ex.run_until_idle();
        ex.advance(10ms);
        CHECK(log.take() == "a b 1");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("SC-SELECT-08 what is passed as an lvalue goes on, and may be selected again") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            magpie::join_handle<int> handle = magpie::spawn(number_after(25ms, 7));
            magpie::timer total(22ms);
            int rounds = 0;
            bool timed = false;
            for (;; ++rounds) {
                auto r = co_await select(handle, when(!timed, total), magpie::sleep_for(10ms));
                if (r.index() == 0)
                    co_return 100 * r.get<0>() + 10 * rounds + (timed ? 1 : 0);
                timed = timed || r.index() == 1;
            }
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(30ms);
        CHECK(h.blocking_join() == 731); // 10, 20, 22, 25
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("a timer that has passed is ready each time, and may be set again") {
        test::manual_executor ex;
        auto f = [](event& never) -> task<int> {
            magpie::timer t(10ms);
            auto a = co_await select(t, never.wait());
            auto b = co_await select(t, never.wait());
            t.reset(clock::now() + 5ms);
            auto c = co_await select(t, number(1));
            auto d = co_await select_biased(t, never.wait());
            co_return static_cast<int>(a.index() + b.index() + 10 * c.index() + d.index());
        };
        event never;
        auto h = ex.spawn(f(never));
        ex.run_until_idle();
        ex.advance(14ms);
        CHECK_FALSE(h.is_finished());
        ex.advance(1ms);
        CHECK(h.blocking_join() == 10);
    }

    TEST_CASE("a second use of a handle whose result was taken throws std::logic_error") {
        auto f = [](event& never) -> task<> {
            auto h = magpie::spawn(number(1));
            co_await select(h, never.wait());
            co_await select(h, never.wait());
        };
        event never;
        CHECK_THROWS_AS(test::run(f(never)), std::logic_error);
    }

    TEST_CASE("SC-SELECT-09 a branch may own what it was given and destroy it in its body") {
        test::counted::alive = 0;
        auto f = []() -> task<int> {
            auto owns = [](std::optional<test::counted> c) -> task<int> {
                const int n = c->value;
                c.reset();
                co_await magpie::yield_now();
                co_return n;
            };
            auto r = co_await select(owns(test::counted(3)), owns(test::counted(3)));
            co_return r.visit([](int n) { return n; });
        };
        CHECK(test::run(f()) == 3);
        CHECK(test::counted::alive.load() == 0);
    }

    TEST_CASE("SC-SELECT-10 sixty-four branches") {
        auto f = []<std::size_t... I>(std::index_sequence<I...>) -> task<int> {
            auto r = co_await select(number_after(I == 50 ? 1ms : 10ms, static_cast<int>(I))...);
            co_return r.visit([](int n) { return n; });
        };
        test::manual_executor ex;
        auto h = ex.spawn(f(std::make_index_sequence<64>()));
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(h.blocking_join() == 50);
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("SC-SELECT-11 biased: the first that is ready, in order; else the first to become so") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            int wins = 0;
            for (int i = 0; i < 100; ++i) {
                auto r = co_await select_biased(number(0), number(1), number(2));
                wins += r.index() == 0 ? 1 : 0;
            }
            auto s = co_await select_biased(magpie::sleep_for(1h), number(1), number(2));
            auto t = co_await select_biased(magpie::sleep_for(1h), number_after(1ms, 1));
            co_return 100 * static_cast<int>(t.index()) + 10 * static_cast<int>(s.index()) + wins / 100;
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(h.blocking_join() == 111);
    }

    TEST_CASE(
        "a fair select lets each branch that is ready win its share, also where a loop has several") {
        auto f = []() -> task<bool> {
            std::array<int, 3> wins{};
            for (int i = 0; i < 3000; ++i) {
                auto r = co_await select(number(0), number(1), number(2));
                ++wins.at(r.index());
                co_await select(number(0), number(1), number(2));
                co_await select(number(0), number(1), number(2));
            }
            co_return wins[0] > 800 && wins[1] > 800 && wins[2] > 800;
        };
        CHECK(test::run(f()));
    }

    TEST_CASE("SC-SELECT-14 a loop of selects that are always ready leaves the worker to others") {
        CHECK(test::survives([] {
            test::manual_executor ex;
            bool stop = false;
            auto loops = [](bool& s) -> task<> {
                while (!s)
                    co_await select(number(1), number(2));
            };
            auto stops = [](bool& s) -> task<> {
                s = true;
                co_return;
            };
            auto a = ex.spawn(loops(stop));
            auto b = ex.spawn(stops(stop));
            ex.run_until_idle();
            return a.is_finished() && b.is_finished();
        }));
    }

    TEST_CASE("SC-SELECT-13 a select is as large as its branches") {
        using one = magpie::detail::branch_for<task<int>>;
        using three = decltype(select(number(1), number(2), number(3)));
        CHECK(sizeof(three) <= 3 * sizeof(one) + 12 * sizeof(void*));
    }

    TEST_CASE("SC-SELECT-15 a branch that never ends does no harm") {
        test::manual_executor ex;
        event never;
        auto f = [](event& n) -> task<std::size_t> {
            std::size_t sum = 0;
            for (int i = 0; i < 1000; ++i) {
                auto r = co_await select(n.wait(), magpie::yield_now());
                sum += r.index();
            }
            co_return sum;
        };
        CHECK(test::run(ex, f(never)) == 1000);
    }

    TEST_CASE("the winner's exception is thrown when the losers are gone") {
        test::manual_executor ex;
        trace log;
        event e;
        auto fails = [](bool at_once) -> task<int> {
            if (!at_once)
                co_await magpie::yield_now();
            throw std::runtime_error("failed");
        };
        auto f = [](auto x, trace& l, event& ev, bool at_once) -> task<> {
            try {
                co_await select_biased(noisy_wait(l, ev, "loser"), x(at_once));
            } catch (const std::runtime_error& error) {
                l.add(error.what());
            }
        };
        for (const bool at_once : {false, true}) {
            test::run(ex, f(fails, log, e, at_once));
            CHECK(log.take() == "loser failed");
        }
    }

    TEST_CASE("values of all kinds come through") {
        int n = 1;
        auto f = [](int& m) -> task<bool> {
            auto ref = [](int& k) -> task<int&> { co_return k; };
            auto nothing = []() -> task<> { co_return; };
            auto make = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
            auto a = co_await select(ref(m));
            static_assert(std::is_same_v<decltype(a), magpie::selected<std::reference_wrapper<int>>>);
            auto b = co_await select(nothing());
            static_assert(std::is_same_v<decltype(b), magpie::selected<std::monostate>>);
            auto c = co_await select(make());
            const std::unique_ptr<int> p = std::move(c).get<0>();
            co_return &a.get<0>().get() == &m && *p == 3;
        };
        CHECK(test::run(f(n)));
    }

    TEST_CASE("misuse throws std::logic_error") {
        auto wrong = []() -> task<> {
            auto r = co_await select_biased(number(1), number(2));
            static_cast<void>(r.get<1>());
        };
        CHECK_THROWS_WITH_AS(test::run(wrong()), doctest::Contains("index()"), std::logic_error);
        auto twice = []() -> task<> {
            auto s = select(number(1), number(2));
            co_await s;
            co_await s;
        };
        CHECK_THROWS_WITH_AS(test::run(twice()), doctest::Contains("before"), std::logic_error);
        auto empty = []() -> task<> {
            task<int> none;
            co_await select(std::move(none));
        };
        CHECK_THROWS_AS(test::run(empty()), std::logic_error);
    }

    TEST_CASE("what a branch may lose is known from its type") {
        using magpie::cancel_safety;
        static_assert(magpie::safety_of<magpie::timer> == cancel_safety::safe);
        static_assert(magpie::safety_of<magpie::timer&> == cancel_safety::safe);
        static_assert(magpie::safety_of<magpie::join_handle<int>&> == cancel_safety::safe);
        static_assert(magpie::safety_of<task<int>> == cancel_safety::unknown);
        static_assert(magpie::safety_of<magpie::safe_task<int>> == cancel_safety::safe);
        static_assert(magpie::safety_of<magpie::lossy_task<>> == cancel_safety::lossy);
        using timed_task = decltype(magpie::timeout(1s, std::declval<magpie::lossy_task<>>()));
        static_assert(magpie::safety_of<timed_task> == cancel_safety::lossy);
        static_assert(magpie::safety_of<lossy_wait> == cancel_safety::lossy);
        using timed = decltype(magpie::timeout(1s, lossy_wait()));
        static_assert(magpie::safety_of<timed> == cancel_safety::lossy);
        using timed_safe = decltype(magpie::timeout(1s, magpie::yield_now()));
        static_assert(magpie::safety_of<timed_safe> == cancel_safety::safe);
        using free_of_budget = decltype(magpie::unconstrained(lossy_wait()));
        static_assert(magpie::safety_of<free_of_budget> == cancel_safety::lossy);
        using joined = decltype(magpie::join(lossy_wait(), number(1)));
        static_assert(magpie::safety_of<joined> == cancel_safety::lossy);
        using selected = decltype(select(magpie::yield_now(), magpie::sleep_for(1s)));
        static_assert(magpie::safety_of<selected> == cancel_safety::safe);

        auto f = [](event& never) -> task<int> {
            auto r = co_await select(magpie::may_lose(lossy_wait()), never.wait());
            co_return r.get<0>();
        };
        event never;
        CHECK(test::run(f(never)) == 9);
    }

    TEST_CASE("a task whose author says what it loses is a task in all else") {
        struct coroutines {
            static magpie::safe_task<int> safe(int n) {
                co_await magpie::yield_now();
                co_return n;
            }
            static magpie::lossy_task<> lossy(int& n) {
                co_await magpie::yield_now();
                ++n;
            }
        };
        test::manual_executor ex;
        int n = 0;
        auto f = [](int& calls) -> task<int> {
            const int one = co_await coroutines::safe(1);
            auto two = co_await select(coroutines::safe(2), magpie::may_lose(coroutines::lossy(calls)));
            magpie::safe_task<int> later = coroutines::safe(4);
            const auto three = co_await as_result(std::move(later));
            co_await coroutines::lossy(calls);
            co_return one + static_cast<int>(two.index()) + three.value();
        };
        const int sum = test::run(ex, f(n));
        CHECK((sum == 5 || sum == 6));
        CHECK((n == 1 || n == 2));
        auto spawned = ex.spawn<int>(coroutines::safe(7));
        ex.run_until_idle();
        CHECK(spawned.blocking_join() == 7);
    }
}
