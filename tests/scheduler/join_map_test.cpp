#include <magpie/scheduler/join_map.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/members.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_map;
using magpie::task;
using magpie::sync::event;
using test::fail;
using test::give;
using test::give_after;
using test::never;
using test::noisy;
using test::trace;
using map = join_map<std::string, int>;

namespace {

std::string word_of(const magpie::joined_by_key<std::string, int>& j) {
    return j.key + "=" +
           (j.result.has_value() ? std::to_string(*j.result)
                                 : std::string(magpie::describe(j.result.error())));
}

task<> drain(map& m, trace& log) {
    for (;;) {
        auto next = co_await m.join_next();
        if (!next)
            break;
        log.add(word_of(*next));
    }
    log.add("none");
}

const std::string cancelled(magpie::describe(magpie::task_cancelled_ptr()));

} // namespace

TEST_SUITE("scheduler.join_map") {
    TEST_CASE("join_next gives key and result in order of the ends, and none when it is empty") {
        test::on_each_layout([](auto builder) {
            const magpie::runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<std::string> {
                auto later = [](int n) -> task<int> {
                    co_await magpie::sleep_for(n * 10ms);
                    co_return n;
                };
                map m;
                CHECK(m.empty());
                m.spawn("c", later(3));
                m.spawn("a", "its name", later(1));
                m.spawn("b", [later] { return later(2); });
                CHECK(m.size() == 3);
                trace log;
                co_await drain(m, log);
                CHECK(m.empty());
                co_return log.text();
            };
            CHECK(rt.block_on(main()) == "a=1 b=2 c=3 none");
        });
    }

    TEST_CASE("TASK-SETS-10 respawning on a key aborts the old task, and never reports it") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            m.spawn("a", never({l, "gone"}));
            m.spawn("b", give(2));
            co_await magpie::yield_now();
            m.spawn("a", give(1));
            CHECK(m.size() == 2);
            co_await drain(m, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "b=2 gone a=1 none");
    }

    TEST_CASE("TASK-SETS-10 ... also if the old one has ended, or failed, or is the only one left") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            m.spawn("a", give(1));
            m.spawn("b", fail("no"));
            co_await magpie::yield_now();
            co_await magpie::yield_now();
            m.spawn("a", give(2));
            m.spawn("b", give(3));
            CHECK_FALSE(m.try_join_next()); // the old ones are skipped, the new ones have not run
            CHECK(m.size() == 2);
            co_await drain(m, l);
            m.spawn("c", never({l, "gone"}));
            co_await magpie::yield_now();
            m.spawn("c", give(4));
            co_await drain(m, l);
            CHECK(m.empty());
        };
        test::run(ex, main(log));
        CHECK(log.text() == "a=2 b=3 none gone c=4 none");
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "no");
    }

    TEST_CASE("TASK-SETS-10 dropping the map aborts replaced tasks and new ones alike") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            m.spawn("a", never({l, "first"}));
            m.spawn("a", never({l, "second"}));
            co_return;
        };
        test::run(ex, main(log));
        CHECK(log.text() == "first second");
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a key is respawned after its join was decided, and before it returns: it is reported") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            event go;
            auto joins = [](map& mp) -> task<std::string> {
                // The join has ended while its sibling still waits: it has taken the result by then.
                auto both = co_await magpie::join(mp.join_next(), magpie::yield_now());
                co_return word_of(*std::get<0>(both));
            };
            auto respawns = [](map& mp) -> task<> {
                mp.spawn("a", give(2));
                co_return;
            };
            m.spawn("a", give(1));
            co_await magpie::yield_now();
            auto all = co_await magpie::join(joins(m), respawns(m));
            l.add(std::get<0>(all));
            CHECK(m.size() == 1);
            co_await drain(m, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "a=1 a=2 none");
    }

    TEST_CASE("a join that is dropped puts its task back; one that was replaced by then is forgotten") {
        for (const bool replaced : {false, true}) {
            test::manual_executor ex;
            trace log;
            auto main = [](bool rep, trace& l) -> task<> {
                map m;
                m.spawn("a", give(1));
                co_await magpie::yield_now();
                auto joins = [](map& mp) -> task<> {
                    event never_set;
                    co_await magpie::join(mp.join_next(), never_set.wait());
                };
                auto ends = [](map& mp, bool r) -> task<> {
                    if (r)
                        mp.spawn("a", give(2));
                    co_return;
                };
                co_await magpie::select_biased(joins(m), ends(m, rep));
                CHECK(m.size() == 1);
                co_await drain(m, l);
            };
            test::run(ex, main(replaced, log));
            CHECK(log.text() == (replaced ? "a=2 none" : "a=1 none"));
        }
    }

    TEST_CASE("TASK-SETS-11 abort by key and by predicate touch only those") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            event go;
            for (const char* const key : {"a1", "a2", "b1", "b2", "b3"})
                m.spawn(key, give_after(go, 0));
            co_await magpie::yield_now();
            CHECK(m.abort("a2"));
            CHECK_FALSE(m.abort("c"));
            CHECK(m.abort_matching([](const std::string& key) { return key == "b1" || key == "b3"; }) ==
                  2);
            std::vector<std::string> ends;
            for (int i = 0; i < 3; ++i) {
                auto next = co_await m.join_next();
                ends.push_back(word_of(*next));
            }
            std::ranges::sort(ends);
            CHECK(ends == std::vector{"a2=" + cancelled, "b1=" + cancelled, "b3=" + cancelled});
            CHECK_FALSE(m.try_join_next());
            go.set();
            co_await drain(m, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "a1=0 b2=0 none");
    }

    TEST_CASE("TASK-SETS-12 keys lists what was spawned and not joined") {
        test::manual_executor ex;
        auto keys_of = [](const map& m) {
            std::vector<std::string> keys;
            for (const std::string& key : m.keys())
                keys.push_back(key);
            std::ranges::sort(keys);
            return keys;
        };
        auto main = [](auto keys) -> task<> {
            map m;
            event go;
            CHECK(keys(m).empty());
            m.spawn("a", give(1));
            m.spawn("b", give_after(go, 2));
            m.spawn("b", give_after(go, 3));
            CHECK(keys(m) == std::vector<std::string>{"a", "b"});
            CHECK(m.contains("a"));
            CHECK_FALSE(m.contains("c"));
            co_await m.join_next();
            CHECK(keys(m) == std::vector<std::string>{"b"});
            CHECK_FALSE(m.contains("a"));
            m.detach_all();
            CHECK(keys(m).empty());
            go.set();
        };
        test::run(ex, main(keys_of));
    }

    TEST_CASE("TASK-SETS-13 to join thousands of tasks that have ended takes many turns") {
        test::manual_executor ex;
        constexpr int n = 10'000;
        auto main = [](event& all) -> task<int> {
            join_map<int, int> m;
            for (int i = 0; i < n; ++i)
                m.spawn(i, give(1));
            co_await all.wait();
            int joined = 0;
            for (;;) {
                auto next = co_await m.join_next();
                if (!next)
                    break;
                joined += *next->result;
            }
            co_return joined;
        };
        event all;
        auto h = ex.spawn(main(all));
        ex.run_until_idle();
        const std::size_t before = ex.turns();
        all.set();
        ex.run_until_idle();
        CHECK(ex.turns() - before > n / 256);
        CHECK(h.blocking_join() == n);
    }

    TEST_CASE("shutdown waits for all, replaced ones too") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            map m;
            m.spawn("a", never({l, "first"}));
            m.spawn("a", never({l, "second"}));
            m.spawn("b", give(1));
            co_await magpie::yield_now();
            co_await m.shutdown();
            l.add("over");
            CHECK(m.empty());
            m.spawn("a", give(2));
            co_await drain(m, l);
        };
        test::run(ex, main(log));
        CHECK(log.text() == "first second over a=2 none");
    }

    TEST_CASE("abort_all, moves, keys that can only be moved, and plain threads") {
        trace log;
        const magpie::runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        map first;
        first.spawn("a", never({log, "gone"}));
        map second;
        second = std::move(first);
        CHECK(first.empty()); // NOLINT(bugprone-use-after-move): it says so
        CHECK(second.contains("a"));
        map third(std::move(second));
        third.abort_all();
        auto joined = third.blocking_join_next();
        REQUIRE(joined);
        CHECK(word_of(*joined) == "a=" + cancelled);
        CHECK_FALSE(third.blocking_join_next());

        join_map<std::unique_ptr<int>, void> unique;
        unique.spawn(std::make_unique<int>(7), [] { return []() -> task<> { co_return; }(); });
        auto it = unique.blocking_join_next();
        REQUIRE(it);
        CHECK(*it->key == 7);
        CHECK(it->result.has_value());
    }

    TEST_CASE("a replaced task alone does not end a wait on a plain thread") {
        event go;
        const magpie::runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        map m;
        m.spawn("a", give_after(go, 1));
        m.spawn("a", give_after(go, 2)); // the old one ends soon: it was aborted
        rt.spawn([](event& e) -> task<> {
              co_await magpie::sleep_for(5ms);
              e.set();
          }(go))
            .detach();
        auto joined = m.blocking_join_next();
        REQUIRE(joined);
        CHECK(word_of(*joined) == "a=2");
    }

    TEST_CASE("misuse") {
        map outside;
        CHECK_THROWS_AS(outside.spawn("a", give(1)), std::logic_error);
        CHECK(outside.empty());
        test::manual_executor ex;
        auto main = []() -> task<> {
            map m;
            CHECK_THROWS_AS(m.spawn("a", task<int>()), std::logic_error);
            CHECK(m.empty());
            co_return;
        };
        test::run(ex, main());
    }
}
