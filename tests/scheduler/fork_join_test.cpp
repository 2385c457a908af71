#include <magpie/core/fork_join.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/shield.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/scheduler/blocking.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <magpie/sync/event.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using magpie::fork_join;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::counted;
using test::noisy;
using test::trace;

namespace {

runtime with_workers(unsigned n) { return runtime::builder().worker_threads(n).build(); }
runtime on_this_thread() { return test::current_thread().build(); }

task<int> number(int n) { co_return n; }

task<std::uint64_t> fib(unsigned n) {
    if (n < 2)
        co_return n;
    const auto both = co_await fork_join(fib(n - 1), fib(n - 2));
    co_return std::get<0>(both) + std::get<1>(both);
}

task<int> yields(int times) {
    for (int i = 0; i < times; ++i)
        co_await magpie::yield_now();
    co_return times;
}

/// Two that are at the same place at the same time. Each ends only if the other one runs meanwhile.
class rendezvous {
public:
    bool meet() {
        ++here_;
        return test::eventually([&] { return here_ >= 2; });
    }

private:
    std::atomic<int> here_{0};
};

task<bool> meets(rendezvous& r) { co_return r.meet(); }

task<> waits(event& e, trace& log, std::string name) {
    const noisy local(log, std::move(name));
    co_await e.wait();
    log.add("woken");
}

template <class F>
std::string thrown_by(F f) {
    try {
        f();
    } catch (const std::logic_error& e) {
        return std::string("misuse: ") + e.what();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "nothing";
}

} // namespace

TEST_SUITE("scheduler.fork_join") {
    // --- values ---

    TEST_CASE("fork_join gives the values of all children, in order") {
        auto f = []() -> task<int> {
            const std::tuple<int, std::monostate, int> r = co_await fork_join(
                number(1), magpie::yield_now(), yields(3));
            co_return 10 * std::get<0>(r) + std::get<2>(r);
        };
        CHECK(on_this_thread().block_on(f()) == 13);
        CHECK(with_workers(1).block_on(f()) == 13);
        CHECK(with_workers(3).block_on(f()) == 13);
        CHECK(test::run(f()) == 13); // an executor without workers
    }

    TEST_CASE("values may be references, move-only and over-aligned") {
        struct alignas(64) wide {
            int n;
        };
        static int referred = 0;
        auto f = []() -> task<bool> {
            auto refers = []() -> task<int&> { co_return referred; };
            auto owns = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(2); };
            auto aligned = []() -> task<wide> { co_return wide{3}; };
            auto r = co_await fork_join(refers(), owns(), aligned());
            static_assert(
                std::is_same_v<decltype(r),
                               std::tuple<std::reference_wrapper<int>, std::unique_ptr<int>, wide>>);
            co_return &std::get<0>(r).get() == &referred && *std::get<1>(r) == 2 &&
                std::get<2>(r).n == 3;
        };
        CHECK(with_workers(2).block_on(f()));
    }

    TEST_CASE("fork_join of a range gives a vector in the range's order") {
        auto rt = with_workers(2);
        SUBCASE("a vector that is given away") {
            auto f = []() -> task<bool> {
                std::vector<task<int>> all;
                for (int i = 0; i < 5; ++i)
                    all.push_back(yields(i));
                const std::vector<int> r = co_await fork_join(std::move(all));
                co_return r == std::vector{0, 1, 2, 3, 4};
            };
            CHECK(rt.block_on(f()));
        }
        SUBCASE("a view that makes the tasks") {
            auto f = []() -> task<bool> {
                auto made = std::views::iota(0, 1000) | std::views::transform(number);
                const std::vector<int> r = co_await fork_join(made);
                int wrong = 0;
                for (int i = 0; i < 1000; ++i)
                    wrong += r[static_cast<std::size_t>(i)] != i;
                co_return wrong == 0;
            };
            CHECK(rt.block_on(f()));
        }
        SUBCASE("nothing in it") {
            auto f = []() -> task<std::size_t> {
                const std::vector<int> r = co_await fork_join(std::vector<task<int>>());
                co_return r.size();
            };
            CHECK(rt.block_on(f()) == 0);
        }
        SUBCASE("of void") {
            std::atomic<int> n{0};
            auto adds = [](std::atomic<int>& sum, int i) -> task<> {
                sum += i;
                co_return;
            };
            auto f = [&]() -> task<> {
                std::vector<task<>> all;
                for (int i = 1; i <= 4; ++i)
                    all.push_back(adds(n, i));
                static_assert(std::is_void_v<decltype(fork_join(std::move(all)))::value_type>);
                co_await fork_join(std::move(all));
            };
            rt.block_on(f());
            CHECK(n == 10);
        }
    }

    // --- who runs what ---

    TEST_CASE("one worker runs the children in order, each to its first wait") {
        trace log;
        auto says = [](trace& l, std::string word) -> task<> {
            l.add(word);
            co_return;
        };
        auto f = [&]() -> task<> {
            co_await fork_join(says(log, "a"), says(log, "b"), says(log, "c"));
        };
        SUBCASE("a thread that was lent") { on_this_thread().block_on(f()); }
        SUBCASE("a single worker") { with_workers(1).block_on(f()); }
        SUBCASE("an executor without workers") { test::run(f()); }
        CHECK(log.text() == "a b c");
    }

    TEST_CASE("two workers run two children at the same time") {
        auto rt = with_workers(2);
        for (int i = 0; i < 20; ++i) {
            rendezvous r;
            auto f = [&]() -> task<bool> {
                const auto met = co_await fork_join(meets(r), meets(r));
                co_return std::get<0>(met) && std::get<1>(met);
            };
            CHECK(rt.block_on(f()));
        }
    }

    TEST_CASE("a child may wait for its sibling, whichever comes first") {
        auto sets = [](event& e) -> task<> {
            e.set();
            co_return;
        };
        auto awaits = [](event& e) -> task<> { co_await e.wait(); };
        auto f = [=]() -> task<> {
            event first;
            co_await fork_join(awaits(first), sets(first));
            event second;
            co_await fork_join(sets(second), awaits(second));
            event third;
            co_await fork_join(awaits(third), awaits(third), awaits(third), sets(third));
        };
        SUBCASE("a thread that was lent") { on_this_thread().block_on(f()); }
        SUBCASE("one worker") { with_workers(1).block_on(f()); }
        SUBCASE("two workers") { with_workers(2).block_on(f()); }
        SUBCASE("no workers") { test::run(f()); }
    }

    TEST_CASE("what a suspended task has forked runs though another task never stops to yield") {
        auto sets = [](event& e) -> task<> {
            e.set();
            co_return;
        };
        auto awaits = [](event& e) -> task<> { co_await e.wait(); };
        std::atomic<bool> stop{false};
        auto spins = [](std::atomic<bool>& s) -> task<> {
            while (!s)
                co_await magpie::yield_now();
        };
        auto f = [&]() -> task<> {
            auto spinner = magpie::spawn(spins(stop));
            event e;
            co_await fork_join(awaits(e), sets(e));
            stop = true;
            co_await spinner;
        };
        SUBCASE("a thread that was lent") { on_this_thread().block_on(f()); }
        SUBCASE("one worker") { with_workers(1).block_on(f()); }
    }

    TEST_CASE("a tree of forks gives what it shall") {
        CHECK(on_this_thread().block_on(fib(20)) == 6765);
        CHECK(with_workers(1).block_on(fib(20)) == 6765);
        CHECK(with_workers(2).block_on(fib(20)) == 6765);
        CHECK(with_workers(4).block_on(fib(20)) == 6765);
        CHECK(test::run(fib(15)) == 610);
    }

    TEST_CASE("a chain of forks of any depth uses no stack") {
        struct chain {
            static task<int> of(int depth) {
                if (depth == 0)
                    co_return 0;
                const auto r = co_await fork_join(of(depth - 1), number(1));
                co_return std::get<0>(r) + std::get<1>(r);
            }
            static task<int> last(int depth) {
                if (depth == 0)
                    co_return 0;
                const auto r = co_await fork_join(number(1), last(depth - 1));
                co_return std::get<1>(r) + std::get<0>(r);
            }
        };
        constexpr int depth = test::scaled(1'000'000);
        test::on_small_stack([&] {
            CHECK(on_this_thread().block_on(chain::of(depth)) == depth);
            CHECK(on_this_thread().block_on(chain::last(depth)) == depth);
        });
        auto rt = runtime::builder().worker_threads(2).thread_stack_size(1 << 20).build();
        CHECK(rt.block_on(chain::of(depth)) == depth);
        CHECK(rt.block_on(chain::last(depth)) == depth);
    }

    TEST_CASE("a chain of forks of any depth is dropped without a stack, innermost first") {
        /// What each level of the chain refers to.
        struct ends {
            event never;
            event shielded;
            int deepest = -1;
            int gone = 0;
            bool in_order = true;
        };
        class level {
        public:
            level(ends& e, int depth) : ends_(e), depth_(depth) { e.deepest = depth; }
            level(const level&) = delete;
            ~level() { ends_.in_order = ends_.in_order && depth_ == ends_.gone++; }

        private:
            ends& ends_;
            int depth_;
        };
        struct chain {
            static task<> wait_in_shield(event& e) { co_await e.wait(); }
            static task<> bottom(ends& e, bool shields) {
                if (shields)
                    co_await magpie::shield(wait_in_shield(e.shielded));
                co_await e.never.wait();
            }
            static task<> of(int depth, ends& e, bool shields) {
                const level here(e, depth);
                if (depth == 0)
                    co_await bottom(e, shields);
                else
                    co_await fork_join(of(depth - 1, e, shields), bottom(e, false));
            }
            static task<> last(int depth, ends& e, bool shields) {
                const level here(e, depth);
                if (depth == 0)
                    co_await bottom(e, shields);
                else
                    co_await fork_join(bottom(e, false), last(depth - 1, e, shields));
            }
        };
        constexpr int depth = test::scaled(300'000);
        static constexpr auto drop = [](task<> t, ends& e, bool shields) -> task<> {
            auto h = magpie::spawn(std::move(t));
            while (e.deepest != 0)
                co_await magpie::yield_now();
            h.abort();
            if (shields) {
                for (int i = 0; i < depth; ++i)
                    co_await magpie::yield_now();
                CHECK(e.gone == 0);
                CHECK_FALSE(h.is_finished());
                e.shielded.set();
            }
            const auto r = co_await magpie::as_result(h);
            CHECK(r.has_error());
            CHECK(e.gone == depth + 1);
            CHECK(e.in_order);
        };
        for (const bool shields : {false, true})
            for (const auto make : {&chain::of, &chain::last})
                test::on_small_stack([&] {
                    ends e;
                    on_this_thread().block_on(drop(make(depth, e, shields), e, shields));
                });
    }

    TEST_CASE("a chain of forks that is shared by several workers is dropped innermost first") {
        for (const unsigned workers : {2U, 4U}) {
            std::atomic<int> alive{0};
            std::atomic<bool> at_the_end{false};
            event never;
            struct chain {
                class level {
                public:
                    level(std::atomic<int>& n, int depth) : alive_(n), depth_(depth) { ++n; }
                    level(const level&) = delete;
                    ~level() { CHECK(alive_-- == depth_ + 1); }

                private:
                    std::atomic<int>& alive_;
                    int depth_; // from the root
                };
                static task<> of(int depth, int deepest, std::atomic<int>& n, std::atomic<bool>& end,
                                 event& e) {
                    const level here(n, depth);
                    if (depth < deepest) {
                        co_await fork_join(yields(1), of(depth + 1, deepest, n, end, e));
                    } else {
                        end = true;
                        co_await e.wait();
                    }
                }
            };
            auto rt = with_workers(workers);
            auto h = rt.spawn(chain::of(0, 200, alive, at_the_end, never));
            CHECK(test::eventually([&] { return at_the_end.load(); }));
            h.abort();
            CHECK(test::ends(h));
            CHECK(alive == 0);
        }
    }

    // --- fairness ---

    TEST_CASE("a tree of forks yields when its turn's budget is spent") {
        auto rt = test::current_thread().budget(8).build();
        auto f = []() -> task<int> {
            bool over = false;
            auto counts = [](const bool& o) -> task<int> {
                int n = 0;
                while (!o) {
                    ++n;
                    co_await magpie::yield_now();
                }
                co_return n;
            };
            auto counter = magpie::spawn(counts(over));
            co_await fib(16); // 1596 forks
            over = true;
            co_return co_await counter;
        };
        CHECK(rt.block_on(f()) >= 1596 / 8 - 1);
    }

    // --- exceptions ---

    TEST_CASE("the first failure drops the siblings, and is thrown when they are gone") {
        trace log;
        event never;
        auto fails = []() -> task<> {
            co_await magpie::yield_now();
            throw std::runtime_error("failed");
        };
        auto f = [&]() -> task<> {
            try {
                co_await fork_join(waits(never, log, "first"), fails(), waits(never, log, "last"));
            } catch (const std::runtime_error& e) {
                log.add(e.what());
            }
        };
        SUBCASE("a thread that was lent") { on_this_thread().block_on(f()); }
        SUBCASE("one worker") { with_workers(1).block_on(f()); }
        SUBCASE("no workers") { test::run(f()); }
        CHECK(log.text().ends_with("failed"));
        CHECK(log.text().find("first") != std::string::npos);
        CHECK(log.text().find("woken") == std::string::npos);
    }

    TEST_CASE("nothing starts after a failure at once") {
        trace log;
        event never;
        auto fails = []() -> task<> {
            throw std::runtime_error("failed");
            co_return;
        };
        auto f = [&]() -> task<> { co_await fork_join(fails(), waits(never, log, "second")); };
        SUBCASE("a thread that was lent") {
            CHECK(thrown_by([&] { on_this_thread().block_on(f()); }) == "failed");
        }
        SUBCASE("one worker") {
            CHECK(thrown_by([&] { with_workers(1).block_on(f()); }) == "failed");
        }
        SUBCASE("no workers") {
            CHECK(thrown_by([&] { test::run(f()); }) == "failed");
        }
        CHECK(log.text().empty());
    }

    TEST_CASE("a failure on another worker drops what waits here") {
        auto rt = with_workers(2);
        for (int i = 0; i < 20; ++i) {
            counted::alive = 0;
            rendezvous r;
            event never;
            auto meets_and_waits = [](rendezvous& at, event& e) -> task<bool> {
                const counted here;
                const bool met = at.meet();
                co_await e.wait();
                co_return met;
            };
            auto meets_and_fails = [](rendezvous& at) -> task<bool> {
                const bool met = at.meet();
                throw std::runtime_error(met ? "failed" : "alone");
                co_return false;
            };
            auto f = [&](bool first) -> task<> {
                if (first)
                    co_await fork_join(meets_and_fails(r), meets_and_waits(r, never));
                else
                    co_await fork_join(meets_and_waits(r, never), meets_and_fails(r));
            };
            CHECK(thrown_by([&] { rt.block_on(f(i % 2 == 0)); }) == "failed");
            CHECK(counted::alive == 0);
        }
    }

    TEST_CASE("of two failures one is thrown, and the other one is reported") {
        std::mutex lock;
        std::vector<std::string> reported;
        rendezvous r;
        auto rt = runtime::builder()
                      .worker_threads(2)
                      .on_unhandled_exception([&](const magpie::unhandled_exception& x) {
                          const std::lock_guard guard(lock);
                          reported.push_back(std::string(magpie::describe(x.error)));
                      })
                      .build();
        auto fails = [](rendezvous& at) -> task<> {
            throw std::runtime_error(at.meet() ? "failed" : "alone");
            co_return;
        };
        auto f = [&]() -> task<> { co_await fork_join(fails(r), fails(r)); };
        CHECK(thrown_by([&] { rt.block_on(f()); }) == "failed");
        REQUIRE(reported.size() == 1);
        CHECK(reported.front() == "failed");
    }

    TEST_CASE("an exception in a tree comes out at its root") {
        struct tree {
            static task<int> of(int depth) {
                if (depth == 0)
                    throw std::runtime_error("leaf");
                const auto r = co_await fork_join(number(1), of(depth - 1), number(2));
                co_return std::get<1>(r);
            }
        };
        CHECK(thrown_by([] { on_this_thread().block_on(tree::of(100)); }) == "leaf");
        CHECK(thrown_by([] { with_workers(2).block_on(tree::of(100)); }) == "leaf");
    }

    // --- cancelling ---

    TEST_CASE("an abort drops the children, wherever they run, before the parent ends") {
        for (const unsigned workers : {1U, 2U, 3U}) {
            auto rt = with_workers(workers);
            for (int i = 0; i < 20; ++i) {
                counted::alive = 0;
                std::atomic<int> begun{0};
                event never;
                auto sleeps = [](std::atomic<int>& n, event& e) -> task<> {
                    const counted here;
                    ++n;
                    co_await e.wait();
                };
                auto f = [&]() -> task<> {
                    const counted here;
                    co_await fork_join(sleeps(begun, never), sleeps(begun, never),
                                       sleeps(begun, never));
                };
                auto h = rt.spawn(f());
                if (i % 2 == 0)
                    CHECK(test::eventually([&] { return begun == 3; }));
                h.abort();
                CHECK(test::ends_cancelled(h));
                CHECK(counted::alive == 0);
            }
        }
    }

    TEST_CASE("a child that computes is waited for, and then dropped") {
        rendezvous r;
        std::atomic<bool> begun{false};
        std::atomic<bool> go{false};
        std::atomic<bool> out{false};
        event never;
        auto rt = with_workers(2);
        struct says {
            std::atomic<bool>& out;
            ~says() { out = true; }
        };
        auto computes = [&begun](rendezvous& at, std::atomic<bool>& g, std::atomic<bool>& o,
                                 event& e) -> task<> {
            const says at_end{o};
            begun = true;
            at.meet();
            while (!g)
                std::this_thread::yield();
            co_await e.wait();
        };
        auto meets_and_waits = [](rendezvous& at, event& e) -> task<> {
            at.meet();
            co_await e.wait();
        };
        auto f = [&]() -> task<> {
            co_await fork_join(meets_and_waits(r, never), computes(r, go, out, never));
        };
        auto h = rt.spawn(f());
        CHECK(test::eventually([&] { return begun.load(); }));
        h.abort();
        CHECK_FALSE(h.is_finished());
        go = true;
        CHECK(test::ends_cancelled(h));
        CHECK(out);
    }

    TEST_CASE("a timeout around it drops the children") {
        event never;
        trace log;
        auto f = [&]() -> task<bool> {
            const auto r = co_await magpie::timeout(
                1ms, fork_join(waits(never, log, "one"), waits(never, log, "two")));
            log.add("behind");
            co_return r.has_value();
        };
        // A paused clock goes on when both wait.
        const auto run = [&](magpie::runtime_builder b) {
            CHECK_FALSE(b.paused_clock(true).build().block_on(f()));
        };
        SUBCASE("a thread that was lent") { run(test::current_thread()); }
        SUBCASE("one worker") { run(test::multi_thread(1)); }
        CHECK(log.text().size() == std::string("one two behind").size());
        CHECK(log.text().ends_with("behind"));
    }

    TEST_CASE("it loses a select, and forks anew in the next") {
        auto f = []() -> task<std::uint64_t> {
            event never;
            trace log;
            auto lost = magpie::select(fork_join(waits(never, log, "one"), fib(10)), yields(50));
            const auto r = co_await std::move(lost);
            const auto again = co_await magpie::select(fork_join(fib(10), fib(11)), never.wait());
            const auto both = again.get<0>();
            co_return 1000 * r.index() + std::get<0>(both) + std::get<1>(both);
        };
        CHECK(on_this_thread().block_on(f()) == 1000 + 55 + 89);
    }

    TEST_CASE("a runtime that is destroyed drops what has forked") {
        for (const unsigned workers : {1U, 2U, 4U}) {
            counted::alive = 0;
            std::atomic<int> begun{0};
            event never;
            struct tree {
                static task<> of(int depth, std::atomic<int>& n, event& e) {
                    const counted here;
                    if (depth == 0) {
                        ++n;
                        co_await e.wait();
                    } else {
                        co_await fork_join(of(depth - 1, n, e), of(depth - 1, n, e));
                    }
                }
            };
            {
                auto rt = with_workers(workers);
                rt.spawn(tree::of(6, begun, never)).detach();
                if (workers != 4)
                    CHECK(test::eventually([&] { return begun == 64; }));
            }
            CHECK(counted::alive == 0);
        }
    }

    TEST_CASE("what was never awaited is destroyed, and so is what waits for budget") {
        counted::alive = 0;
        auto holds = [](counted c) -> task<int> { co_return c.value; };
        auto unused = [&]() -> task<> {
            auto op = fork_join(holds(counted(1)), holds(counted(2)));
            static_cast<void>(op);
            co_return;
        };
        on_this_thread().block_on(unused());
        CHECK(counted::alive == 0);

        test::manual_executor ex(1);
        auto spent = [&]() -> task<> {
            co_await magpie::consume_budget();
            co_await fork_join(holds(counted(1)), holds(counted(2)));
        };
        auto h = ex.spawn(spent());
        ex.run_one();
        CHECK(counted::alive > 0);
        h.abort();
        ex.run_until_idle();
        CHECK(counted::alive == 0);
    }

    TEST_CASE("a destructor that throws while children are dropped makes the task fail") {
        event never;
        auto throws = [](event& e) -> task<> {
            const test::throws_at_end here("from a destructor");
            co_await e.wait();
        };
        auto f = [&]() -> task<> { co_await fork_join(throws(never), yields(1)); };
        auto rt = with_workers(2);
        auto h = rt.spawn(f());
        h.abort();
        CHECK(test::ends(h));
        const std::string what = thrown_by([&] { h.blocking_join(); });
        CHECK((what == "from a destructor" || what.ends_with("cancelled")));
    }

    // --- who the children are ---

    TEST_CASE("children see the id and name of their parent, on any worker") {
        rendezvous r;
        auto rt = with_workers(2);
        auto tells = [](rendezvous& at) -> task<std::string> {
            at.meet();
            co_await magpie::yield_now();
            co_return std::string(magpie::this_task::name()) +
                std::to_string(magpie::this_task::id().value_or(0));
        };
        auto f = [&]() -> task<bool> {
            const auto both = co_await fork_join(tells(r), tells(r));
            const std::string mine = std::string(magpie::this_task::name()) +
                                     std::to_string(magpie::this_task::id().value_or(0));
            co_return mine.starts_with("parent") &&
                std::get<0>(both) == mine&& std::get<1>(both) == mine;
        };
        CHECK(rt.spawn("parent", f()).blocking_join());
    }

    TEST_CASE("children spawn, sleep and block like any task") {
        auto rt = with_workers(2);
        auto spawns = []() -> task<int> { co_return co_await magpie::spawn(number(1)); };
        auto sleeps = []() -> task<int> {
            co_await magpie::sleep_for(1ms);
            co_return 2;
        };
        auto blocks = []() -> task<int> {
            const int n = magpie::block_in_place([] { return 3; });
            const auto r = co_await fork_join(number(n), number(4)); // without a worker
            co_return std::get<0>(r) + std::get<1>(r);
        };
        auto f = [&]() -> task<int> {
            const auto r = co_await fork_join(spawns(), sleeps(), blocks(), sleeps());
            co_return std::get<0>(r) + std::get<1>(r) + std::get<2>(r) + std::get<3>(r);
        };
        for (int i = 0; i < 10; ++i)
            CHECK(rt.block_on(f()) == 12);
    }

    TEST_CASE("forks are counted nowhere: their task is one task") {
        auto rt = with_workers(2);
        rt.block_on(fib(15));
        CHECK(rt.metrics().spawned == 1);
    }

    // --- misuse ---

    TEST_CASE("misuse says what to do") {
        CHECK(thrown_by([] {
                  static_cast<void>(fork_join(number(1), number(2)));
              }).starts_with("misuse: fork_join outside of a task"));
        auto empty = []() -> task<> {
            task<int> none;
            co_await fork_join(number(1), std::move(none));
        };
        CHECK(thrown_by([&] { test::run(empty()); }).starts_with("misuse: this task is empty"));
        auto twice = []() -> task<> {
            auto op = fork_join(number(1), number(2));
            co_await std::move(op);
            co_await std::move(op);
        };
        CHECK(thrown_by([&] {
                  test::run(twice());
              }).starts_with("misuse: this fork_join was awaited before"));
    }
}
