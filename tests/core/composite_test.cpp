// What all composites have in common: when the frames of their branches are destroyed, and what
// becomes of the exceptions that come up then.

#include <magpie/core/detail/composite_operation.hpp>

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/event.hpp>

#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::join;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::timeout;
using magpie::unconstrained;
using magpie::sync::event;
using test::held;
using test::noisy;
using test::throws_at_end;
using test::trace;

namespace {

/// An operation that never ends, and tells the log when it is cancelled.
class told_of_cancel : public magpie::operation<told_of_cancel> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

    explicit told_of_cancel(trace& log) noexcept : log_(&log) {}
    told_of_cancel(told_of_cancel&&) = default;

    bool try_complete() const noexcept { return false; }
    bool publish() const noexcept { return true; }
    void await_resume() const noexcept {}

private:
    magpie::cancel_answer cancel() noexcept override {
        log_->add("cancelled");
        return magpie::cancel_answer::quiet;
    }
    trace* log_;
};

/// Does something when it is destroyed.
class at_end {
public:
    explicit at_end(std::function<void()> f) : f_(std::move(f)) {}
    at_end(const at_end&) = delete;
    ~at_end() { f_(); }

private:
    std::function<void()> f_;
};

task<> noisy_wait(trace& log, event& e, std::string name) {
    const noisy local(log, std::move(name));
    co_await e.wait();
}

task<> ends_later() { co_await magpie::yield_now(); }

task<> fails_later(const char* what) {
    co_await magpie::yield_now();
    throw std::runtime_error(what);
}

template <class Operation>
task<> await_it(Operation op) {
    co_await std::move(op);
}

/// Two frames, in each of which something throws when it is destroyed.
task<> throws_twice(event& e) {
    auto inner = [](event& ev) -> task<> {
        const throws_at_end local("inner");
        co_await ev.wait();
    };
    const throws_at_end local("outer");
    co_await inner(e);
}

std::string said(const test::unhandled_log& log) {
    trace words;
    for (const auto& r : log.reports())
        words.add(r.what);
    return words.text();
}

} // namespace

TEST_SUITE("core.composite") {
    TEST_CASE("no frame is destroyed while branches are being cancelled, however deep it stands") {
        // The winner's end cancels the others from within its final suspend: there they must stand.
        trace log;
        event never;
        const auto check = [&](auto make) {
            auto body = [&] { return noisy_wait(log, never, "destroyed"); };
            SUBCASE("in a select") {
                test::run(await_it(select_biased(make(body()), told_of_cancel(log), ends_later())));
            }
            SUBCASE("in a task in a select") {
                test::run(
                    await_it(select_biased(await_it(make(body())), told_of_cancel(log), ends_later())));
            }
            SUBCASE("in a select in a select") {
                test::run(await_it(select_biased(select_biased(make(body()), never.wait()),
                                                 told_of_cancel(log), ends_later())));
            }
            SUBCASE("in a try_join that fails") {
                auto failing = magpie::try_join(make(body()), await_it(told_of_cancel(log)),
                                                fails_later("failed"));
                CHECK_THROWS_AS(test::run(await_it(std::move(failing))), std::runtime_error);
            }
            SUBCASE("in a timeout that has passed: cancelled inside await_suspend") {
                test::run(await_it(timeout(0s, select_biased(make(body()), told_of_cancel(log)))));
            }
            CHECK(log.text() == "cancelled destroyed");
        };
        SUBCASE("a select") {
            check([&](task<> b) { return select(std::move(b), never.wait()); });
        }
        SUBCASE("a join") {
            check([&](task<> b) { return join(std::move(b), never.wait()); });
        }
        SUBCASE("a try_join") {
            check([&](task<> b) { return magpie::try_join(std::move(b), never.wait()); });
        }
        SUBCASE("a timeout") {
            check([](task<> b) { return timeout(1h, std::move(b)); });
        }
        SUBCASE("unconstrained") {
            check([](task<> b) { return unconstrained(std::move(b)); });
        }
    }

    TEST_CASE("SCOPE-12 what is quiet does not stand until the others have come: it may hold what they "
              "wait for") {
        test::manual_executor ex;
        held in_hand;
        event never;
        trace log;
        auto holder = [](trace& l, held& h) -> task<> {
            const at_end releases([&] {
                l.add("released");
                h.release();
            });
            event nothing;
            co_await nothing.wait();
        };
        auto waiter = [](trace& l, held& h) -> task<> {
            const noisy local(l, "came");
            co_await h.wait();
        };
        const auto check = [&](auto operation) {
            auto t = ex.spawn(await_it(std::move(operation)));
            ex.run_until_idle();
            CHECK(t.is_finished());
            CHECK(log.text() == "released came");
        };
        SUBCASE("in a select") {
            check(select_biased(holder(log, in_hand), waiter(log, in_hand), ends_later()));
        }
        SUBCASE("in a select, below another one") {
            check(select_biased(select_biased(holder(log, in_hand), ends_later(), waiter(log, in_hand)),
                                timeout(1h, never.wait())));
        }
        SUBCASE("at the start of a select") {
            auto ready = []() -> task<> { co_return; };
            check(select_biased(holder(log, in_hand), waiter(log, in_hand), ready()));
        }
        SUBCASE("in a join that runs out of time") {
            check(timeout(0s, join(holder(log, in_hand), waiter(log, in_hand))));
        }
        SUBCASE("in a join that is aborted") {
            auto t = ex.spawn(await_it(join(holder(log, in_hand), waiter(log, in_hand))));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "cancelled");
            CHECK(log.text() == "released came");
        }
    }

    TEST_CASE("a destructor of a loser may wake, spawn and abort what is around it") {
        test::manual_executor ex;
        trace log;
        event e;
        magpie::join_handle<> self;
        auto loser = [](test::manual_executor& x, trace& l, event& ev,
                        magpie::join_handle<>& me) -> task<> {
            const at_end f([&] {
                ev.set();
                x.spawn(noisy_wait(l, ev, "spawned")).detach();
                me.abort();
                l.add("loser");
            });
            event never;
            co_await never.wait();
        };
        auto selects = [](trace& l, task<> t) -> task<> {
            co_await select(magpie::unconstrained(std::move(t)), ends_later());
            l.add("selected");
            co_await magpie::yield_now();
            l.add("went on");
        };
        self = ex.spawn(
            await_it(join(noisy_wait(log, e, "waiter"), selects(log, loser(ex, log, e, self)))));
        ex.run_until_idle();
        CHECK(test::outcome_of(self) == "cancelled");
        CHECK(log.text() == "loser selected waiter spawned");
    }

    TEST_CASE("of two destructors that throw in one branch the first is thrown, the other reported") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        event never;
        const auto check = [&](auto operation) {
            auto t = ex.spawn(await_it(std::move(operation)));
            ex.advance(1s);
            CHECK(test::outcome_of(t) == "inner");
            CHECK(said(unhandled) == "outer");
        };
        SUBCASE("a timeout") { check(timeout(1s, throws_twice(never))); }
        SUBCASE("a select") { check(select(throws_twice(never), ends_later())); }
        SUBCASE("below another composite") {
            check(select(timeout(1h, throws_twice(never)), ends_later()));
        }
        SUBCASE("below two others") {
            check(timeout(1s, unconstrained(timeout(1h, throws_twice(never)))));
        }
        SUBCASE("an abort") {
            auto t = ex.spawn(await_it(join(throws_twice(never), ends_later())));
            ex.run_until_idle();
            t.abort();
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "inner");
            CHECK(said(unhandled) == "outer");
        }
    }

    TEST_CASE(
        "a branch that has failed, and whose parameter throws when it goes: the failure is thrown") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto f = [](throws_at_end) -> task<> {
            co_await magpie::yield_now();
            throw std::runtime_error("failed");
        };
        SUBCASE("a join") {
            auto t = ex.spawn(await_it(join(f(throws_at_end("parameter")), ends_later())));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "failed");
        }
        SUBCASE("a timeout") {
            auto t = ex.spawn(await_it(timeout(1h, f(throws_at_end("parameter")))));
            ex.run_until_idle();
            CHECK(test::outcome_of(t) == "failed");
        }
        CHECK(said(unhandled) == "parameter");
    }
}
