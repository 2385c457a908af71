#include <magpie/scheduler/task_tracker.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::task_tracker;
using magpie::tracker_token;
using magpie::sync::event;
using test::noisy;
using test::trace;

namespace {

task<int> give(int n) { co_return n; }

task<> wait_for(event& e, noisy) { co_await e.wait(); }

task<> log_end(task_tracker tracker, trace& log, std::string word) {
    co_await tracker.wait();
    log.add(word);
}

/// Awaits an operation that was made before.
task<> await_made(magpie::tracker_wait_operation made) { co_await std::move(made); }

} // namespace

TEST_SUITE("scheduler.task_tracker") {
    TEST_CASE("TASK-SETS-18 wait ends only when the tracker is closed and empty") {
        test::manual_executor ex;
        trace log;
        const task_tracker tracker;
        ex.spawn(log_end(tracker, log, "over")).detach();
        ex.run_until_idle();
        CHECK(tracker.empty());
        CHECK_FALSE(tracker.is_closed());
        CHECK(log.text().empty());
        std::optional<tracker_token> token(tracker.token());
        CHECK(tracker.close());
        CHECK(tracker.is_closed());
        CHECK_FALSE(tracker.close());
        ex.run_until_idle();
        CHECK(log.text().empty());
        token.reset();
        ex.run_until_idle();
        CHECK(log.text() == "over");
    }

    TEST_CASE("TASK-SETS-18 the last of several tasks ends it, for each who waits") {
        test::on_each_layout([](auto builder) {
            trace log;
            const magpie::runtime rt = builder.build();
            auto main = [](trace& l) -> task<> {
                const task_tracker tracker;
                event go;
                std::atomic<int> ended{0};
                for (int i = 0; i < 100; ++i)
                    tracker
                        .spawn([&go, &ended]() -> task<> {
                            co_await go.wait();
                            ++ended;
                        })
                        .detach();
                CHECK(tracker.size() == 100);
                std::vector<magpie::join_handle<>> waiting;
                for (int i = 0; i < 10; ++i)
                    waiting.push_back(magpie::spawn([tracker, &ended]() -> task<> {
                        co_await tracker.wait();
                        CHECK(ended.load() == 100);
                    }));
                tracker.close();
                go.set();
                for (auto& w : waiting)
                    co_await w;
                co_await tracker.wait();
                CHECK(tracker.empty());
                l.add("over");
            };
            rt.block_on(main(log));
            CHECK(log.text() == "over");
        });
    }

    TEST_CASE("TASK-SETS-19 wait ends at once if it is closed and empty, also if it is reopened") {
        test::manual_executor ex;
        const task_tracker tracker;
        CHECK_FALSE(tracker.reopen());
        tracker.close();
        auto at_once = ex.spawn(await_made(tracker.wait()));
        ex.run_one();
        CHECK(at_once.is_finished());
        auto made = tracker.wait();
        CHECK(tracker.reopen());
        CHECK_FALSE(tracker.reopen());
        const tracker_token token = tracker.token();
        auto reopened = ex.spawn(await_made(std::move(made)));
        ex.run_until_idle();
        CHECK(reopened.is_finished());
        auto waits = ex.spawn(await_made(tracker.wait()));
        ex.run_until_idle();
        CHECK_FALSE(waits.is_finished());
        waits.abort();
        ex.run_until_idle();
    }

    TEST_CASE("TASK-SETS-20 to close and reopen ends the wait of who has come before") {
        test::manual_executor ex;
        trace log;
        const task_tracker tracker;
        ex.spawn(log_end(tracker, log, "first")).detach();
        auto made = tracker.wait(); // not awaited yet
        ex.run_until_idle();
        tracker.close();
        tracker.reopen();
        const tracker_token token = tracker.token();
        auto late = ex.spawn(log_end(tracker, log, "second"));
        auto before = ex.spawn(await_made(std::move(made)));
        ex.run_until_idle();
        CHECK(log.text() == "first");
        CHECK(before.is_finished());
        CHECK_FALSE(late.is_finished());
        late.abort();
        ex.run_until_idle();
    }

    TEST_CASE("TASK-SETS-21 empty but open, and then a new task: the wait goes on") {
        test::manual_executor ex;
        trace log;
        const task_tracker tracker;
        std::optional<tracker_token> token(tracker.token());
        ex.spawn(log_end(tracker, log, "over")).detach();
        ex.run_until_idle();
        token.reset(); // empty, and open
        token.emplace(tracker.token());
        tracker.close();
        ex.run_until_idle();
        CHECK(log.text().empty());
        token.reset();
        ex.run_until_idle();
        CHECK(log.text() == "over");
    }

    TEST_CASE("TASK-SETS-22 to close while tasks end, on many threads, misses nobody") {
        const magpie::runtime rt = test::multi_thread().worker_threads(3).build();
        auto main = []() -> task<int> {
            int rounds = 0;
            for (; rounds < test::scaled(2000); ++rounds) {
                const task_tracker tracker;
                for (int i = 0; i < 4; ++i)
                    tracker.spawn([]() -> task<> { co_await magpie::yield_now(); }).detach();
                auto closes = magpie::spawn([tracker]() -> task<> {
                    tracker.close();
                    co_return;
                });
                auto waits = magpie::spawn([tracker]() -> task<> { co_await tracker.wait(); });
                co_await tracker.wait();
                co_await waits;
                co_await closes;
            }
            co_return rounds;
        };
        CHECK(rt.block_on(main()) == test::scaled(2000));
    }

    TEST_CASE("TASK-SETS-23 tasks that are spawned after the close delay the end") {
        test::manual_executor ex;
        trace log;
        event go;
        auto main = [](event& e, trace& l) -> task<> {
            const task_tracker tracker;
            event first;
            tracker.spawn("named", wait_for(first, noisy(l, "first"))).detach();
            tracker.close();
            auto second = tracker.spawn(wait_for(e, noisy(l, "second")));
            CHECK(tracker.size() == 2);
            first.set();
            co_await tracker.wait();
            l.add("over");
            co_await second;
        };
        auto h = ex.spawn(main(go, log));
        ex.run_until_idle();
        CHECK(log.text() == "first");
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "first second over");
        CHECK(h.is_finished());
    }

    TEST_CASE("TASK-SETS-24 the count of tokens is exact: copies, moves, tasks") {
        test::manual_executor ex;
        const task_tracker tracker;
        {
            const tracker_token a = tracker.token();
            CHECK(tracker.size() == 1);
            tracker_token b(a);
            CHECK(tracker.size() == 2);
            tracker_token c(std::move(b));
            CHECK(tracker.size() == 2);
            b = a; // NOLINT(bugprone-use-after-move): it may be assigned to
            CHECK(tracker.size() == 3);
            c = std::move(b);
            CHECK(tracker.size() == 2);
            c.reset();
            c.reset();
            CHECK(tracker.size() == 1);
        }
        CHECK(tracker.empty());
        auto main = [](task_tracker t) -> task<> {
            auto h = t.spawn(give(1));
            CHECK(t.size() == 1);
            const int one = co_await h;
            CHECK(one == 1);
            CHECK(t.size() == 0); // who has seen the end does not find it counted
            auto never = t.spawn([]() -> task<> {
                event e;
                co_await e.wait();
            });
            co_await magpie::yield_now();
            CHECK(t.size() == 1);
            never.abort();
            co_await magpie::as_result(never);
            CHECK(t.empty());
            auto failed = t.spawn([]() -> task<> {
                throw std::runtime_error("no");
                co_return;
            });
            co_await magpie::as_result(failed);
            CHECK(t.empty());
        };
        test::run(ex, main(tracker));
    }

    TEST_CASE("TASK-SETS-24 a task that is spawned on a closed runtime is not counted") {
        const task_tracker tracker;
        struct spawns_at_end {
            task_tracker tracker;
            ~spawns_at_end() { tracker.spawn(give(1)).detach(); }
        };
        {
            test::manual_executor ex;
            auto main = [](task_tracker t) -> task<> {
                const spawns_at_end late{t};
                event e;
                co_await e.wait();
            };
            ex.spawn(main(tracker)).detach();
            ex.run_until_idle();
        }
        CHECK(tracker.empty());
    }

    TEST_CASE("a token of a blocking call, and a wait on a plain thread") {
        std::atomic<bool> over{false};
        const magpie::runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        const task_tracker tracker;
        magpie::spawn_blocking([token = tracker.token(), tracker, &over] {
            while (!tracker.is_closed()) // the wait is the next thing there
                std::this_thread::yield();
            over = true;
        }).detach();
        tracker.close();
        tracker.blocking_wait();
        CHECK(over.load());
    }

    TEST_CASE("a tracker may go before its tasks, its tokens and those who wait") {
        test::manual_executor ex;
        trace log;
        event go;
        std::optional<tracker_token> token;
        {
            const task_tracker tracker;
            tracker.close();
            token.emplace(tracker.token());
            ex.spawn(log_end(tracker, log, "over")).detach();
            ex.run_until_idle();
        }
        token.reset();
        ex.run_until_idle();
        CHECK(log.text() == "over");
    }

    TEST_CASE("a wait that is dropped leaves the others alone") {
        test::manual_executor ex;
        trace log;
        const task_tracker tracker;
        std::optional<tracker_token> token(tracker.token());
        tracker.close();
        auto first = ex.spawn(log_end(tracker, log, "first"));
        ex.spawn(log_end(tracker, log, "second")).detach();
        auto in_time = [](task_tracker t, trace& l) -> task<> {
            const bool ended = co_await magpie::timeout(1s, t.wait());
            l.add(ended ? "ended" : "too late");
        };
        ex.spawn(in_time(tracker, log)).detach();
        ex.run_until_idle();
        first.abort();
        ex.advance(2s);
        CHECK(log.text() == "too late");
        token.reset();
        ex.run_until_idle();
        CHECK(log.text() == "too late second");
    }

    TEST_CASE("copies are equal, and what was moved from says so") {
        task_tracker tracker;
        const task_tracker copy = tracker;
        CHECK(copy == tracker);
        CHECK_FALSE(copy == task_tracker());
        task_tracker moved(std::move(tracker));
        CHECK(moved == copy);
        // NOLINTBEGIN(bugprone-use-after-move)
        CHECK_THROWS_AS(tracker.close(), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(tracker.token()), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(tracker.wait()), std::logic_error);
        // NOLINTEND(bugprone-use-after-move)
        tracker = copy;
        CHECK(tracker.close());
        CHECK_THROWS_AS(tracker.spawn(give(1)).detach(), std::logic_error); // outside of a runtime
        CHECK(copy.empty());
    }
}
