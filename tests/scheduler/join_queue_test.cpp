#include <magpie/scheduler/join_queue.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/in_child.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/members.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

using namespace std::chrono_literals;
using magpie::join_queue;
using magpie::task;
using magpie::sync::event;
using test::drain;
using test::fail;
using test::give;
using test::give_after;
using test::never;
using test::next_of;
using test::noisy;
using test::trace;

namespace {

task<> log_next(join_queue<int>& queue, trace& log) { log.add(co_await next_of(queue)); }

} // namespace

TEST_SUITE("scheduler.join_queue") {
    TEST_CASE("TASK-SETS-14 results come in order of the spawns, whatever the order of the ends") {
        test::on_each_layout([](auto builder) {
            const magpie::runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<std::string> {
                auto later = [](int n) -> task<int> {
                    co_await magpie::sleep_for(n * 10ms);
                    co_return n;
                };
                join_queue<int> queue;
                CHECK(queue.empty());
                for (const int n : {3, 1, 4, 2})
                    queue.spawn(later(n));
                CHECK(queue.size() == 4);
                trace log;
                co_await drain(queue, log);
                CHECK(queue.empty());
                queue.spawn(give(5)); // goes on after it was empty
                queue.spawn("its name", give(6));
                queue.spawn([] { return give(7); });
                co_await drain(queue, log);
                co_return log.text();
            };
            CHECK(rt.block_on(main()) == "3 1 4 2 none 5 6 7 none");
        });
    }

    TEST_CASE("TASK-SETS-14 spawning while another branch joins") {
        test::on_each_layout([](auto builder) {
            const magpie::runtime rt = builder.build();
            static constexpr int n = 1000;
            auto work = [](int i) -> task<int> {
                if (i % 3 == 0)
                    co_await magpie::yield_now();
                co_return i;
            };
            auto spawns = [](join_queue<int>& queue, bool& over, auto w) -> task<> {
                for (int i = 0; i < n; ++i) {
                    queue.spawn(w(i));
                    if (i % 7 == 0)
                        co_await magpie::yield_now();
                }
                over = true;
            };
            auto joins = [](join_queue<int>& queue, const bool& over) -> task<bool> {
                for (int expected = 0;;) {
                    const std::optional<int> next = co_await queue.join_next();
                    if (next && *next != expected++)
                        co_return false;
                    if (!next && over)
                        co_return expected == n;
                    if (!next)
                        co_await magpie::yield_now();
                }
            };
            auto main = [](auto w, auto s, auto j) -> task<bool> {
                join_queue<int> queue;
                bool over = false;
                auto both = co_await magpie::join(s(queue, over, w), j(queue, over));
                co_return std::get<1>(both);
            };
            CHECK(rt.block_on(main(work, spawns, joins)));
        });
    }

    TEST_CASE("TASK-SETS-15 only the end of the oldest task wakes who waits") {
        test::manual_executor ex;
        std::array<event, 3> go;
        auto main = [](std::array<event, 3>& g) -> task<int> {
            join_queue<int> queue;
            for (int i = 0; i < 3; ++i)
                queue.spawn(give_after(g[static_cast<std::size_t>(i)], i));
            int sum = 0;
            for (;;) {
                const std::optional<int> next = co_await queue.join_next();
                if (!next)
                    break;
                sum = 10 * sum + *next;
            }
            co_return sum;
        };
        auto h = ex.spawn(main(go));
        ex.run_until_idle();
        std::size_t turns = ex.turns();
        go[2].set();
        go[1].set();
        ex.run_until_idle();
        CHECK(ex.turns() - turns == 2); // of the two that end, and none of the joiner
        turns = ex.turns();
        go[0].set();
        ex.run_until_idle();
        CHECK(ex.turns() - turns == 2); // of the last one, and one of the joiner for all
        CHECK(h.blocking_join() == 12);
    }

    TEST_CASE("TASK-SETS-16 to try does not disturb who waits") {
        test::manual_executor ex;
        trace log;
        std::array<event, 2> go;
        event look;
        auto tries = [](join_queue<int>& queue, event& e, trace& l) -> task<> {
            CHECK_FALSE(queue.try_join_next());
            co_await e.wait();
            const std::optional<int> first = queue.try_join_next();
            l.add(first ? "taken" + std::to_string(*first) : "nothing");
            CHECK_FALSE(queue.try_join_next());
        };
        auto main = [](std::array<event, 2>& g, event& e, trace& l, auto t) -> task<> {
            join_queue<int> queue;
            queue.spawn(give_after(g[0], 0));
            queue.spawn(give_after(g[1], 1));
            co_await magpie::join(log_next(queue, l), t(queue, e, l));
        };
        auto h = ex.spawn(main(go, look, log, tries));
        ex.run_until_idle();
        SUBCASE("nothing has ended") {
            look.set();
            ex.run_until_idle();
            CHECK(log.take() == "nothing");
            go[0].set();
            ex.run_until_idle();
            CHECK(log.take() == "0");
        }
        SUBCASE("what has ended was tried for first: who waits goes on waiting for the next") {
            look.set();
            go[0].set();
            ex.run_until_idle();
            if (log.text() == "nothing") { // the look came first
                CHECK(log.take() == "nothing");
            } else {
                CHECK((log.text() == "taken0" || log.text() == "nothing 0"));
            }
            go[1].set();
            ex.run_until_idle();
        }
        go[1].set();
        ex.run_until_idle();
        CHECK(h.is_finished());
    }

    TEST_CASE("TASK-SETS-16 a branch that takes the oldest as its end wakes another one") {
        test::manual_executor ex;
        trace log;
        event go;
        event second;
        // In one batch: the end wakes the joiner, then the other branch, which runs first and tries.
        auto ends = [](event& e) -> task<int> {
            co_await e.wait();
            co_return 1;
        };
        auto main = [](event& e, event& s, trace& l, auto en) -> task<> {
            join_queue<int> queue;
            queue.spawn(en(e));
            queue.spawn(give_after(s, 2));
            auto steals = [](join_queue<int>& q, event& ev, trace& lg) -> task<> {
                co_await ev.wait();           // woken before the task that ends
                co_await magpie::yield_now(); // behind that
                const std::optional<int> n = q.try_join_next();
                lg.add(n ? "taken" + std::to_string(*n) : "nothing");
            };
            co_await magpie::join(steals(queue, e, l), log_next(queue, l));
        };
        auto h = ex.spawn(main(go, second, log, ends));
        ex.run_until_idle();
        go.set();
        ex.run_until_idle();
        second.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK((log.text() == "taken1 2" || log.text() == "1 nothing"));
    }

    TEST_CASE("TASK-SETS-17 shutdown aborts and drains") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto main = [](trace& l) -> task<> {
            join_queue<int> queue;
            queue.spawn(give(1));
            queue.spawn(never({l, "a"}));
            queue.spawn(fail("no"));
            queue.spawn(never({l, "b"}));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            co_await queue.shutdown();
            l.add("over");
            CHECK(queue.empty());
            queue.spawn(give(2));
            co_await drain(queue, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "a b over 2 none");
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "no");
    }

    TEST_CASE("TASK-SETS-17 one that was aborted alone is reported in its place") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_queue<int> queue;
            event go;
            queue.spawn(give_after(go, 1));
            const magpie::abort_handle second = queue.spawn(never({l, "gone"}));
            queue.spawn(fail("no"));
            queue.spawn(give(4));
            co_await magpie::yield_now();
            second.abort();
            co_await magpie::yield_now();
            go.set();
            co_await drain(queue, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "gone 1 cancelled no 4 none");
    }

    TEST_CASE("a dropped join takes nothing; what two branches had goes back to its place") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_queue<int> queue;
            event go;
            for (int i = 1; i <= 3; ++i)
                queue.spawn(give(i));
            queue.spawn(give_after(go, 4));
            co_await magpie::yield_now();
            auto has = [](join_queue<int>& q) -> task<> {
                event never_set;
                co_await magpie::join(q.join_next(), never_set.wait()); // its join has ended
            };
            auto ends = [](join_queue<int>& q) -> task<> {
                CHECK(q.try_join_next() == 3);
                co_return;
            };
            co_await magpie::select_biased(has(queue), has(queue), ends(queue));
            CHECK(queue.size() == 3);
            l.add(co_await next_of(queue));
            l.add(co_await next_of(queue));
            auto in_time = co_await magpie::timeout(0ms, queue.join_next());
            CHECK_FALSE(in_time.has_value());
            go.set();
            co_await drain(queue, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "1 2 4 none");
    }

    TEST_CASE("a queue that goes aborts its tasks; detach_all lets them run, and wakes who waits") {
        test::manual_executor ex;
        trace log;
        event go;
        auto says = [](event& e, trace& l) -> task<int> {
            co_await e.wait();
            l.add("ran");
            co_return 1;
        };
        auto detaches = [](join_queue<int>& queue) -> task<> {
            queue.detach_all();
            co_return;
        };
        auto main = [](event& e, trace& l, auto s, auto d) -> task<> {
            {
                join_queue<int> goes;
                goes.spawn(never({l, "aborted"}));
                goes.spawn(give(1));
                co_await magpie::yield_now();
            }
            join_queue<int> queue;
            queue.spawn(s(e, l));
            co_await magpie::join(drain(queue, l), d(queue));
            CHECK(queue.empty());
        };
        auto h = ex.spawn(main(go, log, says, detaches));
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK((log.text() == "aborted none" || log.text() == "none aborted"));
        go.set();
        ex.run_until_idle();
        CHECK(log.text().ends_with("ran"));
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a queue has one waiter at a time, and must not go while it has one") {
        test::manual_executor ex;
        trace log;
        auto aborts = [](join_queue<int>& queue, trace& l) -> task<> {
            l.add(co_await next_of(queue));
            queue.abort_all();
        };
        auto main = [](trace& l, auto a) -> task<> {
            join_queue<int> queue;
            queue.spawn(never({l, "gone"}));
            co_await magpie::join(log_next(queue, l), a(queue, l));
        };
        test::run(ex, main(log, aborts));
        CHECK(log.text() == "somebody else waits for this set of tasks already: it has one waiter at a "
                            "time gone cancelled");
        CHECK_FALSE(test::survives([] {
            test::manual_executor other;
            auto goes = []() -> task<> {
                trace l;
                auto queue = std::make_unique<join_queue<int>>();
                queue->spawn(never({l, "gone"}));
                auto destroys = [](std::unique_ptr<join_queue<int>>& q) -> task<> {
                    q.reset();
                    co_return;
                };
                co_await magpie::join(log_next(*queue, l), destroys(queue));
            };
            other.spawn(goes()).detach();
            other.run_until_idle();
            return true;
        }));
    }

    TEST_CASE("void, references, what can only be moved, moves, as_result, and plain threads") {
        const magpie::runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        static int number = 4;
        auto nothing = []() -> task<> { co_return; };
        auto reference = []() -> task<int&> { co_return number; };
        auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };

        join_queue<> voids;
        voids.spawn(nothing());
        CHECK(voids.blocking_join_next());
        CHECK_FALSE(voids.blocking_join_next());

        join_queue<int&> references;
        references.spawn(reference());
        CHECK(&references.blocking_join_next()->get() == &number);

        join_queue<std::unique_ptr<int>> first;
        first.spawn(unique());
        join_queue<std::unique_ptr<int>> second;
        second = std::move(first);
        CHECK(first.empty()); // NOLINT(bugprone-use-after-move): it says so
        const std::optional<std::unique_ptr<int>> p = second.blocking_join_next();
        REQUIRE(p);
        CHECK(**p == 5);

        auto main = []() -> task<> {
            join_queue<int> queue;
            queue.spawn(fail("no"));
            std::optional<magpie::task_result<int>> r = co_await magpie::as_result(queue.join_next());
            REQUIRE(r);
            CHECK(magpie::describe(r->error()) == "no");
            r = co_await magpie::as_result(queue.join_next());
            CHECK_FALSE(r);
            CHECK_THROWS_AS(queue.spawn(task<int>()), std::logic_error);
            CHECK(queue.empty());
        };
        rt.block_on(main());
    }
}
