#include <magpie/sync/lock_trace.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using namespace magpie::sync;

namespace {

/// Runs until all wait for `go`, with nothing to report, and from there on.
void meet(test::manual_executor& ex, event& go, const test::captured_log& log) {
    ex.run_until_idle();
    CHECK(log.text().empty());
    go.set();
    ex.run_until_idle();
}

std::string at(unsigned line) { return "deadlock_test.cpp:" + std::to_string(line); }

constexpr unsigned line_of_first = __LINE__ + 3;
constexpr unsigned line_of_second = __LINE__ + 4;
task<> lock_both(mutex& a, mutex& b, event& go) {
    auto first = co_await a.lock();
    co_await go.wait();
    auto second = co_await b.lock();
}

task<> hold(mutex& m, event& go) {
    auto guard = co_await m.lock();
    co_await go.wait();
}

/// What a task that ends by itself has thrown.
std::string thrown_by(task<> t) {
    test::manual_executor ex;
    auto h = ex.spawn(std::move(t));
    ex.run_until_idle();
    return test::outcome_of(h);
}

} // namespace

TEST_SUITE("lock_trace.deadlock") {
    TEST_CASE("SCOPE-21 two tasks that wait for each other's mutex: both names, and where they wait") {
        mutex accounts("accounts");
        mutex audit("audit");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto alice = ex.spawn("alice", lock_both(accounts, audit, go));
        auto bob = ex.spawn("bob", lock_both(audit, accounts, go));
        meet(ex, go, log);
        CHECK(log.count("deadlock between locks") == 1);
        CHECK(log.contains("task 1 'alice' waits at "));
        CHECK(log.contains(at(line_of_second) + " for 'audit', which task 2 'bob' holds since "));
        CHECK(log.contains("task 2 'bob' waits at "));
        CHECK(log.contains(at(line_of_second) + " for 'accounts', which task 1 'alice' holds since "));
        CHECK(log.count(at(line_of_first)) == 2);
        CHECK(log.contains("scoped_lock"));
        alice.abort();
        ex.run_until_idle();
        CHECK(bob.is_finished());
        CHECK(log.count("\n") == 1);
    }

    TEST_CASE(
        "a cycle of three is reported when it is closed, and who waits beside it is not part of it") {
        mutex a("a");
        mutex b("b");
        mutex c;
        mutex d("d");
        event go;
        event go_beside;
        event go_last;
        const test::captured_log log;
        test::manual_executor ex;
        auto one = ex.spawn("one", lock_both(a, b, go));
        auto two = ex.spawn("two", lock_both(b, c, go));
        ex.spawn("three", lock_both(c, a, go_last)).detach();
        auto beside = ex.spawn("beside", lock_both(d, a, go_beside));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        go_beside.set();
        ex.run_until_idle();
        CHECK(log.text().empty());
        go_last.set();
        ex.run_until_idle();
        CHECK(log.count("deadlock between locks") == 1);
        CHECK(log.contains("'three' waits at "));
        CHECK(log.contains("for 'a', which task 1 'one' holds"));
        CHECK(log.contains("for 'b', which task 2 'two' holds"));
        CHECK(log.contains("for the lock at 0x"));
        CHECK_FALSE(log.contains("beside"));
        one.abort();
        two.abort();
        beside.abort();
    }

    TEST_CASE("a reader and a writer of a shared_mutex in a cycle with a mutex") {
        shared_mutex table("table");
        mutex m("m");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto reads = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto r = co_await t.lock_shared();
            co_await g.wait();
            auto guard = co_await l.lock();
        };
        auto writes = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto guard = co_await l.lock();
            co_await g.wait();
            auto w = co_await t.lock();
        };
        ex.spawn("reader", reads(table, m, go)).detach();
        ex.spawn("writer", writes(table, m, go)).detach();
        meet(ex, go, log);
        CHECK(log.count("deadlock between locks") == 1);
        CHECK(log.contains("'writer' waits at "));
        CHECK(log.contains("for 'table', which task 1 'reader' holds since "));
    }

    TEST_CASE("who reads once more behind a writer that waits for his first reading") {
        shared_mutex table("table");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto reads = [](shared_mutex& t, event& g) -> task<> {
            auto first = co_await t.lock_shared();
            co_await g.wait();
            auto second = co_await t.lock_shared();
        };
        auto writes = [](shared_mutex& t) -> task<> { auto w = co_await t.lock(); };
        auto reader = ex.spawn("reader", reads(table, go));
        ex.run_until_idle();
        SUBCASE("without the writer it reads twice") {}
        SUBCASE("with him it is a deadlock") {
            ex.spawn("writer", writes(table)).detach();
            ex.run_until_idle();
        }
        const bool with_writer = !lock_waiters(table).empty();
        CHECK(log.text().empty());
        go.set();
        ex.run_until_idle();
        CHECK(log.count("deadlock between locks") == (with_writer ? 1 : 0));
        CHECK(log.contains("for 'table', behind task 2 'writer'") == with_writer);
        CHECK(reader.is_finished() == !with_writer);
        reader.abort();
    }

    TEST_CASE("an upgrade that waits for a reader, and a second upgradable reader") {
        shared_mutex table("table");
        mutex m("m");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto reads = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto r = co_await t.lock_shared();
            co_await g.wait();
            auto guard = co_await l.lock();
        };
        auto upgrades = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto guard = co_await l.lock();
            auto r = co_await t.lock_upgradable();
            co_await g.wait();
            auto w = co_await std::move(r).upgrade();
        };
        auto is_upgradable = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto r = co_await t.lock_upgradable();
            co_await g.wait();
            auto guard = co_await l.lock();
        };
        auto would_be_upgradable = [](shared_mutex& t, mutex& l, event& g) -> task<> {
            auto guard = co_await l.lock();
            co_await g.wait();
            auto r = co_await t.lock_upgradable();
        };
        SUBCASE("upgrade") {
            ex.spawn("reader", reads(table, m, go)).detach();
            ex.spawn("other", upgrades(table, m, go)).detach();
        }
        SUBCASE("second") {
            ex.spawn("reader", is_upgradable(table, m, go)).detach();
            ex.spawn("other", would_be_upgradable(table, m, go)).detach();
        }
        meet(ex, go, log);
        CHECK(log.count("deadlock between locks") == 1);
        CHECK(log.contains("for 'table', which task 1 'reader' holds since "));
        CHECK(log.contains("for 'm', which task 2 'other' holds since "));
    }

    TEST_CASE("a wait that a time-out may end is a warning, said once, and goes on") {
        mutex a("a");
        mutex b("b");
        event go;
        int given_up = 0;
        const test::captured_log log;
        test::manual_executor ex;
        auto patient = [](mutex& x, mutex& y, event& g, int& n) -> task<> {
            auto first = co_await x.lock();
            co_await g.wait();
            for (int i = 0; i < 3; ++i) {
                auto second = co_await magpie::timeout(1s, y.lock());
                if (second)
                    co_return;
                ++n;
            }
        };
        ex.spawn("patient", patient(a, b, go, given_up)).detach();
        auto other = ex.spawn("other", lock_both(b, a, go));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(log.count("may be waited for for ever") == 1);
        CHECK_FALSE(log.contains("deadlock between locks"));
        CHECK(log.contains("task 1 'patient' waits at "));
        ex.advance(2500ms);
        CHECK(given_up == 2);
        CHECK_FALSE(other.is_finished());
        ex.advance(1s);
        CHECK(given_up == 3);
        CHECK(other.is_finished());
        CHECK(log.count("\n") == 1);
        CHECK(lock_report().empty());
    }

    TEST_CASE("two cycles of the same locks and places, the other way round, are two") {
        struct alignas(4096) apart { // so that the addresses differ where the lines do not
            mutex lock;
        };
        apart a;
        apart b;
        const test::captured_log log;
        auto patient = [](mutex& x, mutex& y, event& g) -> task<> {
            auto first = co_await x.lock();
            co_await g.wait();
            auto second = co_await magpie::timeout(1s, y.lock());
        };
        auto cross = [&](mutex& x, mutex& y) {
            event go;
            test::manual_executor ex;
            ex.spawn(patient(x, y, go)).detach();
            ex.spawn(lock_both(y, x, go)).detach();
            ex.run_until_idle();
            go.set();
            ex.run_until_idle();
            ex.advance(2s);
        };
        cross(a.lock, b.lock);
        CHECK(log.count("may be waited for for ever") == 1);
        cross(b.lock, a.lock);
        CHECK(log.count("may be waited for for ever") == 2);
        cross(a.lock, b.lock);
        CHECK(log.count("may be waited for for ever") == 2);
    }

    TEST_CASE("a lock that a branch is handed while another branch of its task waits closes a cycle") {
        mutex a("a");
        mutex b("b");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto first_a = a.try_lock();
        auto both = [](mutex& x, mutex& y) -> task<> {
            auto guards = co_await magpie::join(x.lock(), y.lock());
        };
        auto other = ex.spawn("other", lock_both(b, a, go));
        ex.run_until_idle();
        auto joined = ex.spawn("joined", both(a, b));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(log.text().empty()); // the test has a
        first_a.reset();
        ex.run_until_idle();
        CHECK(log.count("may be waited for for ever") == 1);
        CHECK(log.contains("task 2 'joined' waits at "));
        other.abort();
        ex.run_until_idle();
        CHECK(joined.is_finished());
    }

    TEST_CASE("a select that has got one of two locks waits for the other one no more") {
        mutex a("a");
        mutex b("b");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        auto first_b = b.try_lock();
        auto either = [](mutex& x, mutex& y) -> task<std::size_t> {
            auto guard = co_await magpie::select(x.lock(), y.lock());
            co_return guard.index();
        };
        ex.spawn("other", lock_both(a, b, go)).detach();
        ex.run_until_idle();
        auto selects = ex.spawn("selects", either(a, b));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        first_b.reset(); // it is the select's, which has not gone on yet
        CHECK(log.text().empty());
        ex.run_until_idle();
        CHECK(selects.blocking_join() == 1);
        CHECK(ex.live() == 0);
        CHECK(log.text().empty());
    }

    TEST_CASE("no word of locks taken in order, and of branches that let go of what others wait for") {
        mutex a("a");
        mutex b("b");
        event go;
        const test::captured_log log;
        test::manual_executor ex;
        SUBCASE("in order") {
            ex.spawn("one", lock_both(a, b, go)).detach();
            ex.spawn("two", lock_both(a, b, go)).detach();
            ex.run_until_idle();
            go.set();
        }
        SUBCASE("one branch has it, the other one waits") {
            auto f = [](mutex& m, event& g) -> task<> {
                co_await magpie::join(hold(m, g), hold(m, g));
            };
            ex.spawn("branches", f(a, go)).detach();
            ex.run_until_idle();
            CHECK(lock_waiters(a).size() == 1);
            go.set();
        }
        SUBCASE("the branches wait for each other's locks, with another task in between") {
            auto f = [](mutex& x, mutex& y, event& g) -> task<> {
                co_await magpie::join(lock_both(x, y, g), hold(y, g));
            };
            auto h = ex.spawn("branches", f(a, b, go));
            ex.spawn("between", lock_both(a, b, go)).detach();
            ex.run_until_idle();
            go.set();
        }
        SUBCASE("scoped_lock in any order") {
            auto f = [](mutex& x, mutex& y, event& g) -> task<> {
                auto guards = co_await scoped_lock(x, y);
                co_await g.wait();
            };
            ex.spawn("one", f(a, b, go)).detach();
            ex.spawn("two", f(b, a, go)).detach();
            ex.spawn("three", f(a, b, go)).detach();
            ex.run_until_idle();
            go.set();
        }
        ex.run_until_idle();
        CHECK(log.text().empty());
        CHECK(ex.live() == 0);
        CHECK(lock_report().empty());
    }

    TEST_CASE("a guard that was moved into another task is that task's") {
        auto a = std::make_shared<mutex>(object_name("a"));
        mutex b("b");
        event go;
        event let_go;
        const test::captured_log log;
        test::manual_executor ex;
        auto keeps = [](mutex::owned_guard g, event& e, mutex& other) -> task<> {
            auto mine = std::move(g);
            co_await e.wait();
            auto second = co_await other.lock();
        };
        auto passes_on = [&](std::shared_ptr<mutex> m, event& e, mutex& other) -> task<> {
            auto guard = co_await mutex::lock_owned(m);
            ex.spawn("keeper", keeps(std::move(guard), e, other)).detach();
            auto again = co_await mutex::lock_owned(m); // when the other one has let go
        };
        auto h = ex.spawn("passes on", passes_on(a, go, b));
        SUBCASE("who has passed it on may lock it again") {
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            go.set();
            ex.run_until_idle();
            CHECK(log.text().empty());
            CHECK(test::outcome_of(h) == "a value");
        }
        SUBCASE("who has it is in the cycle") {
            ex.spawn("other", lock_both(b, *a, let_go)).detach();
            ex.run_until_idle();
            let_go.set();
            ex.run_until_idle();
            CHECK(log.text().empty());
            go.set();
            ex.run_until_idle();
            CHECK(log.count("deadlock between locks") == 1);
            CHECK(log.contains("'keeper' waits at "));
            CHECK(log.contains("'other' waits at "));
            CHECK_FALSE(log.contains("'passes on'"));
        }
    }

    TEST_CASE(
        "a lock that the task holds itself: an error that says where it was taken, and what to do") {
        mutex m("m");
        shared_mutex s("s");
        mutex free_one;
        const auto twice = [](mutex& l) -> task<> {
            auto first = co_await l.lock();
            auto second = co_await l.lock();
        };
        const auto by_helper = [](mutex& l) -> task<> {
            auto lock = [](mutex& x) -> task<mutex::guard> { co_return co_await x.lock(); };
            auto first = co_await lock(l);
            auto second = co_await lock(l);
        };
        const auto tried = [](mutex& l) -> task<> {
            auto first = l.try_lock();
            auto second = co_await l.lock();
        };
        const auto in_callee = [](mutex& l) -> task<> {
            auto lock = [](mutex& x) -> task<> { auto guard = co_await x.lock(); };
            auto first = co_await l.lock();
            co_await lock(l);
        };
        const auto in_branch = [](mutex& l) -> task<> {
            auto lock = [](mutex& x) -> task<> {
                auto first = co_await x.lock();
                auto second = co_await x.lock();
            };
            co_await magpie::timeout(1s, lock(l));
        };
        const auto scoped = [](mutex& l, mutex& other) -> task<> {
            auto first = co_await l.lock();
            auto second = co_await scoped_lock(other, l);
        };
        const auto reads_and_writes = [](shared_mutex& l) -> task<> {
            auto first = co_await l.lock_shared();
            auto second = co_await l.lock();
        };
        const auto writes_and_reads = [](shared_mutex& l) -> task<> {
            auto first = co_await l.lock();
            auto second = co_await l.lock_shared();
        };
        const auto upgradable_twice = [](shared_mutex& l) -> task<> {
            auto first = co_await l.lock_upgradable();
            auto second = co_await l.lock_upgradable();
        };
        const auto upgrades_and_reads = [](shared_mutex& l) -> task<> {
            auto first = co_await l.lock_shared();
            auto second = co_await l.lock_upgradable();
            auto third = co_await std::move(second).upgrade();
        };
        const test::captured_log log;
        for (const std::string& text :
             {thrown_by(twice(m)), thrown_by(by_helper(m)), thrown_by(tried(m)),
              thrown_by(in_callee(m)), thrown_by(in_branch(m)), thrown_by(scoped(m, free_one)),
              thrown_by(reads_and_writes(s)), thrown_by(writes_and_reads(s)),
              thrown_by(upgradable_twice(s)), thrown_by(upgrades_and_reads(s))}) {
            CAPTURE(text);
            CHECK(text.find("and holds it since") != std::string::npos);
            CHECK(text.find("deadlock_test.cpp:") != std::string::npos);
            CHECK(text.find("guard.unlock()") != std::string::npos);
        }
        CHECK(lock_report().empty());
        CHECK_FALSE(m.is_locked());
        CHECK_FALSE(s.is_locked());
        CHECK(m.try_lock());
        CHECK(log.text().empty());
    }

    TEST_CASE("a wait for what the task holds itself, that something else ends, is no error") {
        mutex m("m");
        test::manual_executor ex;
        const test::captured_log log;
        auto f = [](mutex& l) -> task<bool> {
            auto first = co_await l.lock();
            auto second = co_await magpie::timeout(1s, l.lock());
            co_return second.has_value();
        };
        auto h = ex.spawn("waits", f(m));
        ex.run_until_idle();
        CHECK(log.count("may be waited for for ever") == 1);
        CHECK(log.contains("let go of that guard first"));
        ex.advance(2s);
        CHECK_FALSE(h.blocking_join());
    }

    TEST_CASE("a plain thread that locks what it holds, and one in a cycle with a task") {
        mutex a("a");
        guarded<int> b(object_name("b"), 7);
        const test::captured_log log;
        test::manual_executor ex;
        {
            auto guard = a.blocking_lock();
            CHECK_THROWS_AS(static_cast<void>(a.blocking_lock()), std::logic_error);
            CHECK_THROWS_AS(static_cast<void>(magpie::sync::blocking_scoped_lock(b, a)),
                            std::logic_error);
        }
        event go;
        auto f = [](mutex& x, guarded<int>& y, event& g) -> task<> {
            auto first = co_await x.lock();
            co_await g.wait();
            auto second = co_await y.lock();
        };
        auto h = ex.spawn("task", f(a, b, go));
        ex.run_until_idle();
        std::thread thread([&] {
            auto first = b.blocking_lock();
            go.set();
            auto second = a.blocking_lock();
            ++*first;
        });
        CHECK(test::eventually([&] {
            ex.run_until_idle();
            return log.contains("deadlock between locks");
        }));
        CHECK(log.contains("task 1 'task' waits at "));
        CHECK(log.contains("thread "));
        h.abort();
        ex.run_until_idle();
        thread.join();
        CHECK(**b.try_lock() == 8);
        CHECK(log.count("\n") == 1);
        CHECK(lock_report().empty());
    }

    TEST_CASE("a task that is told by a condition_variable waits for the lock again") {
        mutex m("m");
        mutex n("n");
        condition_variable told;
        event go;
        event go_other;
        const test::captured_log log;
        test::manual_executor ex;
        auto waits = [](mutex& x, mutex& y, condition_variable& c, event& g) -> task<> {
            auto second = co_await y.lock();
            co_await g.wait();
            auto first = co_await x.lock();
            co_await c.wait(first);
        };
        auto h = ex.spawn("waits", waits(m, n, told, go));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        CHECK(lock_owners(m).empty());
        ex.spawn("other", lock_both(m, n, go_other)).detach();
        ex.run_until_idle();
        go_other.set();
        ex.run_until_idle();
        CHECK(log.text().empty()); // to wait to be told is not to wait for a lock
        told.notify_one();
        CHECK(log.count("deadlock between locks") == 1);
        CHECK(log.contains("'waits' waits at "));
        h.abort();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
        CHECK(lock_report().empty());
    }

    TEST_CASE("tasks of a runtime, on several workers and on shards") {
        mutex a("a");
        mutex b("b");
        for (auto builder : {test::multi_thread(), test::thread_per_core()}) {
            event go;
            const test::captured_log log;
            auto rt = builder.build();
            auto one = rt.spawn("one", lock_both(a, b, go));
            auto two = rt.spawn("two", lock_both(b, a, go));
            CHECK(test::eventually([&] { return a.is_locked() && b.is_locked(); }));
            go.set();
            CHECK(test::eventually([&] { return log.contains("deadlock between locks"); }));
            CHECK(log.contains("'one' waits at "));
            CHECK(log.contains("'two' waits at "));
            one.abort();
            CHECK(test::ends(two));
            CHECK(test::ends(one));
            CHECK(lock_report().empty());
        }
    }
}
