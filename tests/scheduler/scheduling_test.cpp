// Who runs when, and on which worker.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

/// Keeps its worker until `go`.
task<> stuck_until(std::atomic<bool>& stuck, std::atomic<bool>& go) {
    stuck = true;
    static_cast<void>(eventually([&] { return go.load(); }));
    co_return;
}

task<> sets(std::atomic<bool>& flag) {
    flag = true;
    co_return;
}

std::uint64_t all_turns(const runtime& rt) {
    std::uint64_t n = 0;
    for (const auto& w : rt.metrics().workers)
        n += w.turns;
    return n;
}

} // namespace

TEST_SUITE("scheduler.scheduling") {
    TEST_CASE("RT-SCHED-23 thousands of events, each set by one task and awaited by another") {
        on_each_layout([](auto builder) {
            constexpr std::size_t n = 2000;
            std::vector<event> events(n);
            std::atomic<std::size_t> arrived{0};
            const runtime rt = builder.build();
            auto waiter = [](event& e, std::atomic<std::size_t>& a) -> task<> {
                co_await e.wait();
                a.fetch_add(1, std::memory_order_relaxed);
            };
            auto setter = [](event& e) -> task<> {
                co_await magpie::yield_now();
                e.set();
            };
            auto main = [](std::vector<event>& all, std::atomic<std::size_t>& a, auto w,
                           auto s) -> task<> {
                std::vector<join_handle<>> handles;
                for (event& e : all) {
                    handles.push_back(magpie::spawn(w(e, a)));
                    magpie::spawn(s(e)).detach();
                }
                for (auto& h : handles)
                    co_await h;
            };
            rt.block_on(main(events, arrived, waiter, setter));
            CHECK(arrived == n);
        });
    }

    TEST_CASE("RT-SCHED-23 many waiters of one event are all woken") {
        on_each_layout([](auto builder) {
            event e;
            const runtime rt = builder.build();
            std::vector<join_handle<>> handles;
            auto waiter = [](event& x) -> task<> { co_await x.wait(); };
            for (int i = 0; i < 1000; ++i)
                handles.push_back(rt.spawn(waiter(e)));
            auto main = [](event& x, std::vector<join_handle<>>& all) -> task<> {
                co_await magpie::yield_now();
                x.set();
                for (auto& h : all)
                    co_await h;
            };
            rt.block_on(main(e, handles));
            CHECK(rt.metrics().live == 0);
        });
    }

    TEST_CASE("RT-SCHED-02 RT-SCHED-35 a task has one turn at its start and one for each wake") {
        on_each_layout([](auto builder) {
            std::vector<event> events(5);
            std::atomic<std::size_t> reached{0};
            std::atomic<bool> over{false};
            const runtime rt = builder.build();
            auto main = [](std::vector<event>& all, std::atomic<std::size_t>& n) -> task<> {
                for (event& e : all) {
                    ++n;
                    co_await e.wait();
                }
            };
            std::thread caller([&] {
                rt.block_on(main(events, reached));
                over = true;
            });
            for (std::size_t i = 0; i < events.size(); ++i) {
                CHECK(eventually([&] { return reached == i + 1; }));
                events[i].set();
            }
            caller.join();
            CHECK(over);
            // A wake may come before the turn has gone idle; then that turn serves it.
            CHECK(all_turns(rt) <= 6);
            CHECK(all_turns(rt) >= 1);
        });
    }

    TEST_CASE("RT-SCHED-35 on one thread the number of turns is exact") {
        const runtime rt = test::current_thread().build();
        auto child = []() -> task<> { co_return; };
        auto main = [](auto f) -> task<> {
            for (int i = 0; i < 10; ++i)
                co_await magpie::spawn(f());
            for (int i = 0; i < 10; ++i)
                co_await magpie::yield_now();
        };
        rt.block_on(main(child));
        CHECK(all_turns(rt) == 1 + 10 + 10); // its start, the children (within it), the yields
    }

    TEST_CASE("RT-SCHED-05 a spawn from another thread wakes a worker that sleeps") {
        std::atomic<bool> ran{false};
        const runtime rt = test::multi_thread(2).build();
        REQUIRE(eventually([&] {
            const auto m = rt.metrics();
            return m.workers[0].parks > 0 && m.workers[1].parks > 0;
        }));
        auto h = rt.spawn(sets(ran));
        CHECK(test::ends(h));
        CHECK(ran);
    }

    TEST_CASE(
        "RT-SCHED-04 a destructor that runs after an exception may wake its joiner's neighbours") {
        on_each_layout([](auto builder) {
            event e;
            const runtime rt = builder.build();
            struct sets_at_end {
                event* gate;
                explicit sets_at_end(event& x) : gate(&x) {}
                sets_at_end(const sets_at_end&) = delete;
                ~sets_at_end() { gate->set(); }
            };
            auto failing = [](event& x) -> task<> {
                const sets_at_end last(x);
                co_await magpie::yield_now();
                throw std::runtime_error("on the way out");
            };
            auto main = [](event& x, auto f) -> task<bool> {
                auto h = magpie::spawn(f(x));
                co_await x.wait();
                const auto r = co_await magpie::as_result(h);
                co_return r.has_error();
            };
            CHECK(rt.block_on(main(e, failing)));
        });
    }

    TEST_CASE("SCOPE-27 a task in the slot behind one that does not end is taken by another worker") {
        std::atomic<bool> ran{false};
        const runtime rt = test::multi_thread(2).build();
        auto hog = [](std::atomic<bool>& flag) -> task<bool> {
            auto h = magpie::spawn(sets(flag)); // in the slot: only this worker comes to it
            co_return eventually([&] { return flag.load(); });
        };
        for (int i = 0; i < 20; ++i) {
            ran = false;
            CHECK(rt.block_on(hog(ran)));
        }
    }

    TEST_CASE(
        "SCOPE-27 of several tasks behind one that does not end each is taken, and nobody spins") {
        const runtime rt = test::multi_thread(2).build();
        auto nothing = []() -> task<> { co_return; };
        auto hog = [](std::size_t n, auto f) -> task<bool> {
            std::vector<join_handle<>> all;
            for (std::size_t i = 0; i < n; ++i)
                all.push_back(magpie::spawn(f()));
            co_return eventually([&] {
                return std::all_of(all.begin(), all.end(), [](auto& h) { return h.is_finished(); });
            });
        };
        for (const std::size_t n : {1U, 2U, 3U, 16U, 17U, 100U, 600U}) {
            CAPTURE(n);
            CHECK(rt.block_on(hog(n, nothing)));
        }
        std::uint64_t parks = 0;
        for (const auto& w : rt.metrics().workers)
            parks += w.parks;
        CHECK(parks < 100'000);
    }

    TEST_CASE("SCOPE-27 a task that was woken into the slot is taken as well") {
        event e;
        std::atomic<bool> waiting{false};
        std::atomic<bool> ran{false};
        const runtime rt = test::multi_thread(2).build();
        auto waiter = [](event& x, std::atomic<bool>& at, std::atomic<bool>& flag) -> task<> {
            at = true;
            co_await x.wait();
            flag = true;
        };
        auto hog = [](event& x, std::atomic<bool>& flag) -> task<bool> {
            x.set();
            co_return eventually([&] { return flag.load(); });
        };
        auto w = rt.spawn(waiter(e, waiting, ran));
        REQUIRE(eventually([&] { return waiting.load(); }));
        CHECK(rt.block_on(hog(e, ran)));
        CHECK(test::ends(w));
    }

    TEST_CASE("SCOPE-19 behind a worker that is stuck tasks and timers go on, and one report names the "
              "task") {
        const test::captured_log log;
        std::atomic<bool> stuck{false};
        std::atomic<bool> go{false};
        std::atomic<bool> slept{false};
        const runtime rt = test::multi_thread(2).stuck_limit(20ms).build(); // its sleepers write there
        auto sleeper = [](std::atomic<bool>& flag) -> task<> {
            co_await magpie::sleep_for(1ms);
            flag = true;
        };
        auto main = [](std::atomic<bool>& at, std::atomic<bool>& end, std::atomic<bool>& flag,
                       auto f) -> task<join_handle<>> {
            for (int i = 0; i < 10; ++i)
                magpie::spawn(f(flag)).detach();
            co_await magpie::yield_now(); // their timers stand on this worker, or the other
            co_return magpie::spawn(stuck_until(at, end));
        };
        auto h = rt.spawn(main(stuck, go, slept, sleeper)).blocking_join();
        REQUIRE(eventually([&] { return stuck.load(); }));
        CHECK(eventually([&] { return slept.load(); }));
        for (int i = 0; i < 100; ++i) {
            std::atomic<bool> ran{false};
            auto other = rt.spawn(sets(ran));
            CHECK(test::ends(other));
        }
        const std::string name = "task " + std::to_string(h.id()) + ", spawned at";
        CHECK(eventually([&] { return log.contains(name); }));
        auto sleep = []() -> task<> { co_await magpie::sleep_for(50ms); };
        rt.block_on(sleep()); // two and a half times the limit later
        CHECK(log.count(name) == 1);
        CHECK(log.contains("scheduling_test.cpp:"));
        go = true;
        CHECK(test::ends(h));
    }

    TEST_CASE("SCOPE-19 a task with a name is reported with it") {
        const test::captured_log log;
        std::atomic<bool> stuck{false};
        std::atomic<bool> go{false};
        const runtime rt = test::multi_thread(2).stuck_limit(10ms).build();
        auto h = rt.spawn("resizer", stuck_until(stuck, go));
        CHECK(eventually([&] { return log.contains("task " + std::to_string(h.id())); }));
        CHECK(log.contains("resizer"));
        CHECK(log.contains("scheduling_test.cpp:"));
        go = true;
        CHECK(test::ends(h));
    }

    TEST_CASE("SCOPE-19 the timers of a stuck worker are fired by one that is never idle") {
        std::atomic<bool> stuck{false};
        std::atomic<bool> go{false};
        std::atomic<bool> slept{false};
        const runtime rt = test::multi_thread(2).build(); // ends before what its sleepers write to
        auto sleeper = [](std::atomic<bool>& flag) -> task<> {
            co_await magpie::sleep_for(20ms);
            flag = true;
        };
        auto hog = [](std::atomic<bool>& at, std::atomic<bool>& end, std::atomic<bool>& flag,
                      auto f) -> task<> {
            for (int i = 0; i < 20; ++i)
                magpie::spawn(f(flag)).detach();
            co_await magpie::yield_now();
            at = true;
            static_cast<void>(eventually([&] { return end.load(); }));
        };
        auto busy = [](std::atomic<bool>& flag, std::atomic<bool>& at) -> task<bool> {
            while (!at)
                co_await magpie::yield_now();
            const auto limit = std::chrono::steady_clock::now() + 30s;
            while (!flag && std::chrono::steady_clock::now() < limit)
                co_await magpie::yield_now();
            co_return flag.load();
        };
        auto b = rt.spawn(busy(slept, stuck));
        auto h = rt.spawn(hog(stuck, go, slept, sleeper));
        CHECK(b.blocking_join());
        go = true;
        CHECK(test::ends(h));
    }

    TEST_CASE(
        "RT-SCHED-26 a worker stuck right after its sleep in the reactor does not freeze timers") {
        std::atomic<bool> stuck{false};
        std::atomic<bool> go{false};
        const runtime rt = test::multi_thread(3).build();
        // Woken by a timer, so by whoever slept where timers are waited for.
        auto hog = [](std::atomic<bool>& at, std::atomic<bool>& end) -> task<> {
            co_await magpie::sleep_for(1ms);
            at = true;
            static_cast<void>(eventually([&] { return end.load(); }));
        };
        auto sleeper = []() -> task<> {
            for (int i = 0; i < 20; ++i)
                co_await magpie::sleep_for(1ms);
        };
        auto h = rt.spawn(hog(stuck, go));
        REQUIRE(eventually([&] { return stuck.load(); }));
        auto s = rt.spawn(sleeper());
        CHECK(test::ends(s));
        go = true;
        CHECK(test::ends(h));
    }

    TEST_CASE("CPP-10 a task that moves sees the worker it is on, each time it looks") {
        const runtime rt = test::multi_thread(4).build();
        auto wanderer = []() -> task<bool> {
            thread_local int here = 0; // its address tells threads apart
            bool right = true;
            for (int i = 0; i < test::scaled(20'000); ++i) {
                static_cast<void>(here);
                right = right && magpie::worker_index().has_value() && *magpie::worker_index() < 4 &&
                        magpie::this_task::exists();
                co_await magpie::yield_now();
            }
            co_return right;
        };
        std::vector<join_handle<bool>> all;
        for (int i = 0; i < 8; ++i)
            all.push_back(rt.spawn(wanderer()));
        for (auto& h : all)
            CHECK(h.blocking_join());
    }

    TEST_CASE("CPP-25 a runtime whose tasks wait uses no CPU") {
        event never;
        const runtime rt = test::multi_thread(4).build();
        auto waiter = [](event& e) -> task<> { co_await e.wait(); };
        auto h = rt.spawn(waiter(never));
        const auto used = [] {
            timespec t{};
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
            return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
        };
        const auto parks = [&] {
            std::uint64_t n = 0;
            for (const auto& w : rt.metrics().workers)
                n += w.parks;
            return n;
        };
        auto sleep = []() -> task<> { co_await magpie::sleep_for(500ms); };
        // From some moment on there is nothing to do in half a second but for that sleep. A processor that is
        // taken from a thread, by whoever runs this machine, may count as used.
        CHECK(eventually([&] {
            const auto used_before = used();
            const std::uint64_t parks_before = parks();
            rt.block_on(sleep());
            return used() - used_before < 100ms && parks() - parks_before < 100;
        }));
        h.detach();
    }

    TEST_CASE("CPP-05 an exception keeps its dynamic type on its way between threads") {
        struct special : std::runtime_error {
            using runtime_error::runtime_error;
            int code = 17;
        };
        const runtime rt = test::multi_thread(2).build();
        auto failing = []() -> task<> {
            co_await magpie::yield_now();
            throw special("from afar");
        };
        auto main = [](auto f) -> task<int> {
            try {
                co_await magpie::spawn(f());
            } catch (const special& x) {
                co_return x.code;
            }
            co_return 0;
        };
        CHECK(rt.block_on(main(failing)) == 17);
    }
}
