#include <magpie/core/as_result.hpp>

#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#if !defined(MAGPIE_TEST_SANITIZED)
#include <dlfcn.h>
#include <unwind.h>

namespace {
int unwindings = 0;
}

/// Stands before the unwinder's own: each throw and each rethrow comes by.
extern "C" _Unwind_Reason_Code _Unwind_RaiseException(_Unwind_Exception* e) {
    ++unwindings;
    using function = _Unwind_Reason_Code (*)(_Unwind_Exception*);
    static const auto real = reinterpret_cast<function>(dlsym(RTLD_NEXT, "_Unwind_RaiseException"));
    return real(e);
}
#endif

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using magpie::task_result;
using magpie::sync::event;

namespace {

task<int> number(int n) { co_return n; }
task<int> fails() {
    throw std::domain_error("no");
    co_return 1;
}
task<> fails_void() {
    throw std::domain_error("no");
    co_return;
}

template <class R>
std::string error_of(const R& r) {
    return r.has_value() ? "a value" : std::string(magpie::describe(r.error()));
}

} // namespace

TEST_SUITE("core.as_result") {
    TEST_CASE("as_result of a task gives its value or its exception") {
        auto f = []() -> task<std::string> {
            task_result<int> a = co_await as_result(number(3));
            task_result<int> b = co_await as_result(fails());
            task_result<void> c = co_await as_result(fails_void());
            auto nothing = []() -> task<> { co_return; };
            task_result<void> d = co_await as_result(nothing());
            co_return std::to_string(*a) + error_of(b) + error_of(c) + error_of(d);
        };
        CHECK(test::run(f()) == "3nonoa value");
    }

    TEST_CASE("as_result of a join_handle gives value, exception, or cancellation") {
        test::manual_executor ex;
        auto kept = [](join_handle<int>& h) -> task<std::string> {
            task_result<int> r = co_await as_result(h);
            co_return r.has_value() ? std::to_string(*r) : error_of(r);
        };
        auto away = [](join_handle<int> h) -> task<std::string> {
            task_result<int> r = co_await as_result(std::move(h));
            co_return r.has_value() ? std::to_string(*r) : error_of(r);
        };
        SUBCASE("a value") {
            auto h = ex.spawn(number(3));
            CHECK(test::run(ex, kept(h)) == "3");
            CHECK(test::run(ex, away(ex.spawn(number(4)))) == "4");
        }
        SUBCASE("an exception, which then is handled") {
            const test::unhandled_log unhandled(ex);
            auto h = ex.spawn(fails());
            CHECK(test::run(ex, kept(h)) == "no");
            CHECK(test::run(ex, away(ex.spawn(fails()))) == "no");
            h.detach();
            CHECK(unhandled.count() == 0);
        }
        SUBCASE("a cancellation, by an exception_ptr that was made once") {
            auto h = ex.spawn(number(3));
            h.abort();
            auto f = [](join_handle<int>& k) -> task<bool> {
                task_result<int> r = co_await as_result(k);
                co_return r.has_error() && r.error() == magpie::task_cancelled_ptr();
            };
            CHECK(test::run(ex, f(h)));
            CHECK_THROWS_AS(std::rethrow_exception(magpie::task_cancelled_ptr()),
                            magpie::task_cancelled);
        }
        SUBCASE("void, and a wait") {
            event e;
            auto waits = [](event& ev) -> task<> { co_await ev.wait(); };
            auto h = ex.spawn(waits(e));
            auto f = [](join_handle<>& k) -> task<bool> {
                task_result<void> r = co_await as_result(k);
                co_return r.has_value();
            };
            auto j = ex.spawn(f(h));
            ex.run_until_idle();
            CHECK_FALSE(j.is_finished());
            e.set();
            ex.run_until_idle();
            CHECK(j.blocking_join());
        }
    }

    TEST_CASE("as_result of misuse still throws") {
        test::manual_executor ex;
        auto empty_task = []() -> task<> {
            task<int> empty;
            static_cast<void>(co_await as_result(std::move(empty)));
        };
        CHECK_THROWS_AS(test::run(ex, empty_task()), std::logic_error);
        auto taken = [](join_handle<int>& h) -> task<> {
            static_cast<void>(co_await as_result(h));
            static_cast<void>(co_await as_result(h));
        };
        auto h = ex.spawn(number(1));
        CHECK_THROWS_AS(test::run(ex, taken(h)), std::logic_error);
    }

    TEST_CASE("as_result of an operation gives its value") {
        test::manual_executor ex;
        event e;
        e.set();
        auto f = [](event& ev) -> task<bool> {
            magpie::result<void> a = co_await as_result(ev.wait());
            magpie::result<void> b = co_await as_result(magpie::sleep_for(0s));
            magpie::result<void> c = co_await as_result(magpie::yield_now());
            magpie::result<void> d = co_await as_result(magpie::consume_budget());
            magpie::result<int> u = co_await as_result(magpie::unconstrained(number(5)));
            co_return a.has_value() && b.has_value() && c.has_value() && d.has_value() && *u == 5;
        };
        CHECK(test::run(ex, f(e)));
    }

    TEST_CASE("as_result of an operation that waits") {
        test::manual_executor ex;
        event e;
        auto f = [](event& ev) -> task<bool> {
            magpie::result<void> a = co_await as_result(ev.wait());
            magpie::result<void> b = co_await as_result(magpie::sleep_for(1s));
            co_return a.has_value() && b.has_value();
        };
        auto h = ex.spawn(f(e));
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        ex.advance(1s);
        CHECK(h.blocking_join());
        auto dropped = ex.spawn(f(e));
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 1);
        dropped.abort();
        ex.run_until_idle();
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("what is no error code of the operation is still thrown") {
        test::manual_executor ex;
        auto f = []() -> task<> {
            static_cast<void>(co_await as_result(magpie::timeout(1s, fails())));
        };
        CHECK_THROWS_AS(test::run(ex, f()), std::domain_error);
        ex.without_timers();
        auto g = []() -> task<> { static_cast<void>(co_await as_result(magpie::sleep_for(1s))); };
        CHECK_THROWS_AS(test::run(ex, g()), std::logic_error);
    }

    TEST_CASE("as_result of a timeout gives errc::timed_out") {
        test::manual_executor ex;
        event e;
        auto f = [](event& ev) -> task<std::string> {
            std::string said;
            magpie::result<int> a = co_await as_result(magpie::timeout(1s, number(7)));
            said += std::to_string(*a);
            magpie::result<void> b = co_await as_result(magpie::timeout(1s, ev.wait()));
            said += b.has_error() && b.error() == magpie::errc::timed_out ? " timed_out" : " ?";
            auto late = []() -> task<int> {
                co_await magpie::sleep_for(1h);
                co_return 1;
            };
            magpie::result<int> c = co_await as_result(magpie::timeout(1s, late()));
            said += c.has_error() && c.error() == std::errc::timed_out ? " timed_out" : " ?";
            auto nothing = []() -> task<> { co_return; };
            magpie::result<void> d = co_await as_result(magpie::timeout(1s, nothing()));
            said += d.has_value() ? " done" : " ?";
            co_return said;
        };
        auto h = ex.spawn(f(e));
        ex.run_until_idle();
        ex.advance(1s);
        ex.advance(1s);
        CHECK(h.blocking_join() == "7 timed_out timed_out done");
    }

    TEST_CASE("move-only and over-aligned values come through") {
        test::manual_executor ex;
        auto make = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
        auto f = [](auto m, join_handle<std::unique_ptr<int>> h) -> task<int> {
            task_result<std::unique_ptr<int>> a = co_await as_result(m());
            task_result<std::unique_ptr<int>> b = co_await as_result(std::move(h));
            magpie::result<std::unique_ptr<int>> c = co_await as_result(magpie::timeout(1s, m()));
            co_return **a + **b + **c;
        };
        CHECK(test::run(ex, f(make, ex.spawn(make()))) == 9);
    }

    TEST_CASE("a task's frame is gone when its result is there") {
        test::trace log;
        auto f = [](test::trace& l) -> task<> {
            auto child = [](test::noisy) -> task<int> {
                throw std::runtime_error("no");
                co_return 1;
            };
            const auto r = co_await as_result(child(test::noisy(l, "parameter")));
            l.add(r.has_error() ? "error" : "value");
        };
        test::run(f(log));
        CHECK(log.text() == "parameter error");
    }

    TEST_CASE("a dropped as_result drops what it waits for") {
        test::manual_executor ex;
        event e;
        test::trace log;
        auto f = [](test::trace& l, event& ev) -> task<> {
            auto child = [](test::trace& k, event& v) -> task<> {
                const test::noisy local(k, "child");
                co_await v.wait();
            };
            const test::noisy local(l, "parent");
            static_cast<void>(co_await as_result(child(l, ev)));
        };
        auto h = ex.spawn(f(log, e));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "child parent");
    }

#if !defined(MAGPIE_TEST_SANITIZED)
    TEST_CASE(
        "CPP-08 the result form throws nothing on the way: no unwinding but the task's own throw") {
        test::manual_executor ex;
        auto cancelled = ex.spawn(number(1));
        cancelled.abort();
        auto failed = ex.spawn(fails());
        ex.run_until_idle();
        auto f = [](join_handle<int>& c, join_handle<int>& fl) -> task<int> {
            const int before = unwindings;
            const auto a = co_await as_result(c);
            const auto b = co_await as_result(fl);
            auto late = []() -> task<> { co_await magpie::sleep_for(1h); };
            const auto t = co_await as_result(magpie::timeout(0s, late()));
            const int joins = unwindings - before;
            const auto thrown = co_await as_result(fails()); // one throw of its own
            const int all = unwindings - before;
            const bool errors = a.has_error() && b.has_error() && t.has_error() && thrown.has_error();
            co_return errors ? 10 * joins + all : -1;
        };
        CHECK(test::run(ex, f(cancelled, failed)) == 1);

        // The counter counts.
        auto g = [](join_handle<int>& c) -> task<int> {
            const int before = unwindings;
            try {
                co_await c;
            } catch (const magpie::task_cancelled&) {}
            co_return unwindings - before;
        };
        auto other = ex.spawn(number(1));
        other.abort();
        ex.run_until_idle();
        CHECK(test::run(ex, g(other)) == 1);
    }
#endif
}
