#include <magpie/core/task_local.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::inherit;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::task_local;
using magpie::sync::event;
using test::counted;

namespace {

constinit const task_local<int> number;
constinit const task_local<int, inherit::by_spawn> passed_on;
constinit const task_local<counted, inherit::by_spawn> counted_key;

std::string seen() {
    const int* const n = number.try_get();
    const int* const p = passed_on.try_get();
    return (n != nullptr ? std::to_string(*n) : "-") + "/" + (p != nullptr ? std::to_string(*p) : "-");
}

task<std::string> what_is_seen() { co_return seen(); }

/// Whether both values stay what they are over many suspensions.
task<bool> keeps_both(int n, int p) {
    bool right = true;
    for (int i = 0; i < 200; ++i) {
        right = right && number.get() == n && passed_on.get() == p;
        co_await magpie::yield_now();
    }
    co_return right;
}

task<bool> keeps_inherited(int p) {
    bool right = true;
    for (int i = 0; i < 200; ++i) {
        right = right && number.try_get() == nullptr && passed_on.get() == p;
        co_await magpie::yield_now();
    }
    co_return right;
}

task<bool> has_children(int n, int p) {
    auto a = magpie::spawn(keeps_inherited(p));
    auto b = magpie::spawn(keeps_inherited(p));
    bool right = co_await keeps_both(n, p);
    right = co_await a && right;
    co_return co_await b&& right;
}

task<bool> binds(int n) { co_return co_await number.with(n, passed_on.with(-n, has_children(n, -n))); }

task<bool> sees_all(int n, int p) {
    const bool before = magpie::this_task::deadline().has_value();
    const bool right = co_await keeps_both(n, p);
    co_return before&& right&& magpie::this_task::deadline().has_value();
}

task<bool> forks(int n) {
    std::vector<task<bool>> children;
    for (int i = 0; i < 8; ++i)
        children.push_back(sees_all(n, -n));
    bool right = true;
    for (const bool one : co_await magpie::fork_join(std::move(children)))
        right = right && one;
    co_return right;
}

} // namespace

TEST_SUITE("scheduler.context") {
    TEST_CASE("forked children see what was in force at the fork, wherever they run") {
        test::on_each_layout([](magpie::runtime_builder b) {
            const runtime rt = b.build();
            auto all = []() -> task<bool> {
                bool right = true;
                for (int n = 1; n < 20; ++n) {
                    const auto in_time = co_await magpie::deadline(
                        1h, number.with(n, passed_on.with(-n, forks(n))));
                    right = right && in_time == true;
                }
                co_return right;
            };
            CHECK(rt.block_on(all()));
        });
    }

    TEST_CASE("what a task carries goes with it from worker to worker") {
        test::on_each_layout([](magpie::runtime_builder b) {
            const runtime rt = b.build();
            auto all = []() -> task<bool> {
                std::vector<join_handle<bool>> tasks;
                for (int n = 1; n <= 40; ++n)
                    tasks.push_back(magpie::spawn(binds(n)));
                bool right = true;
                for (auto& t : tasks)
                    right = co_await t && right;
                co_return right;
            };
            CHECK(rt.block_on(all()));
        });
    }

    TEST_CASE("a task that is awaited runs inside the awaiting turn, and each keeps its own") {
        const runtime rt = test::multi_thread(1).build();
        auto child = []() -> task<std::string> { co_return co_await number.with(8, what_is_seen()); };
        auto parent = [&]() -> task<std::string> {
            auto handle = magpie::spawn(child());
            std::string log = seen();
            log += " " + co_await handle; // the child's turn is taken here
            co_return log + " " + seen();
        };
        auto f = [&]() -> task<std::string> {
            co_return co_await number.with(1, passed_on.with(2, parent()));
        };
        CHECK(rt.block_on(f()) == "1/2 8/2 1/2");
    }

    TEST_CASE("SCOPE-23 a blocking closure inherits as a task does") {
        test::on_each_layout([](magpie::runtime_builder b) {
            const runtime rt = b.build();
            auto body = []() -> task<std::string> {
                std::string log = seen();
                auto call = magpie::spawn_blocking([] { return seen(); });
                co_return log + " " + co_await call;
            };
            auto f = [&]() -> task<std::string> {
                co_return co_await number.with(1, passed_on.with(2, body()));
            };
            CHECK(rt.block_on(f()) == "1/2 -/2");
        });
    }

    TEST_CASE("a block_in_place closure sees what its task sees") {
        const runtime rt = test::multi_thread(2).build();
        auto body = []() -> task<std::string> {
            std::string log = magpie::block_in_place([] { return seen(); });
            log += " " + seen();
            co_await magpie::yield_now(); // on another thread from here on
            co_return log + " " + seen();
        };
        auto f = [&]() -> task<std::string> {
            co_return co_await number.with(1, passed_on.with(2, body()));
        };
        CHECK(rt.block_on(f()) == "1/2 1/2 1/2");
    }

    TEST_CASE("a deadline is seen in a block_in_place closure, and in no spawned one") {
        const runtime rt = test::multi_thread(2).build();
        auto body = []() -> task<int> {
            auto sees = [] { return magpie::this_task::deadline().has_value() ? 1 : 0; };
            auto call = magpie::spawn_blocking(sees);
            const int spawned = co_await call;
            co_return 10 * magpie::block_in_place(sees) + spawned;
        };
        auto f = [&]() -> task<int> {
            const std::optional<int> seen_where = co_await magpie::deadline(1h, body());
            co_return seen_where.value_or(-1);
        };
        CHECK(rt.block_on(f()) == 10);
    }

    TEST_CASE("SCOPE-23 the tasks of a join_set inherit too") {
        const runtime rt = test::multi_thread(2).build();
        auto body = []() -> task<std::string> {
            magpie::join_set<std::string> set;
            set.spawn(what_is_seen());
            const auto first = co_await set.join_next();
            co_return first.value_or("none");
        };
        auto f = [&]() -> task<std::string> { co_return co_await passed_on.with(2, body()); };
        CHECK(rt.block_on(f()) == "-/2");
    }

    TEST_CASE("SCOPE-23 what is spawned on another runtime inherits, and may outlive this one") {
        counted::alive = 0;
        {
            event go;
            const runtime other = test::multi_thread(1).build();
            std::optional<join_handle<int>> child;
            {
                const runtime rt = test::multi_thread(1).build();
                auto waits = [](event& e) -> task<int> {
                    co_await e.wait();
                    co_return counted_key.get().value;
                };
                auto body = [&]() -> task<> {
                    child = other.spawn(waits(go));
                    co_return;
                };
                auto f = [&]() -> task<> { co_await counted_key.with(counted(7), body()); };
                rt.block_on(f());
            }
            CHECK(counted::alive == 1);
            go.set();
            CHECK(child->blocking_join() == 7);
            child.reset();
        }
        CHECK(counted::alive == 0);
    }

    TEST_CASE("TASK-LOCAL-02 at shutdown every task is dropped with what it carries") {
        test::on_each_layout([](magpie::runtime_builder b) {
            std::atomic<int> right{0};
            struct looks {
                std::atomic<int>& right;
                int expected;
                looks(std::atomic<int>& r, int e) noexcept : right(r), expected(e) {}
                looks(const looks&) = delete;
                ~looks() { right += number.try_get() != nullptr && number.get() == expected; }
            };
            auto waits = [](std::atomic<int>& r, int n, event& started) -> task<> {
                const looks local(r, n);
                started.set();
                co_await magpie::sleep_for(1h);
            };
            auto f = [&](int n, event& started) -> task<> {
                co_await number.with(n, waits(right, n, started));
            };
            event a;
            event c;
            {
                const runtime rt = b.build();
                rt.spawn(f(1, a)).detach();
                rt.spawn(f(2, c)).detach();
                auto both = [](event& x, event& y) -> task<> {
                    co_await x.wait();
                    co_await y.wait();
                };
                rt.block_on(both(a, c));
            }
            CHECK(right == 2);
        });
    }

    TEST_CASE("threads of a program see nothing, also inside of a runtime") {
        const runtime rt = test::multi_thread(1).build();
        const auto in = rt.enter();
        CHECK(seen() == "-/-");
        CHECK_FALSE(magpie::this_task::deadline().has_value());
        auto child = magpie::spawn(what_is_seen());
        CHECK(child.blocking_join() == "-/-");
    }

    TEST_CASE("the deadline of a paused clock is in its time") {
        const runtime rt = test::current_thread().paused_clock(true).build();
        auto body = []() -> task<bool> {
            co_await magpie::sleep_for(1h);
            co_return *magpie::this_task::deadline() - magpie::clock::now() == 1h;
        };
        auto f = [&]() -> task<bool> {
            const std::optional<bool> right = co_await magpie::deadline(2h, body());
            co_return right.value_or(false);
        };
        CHECK(rt.block_on(f()));
    }
}
