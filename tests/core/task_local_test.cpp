#include <magpie/core/task_local.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::inherit;
using magpie::task;
using magpie::task_local;
using magpie::sync::event;
using test::counted;
using test::held;
using test::trace;

namespace {

constinit const task_local<int> number;
constinit const task_local<std::string> word;
constinit const task_local<int, inherit::by_spawn> passed_on;
constinit const task_local<counted, inherit::by_spawn> counted_key;

/// The values that are in force, as text: a plain function sees them.
std::string seen() {
    const int* const n = number.try_get();
    const int* const p = passed_on.try_get();
    return (n != nullptr ? std::to_string(*n) : "-") + "/" + (p != nullptr ? std::to_string(*p) : "-");
}

task<std::string> what_is_seen() { co_return seen(); }

/// Says when it is destroyed what is in force then.
class says_what_it_sees {
public:
    says_what_it_sees(trace& t, std::string name) : trace_(&t), name_(std::move(name)) {}
    says_what_it_sees(says_what_it_sees&& o) noexcept
        : trace_(std::exchange(o.trace_, nullptr)), name_(std::move(o.name_)) {}
    says_what_it_sees& operator=(says_what_it_sees&&) = delete;
    ~says_what_it_sees() {
        if (trace_ != nullptr)
            trace_->add(name_ + "=" + seen());
    }

private:
    trace* trace_;
    std::string name_;
};

task<> waits(trace& log, event& e, says_what_it_sees) {
    const says_what_it_sees local(log, "local");
    co_await e.wait();
}

task<> logs_and_waits(trace& log, event& e, std::string name) {
    log.add(name + "=" + seen());
    co_await e.wait();
    log.add(name + "=" + seen());
}

} // namespace

TEST_SUITE("core.task_local") {
    TEST_CASE("TASK-LOCAL-01 a value is seen in what is awaited with it, and nowhere else") {
        auto f = []() -> task<std::string> {
            std::string log = seen();
            log += " " + co_await number.with(1, what_is_seen());
            log += " " + seen();
            co_return log;
        };
        CHECK(test::run(f()) == "-/- 1/- -/-");
    }

    TEST_CASE("TASK-LOCAL-01 the value of a nested scope hides the outer one, of its key alone") {
        auto inner = []() -> task<std::string> {
            std::string log = seen();
            log += " " + co_await number.with(2, what_is_seen());
            log += " " + co_await passed_on.with(7, number.with(3, what_is_seen()));
            log += " " + co_await passed_on.with(7, passed_on.with(8, what_is_seen()));
            log += " " + seen();
            co_return log;
        };
        auto f = [&]() -> task<std::string> { co_return co_await number.with(1, inner()); };
        CHECK(test::run(f()) == "1/- 2/- 3/7 1/8 1/-");
    }

    TEST_CASE("TASK-LOCAL-01 siblings do not see it, while they take turns") {
        test::manual_executor ex;
        event a;
        event b;
        event c;
        trace log;
        auto f = [&]() -> task<> {
            co_await magpie::join(number.with(1, logs_and_waits(log, a, "a")),
                                  logs_and_waits(log, b, "b"),
                                  number.with(3, passed_on.with(4, logs_and_waits(log, c, "c"))));
            log.add(seen());
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        b.set();
        ex.run_until_idle();
        c.set();
        a.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "a=1/- b=-/- c=3/4 b=-/- c=3/4 a=1/- -/-");
    }

    TEST_CASE(
        "a value stays in force over suspensions, in tasks awaited below and in every composite") {
        auto deep = [](auto self, int depth) -> task<std::string> {
            co_await magpie::yield_now();
            if (depth > 0)
                co_return co_await self(self, depth - 1);
            co_return seen();
        };
        auto inner = [&]() -> task<std::string> {
            std::string log = co_await deep(deep, 3);
            const auto both = co_await magpie::join(deep(deep, 1), what_is_seen());
            log += " " + std::get<0>(both) + " " + std::get<1>(both);
            const auto won = co_await magpie::select(deep(deep, 0));
            log += " " + won.get<0>();
            log += " " + (co_await magpie::timeout(1h, deep(deep, 2))).value_or("late");
            log += " " + co_await magpie::unconstrained(deep(deep, 1));
            log += " " + (co_await magpie::as_result(deep(deep, 1))).value();
            log += " " + seen();
            co_return log;
        };
        auto f = [&]() -> task<std::string> {
            std::string log = co_await number.with(1, inner());
            log += " " + seen();
            co_return log;
        };
        CHECK(test::run(f()) == "1/- 1/- 1/- 1/- 1/- 1/- 1/- 1/- -/-");
    }

    TEST_CASE("who awaits goes on without the value when a composite below has ended") {
        // The last resumed branch has it: the join's awaiter must not take that over.
        test::manual_executor ex;
        event e;
        trace log;
        auto f = [&]() -> task<> {
            co_await magpie::join(magpie::yield_now(), number.with(1, logs_and_waits(log, e, "a")));
            log.add(seen());
            auto won = co_await magpie::select(number.with(2, magpie::timeout(1s, e.wait())));
            log.add(seen());
            CHECK(won.index() == 0);
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "a=1/- a=1/- -/- -/-");
    }

    TEST_CASE("tasks do not see each other's values, whoever runs in between") {
        test::manual_executor ex;
        auto yields = [](int n) -> task<bool> {
            bool right = true;
            for (int i = 0; i < 50; ++i) {
                right = right && number.get() == n;
                co_await magpie::yield_now();
            }
            co_return right;
        };
        auto f = [&](int n) -> task<bool> { co_return co_await number.with(n, yields(n)); };
        std::vector<magpie::join_handle<bool>> all;
        for (int n = 0; n < 10; ++n)
            all.push_back(ex.spawn(f(n)));
        ex.run_until_idle();
        for (auto& h : all)
            CHECK(h.blocking_join());
    }

    TEST_CASE("TASK-LOCAL-02 destructors see it when the task is aborted") {
        test::manual_executor ex;
        event e;
        trace log;
        auto f = [&]() -> task<> {
            const says_what_it_sees outer(log, "outer");
            co_await number.with(1, waits(log, e, says_what_it_sees(log, "parameter")));
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "local=1/- parameter=1/- outer=-/-");
    }

    TEST_CASE("TASK-LOCAL-02 destructors see it when a branch is dropped, also if its wake is coming") {
        test::manual_executor ex;
        held in_hand;
        event e;
        trace log;
        auto f = [&]() -> task<> {
            auto body = [](trace& t, held& h) -> task<> {
                const says_what_it_sees local(t, "local");
                co_await magpie::join(h.wait(), magpie::yield_now());
            };
            co_await magpie::select(e.wait(), passed_on.with(2, number.with(1, body(log, in_hand))));
            log.add("after=" + seen());
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        CHECK(log.text().empty());
        in_hand.release();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "local=1/2 after=-/-");
    }

    TEST_CASE("TASK-LOCAL-02 destructors see it when the body ends, by a value and by an exception") {
        test::manual_executor ex;
        event e;
        e.set();
        trace log;
        auto fails = [](trace& t, says_what_it_sees) -> task<> {
            const says_what_it_sees local(t, "local");
            throw std::runtime_error("failed");
            co_return;
        };
        auto f = [&]() -> task<> {
            co_await number.with(1, waits(log, e, says_what_it_sees(log, "parameter")));
            co_await number.with(2, fails(log, says_what_it_sees(log, "parameter")));
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(test::outcome_of(h) == "failed");
        CHECK(log.text() == "local=1/- parameter=1/- local=2/- parameter=2/-");
    }

    TEST_CASE(
        "TASK-LOCAL-02 destructors see it when a branch of a join ends, and when the join is dropped") {
        test::manual_executor ex;
        event never;
        event now;
        now.set();
        trace log;
        auto f = [&]() -> task<> {
            const says_what_it_sees outer(log, "outer");
            co_await magpie::join(number.with(1, waits(log, now, says_what_it_sees(log, "a"))),
                                  number.with(2, waits(log, never, says_what_it_sees(log, "b"))));
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(log.take() == "local=1/- a=1/-");
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "local=2/- b=2/- outer=-/-");
    }

    TEST_CASE("TASK-LOCAL-02 a spawned task's destructors see what it has inherited, in the end") {
        trace log;
        test::manual_executor ex;
        event e;
        std::vector<magpie::join_handle<>> children;
        auto f = [&]() -> task<> {
            children.push_back(magpie::spawn(waits(log, e, says_what_it_sees(log, "parameter"))));
            children.push_back(magpie::spawn(waits(log, e, says_what_it_sees(log, "unstarted"))));
            children.back().abort();
            co_return;
        };
        auto g = [&]() -> task<> { co_await number.with(1, passed_on.with(5, f())); };
        auto h = ex.spawn(g());
        ex.run_until_idle();
        CHECK(log.take() == "unstarted=-/5");
        SUBCASE("aborted") { children[0].abort(); }
        SUBCASE("ended") { e.set(); }
        ex.run_until_idle();
        CHECK(log.text() == "local=-/5 parameter=-/5");
    }

    TEST_CASE("a result that nobody takes is destroyed with what its task has inherited") {
        trace log;
        test::manual_executor ex;
        auto child = [](trace& t) -> task<says_what_it_sees> {
            co_return says_what_it_sees(t, "result");
        };
        std::optional<magpie::join_handle<says_what_it_sees>> kept;
        auto f = [&]() -> task<> {
            kept = magpie::spawn(child(log));
            co_return;
        };
        auto g = [&]() -> task<> { co_await number.with(1, passed_on.with(5, f())); };
        auto h = ex.spawn(g());
        ex.run_until_idle();
        CHECK(log.text().empty());
        kept.reset();
        CHECK(log.text() == "result=-/5");
    }

    TEST_CASE("TASK-LOCAL-03 a value can be taken back behind the scope, once") {
        constinit static const task_local<std::unique_ptr<int>> owned;
        auto body = []() -> task<int> { co_return *owned.get(); };
        auto f = [&]() -> task<> {
            auto scope = owned.with(std::make_unique<int>(7), body());
            CHECK(co_await scope == 7);
            auto value = scope.take_value();
            REQUIRE(value.has_value());
            CHECK(**value == 7);
            CHECK_FALSE(scope.take_value().has_value());
        };
        test::run(f());
    }

    TEST_CASE("TASK-LOCAL-03 what runs after its value was taken back sees none, not the outer one") {
        auto inner = []() -> task<std::string> {
            auto scope = number.with(2, what_is_seen());
            CHECK(scope.take_value() == 2);
            co_return co_await scope;
        };
        auto f = [&]() -> task<std::string> { co_return co_await number.with(1, inner()); };
        CHECK(test::run(f()) == "-/-");
    }

    TEST_CASE("TASK-LOCAL-03 a value cannot be taken back while it is in use") {
        auto f = []() -> task<> {
            std::function<void()> take;
            auto body = [](std::function<void()>& t) -> task<> {
                co_await magpie::yield_now();
                t();
            };
            auto scope = number.with(1, body(take));
            take = [&] { static_cast<void>(scope.take_value()); };
            CHECK_THROWS_AS(co_await scope, std::logic_error);
            CHECK(scope.take_value() == 1);
        };
        test::run(f());
    }

    TEST_CASE("TASK-LOCAL-04 get gives the value, to be copied") {
        auto body = []() -> task<std::string> {
            std::string mine = word.get();
            mine += "!";
            co_return mine + word.get();
        };
        auto f = [&]() -> task<std::string> { co_return co_await word.with("hello", body()); };
        CHECK(test::run(f()) == "hello!hello");
    }

    TEST_CASE("TASK-LOCAL-05 without a value get throws with a sentence, and try_get gives null") {
        CHECK(number.try_get() == nullptr);
        CHECK_THROWS_WITH_AS(static_cast<void>(number.get()),
                             doctest::Contains("co_await key.with(value, ...)"), std::logic_error);
        auto f = []() -> task<> {
            CHECK(number.try_get() == nullptr);
            CHECK(passed_on.try_get() == nullptr);
            CHECK_THROWS_AS(static_cast<void>(passed_on.get()), std::logic_error);
            co_await word.with("another key", magpie::yield_now());
            co_return;
        };
        test::run(f());
    }

    TEST_CASE("SCOPE-23 a spawned task inherits what the key's declaration says, and no more") {
        auto f = []() -> task<std::string> {
            auto plain = magpie::spawn(what_is_seen());
            auto named = magpie::spawn("named", what_is_seen());
            std::string log = seen();
            log += " " + co_await plain;
            log += " " + co_await named;
            co_return log;
        };
        auto g = [&]() -> task<std::string> {
            std::string log = co_await number.with(1, passed_on.with(2, f()));
            auto outside = magpie::spawn(what_is_seen());
            log += " " + co_await outside;
            co_return log;
        };
        CHECK(test::run(g()) == "1/2 -/2 -/2 -/-");
    }

    TEST_CASE("SCOPE-23 it is handed on from task to task, and outlives the scope") {
        trace log;
        test::manual_executor ex;
        event e;
        counted::alive = 0;
        auto grandchild = [&]() -> task<> {
            co_await e.wait();
            log.add(std::to_string(counted_key.get().value));
        };
        auto child = [&]() -> task<> {
            magpie::spawn(grandchild()).detach();
            co_await counted_key.with(counted(2), magpie::yield_now());
        };
        auto parent = [&]() -> task<> {
            magpie::spawn(child()).detach();
            co_return;
        };
        auto f = [&]() -> task<> { co_await counted_key.with(counted(1), parent()); };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(counted::alive == 1); // one value, however many tasks have it
        e.set();
        ex.run_until_idle();
        CHECK(log.text() == "1");
        CHECK(counted::alive == 0);
    }

    TEST_CASE("SCOPE-23 the name and the place of a task that inherits stay as they were") {
        auto f = []() -> task<std::string> {
            auto says = []() -> task<std::string> {
                co_return std::string(magpie::this_task::name()) + seen();
            };
            auto named = magpie::spawn("named", says());
            co_return co_await named;
        };
        CHECK(test::run(f()) == "named-/-");
        auto g = [&]() -> task<std::string> { co_return co_await passed_on.with(3, f()); };
        CHECK(test::run(g()) == "named-/3");
    }

    TEST_CASE("tasks that spawn each other below a scope of their own pile up no values") {
        test::manual_executor ex;
        counted::alive = 0;
        int most = 0;
        std::function<task<>(int)> step = [&](int n) -> task<> {
            most = std::max(most, counted::alive.load());
            auto next = [&step](int m) -> task<> {
                magpie::spawn(step(m)).detach();
                co_return;
            };
            if (n > 0)
                co_await counted_key.with(counted(n), passed_on.with(n, next(n - 1)));
        };
        auto h = ex.spawn(step(200));
        ex.run_until_idle();
        CHECK(most < 5);
        CHECK(counted::alive == 0);
    }

    TEST_CASE("a value is destroyed behind the frames that see it") {
        test::manual_executor ex;
        event e;
        trace log;
        constinit static const task_local<test::noisy> key;
        auto body = [](trace& t, event& go) -> task<> {
            const test::noisy local(t, "frame");
            co_await go.wait();
        };
        auto f = [&]() -> task<> {
            const test::noisy outer(log, "outer");
            co_await key.with(test::noisy(log, "value"), body(log, e));
            log.add("next-line");
        };
        auto h = ex.spawn(f());
        ex.run_until_idle();
        SUBCASE("ended") {
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "frame value next-line outer");
        }
        SUBCASE("aborted") {
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "frame value outer");
        }
    }

    TEST_CASE("an operation, or somebody else's awaitable, is awaited with a value without a frame") {
        struct asks {
            std::string* into;
            explicit asks(std::string& s) noexcept : into(&s) {}
            bool await_ready() {
                *into += "ready=" + seen();
                return true;
            }
            void await_suspend(std::coroutine_handle<>) {}
            std::string await_resume() { return " resume=" + seen(); }
        };
        auto f = []() -> task<std::string> {
            std::string log;
            log += co_await number.with(1, asks(log));
            co_return log;
        };
        CHECK(test::run(f()) == "ready=1/- resume=1/-");
    }

    TEST_CASE("what the awaitable throws comes out, and the task goes on without the value") {
        auto fails = []() -> task<> {
            co_await magpie::yield_now();
            throw std::runtime_error(seen());
        };
        auto f = [&]() -> task<std::string> {
            std::string log;
            try {
                co_await number.with(1, fails());
            } catch (const std::runtime_error& e) {
                log = e.what();
            }
            co_return log + " " + seen();
        };
        CHECK(test::run(f()) == "1/- -/-");
    }

    TEST_CASE("a scope that is awaited a second time says so") {
        auto f = []() -> task<> {
            auto scope = number.with(1, what_is_seen());
            co_await scope;
            CHECK_THROWS_AS(co_await scope, std::logic_error);
        };
        test::run(f());
    }

    TEST_CASE("a scope is as safe to cancel as what is awaited in it") {
        event e;
        auto waits_in_it = number.with(1, e.wait());
        CHECK(magpie::safety_of<decltype(waits_in_it)> == magpie::cancel_safety::safe);
        auto runs_in_it = number.with(1, what_is_seen());
        CHECK(magpie::safety_of<decltype(runs_in_it)> == magpie::cancel_safety::unknown);
    }

#if !defined(MAGPIE_LOCK_TRACE) // with which all of it is larger
    TEST_CASE("a task that inherits nothing costs what it did") {
        CHECK(sizeof(magpie::detail::task_cell<void>) == 96);
        CHECK(sizeof(magpie::detail::owned_branch) == 48);
    }
#endif
}
