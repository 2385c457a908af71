#include <magpie/scheduler/join_set.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/in_child.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/members.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
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
using magpie::join_set;
using magpie::task;
using magpie::sync::event;
using test::drain;
using test::fail;
using test::give;
using test::give_after;
using test::never;
using test::next_of;
using test::noisy;
using test::on_each_layout;
using test::trace;

namespace {

task<int> give_later(int n, magpie::clock::duration d) {
    co_await magpie::sleep_for(d);
    co_return n;
}

} // namespace

TEST_SUITE("scheduler.join_set") {
    TEST_CASE("TASK-SETS-01 join_next gives results in order of the ends, and none when it is empty") {
        on_each_layout([](auto builder) {
            const magpie::runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<std::string> {
                join_set<int> set;
                CHECK(set.empty());
                for (const int n : {3, 1, 4, 2})
                    set.spawn(give_later(n, n * 10ms));
                CHECK(set.size() == 4);
                trace log;
                co_await drain(set, log);
                CHECK(set.empty());
                set.spawn(give(5)); // goes on after it was empty
                co_await drain(set, log);
                co_return log.text();
            };
            CHECK(rt.block_on(main()) == "1 2 3 4 none 5 none");
        });
    }

    TEST_CASE("TASK-SETS-02 dropping the set aborts all") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            {
                join_set<int> set;
                set.spawn(never({l, "a"}));
                set.spawn(never({l, "b"}));
                set.spawn(give(1)); // ends, and nobody joins it
                co_await magpie::yield_now();
                co_await magpie::yield_now();
            }
            l.add("left");
        };
        test::run(ex, main(log));
        CHECK((log.text() == "left a b" || log.text() == "left b a"));
        CHECK(ex.live() == 0);
    }

    TEST_CASE("TASK-SETS-02 so does dropping the task that has it, while it waits") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> set;
            set.spawn(never({l, "a"}));
            co_await set.join_next();
        };
        auto h = ex.spawn(main(log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "a");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("TASK-SETS-03 single tasks are aborted through the handles that spawn returns") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> set;
            event go;
            magpie::abort_handle first = set.spawn(never({l, "gone"}));
            const magpie::abort_handle second = set.spawn(give_after(go, 2));
            CHECK(first.id() != second.id());
            first.abort();
            l.add(co_await next_of(set));
            CHECK(first.is_finished());
            CHECK_FALSE(second.is_finished());
            go.set();
            l.add(co_await next_of(set));
            second.abort(); // too late
            l.add(co_await next_of(set));
        };
        test::run(ex, main(log));
        CHECK(log.text() == "gone cancelled 2 none");
    }

    TEST_CASE("TASK-SETS-04 tasks whose runtime is gone are reported as cancelled") {
        on_each_layout([](auto builder) {
            trace log;
            join_set<int> set;
            {
                const magpie::runtime rt = builder.build();
                const auto in = rt.enter();
                set.spawn(never({log, "gone"}));
                set.spawn(give_later(1, 10h));
            }
            CHECK(log.text() == "gone");
            CHECK(set.size() == 2);
            CHECK_THROWS_AS(set.blocking_join_next(), magpie::task_cancelled);
            CHECK_THROWS_AS(set.blocking_join_next(), magpie::task_cancelled);
            CHECK_FALSE(set.blocking_join_next());
        });
    }

    TEST_CASE("TASK-SETS-04 also those that are spawned when it is closed already") {
        trace log;
        join_set<int> set;
        struct spawns_at_end {
            join_set<int>& set;
            ~spawns_at_end() { set.spawn(give(1)); }
        };
        {
            test::manual_executor ex;
            auto main = [](join_set<int>& st, trace& l) -> task<> {
                const spawns_at_end late{st};
                co_await never({l, "gone"});
            };
            ex.spawn(main(set, log)).detach();
            ex.run_until_idle();
            CHECK(set.empty());
        }
        CHECK(set.size() == 1);
        CHECK_THROWS_AS(set.try_join_next(), magpie::task_cancelled);
        CHECK(set.empty());
    }

    TEST_CASE("TASK-SETS-05 join_all gives all results") {
        test::manual_executor ex;
        auto main = []() -> task<int> {
            join_set<int> set;
            for (int i = 1; i <= 10; ++i)
                set.spawn(give(i));
            int sum = 0;
            for (const int n : co_await set.join_all())
                sum += n;
            CHECK(set.empty());
            co_return sum;
        };
        CHECK(test::run(ex, main()) == 55);
    }

    TEST_CASE("TASK-SETS-05 ... its first failure comes out, and the rest is aborted") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> set;
            set.spawn(never({l, "gone"}));
            set.spawn(fail("no"));
            try {
                co_await set.join_all();
            } catch (const std::runtime_error& e) {
                l.add(e.what());
            }
            l.add(std::to_string(set.size()));
            co_await drain(set, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "no 1 gone cancelled none");
    }

    TEST_CASE("TASK-SETS-06 after abort_all the unfinished are cancelled, the finished give values") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> set;
            set.spawn(never({l, "gone"}));
            set.spawn(give(1));
            set.spawn(fail("no"));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            set.abort_all();
            CHECK(set.size() == 3);
            co_await drain(set, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "1 no gone cancelled none");
    }

    TEST_CASE("TASK-SETS-07 try_join_next does not wait; with ids each result says whose it is") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            join_set<int> set;
            event go;
            CHECK_FALSE(set.try_join_next());
            const std::uint64_t first = set.spawn(give_after(go, 1)).id();
            CHECK_FALSE(set.try_join_next());
            CHECK_FALSE(set.try_join_next_with_id());
            go.set();
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            const std::optional<magpie::joined<int>> one = set.try_join_next_with_id();
            REQUIRE(one);
            CHECK(one->id == first);
            CHECK(one->result.value() == 1);
            const std::uint64_t second = set.spawn(fail("no")).id();
            const std::optional<magpie::joined<int>> two = co_await set.join_next_with_id();
            REQUIRE(two);
            CHECK(two->id == second);
            CHECK(magpie::describe(two->result.error()) == "no");
            const std::optional<magpie::joined<int>> none = co_await set.join_next_with_id();
            CHECK_FALSE(none);
        };
        test::run(ex, main());
    }

    TEST_CASE("TASK-SETS-08 to join thousands of tasks that have ended takes many turns") {
        test::manual_executor ex;
        constexpr int n = 10'000;
        auto main = [](event& all) -> task<int> {
            join_set<int> set;
            for (int i = 0; i < n; ++i)
                set.spawn(give(1));
            co_await all.wait();
            int joined = 0;
            for (std::optional<int> next = co_await set.join_next(); next;) {
                joined += *next;
                next = co_await set.join_next();
            }
            co_return joined;
        };
        event all;
        auto h = ex.spawn(main(all));
        ex.run_until_idle();
        const std::size_t before = ex.turns();
        all.set();
        ex.run_until_idle();
        CHECK(h.blocking_join() == n);
        CHECK(ex.turns() - before >= n / ex.budget());
    }

    TEST_CASE("TASK-SETS-09 a set is made of a range of tasks, and takes one in") {
        test::manual_executor ex;
        auto main = []() -> task<int> {
            std::vector<task<int>> tasks;
            for (int i = 1; i <= 4; ++i)
                tasks.push_back(give(i));
            join_set<int> set(std::move(tasks));
            std::vector<task<int>> more;
            more.push_back(give(10));
            set.spawn_all(more);
            CHECK(set.size() == 5);
            int sum = 0;
            for (const int n : co_await set.join_all())
                sum += n;
            co_return sum;
        };
        CHECK(test::run(ex, main()) == 20);
    }

    TEST_CASE("as_result gives values and exceptions, and throws neither") {
        test::manual_executor ex;
        auto main = []() -> task<std::string> {
            join_set<int> set;
            set.spawn(give(1));
            set.spawn(fail("no"));
            event e;
            set.spawn(give_after(e, 1)).abort();
            std::string text;
            for (;;) {
                const std::optional<magpie::task_result<int>> r = co_await as_result(set.join_next());
                if (!r)
                    break;
                text += r->has_value() ? std::to_string(r->value())
                                       : std::string(magpie::describe(r->error()));
                text += ", ";
            }
            co_return text;
        };
        const std::string text = test::run(ex, main());
        CHECK(text.find("1, ") != std::string::npos);
        CHECK(text.find("no, ") != std::string::npos);
        CHECK(text.find("the task was cancelled, ") != std::string::npos);
    }

    TEST_CASE("a wait that is dropped leaves every result in the set") {
        test::manual_executor ex;
        trace log;
        event go;
        auto main = [](event& e, trace& l) -> task<> {
            join_set<int> set;
            set.spawn(give_after(e, 7));
            const auto late = co_await magpie::timeout(1s, set.join_next());
            l.add(late ? "in-time" : "late");
            {
                auto op = set.join_next(); // as a loser of a select would be
                co_await e.wait();
                co_await magpie::yield_now();
                CHECK(op.try_complete());
                CHECK(set.empty());
            }
            CHECK(set.size() == 1);
            co_await drain(set, l);
        };
        auto h = ex.spawn(main(go, log));
        ex.run_until_idle();
        ex.advance(1s);
        go.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "late 7 none");
    }

    TEST_CASE("another branch may spawn while one waits, and may take what it was woken for") {
        test::manual_executor ex;
        trace log;
        event go;
        auto waits = [](join_set<int>& set, trace& l) -> task<> { co_await drain(set, l); };
        auto takes = [](join_set<int>& set, event& e, trace& l) -> task<> {
            set.spawn(give_after(e, 1));
            event second;
            const magpie::abort_handle task_of_two = set.spawn(give_after(second, 2));
            co_await e.wait();
            co_await magpie::yield_now();
            const std::optional<int> taken = set.try_join_next();
            l.add(taken ? "taken" : "too-late");
            second.set();
            while (!task_of_two.is_finished())
                co_await magpie::yield_now();
        };
        auto main = [](event& e, trace& l, auto w, auto t) -> task<> {
            join_set<int> set;
            set.spawn(never({l, "gone"})).abort();
            test::both branches(w(set, l), t(set, e, l));
            co_await branches;
        };
        auto h = ex.spawn(main(go, log, waits, takes));
        ex.run_until_idle();
        CHECK(log.text() == "gone cancelled");
        go.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "gone cancelled taken 2 none"); // it went on waiting
    }

    TEST_CASE("a set has one waiter at a time") {
        test::manual_executor ex;
        auto waits = [](join_set<int>& set, std::string& what) -> task<> {
            try {
                co_await set.join_next();
            } catch (const std::logic_error& e) {
                what = e.what();
                set.abort_all();
            } catch (const magpie::task_cancelled&) {}
        };
        auto main = [](auto w) -> task<std::string> {
            join_set<int> set;
            trace log;
            set.spawn(never({log, "gone"}));
            std::string what;
            test::both branches(w(set, what), w(set, what));
            co_await branches;
            co_return what;
        };
        CHECK(test::run(ex, main(waits)) ==
              "somebody else waits for this set of tasks already: it has one waiter at a time");
    }

    TEST_CASE("a set that is destroyed while a branch waits in it ends the program") {
        CHECK_FALSE(test::survives([] {
            test::manual_executor ex;
            auto waits = [](join_set<int>& set) -> task<> { co_await set.join_next(); };
            auto destroys = [](std::unique_ptr<join_set<int>>& set) -> task<> {
                set.reset();
                co_return;
            };
            auto main = [](auto w, auto d) -> task<> {
                trace log;
                auto set = std::make_unique<join_set<int>>();
                set->spawn(never({log, "gone"}));
                test::both branches(w(*set), d(set));
                co_await branches;
            };
            ex.spawn(main(waits, destroys)).detach();
            ex.run_until_idle();
            return true;
        }));
    }

    TEST_CASE("detach_all lets the tasks run on, and wakes a branch that waits") {
        test::manual_executor ex;
        trace log;
        event go;
        auto says = [](event& e, trace& l) -> task<int> {
            co_await e.wait();
            l.add("ran");
            co_return 1;
        };
        auto main = [](event& e, trace& l, auto s) -> task<> {
            join_set<int> set;
            set.spawn(s(e, l));
            set.spawn(give(1));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            set.detach_all();
            CHECK(set.empty());
            CHECK_FALSE(set.try_join_next());
            set.spawn(give(2)); // it may be used again
            co_await drain(set, l);
            set.spawn(s(e, l));
            auto waits = [](join_set<int>& st, trace& lg) -> task<> { co_await drain(st, lg); };
            auto detaches = [](join_set<int>& st) -> task<> {
                co_await magpie::yield_now();
                st.detach_all();
            };
            test::both branches(waits(set, l), detaches(set));
            co_await branches;
        };
        auto h = ex.spawn(main(go, log, says));
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "2 none none");
        go.set();
        ex.run_until_idle();
        CHECK(log.text() == "2 none none ran ran");
    }

    TEST_CASE("exceptions that nobody joins are reported, whether the set or the task goes first") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        auto later = [](event& e) -> task<int> {
            co_await e.wait();
            throw std::runtime_error("later");
        };
        auto main = [](event& e, auto l) -> task<> {
            join_set<int> set;
            set.spawn(fail("early"));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            set.spawn(l(e));
            set.detach_all();
        };
        event go;
        test::run(ex, main(go, later));
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "early");
        go.set();
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 2);
        CHECK(unhandled.reports()[1].what == "later");
    }

    TEST_CASE("void, references, and what can only be moved") {
        test::manual_executor ex;
        static int number = 4;
        auto nothing = []() -> task<> { co_return; };
        auto reference = []() -> task<int&> { co_return number; };
        auto unique = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
        auto main = [](auto n, auto r, auto u) -> task<> {
            join_set<> voids;
            voids.spawn(n());
            const bool one = co_await voids.join_next();
            CHECK(one);
            const bool two = co_await voids.join_next();
            CHECK_FALSE(two);
            voids.spawn(n());
            co_await voids.join_all();
            CHECK(voids.empty());

            join_set<int&> references;
            references.spawn(r());
            const std::optional<std::reference_wrapper<int>> it = co_await references.join_next();
            REQUIRE(it);
            CHECK(&it->get() == &number);
            references.spawn(r());
            auto all_references = co_await references.join_all();
            CHECK(all_references.size() == 1);

            join_set<std::unique_ptr<int>> moved;
            moved.spawn(u());
            moved.spawn(u());
            const std::optional<std::unique_ptr<int>> p = co_await moved.join_next();
            REQUIRE(p);
            CHECK(**p == 5);
            auto all = co_await moved.join_all();
            REQUIRE(all.size() == 1);
            CHECK(*all[0] == 5);
        };
        test::run(ex, main(nothing, reference, unique));
    }

    TEST_CASE("a set may be moved; the one that is assigned to aborts its tasks") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> first;
            first.spawn(give(1));
            join_set<int> second;
            second.spawn(never({l, "gone"}));
            second = std::move(first);
            CHECK(first.empty()); // NOLINT(bugprone-use-after-move): it says so
            co_await drain(second, l);
            first.spawn(give(2));
            join_set<int> third(std::move(first));
            co_await drain(third, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "gone 1 none 2 none");
    }

    TEST_CASE("names, callables, and misuse") {
        test::manual_executor ex;
        auto named = []() -> task<std::string> { co_return std::string(magpie::this_task::name()); };
        auto main = [](auto n) -> task<> {
            join_set<std::string> set;
            set.spawn("reader", n());
            std::optional<std::string> name = co_await set.join_next();
            REQUIRE(name);
            CHECK(*name == "reader");
            int calls = 0;
            auto callable = [&calls]() -> task<std::string> {
                ++calls;
                co_return "called";
            };
            set.spawn(callable);
            name = co_await set.join_next();
            REQUIRE(name);
            CHECK(*name == "called");
            CHECK(calls == 1);
            CHECK_THROWS_AS(set.spawn(task<std::string>()), std::logic_error);
            CHECK(set.empty());
        };
        test::run(ex, main(named));
        join_set<int> outside;
        CHECK_THROWS_AS(outside.spawn(give(1)), std::logic_error);
        CHECK_FALSE(outside.try_join_next());
    }

    // --- a limit on concurrency ---

    TEST_CASE("spawn_when_free waits until fewer tasks than the limit have not ended") {
        test::manual_executor ex;
        trace log;
        std::array<event, 4> go;
        auto main = [](std::array<event, 4>& g, trace& l) -> task<> {
            join_set<int> set(2);
            for (int i = 0; i < 4; ++i) {
                co_await set.spawn_when_free(give_after(g[static_cast<std::size_t>(i)], i));
                l.add("spawned");
            }
            CHECK(set.full());
            co_await drain(set, l); // those that have ended wait to be joined, and take no place
        };
        auto h = ex.spawn(main(go, log));
        ex.run_until_idle();
        CHECK(log.take() == "spawned spawned");
        go[1].set();
        ex.run_until_idle();
        CHECK(log.take() == "spawned");
        go[0].set();
        ex.run_until_idle();
        CHECK(log.take() == "spawned 1 0");
        go[2].set();
        go[3].set();
        ex.run_until_idle();
        CHECK(log.take() == "2 3 none");
        CHECK(h.is_finished());
    }

    TEST_CASE("one branch spawns into a set with a limit while another joins") {
        for (const std::size_t limit : {1U, 2U, 7U}) {
            on_each_layout([limit](auto builder) {
                const magpie::runtime rt = builder.build();
                struct counts {
                    std::atomic<std::size_t> alive{0};
                    std::atomic<std::size_t> most{0};
                };
                static constexpr int n = 500;
                auto main = [](std::size_t lim) -> task<int> {
                    counts c;
                    join_set<int> set(lim);
                    bool over = false;
                    auto work = [](counts& cs, int i) -> task<int> {
                        const std::size_t now = ++cs.alive;
                        std::size_t most = cs.most;
                        while (most < now && !cs.most.compare_exchange_weak(most, now)) {}
                        if (i % 3 != 0)
                            co_await magpie::yield_now();
                        --cs.alive;
                        co_return i;
                    };
                    auto spawns = [](join_set<int>& st, counts& cs, bool& ov, auto w) -> task<> {
                        for (int i = 0; i < n; ++i)
                            co_await st.spawn_when_free(w(cs, i));
                        ov = true;
                    };
                    auto joins = [](join_set<int>& st, const bool& ov) -> task<int> {
                        int sum = 0;
                        for (;;) {
                            const std::optional<int> next = co_await st.join_next();
                            if (next)
                                sum += *next;
                            else if (ov)
                                co_return sum;
                            else
                                co_await magpie::yield_now();
                        }
                    };
                    auto both = co_await magpie::join(spawns(set, c, over, work), joins(set, over));
                    CHECK(c.most.load() <= lim);
                    CHECK(set.empty());
                    co_return std::get<1>(both);
                };
                CHECK(rt.block_on(main(limit)) == n * (n - 1) / 2);
            });
        }
    }

    TEST_CASE("who waits for a place and who waits for an end wait side by side, in each order") {
        test::manual_executor ex;
        trace log;
        std::array<event, 3> go;
        auto spawns = [](join_set<int>& set, event& e, int n, trace& l) -> task<> {
            co_await set.spawn_when_free(give_after(e, n));
            l.add("spawned" + std::to_string(n));
        };
        auto joins = [](join_set<int>& set, trace& l) -> task<> { l.add(co_await next_of(set)); };
        auto main = [](bool joiner_first, std::array<event, 3>& g, trace& l, auto s, auto j) -> task<> {
            join_set<int> set(1);
            set.spawn(give_after(g[0], 0));
            if (joiner_first)
                co_await magpie::join(j(set, l), s(set, g[1], 1, l), s(set, g[2], 2, l));
            else
                co_await magpie::join(s(set, g[1], 1, l), s(set, g[2], 2, l), j(set, l));
            co_await drain(set, l);
        };
        for (const bool joiner_first : {true, false}) {
            std::array<event, 3> each;
            auto h = ex.spawn(main(joiner_first, each, log, spawns, joins));
            ex.run_until_idle();
            CHECK(log.take().empty());
            each[0].set();
            ex.run_until_idle();
            CHECK(log.take() == "0 spawned1");
            each[1].set();
            ex.run_until_idle();
            CHECK(log.take() == "spawned2 1"); // the second branch had its place, then the join ended
            each[2].set();
            ex.run_until_idle();
            CHECK(log.take() == "2 none");
            CHECK(h.is_finished());
        }
    }

    TEST_CASE(
        "a dropped wait for a place spawns nothing, and gives the place it was handed to the next") {
        test::manual_executor ex;
        trace log;
        event go;
        event dropped;
        auto never_runs = [](noisy) -> task<int> {
            CHECK(false);
            co_return 0;
        };
        auto gives_up = [](join_set<int>& set, event& e, trace& l, auto nr) -> task<> {
            // In one batch with the end of the task: `select` has it dropped with the place in its hand.
            co_await magpie::select_biased(e.wait(), set.spawn_when_free(nr({l, "destroyed"})));
        };
        auto waits = [](join_set<int>& set, trace& l) -> task<> {
            co_await set.spawn_when_free(give(2));
            l.add("spawned");
        };
        auto ends = [](event& e, event& d) -> task<int> {
            co_await e.wait();
            d.set();
            co_return 1;
        };
        auto main = [](event& e, event& d, trace& l, auto g, auto w, auto en, auto nr) -> task<> {
            join_set<int> set(1);
            set.spawn(en(e, d));
            co_await magpie::join(g(set, d, l, nr), w(set, l));
            co_await drain(set, l);
        };
        auto h = ex.spawn(main(go, dropped, log, gives_up, waits, ends, never_runs));
        ex.run_until_idle();
        CHECK(log.text().empty());
        go.set();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "destroyed spawned 1 2 none");
    }

    TEST_CASE("a task that waits for a place and is aborted leaves nothing behind") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            join_set<int> set(1);
            set.spawn(never({l, "first"}));
            co_await set.spawn_when_free(never({l, "second"}));
            l.add("spawned");
        };
        auto h = ex.spawn(main(log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "second first");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("detach_all frees the places, and wakes who waits for one") {
        test::manual_executor ex;
        trace log;
        event go;
        auto spawns = [](join_set<int>& set, trace& l, int n) -> task<> {
            co_await set.spawn_when_free(give(n));
            l.add("spawned");
        };
        auto detaches = [](join_set<int>& set) -> task<> {
            set.detach_all();
            co_return;
        };
        auto main = [](event& e, trace& l, auto s, auto d) -> task<> {
            join_set<int> set(1);
            set.spawn(give_after(e, 0));
            co_await magpie::join(s(set, l, 1), s(set, l, 2), d(set));
            co_await drain(set, l);
        };
        auto h = ex.spawn(main(go, log, spawns, detaches));
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "spawned spawned 1 2 none");
        go.set();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a limit: misuse") {
        test::manual_executor ex;
        CHECK_THROWS_WITH_AS(
            join_set<int>(0),
            "a set of tasks with a limit of 0 could never hold a task: give it at least 1",
            std::logic_error);
        auto main = []() -> task<> {
            trace log;
            join_set<int> set(1);
            CHECK_FALSE(set.full());
            set.spawn(never({log, "gone"}));
            CHECK(set.full());
            CHECK_THROWS_WITH_AS(
                set.spawn(give(1)),
                "this set of tasks is full: co_await its spawn_when_free(), which waits "
                "for a place, or ask full() first",
                std::logic_error);
            CHECK(set.size() == 1);
            set.abort_all();
            CHECK_THROWS_AS(co_await set.spawn_when_free(task<int>()), std::logic_error);
            CHECK_FALSE(set.full()); // the place of the one that could not be spawned is free
        };
        test::run(ex, main());
    }

    // --- shutdown ---

    TEST_CASE("shutdown aborts all tasks, and ends when all have ended") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto stubborn = [](trace& l) -> task<int> {
            for (int i = 0; i < 3; ++i)
                co_await magpie::yield_now(); // is dropped at the first of these
            l.add("never");
            co_return 0;
        };
        auto main = [](trace& l, auto st) -> task<> {
            join_set<int> set;
            set.spawn(never({l, "a"}));
            set.spawn(give(1));
            set.spawn(fail("no"));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            set.spawn(st(l));
            set.spawn(never({l, "b"}));
            co_await set.shutdown();
            l.add("over");
            CHECK(set.empty());
            co_await set.shutdown(); // of none
            set.spawn(give(2));      // it goes on
            co_await drain(set, l);
        };
        test::run(ex, main(log, stubborn));
        CHECK((log.text() == "a b over 2 none" || log.text() == "b a over 2 none"));
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "no");
    }
}
