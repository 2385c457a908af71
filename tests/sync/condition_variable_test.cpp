#include <magpie/sync/condition_variable.hpp>

#include <magpie/core/timeout.hpp>
#include <magpie/sync/guarded.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::condition_variable;
using magpie::sync::guarded;
using magpie::sync::mutex;
using test::trace;

namespace {

task<> wait_for(mutex& m, condition_variable& c, trace& log, std::string name) {
    auto guard = co_await m.lock();
    co_await c.wait(guard);
    log.add(guard && m.is_locked() ? name : name + "-unlocked");
    co_await magpie::yield_now();
}

struct fixture {
    explicit fixture(std::string names) {
        for (const char n : names)
            handles.push_back(ex.spawn(wait_for(m, c, log, std::string(1, n))));
        ex.run_until_idle();
    }
    std::string told() {
        ex.run_until_idle();
        return log.take();
    }

    trace log;
    mutex m;
    condition_variable c;
    test::manual_executor ex;
    std::vector<magpie::join_handle<>> handles;
};

} // namespace

TEST_SUITE("sync.condition_variable") {
    TEST_CASE("who waits has let go of the lock, and has it again when it was told") {
        fixture f("ab");
        CHECK_FALSE(f.m.is_locked());
        f.c.notify_one();
        CHECK(f.told() == "a");
        f.c.notify_all();
        CHECK(f.told() == "b");
        f.c.notify_one(); // nobody waits: it is not kept
        f.handles.push_back(f.ex.spawn(wait_for(f.m, f.c, f.log, "c")));
        CHECK(f.told().empty());
        f.c.notify_all();
        CHECK(f.told() == "c");
        CHECK_FALSE(f.m.is_locked());
    }

    TEST_CASE("told while the lock is held, it is woken when it gets that") {
        fixture f("abc");
        auto guard = f.m.try_lock();
        const std::size_t turns = f.ex.turns();
        f.c.notify_all();
        f.ex.run_until_idle();
        CHECK(f.ex.turns() == turns);
        guard.reset();
        CHECK(f.told() == "a b c");
    }

    TEST_CASE("with a predicate it is woken when that holds, and does not wait if it holds at once") {
        test::manual_executor ex;
        guarded<std::deque<int>> queue;
        condition_variable more;
        auto take = [](guarded<std::deque<int>>& q, condition_variable& c, std::size_t n) -> task<int> {
            auto items = co_await q.lock();
            const std::deque<int>& content = *items; // the guard itself is empty while it waits
            auto enough = [&] { return content.size() >= n; };
            co_await c.wait(items, enough);
            const int first = items->front();
            items->pop_front();
            co_return first;
        };
        auto h = ex.spawn(take(queue, more, 2));
        ex.run_until_idle();
        for (int i = 1; i <= 2; ++i) {
            CHECK_FALSE(h.is_finished());
            queue.blocking_lock()->push_back(i);
            more.notify_one();
            ex.run_until_idle();
        }
        CHECK(h.blocking_join() == 1);
        CHECK(test::run(ex, take(queue, more, 1)) == 2);
    }

    TEST_CASE("a predicate that throws ends the wait, with the lock held") {
        test::manual_executor ex;
        mutex m;
        condition_variable c;
        int asked = 0;
        auto f = [](mutex& mx, condition_variable& cv, int& n) -> task<bool> {
            auto guard = co_await mx.lock();
            auto ask = [&n]() -> bool {
                if (++n == 2)
                    throw std::runtime_error("no");
                return false;
            };
            bool thrown = false;
            try {
                co_await cv.wait(guard, ask);
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            co_return thrown&& guard&& mx.is_locked();
        };
        auto h = ex.spawn(f(m, c, asked));
        ex.run_until_idle();
        c.notify_one();
        ex.run_until_idle();
        CHECK(h.blocking_join());
        CHECK_FALSE(m.is_locked());
    }

    TEST_CASE("one that is dropped when it was told tells the next, and leaves the lock") {
        fixture f("abc");
        SUBCASE("while it waits: it is told of nothing") {
            f.handles[0].abort();
            f.ex.run_until_idle();
            f.c.notify_one();
            CHECK(f.told() == "b");
        }
        SUBCASE("when it has the lock") {
            f.c.notify_one();
            f.handles[0].abort();
            CHECK(f.told() == "b");
        }
        SUBCASE("when it waits for the lock") {
            auto guard = f.m.try_lock();
            f.c.notify_one();
            f.handles[0].abort();
            f.ex.run_until_idle();
            guard.reset();
            CHECK(f.told() == "b");
        }
        SUBCASE("told with all others") {
            f.c.notify_all();
            f.handles[0].abort();
            CHECK(f.told() == "b c");
        }
        CHECK_FALSE(f.m.is_locked());
    }

    TEST_CASE("after a timeout the guard holds nothing") {
        test::manual_executor ex;
        mutex m;
        condition_variable c;
        auto f = [](mutex& mx, condition_variable& cv) -> task<bool> {
            auto guard = co_await mx.lock();
            const bool in_time = (co_await magpie::timeout(1s, cv.wait(guard)));
            const bool empty = !guard && !mx.is_locked();
            guard = co_await mx.lock();
            co_return !in_time && empty && guard;
        };
        auto h = ex.spawn(f(m, c));
        ex.advance(1s);
        CHECK(h.blocking_join());
    }

    TEST_CASE("a guard that holds nothing is refused") {
        test::manual_executor ex;
        mutex m;
        condition_variable c;
        auto f = [](mutex& mx, condition_variable& cv) -> task<> {
            auto guard = co_await mx.lock();
            guard.unlock();
            co_await cv.wait(guard);
        };
        auto h = ex.spawn(f(m, c));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("holds no lock") != std::string::npos);
    }

    TEST_CASE("plain threads wait and tell") {
        guarded<int> turn(0);
        condition_variable changed;
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i)
            threads.emplace_back([&, i] {
                for (int round = 0; round < 200; ++round) {
                    auto held = turn.blocking_lock();
                    const int& now = *held;
                    changed.blocking_wait(held, [&] { return now % 2 == i; });
                    ++*held;
                    held.unlock();
                    changed.notify_all();
                }
            });
        for (std::thread& t : threads)
            t.join();
        CHECK(*turn.blocking_lock() == 400);
    }
}
