#include <magpie/core/timeout.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/in_child.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
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

task<int> number(int n) { co_return n; }

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

/// Says how the timeout of a task ended.
task<> limited(trace& log, clock::duration limit, task<> body) {
    const bool in_time = co_await timeout(limit, std::move(body));
    log.add(in_time ? "in-time" : "late");
}

} // namespace

TEST_SUITE("core.timeout") {
    TEST_CASE("TIME-CORE-13 what ends in time gives its value") {
        test::manual_executor ex;
        auto f = []() -> task<int> {
            const std::optional<int> n = co_await timeout(10ms, number_after(9ms, 7));
            co_return n.value_or(-1);
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        ex.advance(9ms);
        CHECK(h.blocking_join() == 7);
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("TIME-CORE-12 what does not is dropped, and gone before the next line") {
        test::manual_executor ex;
        event e;
        trace log;
        auto h = ex.spawn(limited(log, 10ms, noisy_wait(log, e, "body")));
        ex.run_until_idle();
        ex.advance(10ms - 1ns);
        CHECK(log.text().empty());
        ex.advance(1ns);
        CHECK(log.text() == "body late");
        CHECK(h.is_finished());
        e.set();
        ex.run_until_idle();
        CHECK(log.text() == "body late");
    }

    TEST_CASE("at zero, and below, a body counts only if it is ready at once") {
        test::manual_executor ex;
        auto f = [](clock::duration limit, bool ready) -> task<std::optional<int>> {
            const std::optional<int> n = co_await timeout(limit, number_after(ready ? 0ms : 1ms, 5));
            co_return n;
        };
        for (const clock::duration limit :
             {clock::duration(0), clock::duration(-1), clock::duration::min()}) {
            CHECK(test::run(ex, f(limit, true)) == 5);
            CHECK(test::run(ex, f(limit, false)) == std::nullopt);
        }
        CHECK(ex.armed_timers() == 0);
        auto no_task = [](event& ev) -> task<bool> {
            const bool in_time = co_await timeout(0s, ev.wait());
            co_return in_time;
        };
        event e;
        CHECK_FALSE(test::run(ex, no_task(e)));
        e.set();
        CHECK(test::run(ex, no_task(e)));
    }

    TEST_CASE("a deadline that has passed") {
        test::manual_executor ex;
        auto f = [](clock::time_point deadline, bool ready) -> task<std::optional<int>> {
            const std::optional<int> n = co_await magpie::timeout_at(
                deadline, number_after(ready ? 0ms : 1ms, 5));
            co_return n;
        };
        CHECK(test::run(ex, f(ex.now(), true)) == 5);
        CHECK(test::run(ex, f(ex.now(), false)) == std::nullopt);
        CHECK(test::run(ex, f(clock::time_point::min(), false)) == std::nullopt);
        auto h = ex.spawn(f(ex.now() + 10ms, false));
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(h.blocking_join() == 5);
    }

    TEST_CASE("values of all kinds come through") {
        test::manual_executor ex;
        SUBCASE("void gives bool") {
            auto nothing = []() -> task<> { co_return; };
            static_assert(std::is_same_v<decltype(timeout(1s, nothing()))::value_type, bool>);
        }
        SUBCASE("a reference") {
            int n = 1;
            auto f = [](int& m) -> task<bool> {
                auto ref = [](int& k) -> task<int&> { co_return k; };
                std::optional<std::reference_wrapper<int>> r = co_await timeout(1s, ref(m));
                co_return r.has_value() && &r->get() == &m;
            };
            CHECK(test::run(ex, f(n)));
        }
        SUBCASE("move-only") {
            auto f = []() -> task<std::unique_ptr<int>> {
                auto make = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
                std::optional<std::unique_ptr<int>> p = co_await timeout(1s, make());
                co_return std::move(p.value());
            };
            CHECK(*test::run(ex, f()) == 3);
        }
        SUBCASE("aligned to 64") {
            struct alignas(64) wide {
                const void* self = this;
                wide() = default;
                wide(const wide&) noexcept {}
            };
            auto f = []() -> task<bool> {
                auto make = []() -> task<wide> { co_return wide(); };
                const std::optional<wide> w = co_await timeout(1s, make());
                co_return reinterpret_cast<std::uintptr_t>(w->self) % 64 == 0;
            };
            CHECK(test::run(ex, f()));
        }
        SUBCASE("an optional of an optional") {
            auto f = []() -> task<bool> {
                auto none = []() -> task<std::optional<int>> { co_return std::nullopt; };
                const std::optional<std::optional<int>> r = co_await timeout(1s, none());
                co_return r.has_value() && !r->has_value();
            };
            CHECK(test::run(ex, f()));
        }
        SUBCASE("objects are destroyed once") {
            counted::alive = 0;
            auto f = []() -> task<int> {
                auto make = [](counted c) -> task<counted> { co_return counted(c.value + 1); };
                const std::optional<counted> c = co_await timeout(1s, make(counted(1)));
                co_return c->value;
            };
            CHECK(test::run(ex, f()) == 2);
            CHECK(counted::alive.load() == 0);
        }
    }

    TEST_CASE("an exception of the body comes out") {
        test::manual_executor ex;
        auto fails = [](clock::duration d) -> task<int> {
            co_await magpie::sleep_for(d);
            throw std::domain_error("no");
        };
        auto f = [](auto body, clock::duration d) -> task<> { co_await timeout(10ms, body(d)); };
        CHECK_THROWS_AS(test::run(ex, f(fails, 0s)), std::domain_error);
        auto h = ex.spawn(f(fails, 5ms));
        ex.run_until_idle();
        ex.advance(5ms);
        CHECK_THROWS_AS(h.blocking_join(), std::domain_error);
        auto late = ex.spawn(f(fails, 15ms));
        ex.run_until_idle();
        ex.advance(20ms);
        CHECK_NOTHROW(late.blocking_join());
    }

    TEST_CASE("a destructor of the body that throws when time runs out comes out") {
        test::manual_executor ex;
        event e;
        held in_hand;
        auto body = [](event& ev, held& h, bool comes) -> task<> {
            const test::throws_at_end local("at the deadline");
            if (comes)
                co_await h.wait();
            else
                co_await ev.wait();
        };
        auto f = [](task<> b) -> task<> { co_await timeout(10ms, std::move(b)); };
        for (const bool comes : {false, true}) {
            auto h = ex.spawn(f(body(e, in_hand, comes)));
            ex.run_until_idle();
            ex.advance(10ms);
            if (comes)
                in_hand.release();
            ex.run_until_idle();
            CHECK_THROWS_WITH(h.blocking_join(), "at the deadline");
        }
    }

    TEST_CASE("without timers a body that is not ready at once gives std::logic_error") {
        test::manual_executor ex;
        ex.without_timers();
        event e;
        trace log;
        CHECK_THROWS_AS(test::run(ex, limited(log, 10ms, noisy_wait(log, e, "body"))),
                        std::logic_error);
        CHECK(log.take() == "body");
        e.set();
        test::run(ex, limited(log, 10ms, noisy_wait(log, e, "body")));
        CHECK(log.text() == "woken body in-time");
    }

    TEST_CASE("a timeout that is not awaited destroys its body unstarted") {
        trace log;
        test::manual_executor ex;
        auto f = [](trace& l) -> task<> {
            auto body = [](trace& k, noisy) -> task<> {
                k.add("ran");
                co_return;
            };
            { [[maybe_unused]] auto never = timeout(1s, body(l, noisy(l, "parameter"))); }
            l.add("after");
            co_return;
        };
        test::run(ex, f(log));
        CHECK(log.text() == "parameter after");
    }

    TEST_CASE("a timeout may be named before it is awaited") {
        auto f = []() -> task<int> {
            auto limited_number = timeout(1s, number(8));
            const std::optional<int> n = co_await std::move(limited_number);
            co_return n.value_or(-1);
        };
        CHECK(test::run(f()) == 8);
    }

    TEST_CASE("a timeout of an empty task throws std::logic_error") {
        auto f = []() -> task<> {
            task<> empty;
            co_await timeout(1s, std::move(empty));
        };
        CHECK_THROWS_AS(test::run(f()), std::logic_error);
    }

    TEST_CASE("a timeout that is awaited twice throws std::logic_error") {
        auto f = [](clock::duration body) -> task<> {
            auto twice = timeout(1s, magpie::sleep_for(body));
            const bool in_time = co_await twice;
            CHECK(in_time == (body < 1s));
            co_await twice;
        };
        test::manual_executor ex;
        for (const clock::duration body : {0s, 2s}) {
            auto h = ex.spawn(f(body));
            ex.advance(1s);
            CHECK_THROWS_WITH_AS(h.blocking_join(), doctest::Contains("awaited before"),
                                 std::logic_error);
        }
    }

    TEST_CASE("TIME-CORE-14 huge limits do not overflow") {
        test::manual_executor ex;
        auto f = [](auto limit) -> task<std::optional<int>> {
            const std::optional<int> n = co_await timeout(limit, number_after(1ms, 2));
            co_return n;
        };
        auto a = ex.spawn(f(clock::duration::max()));
        auto b = ex.spawn(f(std::chrono::hours::max()));
        auto c = ex.spawn(f(std::chrono::duration<double>(1e300)));
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(a.blocking_join() == 2);
        CHECK(b.blocking_join() == 2);
        CHECK(c.blocking_join() == 2);
    }

    TEST_CASE("TIME-CORE-15 a loop that is always ready still runs out of time") {
        CHECK(test::survives([] {
            test::manual_executor ex;
            trace log;
            auto f = [](test::manual_executor& x) -> task<> {
                for (int i = 0;; ++i) {
                    if (i == 1000)
                        x.advance(10ms);
                    co_await magpie::consume_budget();
                }
            };
            auto h = ex.spawn(limited(log, 10ms, f(ex)));
            ex.run_until_idle();
            h.blocking_join();
            return log.text() == "late";
        }));
    }

    TEST_CASE("a body that has spent its turn's budget goes on, whatever the budget was") {
        for (int budget = 1; budget <= 6; ++budget) {
            CAPTURE(budget);
            CHECK(test::survives([budget] {
                test::manual_executor ex(static_cast<std::uint16_t>(budget));
                event e;
                auto body = [](event& ev, int units, bool waits) -> task<int> {
                    for (int i = 0; i < units; ++i)
                        co_await magpie::consume_budget();
                    if (waits)
                        co_await ev.wait();
                    co_return units;
                };
                auto f = [](auto b, event& ev, bool waits) -> task<int> {
                    int sum = 0;
                    for (int units = 0; units < 10; ++units) {
                        const std::optional<int> n = co_await timeout(1s, b(ev, units, waits));
                        sum += n.value_or(-100);
                        const std::optional<std::optional<int>> m = co_await timeout(
                            2s, timeout(1s, b(ev, units, waits)));
                        sum += m.has_value() ? m->value_or(-100) : -100;
                    }
                    co_return sum;
                };
                auto ready = ex.spawn(f(body, e, false));
                auto waits = ex.spawn(f(body, e, true));
                ex.run_until_idle();
                e.set();
                ex.run_until_idle();
                return ready.blocking_join() == 90 && waits.blocking_join() == 90 &&
                       ex.armed_timers() == 0;
            }));
        }
    }

    TEST_CASE("a long loop of timeouts takes no stack, and leaves no timer behind") {
        constexpr int n = test::scaled(1'000'000);
        int in_time = 0;
        std::size_t timers = 1;
        test::on_small_stack([&] {
            test::manual_executor ex;
            auto f = [](int rounds, int& count) -> task<> {
                for (int i = 0; i < rounds; ++i) {
                    auto waits = []() -> task<> { co_await magpie::yield_now(); };
                    auto ready = []() -> task<> { co_return; };
                    const bool a = co_await timeout(1s, waits());
                    const bool b = co_await timeout(1s, ready());
                    count += a && b ? 1 : 0;
                }
            };
            ex.spawn(f(n, in_time)).detach();
            ex.run_until_idle();
            timers = ex.armed_timers();
        });
        CHECK(in_time == n);
        CHECK(timers == 0);
    }

    TEST_CASE("an as_result of anything may stand in a timeout") {
        test::manual_executor ex;
        auto fails = []() -> task<int> {
            throw std::runtime_error("no");
            co_return 1;
        };
        auto f = [](auto body) -> task<bool> {
            auto r = co_await timeout(1s, as_result(body()));
            co_return r.has_value() && r->has_error();
        };
        CHECK(test::run(ex, f(fails)));
        auto joins = [](magpie::join_handle<int> h) -> task<bool> {
            auto r = co_await timeout(1s, as_result(h));
            co_return r.has_value() && r->has_error();
        };
        CHECK(test::run(ex, joins(ex.spawn(fails()))));
        auto sleeps = []() -> task<bool> {
            auto r = co_await timeout(1s, as_result(magpie::sleep_for(0s)));
            co_return r.has_value() && r->has_value();
        };
        CHECK(test::run(ex, sleeps()));
    }
}
