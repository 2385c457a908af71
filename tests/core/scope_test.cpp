#include <magpie/core/scope.hpp>

#include <magpie/core.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/in_child.hpp>
#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::child_handle;
using magpie::clock;
using magpie::collect_all;
using magpie::fail_fast;
using magpie::first_success;
using magpie::first_success_scope;
using magpie::scope;
using magpie::scope_error;
using magpie::scope_result;
using magpie::task;
using magpie::task_scope;
using magpie::sync::event;
using test::held;
using test::noisy;
using test::trace;

namespace {

task<> add_after(clock::duration d, int n, int& sum) {
    co_await magpie::sleep_for(d);
    sum += n;
}

task<int> number_after(clock::duration d, int n) {
    co_await magpie::sleep_for(d);
    co_return n;
}

task<> fail_after(clock::duration d, std::string what) {
    co_await magpie::sleep_for(d);
    throw std::runtime_error(what);
}

task<int> fail_with(std::string what) {
    throw std::runtime_error(what);
    co_return 0;
}

/// Says when it is gone.
task<> never(trace& log, std::string name) {
    const noisy local(log, std::move(name));
    event e;
    co_await e.wait();
}

task<> wait_on(held& h, trace& log, std::string name) {
    const noisy local(log, std::move(name));
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

std::string said(const std::vector<magpie::task_failure>& failures) {
    trace words;
    for (const auto& f : failures)
        words.add(what_of(f.error));
    return words.text();
}

std::string said(const test::unhandled_log& log) {
    trace words;
    for (const auto& r : log.reports())
        words.add(r.what);
    return words.text();
}

/// What an operation throws, as words.
template <class Operation>
task<std::string> thrown_by(Operation op) {
    try {
        co_await std::move(op);
    } catch (const scope_error& e) {
        co_return "all: " + said(e.failures());
    } catch (const std::exception& e) {
        co_return e.what();
    }
    co_return "nothing";
}

} // namespace

TEST_SUITE("core.scope") {
    TEST_CASE(
        "SCOPE-01 a scope ends when its body and all its tasks have, and gives the body's value") {
        test::manual_executor ex;
        auto main = []() -> task<int> {
            int sum = 0;
            auto body = [&sum](task_scope& s) -> task<int> {
                s.spawn(add_after(20ms, 1, sum));
                s.spawn(add_after(10ms, 2, sum));
                CHECK(s.size() == 2);
                co_await magpie::sleep_for(5ms);
                co_return 100;
            };
            const int value = co_await scope(body);
            co_return value + sum;
        };
        auto h = ex.spawn(main());
        ex.advance(19ms);
        CHECK_FALSE(h.is_finished());
        ex.advance(1ms);
        REQUIRE(h.is_finished());
        CHECK(h.blocking_join() == 103);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("SCOPE-01 one whose body runs longest ends with the body, one without tasks at once") {
        test::manual_executor ex;
        auto main = []() -> task<int> {
            int sum = 0;
            auto nothing = [](task_scope&) -> task<> { co_return; };
            co_await scope(nothing);
            auto body = [&sum](task_scope& s) -> task<> {
                s.spawn(add_after(1ms, 1, sum));
                co_await magpie::sleep_for(5ms);
                CHECK(s.size() == 0);
                s.spawn(add_after(1ms, 2, sum)); // goes on after there was none
                co_await magpie::sleep_for(5ms);
            };
            co_await scope(body);
            co_return sum;
        };
        auto h = ex.spawn(main());
        ex.advance(9ms);
        CHECK_FALSE(h.is_finished());
        ex.advance(1ms);
        CHECK(h.blocking_join() == 3);
    }

    TEST_CASE("SCOPE-01 when the body throws, its tasks are dropped and gone before that is rethrown") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                s.spawn(never(l, "task"));
                co_await magpie::yield_now();
                const noisy local(l, "body");
                throw std::runtime_error("failed");
            };
            l.add(co_await thrown_by(scope(body)));
        };
        test::run(ex, main(log));
        CHECK(log.text() == "body task failed");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a body that is no coroutine may throw before it gives a task") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                s.spawn(never(l, "task"));
                throw std::runtime_error("no task");
            };
            const std::function<task<>(task_scope&)> plain = [body](task_scope& s) { return body(s); };
            l.add(co_await thrown_by(scope(plain)));
            const std::function<task<>(task_scope&)> empty = [](task_scope&) { return task<>(); };
            l.add(co_await thrown_by(scope(empty)));
            const std::function<task<>(task_scope&)> throws = [](task_scope&) -> task<> {
                throw std::runtime_error("before");
            };
            l.add(co_await thrown_by(scope(throws)));
        };
        test::run(ex, main(log));
        CHECK(log.text().starts_with("no task this task is empty")); // the first has never started
        CHECK(log.text().ends_with("before"));
    }

    TEST_CASE(
        "SCOPE-02 the first failure drops the others and the body, and is rethrown when all are gone") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                const noisy local(l, "body");
                s.spawn(never(l, "a"));
                s.spawn(fail_after(10ms, "first"));
                s.spawn(never(l, "b"));
                event e;
                co_await e.wait();
                l.add("not dropped");
            };
            l.add(co_await thrown_by(scope(body)));
        };
        auto h = ex.spawn(main(log));
        ex.advance(9ms);
        CHECK(log.text().empty());
        ex.advance(1ms);
        CHECK(h.is_finished());
        // The body's locals are destroyed last: tasks that it has waited for may have used them.
        CHECK((log.text() == "a b body first" || log.text() == "b a body first"));
        CHECK(unhandled.count() == 0);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("SCOPE-02 the type of the first failure can be caught; others go to the unhandled hook") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        bool caught = false;
        auto main = [](bool& c) -> task<> {
            auto fail = []() -> task<> {
                throw std::system_error(std::make_error_code(std::errc::timed_out));
                co_return;
            };
            auto fails_when_dropped = []() -> task<> {
                const test::throws_at_end local("second");
                event e;
                co_await e.wait();
            };
            auto body = [&](task_scope& s) -> task<> {
                s.spawn("loser", fails_when_dropped());
                s.spawn(fail());
                event e;
                co_await e.wait();
            };
            try {
                co_await scope(body);
            } catch (const std::system_error& e) {
                c = e.code() == std::errc::timed_out;
            }
        };
        test::run(ex, main(caught));
        CHECK(caught);
        CHECK(said(unhandled) == "second");
        CHECK(unhandled.reports().at(0).task_name == "loser");
    }

    TEST_CASE("SCOPE-02 as_result has the first failure, and the others with who they were") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        auto main = []() -> task<> {
            auto fails_when_dropped = [](std::string what) -> task<> {
                const test::throws_at_end local(what.c_str());
                event e;
                co_await e.wait();
            };
            auto body = [&](task_scope& s) -> task<> {
                s.spawn("loser", fails_when_dropped("second"));
                s.spawn("cause", fail_after(1ms, "first"));
                const test::throws_at_end local("of the body");
                event e;
                co_await e.wait();
            };
            const scope_result<void> r = co_await as_result(scope(body));
            REQUIRE(r.has_error());
            CHECK(what_of(r.error()) == "first");
            REQUIRE(r.failures().size() == 2);
            CHECK(said(r.failures()) == "first second");
            CHECK(r.failures()[0].task_name == "cause");
            CHECK(r.failures()[0].task_id != 0);
            CHECK(r.failures()[0].task_id != r.failures()[1].task_id);
            CHECK(r.failures()[1].task_name == "loser");
            CHECK(std::string(r.failures()[1].where.file_name()).ends_with("scope_test.cpp"));
        };
        auto h = ex.spawn(main());
        ex.advance(1ms);
        h.blocking_join();
        CHECK(said(unhandled) == "of the body"); // a destructor's: the scope had its cause already
    }

    TEST_CASE("as_result of a scope that is well has the value, and no failures") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            int sum = 0;
            auto body = [&sum](task_scope& s) -> task<std::string> {
                s.spawn(add_after(0ms, 1, sum));
                co_return "well";
            };
            const scope_result<std::string> r = co_await as_result(scope(body));
            REQUIRE(r.has_value());
            CHECK(*r == "well");
            CHECK(r.failures().empty());
            const scope_result<std::string> all = co_await as_result(scope(collect_all, body));
            CHECK(all.value() == "well");
            CHECK(sum == 2);
        };
        test::run(ex, main());
    }

    TEST_CASE("SCOPE-02 a failure while the body starts keeps it from going on") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                s.spawn(fail_after(0ms, "failed"));
                l.add("waits");
                co_await magpie::yield_now();
                co_await magpie::yield_now();
                co_await magpie::yield_now();
                l.add("goes on");
            };
            l.add(co_await thrown_by(scope(body)));
        };
        test::run(ex, main(log));
        CHECK(log.text() == "waits failed");
    }

    TEST_CASE(
        "SCOPE-02 a body that is in somebody's hand when it is dropped goes when it has surfaced") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto main = [](held& h, trace& l) -> task<> {
            auto body = [&](task_scope& s) -> task<> {
                s.spawn(fail_after(1ms, "failed"));
                s.spawn(never(l, "task"));
                co_await wait_on(h, l, "body");
            };
            l.add(co_await thrown_by(scope(body)));
        };
        auto h = ex.spawn(main(in_hand, log));
        ex.advance(1ms);
        CHECK(log.text() == "task");
        CHECK_FALSE(h.is_finished());
        in_hand.release();
        ex.run_until_idle();
        CHECK(log.text() == "task body failed");
        CHECK(h.is_finished());
    }

    TEST_CASE(
        "SCOPE-02 a task in somebody's hand holds the scope, and the body's frame, until it has gone") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto main = [](held& h, trace& l) -> task<> {
            auto body = [&](task_scope& s) -> task<> {
                const noisy local(l, "body");
                s.spawn(wait_on(h, l, "task"));
                s.spawn(fail_after(1ms, "failed"));
                event e;
                co_await e.wait();
            };
            l.add(co_await thrown_by(scope(body)));
        };
        auto h = ex.spawn(main(in_hand, log));
        ex.advance(1ms);
        CHECK(log.text().empty());
        SUBCASE("and then goes on") {
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "task body failed");
        }
        SUBCASE("also when the task that awaits it is dropped meanwhile") {
            const test::unhandled_log unhandled(ex);
            h.abort();
            ex.run_until_idle();
            CHECK(log.text().empty());
            CHECK_FALSE(h.is_finished());
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "task body");
            CHECK(test::outcome_of(h) == "cancelled");
            CHECK(said(unhandled) == "failed"); // nobody has received it
        }
        CHECK(ex.live() == 0);
    }

    TEST_CASE(
        "SCOPE-03 collect_all runs every task to its end, and reports every failure with its task") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        int sum = 0;
        auto main = [](int& n) -> task<> {
            const auto here = std::source_location::current();
            auto body = [&n](task_scope& s) -> task<> {
                s.spawn("a", fail_after(2ms, "second"));
                s.spawn("b", fail_after(1ms, "first"));
                s.spawn(add_after(3ms, 1, n));
                co_await magpie::sleep_for(1500us);
                throw std::runtime_error("body");
            };
            try {
                co_await scope(collect_all, body);
            } catch (const scope_error& e) {
                REQUIRE(e.failures().size() == 3);
                CHECK(e.failures()[0].task_name == "b");
                CHECK(e.failures()[0].where.line() == here.line() + 3);
                const std::string text = e.what();
                CHECK(text.starts_with("3 tasks of the scope have failed: task "));
                CHECK(text.find("\"b\", spawned at ") != std::string::npos);
                CHECK(text.find("scope_test.cpp:" + std::to_string(here.line() + 3) +
                                ": first; task ") != std::string::npos);
                throw std::runtime_error(said(e.failures()));
            }
        };
        auto h = ex.spawn(main(sum));
        ex.advance(2ms);
        CHECK_FALSE(h.is_finished());
        ex.advance(1ms);
        CHECK(test::outcome_of(h) == "first body second");
        CHECK(sum == 1);
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("SCOPE-03 as_result of a scope that collects all") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            auto body = [](task_scope& s) -> task<int> {
                s.spawn(fail_with("one"));
                s.spawn(fail_with("two"));
                co_return 5;
            };
            const scope_result<int> r = co_await as_result(scope(collect_all, body));
            REQUIRE(r.has_error());
            CHECK_THROWS_AS(std::rethrow_exception(r.error()), scope_error);
            CHECK(said(r.failures()) == "one two");
        };
        test::run(ex, main());
    }

    TEST_CASE("SCOPE-04 dropping the task that awaits a scope drops all below it, and waits") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto main = [](held& h, trace& l) -> task<> {
            const noisy local(l, "parent");
            auto inner = [&](task_scope& s) -> task<> {
                s.spawn(wait_on(h, l, "grandchild"));
                s.spawn(never(l, "a"));
                co_return;
            };
            auto child = [&]() -> task<> {
                const noisy mine(l, "child");
                co_await scope(inner);
            };
            auto outer = [&](task_scope& s) -> task<> {
                s.spawn(child());
                s.spawn(never(l, "b"));
                co_await never(l, "body");
            };
            co_await scope(outer);
        };
        auto h = ex.spawn(main(in_hand, log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK((log.text() == "a b" || log.text() == "b a"));
        CHECK_FALSE(h.is_finished());
        in_hand.release();
        ex.run_until_idle();
        CHECK(log.take().substr(3) == " grandchild child body parent");
        CHECK(test::outcome_of(h) == "cancelled");
        CHECK(ex.live() == 0);
    }

    TEST_CASE(
        "a dropped body holds what it has until its tasks are gone, shields with their limits, too") {
        /// What has to be given back by waiting for it first.
        class permit {
        public:
            explicit permit(test::permits& p) : from_(p) {}
            permit(const permit&) = delete;
            ~permit() { from_.add(); }

        private:
            test::permits& from_;
        };
        test::manual_executor ex;
        test::permits one;
        one.add();
        trace log;
        auto main = [](test::permits& p, trace& l) -> task<> {
            auto cleanup = [](test::permits& from, trace& words) -> task<> {
                const noisy local(words, "cleanup");
                co_await from.take();
                words.add("not reached: the body has it");
            };
            auto child = [](auto clean, test::permits& from, trace& words) -> task<> {
                co_await magpie::shield(5ms, clean(from, words));
            };
            auto body = [&](task_scope& s) -> task<> {
                co_await p.take();
                const permit mine(p);
                const noisy local(l, "body");
                s.spawn(child(cleanup, p, l));
                event e;
                co_await e.wait();
            };
            co_await scope(body);
        };
        auto h = ex.spawn(main(one, log));
        ex.run_until_idle();
        h.abort();
        ex.advance(4ms);
        CHECK(log.text().empty());
        ex.advance(1ms);
        CHECK(log.text() == "cleanup body");
        CHECK(test::outcome_of(h) == "cancelled");
        CHECK(one.left() == 1);
    }

    TEST_CASE("SCOPE-04 a scope below a timeout or a select is dropped with its tasks, and gone") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                s.spawn(never(l, "task"));
                co_await never(l, "body");
            };
            const bool in_time = co_await magpie::timeout(1ms, scope(body));
            l.add(in_time ? "in time" : "late");
            auto won = co_await magpie::select(scope(body), magpie::sleep_for(1ms));
            l.add(std::to_string(won.index()));
        };
        auto h = ex.spawn(main(log));
        ex.advance(2ms);
        CHECK(h.is_finished());
        CHECK(log.text() == "task body late task body 1");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a scope that has ended and lost is taken apart, and its failure reported") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        auto main = []() -> task<> {
            auto well = [](task_scope& s) -> task<int> {
                s.spawn(number_after(1ms, 1));
                co_return 1;
            };
            auto fails = [](task_scope& s) -> task<int> {
                s.spawn(fail_after(1ms, "failed"));
                co_return 1;
            };
            auto won = co_await magpie::select(magpie::sleep_for(1ms), scope(well), scope(fails));
            static_cast<void>(won.index());
        };
        auto h = ex.spawn(main());
        ex.advance(1ms);
        CHECK(h.is_finished());
        CHECK(ex.live() == 0);
        CHECK(unhandled.count() <= 1);
    }

    TEST_CASE("SCOPE-04 at the end of the runtime, scopes are dropped like everything else") {
        trace log;
        {
            test::manual_executor ex;
            auto main = [](trace& l) -> task<> {
                auto body = [&l](task_scope& s) -> task<> {
                    s.spawn(never(l, "task"));
                    co_await never(l, "body");
                };
                co_await scope(body);
            };
            ex.spawn(main(log)).detach();
            ex.run_until_idle();
        }
        CHECK(log.text() == "task body");
    }

    TEST_CASE(
        "SCOPE-05 tasks refer to the parent's locals, which outlive them by whatever way it ends") {
        test::manual_executor ex;
        trace log;
        struct checked {
            trace* l;
            int users = 0;
            ~checked() { l->add(users == 0 ? "unused" : "used"); }
        };
        auto use = [](checked& c) -> task<> {
            struct counted {
                int* n;
                ~counted() { --*n; }
            };
            ++c.users;
            const counted at_end{&c.users};
            event e;
            co_await e.wait();
        };
        SUBCASE("a failure") {
            auto main = [](trace& l, auto child) -> task<> {
                checked local{&l};
                auto body = [&](task_scope& s) -> task<> {
                    for (int i = 0; i < 5; ++i)
                        s.spawn(child(local));
                    s.spawn(fail_after(1ms, "failed"));
                    co_return;
                };
                l.add(co_await thrown_by(scope(body)));
            };
            auto h = ex.spawn(main(log, use));
            ex.advance(1ms);
            CHECK(log.text() == "failed unused");
        }
        SUBCASE("an abort") {
            auto main = [](trace& l, auto child) -> task<> {
                checked local{&l};
                auto body = [&](task_scope& s) -> task<> {
                    for (int i = 0; i < 5; ++i)
                        s.spawn(child(local));
                    co_return;
                };
                co_await scope(body);
            };
            auto h = ex.spawn(main(log, use));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "unused");
        }
        SUBCASE("a body that waits for a task, and is dropped, keeps its own as well") {
            auto main = [](trace& l, auto child) -> task<> {
                auto body = [&](task_scope& s) -> task<> {
                    checked of_the_body{&l};
                    auto h = s.spawn(child(of_the_body));
                    co_await h;
                };
                co_await scope(body);
            };
            auto h = ex.spawn(main(log, use));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "unused");
        }
        CHECK(ex.live() == 0);
    }

    TEST_CASE(
        "SCOPE-05 a task's value is destroyed before the scope is left, unless its handle has it") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto give = [&l](std::string name) -> task<noisy> { co_return noisy(l, std::move(name)); };
            magpie::abort_handle kept;
            std::optional<child_handle<noisy>> h;
            auto body = [&](task_scope& s) -> task<> {
                auto dropped = s.spawn(give("dropped"));
                kept = dropped.abort_handle();
                h.emplace(s.spawn(give("later")));
                co_return;
            };
            co_await scope(body);
            l.add("left");
            co_await *h;
            h.reset();
            l.add("end");
        };
        test::run(ex, main(log));
        CHECK(log.text() == "dropped left later end");
    }

    TEST_CASE("a handle gives the task's value, and may be waited for again after it has lost") {
        test::manual_executor ex;
        auto main = []() -> task<int> {
            auto body = [](task_scope& s) -> task<int> {
                child_handle<int> slow = s.spawn(number_after(10ms, 7));
                CHECK(slow.id() != 0);
                auto won = co_await magpie::select(slow, magpie::sleep_for(1ms));
                CHECK(won.index() == 1);
                CHECK_FALSE(slow.is_finished());
                const int value = co_await slow;
                CHECK_THROWS_AS(co_await slow, std::logic_error);
                co_return value;
            };
            co_return co_await scope(body);
        };
        auto h = ex.spawn(main());
        ex.advance(10ms);
        CHECK(h.blocking_join() == 7);
    }

    TEST_CASE("a task that was aborted alone has not failed") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<> {
                auto h = s.spawn(never(l, "gone"));
                co_await magpie::yield_now();
                h.abort();
                const auto r = co_await as_result(h);
                CHECK_THROWS_AS(std::rethrow_exception(r.error()), magpie::task_cancelled);
            };
            co_await scope(body);
            l.add("well");
        };
        test::run(ex, main(log));
        CHECK(log.text() == "gone well");
    }

    TEST_CASE(
        "a failure that also came through a handle is one failure; a discarded handle loses none") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        auto main = []() -> task<> {
            auto awaits = [](task_scope& s) -> task<> { co_await s.spawn(fail_with("one")); };
            CHECK(co_await thrown_by(scope(awaits)) == "one");
            CHECK(co_await thrown_by(scope(collect_all, awaits)) == "all: one");
            auto catches = [](task_scope& s) -> task<> {
                auto h = s.spawn(fail_with("caught"));
                const auto r = co_await as_result(h);
                CHECK(r.has_error());
            };
            CHECK(co_await thrown_by(scope(collect_all, catches)) == "all: caught");
            auto discards = [](task_scope& s) -> task<> {
                s.spawn(fail_with("dropped"));
                co_return;
            };
            CHECK(co_await thrown_by(scope(discards)) == "dropped");
        };
        test::run(ex, main());
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("first_success gives the first value, and the others and the body are gone") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto main = [](trace& l) -> task<int> {
            auto slow = [&l]() -> task<int> {
                co_await never(l, "slow");
                co_return 0;
            };
            auto body = [&](first_success_scope<int>& s) -> task<> {
                s.spawn("bad", fail_with("ignored"));
                s.spawn(slow());
                s.spawn(number_after(2ms, 2));
                s.spawn(number_after(1ms, 1));
                co_await never(l, "body");
            };
            co_return co_await scope(first_success<int>, body);
        };
        auto h = ex.spawn(main(log));
        ex.advance(1ms);
        CHECK(h.blocking_join() == 1);
        CHECK(log.text() == "slow body");
        CHECK(unhandled.count() == 0);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("first_success without one throws all failures; a body that fails ends it") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        auto main = []() -> task<> {
            auto all_fail = [](first_success_scope<int>& s) -> task<> {
                s.spawn(fail_with("one"));
                const magpie::abort_handle second = co_await s.spawn_when_free(fail_with("two"));
                static_cast<void>(second.id());
                static_cast<void>(co_await s.spawn_when_free("third", fail_with("three")));
                auto fourth = [] { return fail_with("four"); };
                static_cast<void>(co_await s.spawn_when_free(fourth));
            };
            CHECK(co_await thrown_by(scope(first_success<int>, all_fail)) == "all: one two three four");
            auto none = [](first_success_scope<int>&) -> task<> { co_return; };
            CHECK(co_await thrown_by(scope(first_success<int>, none)) == "all: ");
            auto bad_body = [](first_success_scope<int>& s) -> task<> {
                s.spawn(number_after(1ms, 1));
                throw std::runtime_error("body");
                co_return;
            };
            CHECK(co_await thrown_by(scope(first_success<int>, bad_body)) == "body");

            auto mixed = [](first_success_scope<int>& s) -> task<> {
                s.spawn(fail_with("one"));
                co_await magpie::yield_now();
                s.spawn(number_after(0ms, 2));
            };
            const scope_result<int> r = co_await as_result(scope(first_success<int>, mixed));
            REQUIRE(r.has_value());
            CHECK(*r == 2);
            CHECK(said(r.failures()) == "one");
            const scope_result<int> failed = co_await as_result(scope(first_success<int>, all_fail));
            CHECK(failed.has_error());
            CHECK(said(failed.failures()) == "one two three four");
        };
        test::run(ex, main());
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("first_success of void, of references, and of what can only be moved") {
        test::manual_executor ex;
        int n = 5;
        auto main = [](int& number) -> task<> {
            auto nothing = [](first_success_scope<void>& s) -> task<> {
                s.spawn([]() -> task<> { co_return; });
                co_return;
            };
            co_await scope(first_success<void>, nothing);
            auto reference = [&number](first_success_scope<int&>& s) -> task<> {
                s.spawn([](int& i) -> task<int&> { co_return i; }(number));
                co_return;
            };
            int& given = co_await scope(first_success<int&>, reference);
            CHECK(&given == &number);
            auto moved = [](first_success_scope<std::unique_ptr<int>>& s) -> task<> {
                s.spawn("named",
                        []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(6); }());
                co_return;
            };
            const std::unique_ptr<int> six = co_await scope(first_success<std::unique_ptr<int>>, moved);
            CHECK(*six == 6);
        };
        test::run(ex, main(n));
    }

    TEST_CASE("SCOPE-06 in a scope with a limit a spawn waits for a place, in order") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            std::size_t most = 0;
            auto work = [&l](task_scope& s, std::size_t& m, int n) -> task<> {
                m = std::max(m, s.size());
                co_await magpie::sleep_for(10ms);
                l.add(std::to_string(n));
            };
            auto body = [&](task_scope& s) -> task<> {
                for (int n = 1; n <= 5; ++n) {
                    const child_handle<> h = co_await s.spawn_when_free(work(s, most, n));
                    l.add("+");
                    CHECK(h.id() != 0);
                }
            };
            co_await scope(fail_fast.limit(2), body);
            CHECK(most == 2);
        };
        auto h = ex.spawn(main(log));
        ex.advance(10ms);
        CHECK(log.text() == "+ + 1 + 2 +");
        ex.advance(20ms);
        CHECK(log.text() == "+ + 1 + 2 + 3 + 4 5");
        CHECK(h.is_finished());
    }

    TEST_CASE("SCOPE-06 a wait for a place that is dropped leaks none") {
        test::manual_executor ex;
        int ran = 0;
        auto main = [](int& n) -> task<> {
            auto body = [&n](task_scope& s) -> task<> {
                s.spawn(add_after(10ms, 1, n));
                for (int i = 0; i < 3; ++i) {
                    auto in_time = co_await magpie::timeout(1ms,
                                                            s.spawn_when_free(add_after(0ms, 100, n)));
                    CHECK_FALSE(in_time.has_value());
                }
                co_await magpie::sleep_for(7ms); // until the moment in which the place is free
                for (int i = 0; i < 3; ++i)
                    static_cast<void>(co_await s.spawn_when_free(add_after(1ms, 10, n)));
            };
            co_await scope(fail_fast.limit(1), body);
        };
        auto h = ex.spawn(main(ran));
        ex.advance(13ms);
        CHECK(h.is_finished());
        CHECK(ran == 31);
    }

    TEST_CASE("SCOPE-06 a place that was given to a wait that is dropped goes to the next") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            event stop;
            auto quick = [](event& e) -> task<> {
                e.set();
                co_return;
            };
            auto first = [&](task_scope& s) -> task<> {
                // Loses in the turn in which it is given the place: the event opens before the end of
                // the task that had it.
                auto won = co_await magpie::select_biased(stop.wait(),
                                                          s.spawn_when_free(never(l, "never")));
                l.add(won.index() == 0 ? "lost" : "won");
            };
            auto second = [&](task_scope& s) -> task<> {
                auto runs = [&l]() -> task<> {
                    l.add("ran");
                    co_return;
                };
                static_cast<void>(co_await s.spawn_when_free(runs));
            };
            auto body = [&](task_scope& s) -> task<> {
                static_cast<void>(co_await s.spawn_when_free(quick(stop)));
                co_await magpie::join(first(s), second(s));
            };
            co_await scope(fail_fast.limit(1), body);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "lost ran");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("SCOPE-06 stopping a scope with waits for places ends them all") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto spawner = [&l](task_scope& s) -> task<> {
                const noisy local(l, "waits");
                static_cast<void>(co_await s.spawn_when_free(never(l, "not spawned")));
            };
            auto body = [&](task_scope& s) -> task<> {
                s.spawn(never(l, "task"));
                s.spawn(spawner(s)); // takes a place that there is not
                co_await spawner(s);
            };
            co_await scope(collect_all.limit(1), body);
        };
        auto h = ex.spawn(main(log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(ex.live() == 0);
        CHECK(log.text().find("not spawned") == std::string::npos);
    }

    TEST_CASE("SCOPE-07 tasks and branches spawn into the scope while its end is awaited") {
        test::manual_executor ex;
        int ran = 0;
        auto main = [](int& n) -> task<> {
            std::function<task<>(task_scope&, int)> tree = [&](task_scope& s, int depth) -> task<> {
                ++n;
                co_await magpie::yield_now();
                if (depth > 0) {
                    s.spawn(tree(s, depth - 1));
                    s.spawn(tree(s, depth - 1));
                }
            };
            auto branch = [&](task_scope& s) -> task<> {
                co_await magpie::yield_now();
                s.spawn(tree(s, 3));
            };
            auto body = [&](task_scope& s) -> task<> { co_await magpie::join(branch(s), branch(s)); };
            co_await scope(body);
        };
        test::run(ex, main(ran));
        CHECK(ran == 30);
    }

    TEST_CASE("abort_all drops the tasks, and takes no more; the body goes on") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto body = [&l](task_scope& s) -> task<int> {
                s.spawn(never(l, "a"));
                s.spawn(never(l, "b"));
                co_await magpie::yield_now();
                s.abort_all();
                s.abort_all();
                auto late = s.spawn(never(l, "late")); // destroyed at once: it never started
                CHECK(late.is_finished());
                const auto r = co_await as_result(late);
                CHECK_THROWS_AS(std::rethrow_exception(r.error()), magpie::task_cancelled);
                co_return 3;
            };
            const int n = co_await scope(body);
            l.add(std::to_string(n));
        };
        test::run(ex, main(log));
        CHECK((log.text() == "a b 3" || log.text() == "b a 3"));
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a task that aborts all is dropped with them") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto ends_it = [&l](task_scope& s) -> task<> {
                const noisy local(l, "me");
                s.abort_all();
                l.add("asked");
                co_await magpie::yield_now();
                l.add("goes on");
            };
            auto body = [&](task_scope& s) -> task<> {
                s.spawn(ends_it(s));
                co_return;
            };
            co_await scope(body);
            l.add("left");
        };
        test::run(ex, main(log));
        CHECK(log.text() == "asked me left");
    }

    TEST_CASE("what is spawned while the scope is dropped is destroyed at once, with its parameters") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            class spawner {
            public:
                spawner(task_scope& s, trace& t) : scope_(s), log_(t) {}
                spawner(const spawner&) = delete;
                ~spawner() {
                    auto takes = [](noisy) -> task<> { co_return; };
                    const auto h = scope_.spawn(takes(noisy(log_, "parameter")));
                    log_.add(h.is_finished() ? "refused" : "spawned");
                }

            private:
                task_scope& scope_;
                trace& log_;
            };
            auto child = [&l](task_scope& s) -> task<> {
                const spawner at_end(s, l);
                event e;
                co_await e.wait();
            };
            auto body = [&](task_scope& s) -> task<> {
                s.spawn(child(s));
                co_return;
            };
            co_await scope(body);
        };
        auto h = ex.spawn(main(log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "parameter refused");
        CHECK(h.is_finished());
        CHECK(ex.live() == 0);
    }

    TEST_CASE("spawning into a closed runtime is counted out again") {
        trace log;
        {
            test::manual_executor ex;
            auto child = [](trace& l, noisy) -> task<> {
                l.add("ran");
                co_return;
            };
            class spawner {
            public:
                explicit spawner(std::function<void()> f) : f_(std::move(f)) {}
                spawner(const spawner&) = delete;
                ~spawner() { f_(); }

            private:
                std::function<void()> f_;
            };
            auto main = [](trace& l, auto make) -> task<> {
                auto body = [&](task_scope& s) -> task<> {
                    const spawner at_end([&] { s.spawn(make(l, noisy(l, "parameter"))); });
                    event e;
                    co_await e.wait();
                };
                co_await scope(body);
            };
            ex.spawn(main(log, child)).detach();
            ex.run_until_idle();
        }
        CHECK(log.text() == "parameter");
    }

    TEST_CASE("a finished scope that still stands takes no more") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            task_scope* leaked = nullptr;
            auto body = [&](task_scope& s) -> task<int> {
                leaked = &s;
                co_return 1;
            };
            auto late = [&](int) {
                auto takes = [](noisy) -> task<> { co_return; };
                l.add(leaked->spawn(takes(noisy(l, "parameter"))).is_finished() ? "refused"
                                                                                : "spawned");
            };
            late(co_await scope(body)); // the operation lives until the end of this line
        };
        test::run(ex, main(log));
        CHECK(log.text() == "parameter refused");
    }

    TEST_CASE("misuse is a logic_error: a limit of 0, a second await, an empty task") {
        CHECK_THROWS_WITH_AS(static_cast<void>(fail_fast.limit(0)),
                             "a scope with a limit of 0 would never run a task: give it 1 or more",
                             std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(first_success<int>.limit(0)), std::logic_error);
        test::manual_executor ex;
        auto main = []() -> task<> {
            auto body = [](task_scope& s) -> task<> {
                CHECK_THROWS_AS(s.spawn(task<>()), std::logic_error);
                CHECK_THROWS_AS(static_cast<void>(co_await s.spawn_when_free(task<>())),
                                std::logic_error);
                static_cast<void>(
                    co_await s.spawn_when_free(number_after(0ms, 1))); // the place is free
            };
            auto once = scope(collect_all.limit(1), body);
            co_await once;
            CHECK_THROWS_WITH_AS(co_await once,
                                 "this scope was awaited before: make a new one for each wait",
                                 std::logic_error);
        };
        test::run(ex, main());
    }

    TEST_CASE("a scope that is destroyed with tasks in it ends the program") {
        CHECK_FALSE(test::survives([] {
            magpie::detail::scope_state state(magpie::detail::scope_rule::fail_fast, 1);
            magpie::detail::scope_member m;
            return state.enter(m, false);
        }));
    }

    TEST_CASE("a turn without budget begins the scope in the next one") {
        test::manual_executor ex(1);
        trace log;
        auto main = [](trace& l) -> task<> {
            co_await magpie::consume_budget();
            auto body = [&l](task_scope& s) -> task<> {
                s.spawn([&l]() -> task<> {
                    l.add("task");
                    co_return;
                });
                co_await magpie::yield_now();
                l.add("body");
            };
            co_await scope(body);
            co_await scope(body);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "task body task body");
    }

#if !defined(MAGPIE_LOCK_TRACE) // with which all of it is larger
    TEST_CASE("a child is a cell of 192 bytes, and a scope needs no memory but the body's frame") {
        CHECK(sizeof(magpie::detail::scope_cell<void>) <= 192);
        CHECK(sizeof(magpie::detail::scope_cell<std::string>) <= 256);
    }
#endif

    TEST_CASE("10,000 tasks at a time, aborted at once") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            int n = 0;
            auto body = [&n](task_scope& s) -> task<> {
                for (int i = 0; i < 10'000; ++i)
                    s.spawn(add_after(1h, 1, n));
                s.spawn(fail_after(1ms, "failed"));
                co_return;
            };
            CHECK(co_await thrown_by(scope(body)) == "failed");
            CHECK(n == 0);
        };
        auto h = ex.spawn(main());
        ex.advance(1ms);
        CHECK(h.is_finished());
        CHECK(ex.live() == 0);
    }
}
