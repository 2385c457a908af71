#include <magpie/sync/event.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/timeout.hpp>

#include <test/both.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::event;
using test::trace;

namespace {

task<> wait_for(event& e, trace& log, std::string name) {
    co_await e.wait();
    log.add(name);
}

} // namespace

TEST_SUITE("sync.event") {
    TEST_CASE("a waiter suspends until the event is set, and is then woken once") {
        test::manual_executor ex; // one thread, runs only when told to
        event ready;
        int passed = 0;
        auto f = [](event& e, int& n) -> task<> {
            co_await e.wait();
            ++n;
        };
        ex.spawn(f(ready, passed)).detach();
        ex.run_until_idle();
        CHECK(passed == 0);
        SUBCASE("set once") { ready.set(); }
        SUBCASE("set twice") {
            ready.set();
            ready.set();
        }
        SUBCASE("set on another thread") {
            std::thread([&] { ready.set(); }).join();
        }
        CHECK(passed == 0); // set() runs nobody
        const std::size_t turns = ex.turns();
        ex.run_until_idle();
        CHECK(passed == 1);
        CHECK(ex.turns() == turns + 1);
    }

    TEST_CASE("once it is set nobody waits any more") {
        test::manual_executor ex;
        event ready;
        CHECK_FALSE(ready.is_set());
        ready.set();
        CHECK(ready.is_set());
        trace log;
        auto h = ex.spawn(wait_for(ready, log, "passed"));
        CHECK(ex.run_one());
        CHECK(h.is_finished());
        ready.blocking_wait();
    }

    TEST_CASE("all waiters are woken, first come first") {
        test::manual_executor ex;
        event ready;
        trace log;
        for (const char* name : {"a", "b", "c", "d"})
            ex.spawn(wait_for(ready, log, name)).detach();
        ex.run_until_idle();
        ready.set();
        ex.run_until_idle();
        CHECK(log.text() == "a b c d");
    }

    TEST_CASE("one that gives up leaves the others in order") {
        test::manual_executor ex;
        event ready;
        trace log;
        std::vector<magpie::join_handle<>> handles;
        for (const char* name : {"a", "b", "c", "d"})
            handles.push_back(ex.spawn(wait_for(ready, log, name)));
        ex.run_until_idle();
        SUBCASE("the first") {
            handles[0].abort();
            ex.run_until_idle();
            ready.set();
            ex.run_until_idle();
            CHECK(log.text() == "b c d");
        }
        SUBCASE("one in the middle, and the last") {
            handles[2].abort();
            handles[3].abort();
            ex.run_until_idle();
            handles.push_back(ex.spawn(wait_for(ready, log, "e")));
            ex.run_until_idle();
            ready.set();
            ex.run_until_idle();
            CHECK(log.text() == "a b e");
        }
        SUBCASE("all") {
            for (auto& h : handles)
                h.abort();
            ex.run_until_idle();
            ready.set();
            ex.run_until_idle();
            CHECK(log.text().empty());
        }
        SUBCASE("when it was set already") {
            ready.set();
            handles[1].abort();
            ex.run_until_idle();
            CHECK(log.text() == "a c d");
        }
    }

    TEST_CASE("two branches of one task may wait for one event") {
        test::manual_executor ex;
        event ready;
        trace log;
        auto f = [](event& e, trace& l) -> task<> {
            test::both branches(wait_for(e, l, "first"), wait_for(e, l, "second"));
            co_await branches;
        };
        auto h = ex.spawn(f(ready, log));
        ex.run_until_idle();
        SUBCASE("woken") {
            ready.set();
            ex.run_until_idle();
            CHECK(log.text() == "first second");
        }
        SUBCASE("dropped") {
            h.abort();
            ex.run_until_idle();
            ready.set();
            CHECK(log.text().empty());
        }
        CHECK(h.is_finished());
    }

    TEST_CASE("a task may set the event that its own branch waits for") {
        test::manual_executor ex;
        event ready;
        trace log;
        auto sets = [](event& e, trace& l) -> task<> {
            e.set();
            l.add("set");
            co_return;
        };
        auto f = [](event& e, trace& l, auto s) -> task<> {
            test::both branches(wait_for(e, l, "woken"), s(e, l));
            co_await branches;
        };
        auto h = ex.spawn(f(ready, log, sets));
        CHECK(ex.run_one());
        CHECK(log.text() == "set woken");
        CHECK(h.is_finished());
    }

    TEST_CASE("a waiter may destroy the event once the setter has returned") {
        test::manual_executor ex;
        auto ready = std::make_unique<event>();
        auto f = [](std::unique_ptr<event>& e) -> task<> {
            co_await e->wait();
            e.reset();
        };
        auto h = ex.spawn(f(ready));
        ex.run_until_idle();
        ready->set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK_FALSE(ready);
    }

    TEST_CASE("what was written before set() is visible behind wait()") {
        test::manual_executor ex;
        event ready;
        int plain = 0; // a race would be reported under ThreadSanitizer
        auto f = [](event& e, const int& n) -> task<int> {
            co_await e.wait();
            co_return n;
        };
        auto waits = ex.spawn(f(ready, plain));
        ex.run_until_idle();
        std::thread setter([&] {
            plain = 5;
            ready.set();
        });
        while (!waits.is_finished())
            if (!ex.run_one())
                std::this_thread::yield();
        CHECK(waits.blocking_join() == 5);
        CHECK(test::run(ex, f(ready, plain)) == 5); // also without suspending
        setter.join();
    }

    TEST_CASE("with a timeout, as a result, and unawaited") {
        test::manual_executor ex;
        event ready;
        auto f = [](event& e) -> task<std::string> {
            [[maybe_unused]] auto never = e.wait(); // does nothing
            const bool first = co_await magpie::timeout(1s, e.wait());
            const bool second = co_await magpie::timeout(1s, e.wait());
            const magpie::result<void> third = co_await as_result(e.wait());
            co_return std::string(first ? "in-time" : "late") + (second ? " in-time" : " late") +
                (third.has_value() ? " done" : " ?");
        };
        auto h = ex.spawn(f(ready));
        ex.run_until_idle();
        ex.advance(1s);
        ready.set();
        ex.run_until_idle();
        CHECK(h.blocking_join() == "late in-time done");
    }

    TEST_CASE("a wait may have a name, and be awaited where it stands, more than once") {
        test::manual_executor ex;
        event ready;
        int passed = 0;
        auto f = [](event& e, int& n) -> task<> {
            auto wait = e.wait();
            co_await wait;
            ++n;
            co_await wait; // is over: does not wait
            ++n;
            auto moved = std::move(wait);
            co_await std::move(moved);
            ++n;
        };
        auto h = ex.spawn(f(ready, passed));
        ex.run_until_idle();
        CHECK(passed == 0);
        ready.set();
        ex.run_until_idle();
        CHECK(passed == 3);
        CHECK(h.is_finished());
    }

    TEST_CASE("ten thousand waiters") {
        test::manual_executor ex;
        event ready;
        int passed = 0;
        auto f = [](event& e, int& n) -> task<> {
            co_await e.wait();
            ++n;
        };
        std::vector<magpie::join_handle<>> handles;
        for (int i = 0; i < 10'000; ++i)
            handles.push_back(ex.spawn(f(ready, passed)));
        ex.run_until_idle();
        for (std::size_t i = 0; i < handles.size(); i += 3)
            handles[i].abort();
        ex.run_until_idle();
        ready.set();
        ex.run_until_idle();
        CHECK(passed == 6666);
    }
}
