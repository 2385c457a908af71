#include <magpie/scheduler/runtime.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/in_child.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::runtime_handle;
using magpie::task;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

task<int> twice(int n) { co_return 2 * n; }

template <class F>
std::string sentence_of(F f) {
    try {
        f();
    } catch (const std::logic_error& x) {
        return x.what();
    }
    return {};
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.runtime") {
    TEST_CASE("TASK-CORE-06 run and block_on give what the task gives, and throw what it throws") {
        CHECK(magpie::run(twice(21)) == 42);
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            CHECK(rt.block_on(twice(2)) == 4);
            auto reference = [](int& n) -> task<int&> { co_return n; };
            int n = 0;
            CHECK(&rt.block_on(reference(n)) == &n);
            auto pointer = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
            CHECK(*rt.block_on(pointer()) == 3);
            auto failing = []() -> task<> {
                throw std::out_of_range("far");
                co_return;
            };
            CHECK_THROWS_AS(rt.block_on(failing()), std::out_of_range);
        });
    }

    TEST_CASE("spawn takes a task, a name with one, or a callable with its arguments") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto name = []() -> task<std::string> { co_return std::string(magpie::this_task::name()); };
            auto main = [](const runtime& r, auto n) -> task<bool> {
                auto a = r.spawn(twice(1));
                auto b = r.spawn("carol", n());
                auto c = r.spawn(twice, 3);
                co_return co_await a == 2 && co_await b == "carol" && co_await c == 6;
            };
            CHECK(rt.block_on(main(rt, name)));
        });
    }

    TEST_CASE("TASK-CORE-04 a handle spawns from any thread, on an idle runtime and on a busy one") {
        on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.build();
            auto load = [](std::atomic<bool>& end) -> task<> {
                while (!end)
                    co_await magpie::yield_now();
            };
            for (const bool busy : {false, true}) {
                stop = false;
                std::vector<join_handle<>> loads;
                for (int i = 0; busy && i < 8; ++i)
                    loads.push_back(rt.spawn(load(stop)));
                int sum = 0;
                std::thread foreign([&, handle = rt.handle()] {
                    for (int i = 0; i < 10; ++i)
                        sum += handle.spawn(twice(i)).blocking_join();
                    stop = true;
                });
                auto until = [](std::atomic<bool>& end) -> task<> {
                    while (!end)
                        co_await magpie::sleep_for(1ms);
                };
                rt.block_on(until(stop));
                foreign.join();
                CHECK(sum == 90);
            }
        });
    }

    TEST_CASE("TASK-CORE-05 a task's exception waits for its joiner, and the runtime goes on") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto failing = []() -> task<int> {
                throw std::out_of_range("far");
                co_return 0;
            };
            auto h = rt.spawn(failing());
            CHECK(rt.block_on(twice(1)) == 2);
            auto join = [](join_handle<int>& x) -> task<int> { co_return co_await x; };
            CHECK_THROWS_AS(rt.block_on(join(h)), std::out_of_range);
            CHECK(rt.block_on(twice(2)) == 4);
        });
    }

    TEST_CASE("RT-LIFE-12 a runtime has no name, or the one it was given") {
        on_each_layout([](auto builder) {
            CHECK(builder.build().name().empty());
            const runtime a = builder.name("front").build();
            const runtime b = builder.name("back").build();
            CHECK(a.name() == "front");
            CHECK(b.handle().name() == "back");
        });
    }

    TEST_CASE("RT-LIFE-15 handles of one runtime are equal, of two they are not, and ids are never "
              "used again") {
        on_each_layout([](auto builder) {
            const runtime a = builder.build();
            std::set<std::uint64_t> ids{a.id()};
            for (int i = 0; i < 5; ++i) {
                const runtime b = builder.build();
                CHECK(a.handle() != b.handle());
                CHECK(ids.insert(b.id()).second);
            }
            auto main = []() -> task<runtime_handle> { co_return runtime_handle::current(); };
            const runtime_handle inside = a.block_on(main());
            CHECK(inside == a.handle());
            CHECK(inside.id() == a.id());
        });
    }

    TEST_CASE("RT-LIFE-13 guards nest: the last one entered is the one that spawn refers to") {
        const runtime a = test::multi_thread(1).build();
        const runtime b = test::current_thread().build();
        CHECK_THROWS_AS(static_cast<void>(runtime_handle::current()), std::logic_error);
        {
            const auto in_a = a.enter();
            CHECK(runtime_handle::current() == a.handle());
            {
                const auto in_b = b.enter();
                CHECK(runtime_handle::current() == b.handle());
                const auto in_a_again = a.enter();
                CHECK(runtime_handle::current() == a.handle());
                auto h = magpie::spawn(twice(4));
                CHECK(h.blocking_join() == 8);
            }
            CHECK(runtime_handle::current() == a.handle());
        }
        CHECK_THROWS_AS(static_cast<void>(runtime_handle::current()), std::logic_error);
    }

    TEST_CASE("RT-LIFE-13 a guard that goes before a later one ends the program with a sentence") {
        const auto out_of_order = [] {
            magpie::set_log_function([](magpie::log_level, std::string_view text) noexcept {
                if (text.find("reverse order") != std::string_view::npos)
                    _exit(0);
            });
            const runtime a = test::current_thread().build();
            const runtime b = test::current_thread().build();
            std::optional<magpie::enter_guard> first;
            std::optional<magpie::enter_guard> second;
            struct handle_of { // enter() gives a guard that cannot be moved
                const runtime& r;
                operator magpie::enter_guard() const { return r.enter(); }
            };
            first.emplace(handle_of{a});
            second.emplace(handle_of{b});
            first.reset();
            return false;
        };
        CHECK(test::survives(out_of_order));
    }

    TEST_CASE(
        "RT-LIFE-13 in a task, spawn refers to the task's runtime, whatever was entered outside") {
        const runtime a = test::current_thread().build();
        const runtime b = test::multi_thread(1).build();
        const auto in_b = b.enter();
        auto main = []() -> task<runtime_handle> { co_return runtime_handle::current(); };
        CHECK(a.block_on(main()) == a.handle());
        CHECK(runtime_handle::current() == b.handle());
    }

    TEST_CASE("RT-LIFE-16 handle.block_on runs tasks, timers and blocking calls from a plain thread") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            const runtime_handle handle = rt.handle();
            auto main = []() -> task<int> {
                co_await magpie::sleep_for(1ms);
                const int n = co_await magpie::spawn(twice(10));
                co_return n + co_await magpie::spawn_blocking([] { return 1; });
            };
            int got = 0;
            std::thread([&] { got = handle.block_on(main()); }).join();
            CHECK(got == 21);
        });
    }

    TEST_CASE("RT-LIFE-22 without a runtime a spawn, a sleep and a wait say what to do") {
        CHECK(has(sentence_of([] { magpie::spawn(twice(1)).detach(); }), "rt.spawn"));
        CHECK(has(sentence_of([] { magpie::spawn(twice(1)).detach(); }), "runtime_test.cpp:"));
        CHECK_FALSE(sentence_of([] { magpie::spawn_blocking([] {}).detach(); }).empty());
        CHECK_FALSE(sentence_of([] { static_cast<void>(runtime_handle::current()); }).empty());
        CHECK_FALSE(sentence_of([] { magpie::pause_clock(); }).empty());
    }

    TEST_CASE(
        "RT-SCHED-15 block_on inside a task is refused, with a sentence; in a blocking call it works") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = [](const runtime& r) -> task<std::string> {
                std::string text;
                try {
                    r.block_on(twice(1));
                } catch (const std::logic_error& x) {
                    text = x.what();
                }
                co_return text;
            };
            CHECK(has(rt.block_on(main(rt)), "spawn_blocking"));
            auto sleeps = []() -> task<int> {
                co_await magpie::sleep_for(1ms);
                co_return 3;
            };
            auto blocking = [](const runtime& r, auto f) -> task<int> {
                auto call = [&r, f] { return r.block_on(f()); };
                co_return co_await magpie::spawn_blocking(call);
            };
            CHECK(rt.block_on(blocking(rt, sleeps)) == 3);
        });
    }

    TEST_CASE("RT-SCHED-15 waiting for a handle inside a task is refused as well") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<bool> {
                auto h = magpie::spawn(twice(1));
                bool refused = false;
                try {
                    h.blocking_join();
                } catch (const std::logic_error&) {
                    refused = true;
                }
                co_return refused&& co_await h == 2;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("RT-SCHED-16 a pool of one worker works") {
        const runtime rt = test::multi_thread(1).build();
        CHECK(rt.worker_threads() == 1);
        auto main = []() -> task<int> {
            int sum = 0;
            std::vector<join_handle<int>> all;
            for (int i = 0; i < 1000; ++i)
                all.push_back(magpie::spawn(twice(i)));
            for (auto& h : all)
                sum += co_await h;
            co_return sum;
        };
        CHECK(rt.block_on(main()) == 999'000);
    }

    TEST_CASE("RT-SCHED-21 several runtimes work side by side") {
        std::vector<runtime> all;
        for (std::size_t i = 0; i < 4; ++i)
            all.push_back(test::multi_thread(1 + i % 2).build());
        auto ring = [](std::vector<runtime>& rts, auto self, std::size_t at, int left) -> task<int> {
            if (left == 0)
                co_return static_cast<int>(at);
            const std::size_t next = (at + 1) % rts.size();
            auto h = rts[next].spawn(self(rts, self, next, left - 1));
            co_return co_await std::move(h);
        };
        CHECK(all[0].block_on(ring(all, ring, 0, 10)) == 2);
    }

    TEST_CASE("RT-SCHED-28 worker_index is set on workers alone, and agrees with the metrics") {
        const runtime rt = test::multi_thread(3).build();
        CHECK_FALSE(magpie::worker_index().has_value());
        auto main = []() -> task<std::optional<std::size_t>> { co_return magpie::worker_index(); };
        const auto index = rt.block_on(main());
        REQUIRE(index.has_value());
        REQUIRE(*index < 3);
        CHECK(rt.metrics().workers[*index].turns == 1);
        const auto in = rt.enter();
        CHECK_FALSE(magpie::worker_index().has_value());
        CHECK_FALSE(
            magpie::spawn_blocking([] { return magpie::worker_index(); }).blocking_join().has_value());
        const runtime current = test::current_thread().build();
        CHECK(current.block_on(main()) == 0);
        CHECK_FALSE(magpie::worker_index().has_value());
    }

    TEST_CASE("RT-LIFE-24 what belongs to one runtime is awaited in a task of another") {
        event set_by_a;
        const runtime a = test::multi_thread(1).build();
        const runtime b = test::current_thread().build();
        auto sets = [](event& e) -> task<int> {
            co_await magpie::sleep_for(1ms);
            e.set();
            co_return 5;
        };
        auto main = [](const runtime& other, event& e, auto f) -> task<bool> {
            const auto home = runtime_handle::current();
            auto h = other.spawn(f(e));
            co_await e.wait();
            const bool stayed = runtime_handle::current() == home;
            const int n = co_await h;
            co_return stayed&& n == 5 && runtime_handle::current() == home;
        };
        CHECK(b.block_on(main(a, set_by_a, sets)));
    }

    TEST_CASE("ids of tasks are different, and say 0 for no task") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = [](const runtime& r) -> task<std::set<std::uint64_t>> {
                std::set<std::uint64_t> ids{*magpie::this_task::id()};
                std::vector<join_handle<int>> all;
                for (int i = 0; i < 100; ++i) {
                    all.push_back(i % 2 == 0 ? magpie::spawn(twice(i)) : r.spawn(twice(i)));
                    ids.insert(all.back().id());
                }
                for (auto& h : all)
                    co_await h;
                ids.insert(co_await magpie::spawn_blocking([] { return *magpie::this_task::id(); }));
                co_return ids;
            };
            const auto ids = rt.block_on(main(rt));
            CHECK(ids.size() == 102);
            CHECK(ids.count(0) == 0);
        });
        CHECK(join_handle<int>().id() == 0);
    }
}
