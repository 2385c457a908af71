#include <magpie/scheduler/metrics.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::worker_metrics;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

template <class T>
T sum(const runtime& rt, T worker_metrics::* what) {
    T all{};
    for (const auto& w : rt.metrics().workers)
        all += w.*what;
    return all;
}

task<> nothing() { co_return; }

} // namespace

TEST_SUITE("scheduler.metrics") {
    TEST_CASE("a new runtime has done nothing") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            const auto m = rt.metrics();
            CHECK(m.workers.size() == rt.worker_threads());
            CHECK(m.spawned == 0);
            CHECK(m.live == 0);
            CHECK(m.unhandled_exceptions == 0);
            CHECK(m.blocking_threads == 0);
            CHECK(m.blocking_depth == 0);
            CHECK(m.injection_depth == 0);
            CHECK(sum(rt, &worker_metrics::turns) == 0);
        });
    }

    TEST_CASE("spawned and live tasks are counted, from inside and outside") {
        on_each_layout([](auto builder) {
            event go;
            const runtime rt = builder.build();
            auto waiter = [](event& e) -> task<> { co_await e.wait(); };
            auto main = [](const runtime& r, event& e, auto f) -> task<std::uint64_t> {
                std::vector<join_handle<>> all;
                for (int i = 0; i < 10; ++i)
                    all.push_back(magpie::spawn(f(e)));
                const auto live = r.metrics().live;
                e.set();
                for (auto& h : all)
                    co_await h;
                co_return live;
            };
            CHECK(rt.block_on(main(rt, go, waiter)) == 11);
            CHECK(eventually([&] { return rt.metrics().live == 0; }));
            CHECK(rt.metrics().spawned == 11);
        });
    }

    TEST_CASE("turns, parks, wakes from other threads and timers are counted") {
        event go;
        std::atomic<bool> waits{false};
        const runtime rt = test::multi_thread(1).build();
        CHECK(eventually([&] { return sum(rt, &worker_metrics::parks) > 0; }));
        const auto before = rt.metrics();
        auto waiter = [](event& e, std::atomic<bool>& at) -> task<> {
            co_await magpie::sleep_for(1ms);
            at = true;
            co_await e.wait();
        };
        auto h = rt.spawn(waiter(go, waits));
        REQUIRE(eventually([&] { return waits.load(); }));
        rt.spawn(nothing()).blocking_join(); // on the same worker: the other one's turn is over
        go.set();
        h.blocking_join();
        const auto after = rt.metrics();
        CHECK(after.workers[0].turns - before.workers[0].turns == 4);
        CHECK(after.workers[0].timers_fired - before.workers[0].timers_fired == 1);
        CHECK(after.remote_schedules - before.remote_schedules == 1); // the event; a spawn is none
        // What comes before the worker has lain down spares it the sleep, or the wake: until it has had both.
        CHECK(eventually([&] {
            rt.spawn(nothing()).blocking_join();
            const auto now = rt.metrics().workers[0];
            return now.parks > before.workers[0].parks && now.unparks > before.workers[0].unparks;
        }));
        CHECK(after.workers[0].busy > 0ns);
    }

    TEST_CASE("overflows and steals are counted") {
        const runtime one = test::multi_thread(1).build();
        auto main = []() -> task<> {
            std::vector<join_handle<>> all;
            for (int i = 0; i < 2000; ++i)
                all.push_back(magpie::spawn(nothing()));
            for (auto& h : all)
                co_await h;
        };
        one.block_on(main());
        CHECK(sum(one, &worker_metrics::overflows) > 0);
        CHECK(sum(one, &worker_metrics::steals) == 0);

        const runtime two = test::multi_thread(2).build();
        auto hog = []() -> task<bool> {
            std::vector<join_handle<>> all;
            for (int i = 0; i < 100; ++i)
                all.push_back(magpie::spawn(nothing()));
            co_return eventually([&] { // all but this one run elsewhere
                for (auto& h : all)
                    if (!h.is_finished())
                        return false;
                return true;
            });
        };
        CHECK(two.block_on(hog()));
        CHECK(sum(two, &worker_metrics::steals) > 0);
        CHECK(sum(two, &worker_metrics::stolen_tasks) >= sum(two, &worker_metrics::steals));
    }

    TEST_CASE("queue depths say what waits") {
        const runtime rt = test::current_thread().build();
        std::vector<join_handle<>> all;
        for (int i = 0; i < 5; ++i)
            all.push_back(rt.spawn(nothing()));
        CHECK(rt.metrics().injection_depth == 5);
        auto main = [](const runtime& r) -> task<std::size_t> {
            auto a = magpie::spawn(nothing());
            auto b = magpie::spawn(nothing());
            const auto m = r.metrics();
            const std::size_t queued = m.workers[0].queue_depth + m.injection_depth;
            co_await a;
            co_await b;
            co_return queued;
        };
        CHECK(rt.block_on(main(rt)) >= 2);
        CHECK(rt.metrics().injection_depth == 0);
    }

    TEST_CASE("blocking threads, and what waits for one") {
        std::latch go(1);
        const runtime rt = test::multi_thread(1).max_blocking_threads(1).build();
        const auto in = rt.enter();
        auto first = magpie::spawn_blocking([&] { go.wait(); });
        auto second = magpie::spawn_blocking([] {});
        CHECK(rt.metrics().blocking_threads == 1);
        CHECK(rt.metrics().idle_blocking_threads == 0);
        CHECK(rt.metrics().blocking_depth == 1);
        go.count_down();
        first.blocking_join();
        second.blocking_join();
        CHECK(eventually([&] { return rt.metrics().idle_blocking_threads == 1; }));
        CHECK(rt.metrics().blocking_depth == 0);
    }

    TEST_CASE(
        "what shards send each other is counted: calls, answers, wakes; nothing on the own shard") {
        event go;
        std::atomic<bool> begun{false};
        const runtime rt = test::thread_per_core(2).build();
        auto calls = [](std::size_t shard) -> task<> {
            auto f = [] {};
            for (int i = 0; i < 10; ++i)
                co_await magpie::submit_to(shard, f);
        };
        magpie::spawn_on(rt.handle(), 0, calls(0)).blocking_join();
        CHECK(sum(rt, &worker_metrics::messages) == 0);
        magpie::spawn_on(rt.handle(), 0, calls(1)).blocking_join();
        CHECK(rt.metrics().workers[0].messages == 10);
        // An answer is on its way before it is counted.
        CHECK(eventually([&] { return rt.metrics().workers[1].messages == 10; }));

        auto waits = [](event& e, std::atomic<bool>& at) -> task<> {
            at = true;
            co_await e.wait();
        };
        auto waiting = magpie::spawn_on(rt.handle(), 0, waits(go, begun));
        REQUIRE(eventually([&] { return begun.load(); }));
        magpie::spawn_on(rt.handle(), 0, nothing())
            .blocking_join(); // the turn of the one that waits is over
        auto opens = [](event& e) -> task<> {
            e.set();
            co_return;
        };
        const auto before = rt.metrics().workers[1].messages;
        magpie::spawn_on(rt.handle(), 1, opens(go)).blocking_join();
        waiting.blocking_join();
        CHECK(rt.metrics().workers[1].messages == before + 1);
    }

    TEST_CASE("exceptions that nobody receives are counted") {
        on_each_layout([](auto builder) {
            const runtime rt =
                builder.on_unhandled_exception([](const magpie::unhandled_exception&) {}).build();
            auto failing = []() -> task<> {
                throw std::runtime_error("unheard");
                co_return;
            };
            auto main = [](const runtime& r, auto f) -> task<> {
                for (int i = 0; i < 3; ++i)
                    magpie::spawn(f()).detach();
                while (r.metrics().unhandled_exceptions < 3)
                    co_await magpie::yield_now();
            };
            rt.block_on(main(rt, failing));
            CHECK(rt.metrics().unhandled_exceptions == 3);
        });
    }
}
