// The traps of cancelling that other runtimes' users have fallen into, as code, and how each comes out
// here. docs/cancellation.md has them in words, by these names.

#include <magpie/core.hpp>
#include <magpie/sync/cancellation_token.hpp>
#include <magpie/sync/event.hpp>

#include <test/permits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::timeout;
using magpie::sync::event;
using test::noisy;
using test::permits;
using test::trace;

namespace {

/// A permit that goes back when it is out of scope: a lock, if there is one of them.
class guard {
public:
    explicit guard(permits& p) noexcept : permits_(&p) {}
    guard(guard&& other) noexcept : permits_(std::exchange(other.permits_, nullptr)) {}
    guard& operator=(guard&&) = delete;
    ~guard() {
        if (permits_ != nullptr)
            permits_->add();
    }

private:
    permits* permits_;
};

task<guard> lock(permits& p) {
    co_await p.take();
    co_return guard(p);
}

} // namespace

TEST_SUITE("core.cancellation") {
    TEST_CASE("trap: what was received as another branch won is lost") {
        test::manual_executor ex;
        permits messages;
        auto f = [](permits& from, int& got) -> task<> {
            for (int i = 0; i < 100; ++i) {
                auto won = co_await select(magpie::sleep_for(1ms), from.take());
                got += won.index() == 1 ? 1 : 0;
            }
        };
        int got = 0;
        auto t = ex.spawn(f(messages, got));
        int sent = 0;
        while (!t.is_finished()) {
            messages.add(); // in the same turn as the timer
            ++sent;
            ex.advance(1ms);
        }
        CHECK(got + messages.left() == sent);
    }

    TEST_CASE("trap: a coroutine that takes and then waits, made anew in each round of a loop") {
        // What it has taken goes with it when it loses: nobody can know that from outside.
        auto slow_message = [](permits& from) -> task<int> {
            co_await from.take();
            co_await magpie::sleep_for(10ms);
            co_return 1;
        };
        test::manual_executor ex;
        permits messages;
        messages.add();
        int got = 0;
        SUBCASE("so it is lost") {
            auto f = [](auto make, permits& from, int& n) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    auto won = co_await select(make(from), magpie::sleep_for(4ms));
                    n += won.index() == 0 ? 1 : 0;
                }
            };
            auto t = ex.spawn(f(slow_message, messages, got));
            ex.advance(1s);
            CHECK(t.is_finished());
            CHECK(got + messages.left() == 0);
        }
        SUBCASE("pinned, it goes on when it loses") {
            auto f = [](auto make, permits& from, int& n) -> task<> {
                auto body = [&n](magpie::pinned_task<int>& message) -> task<> {
                    for (int i = 0; i < 3; ++i) {
                        auto won = co_await select(message, magpie::sleep_for(4ms));
                        n += won.index() == 0 ? 1 : 0;
                        if (won.index() == 0)
                            co_return;
                    }
                };
                co_await magpie::pinned(make(from), std::move(body));
            };
            auto t = ex.spawn(f(slow_message, messages, got));
            ex.advance(1s);
            CHECK(t.is_finished());
            CHECK(got == 1);
        }
        SUBCASE("spawned, as well") {
            auto f = [](auto make, permits& from, int& n) -> task<> {
                auto message = magpie::spawn(make(from));
                for (int i = 0; i < 3; ++i) {
                    auto won = co_await select(message, magpie::sleep_for(4ms));
                    n += won.index() == 0 ? 1 : 0;
                    if (won.index() == 0)
                        co_return;
                }
            };
            auto t = ex.spawn(f(slow_message, messages, got));
            ex.advance(1s);
            CHECK(t.is_finished());
            CHECK(got == 1);
        }
    }

    TEST_CASE(
        "trap: a branch that was not dropped, and is not driven, keeps a lock that its task wants") {
        test::manual_executor ex;
        permits one;
        one.add();
        auto holds = [](permits& p) -> task<int> {
            const guard mine = co_await lock(p);
            co_await magpie::sleep_for(10ms);
            co_return 1;
        };
        SUBCASE("what has lost is gone, and its lock is free") {
            auto f = [](auto make, permits& p) -> task<> {
                co_await select(make(p), magpie::sleep_for(1ms));
                const guard mine = co_await lock(p);
            };
            auto t = ex.spawn(f(holds, one));
            ex.advance(1ms);
            CHECK(t.is_finished());
        }
        SUBCASE("what is pinned is driven while its task waits for the lock") {
            auto f = [](auto make, permits& p) -> task<> {
                auto body = [&p](magpie::pinned_task<int>& other) -> task<> {
                    co_await select(other, magpie::sleep_for(1ms));
                    const guard mine = co_await lock(p);
                };
                co_await magpie::pinned(make(p), std::move(body));
            };
            auto t = ex.spawn(f(holds, one));
            ex.advance(10ms);
            CHECK(t.is_finished());
        }
        CHECK(one.left() == 1);
    }

    TEST_CASE("trap: cancelling is an exception, and is swallowed") {
        test::manual_executor ex;
        trace log;
        event never;
        auto stubborn = [](trace& l, event& e) -> task<> {
            for (int i = 0; i < 3; ++i) {
                try {
                    co_await e.wait();
                } catch (...) {
                    l.add("swallowed");
                }
            }
        };
        auto t = ex.spawn(stubborn(log, never));
        ex.run_until_idle();
        t.abort();
        ex.run_until_idle();
        CHECK(test::outcome_of(t) == "cancelled");
        CHECK(log.text().empty());
    }

    TEST_CASE("trap: what has timed out goes on behind one's back, on objects that are gone") {
        test::manual_executor ex;
        auto writes_later = [](int& to) -> task<> {
            co_await magpie::sleep_for(10ms);
            to = 1;
        };
        auto f = [](auto body, int& seen) -> task<> {
            {
                int local = 0; // the body writes to it, and it goes before the body would
                const bool in_time = co_await timeout(1ms, body(local));
                seen = in_time ? -1 : local;
            }
            co_await magpie::sleep_for(1s);
        };
        int seen = 7;
        auto t = ex.spawn(f(writes_later, seen));
        ex.advance(1ms);
        CHECK(ex.armed_timers() == 1); // f's own, no other
        ex.advance(1s);
        CHECK(t.is_finished());
        CHECK(seen == 0);
    }

    TEST_CASE("trap: the siblings of what has failed still run when its exception arrives") {
        test::manual_executor ex;
        trace log;
        event never;
        auto uses = [](trace& l, event& e) -> task<> {
            const noisy local(l, "sibling-gone");
            co_await e.wait();
        };
        auto fails = []() -> task<> {
            co_await magpie::yield_now();
            throw std::runtime_error("failed");
        };
        auto f = [](trace& l, auto a, auto b, event& e) -> task<> {
            try {
                co_await magpie::try_join(a(l, e), b());
            } catch (const std::runtime_error& x) {
                l.add(x.what());
            }
        };
        test::run(ex, f(log, uses, fails, never));
        CHECK(log.text() == "sibling-gone failed");
    }

    TEST_CASE("trap: of several failures one arrives, and the others vanish") {
        test::manual_executor ex;
        test::unhandled_log unhandled(ex);
        auto fails = [](const char* what) -> task<int> {
            co_await magpie::yield_now();
            throw std::runtime_error(what);
        };
        SUBCASE("one is thrown, the others are reported") {
            auto f = [](auto make) -> task<> { co_await magpie::join(make("one"), make("two")); };
            CHECK_THROWS_WITH(test::run(ex, f(fails)), "one");
            REQUIRE(unhandled.count() == 1);
            CHECK(unhandled.reports()[0].what == "two");
        }
        SUBCASE("or all are looked at") {
            auto f = [](auto make) -> task<std::string> {
                auto both = co_await as_result(magpie::join(make("one"), make("two")));
                co_return std::string(magpie::describe(std::get<0>(both).error())) + " " +
                    std::string(magpie::describe(std::get<1>(both).error()));
            };
            CHECK(test::run(ex, f(fails)) == "one two");
            CHECK(unhandled.count() == 0);
        }
    }

    TEST_CASE("trap: a cleanup that has to wait is cut off, for destructors cannot wait") {
        test::manual_executor ex;
        trace log;
        event never;
        auto farewell = [](trace& l) -> task<> {
            co_await magpie::sleep_for(10ms);
            l.add("farewell");
        };
        SUBCASE("behind the await it is never reached") {
            auto f = [](trace& l, event& e, auto bye) -> task<> {
                co_await e.wait();
                co_await bye(l);
            };
            auto t = ex.spawn(f(log, never, farewell));
            ex.run_until_idle();
            t.abort();
            ex.advance(1s);
            CHECK(log.text().empty());
        }
        SUBCASE("as a teardown it is waited for") {
            auto f = [](trace& l, event& e, auto bye) -> task<> {
                auto body = [&e](trace&) -> task<> { co_await e.wait(); };
                co_await magpie::with(l, std::move(body), bye);
            };
            auto t = ex.spawn(f(log, never, farewell));
            ex.run_until_idle();
            t.abort();
            ex.advance(1s);
            CHECK(log.text() == "farewell");
            CHECK(test::outcome_of(t) == "cancelled");
        }
    }

    TEST_CASE("trap: a token has to be asked, in each loop and below each wait") {
        test::manual_executor ex;
        event never;
        const magpie::cancellation_token stop;
        auto deep = [](event& e) -> task<> { co_await e.wait(); }; // knows of no token
        auto f = [](auto below, event& e, magpie::cancellation_token t) -> task<bool> {
            co_return co_await t.run_until_cancelled(below(e));
        };
        auto t = ex.spawn(f(deep, never, stop));
        ex.run_until_idle();
        stop.cancel();
        ex.run_until_idle();
        CHECK_FALSE(t.blocking_join());
    }

    TEST_CASE("trap: a select loop that is always ready starves its timer and its stop signal") {
        test::manual_executor ex;
        event stop;
        auto f = [](event& e) -> task<int> {
            auto ready = []() -> task<> { co_return; };
            for (int rounds = 1;; ++rounds) {
                auto won = co_await select(ready(),
                                           e.wait()); // a fair start: no branch is first for ever
                if (won.index() == 1)
                    co_return rounds;
            }
        };
        auto t = ex.spawn(f(stop));
        ex.run_one(); // it gives its worker back when its budget is spent
        CHECK_FALSE(t.is_finished());
        stop.set();
        ex.run_until_idle();
        CHECK(t.is_finished());
    }
}
