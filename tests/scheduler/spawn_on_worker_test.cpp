#include <magpie/scheduler/spawn_on_worker.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::runtime_handle;
using magpie::spawn_on_worker;
using magpie::task;
using magpie::worker_index;
using magpie::sync::event;

namespace {

/// On which workers a task runs that is woken by each kind of waker; empty: on none but the first.
task<std::vector<std::size_t>> elsewhere(int rounds) {
    const std::size_t home = worker_index().value();
    std::vector<std::size_t> others;
    const auto look = [&] {
        if (worker_index() != home)
            others.push_back(worker_index().value_or(99));
    };
    auto brief = []() -> task<> { co_return; };
    for (int i = 0; i < rounds; ++i) {
        co_await magpie::yield_now();
        look();
        co_await magpie::sleep_for(1ms);
        look();
        co_await magpie::spawn_blocking([] {});
        look();
        co_await runtime_handle::current().spawn(brief());
        look();
        co_await magpie::spawn(brief());
        look();
    }
    co_return others;
}

task<std::size_t> where() {
    co_await magpie::yield_now();
    co_return worker_index().value();
}

/// Keeps the worker on which it is until it is let go.
task<> keep_busy(std::atomic<int>& begun, std::atomic<bool>& free) {
    ++begun;
    while (!free)
        std::this_thread::yield();
    co_return;
}

struct notes_end {
    std::atomic<std::size_t>* on;
    explicit notes_end(std::atomic<std::size_t>& where_to) : on(&where_to) {}
    ~notes_end() { *on = worker_index().value_or(99); }
};

task<> wait_and_note(event& begun, std::atomic<std::size_t>& ended_on) {
    const notes_end guard(ended_on);
    begun.set();
    co_await magpie::sleep_for(1h);
}

template <class Error, class F>
std::string message_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.spawn_on_worker") {
    TEST_CASE("a task that is pinned to a worker stays there, whoever wakes it") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            std::vector<join_handle<std::vector<std::size_t>>> all;
            std::vector<join_handle<std::size_t>> homes;
            for (std::size_t i = 0; i < 12; ++i) {
                const std::size_t w = i % rt.worker_threads();
                all.push_back(spawn_on_worker(rt.handle(), w, elsewhere(10)));
                homes.push_back(spawn_on_worker(rt.handle(), w, where()));
            }
            auto main = [](auto& a, auto& h, std::size_t workers) -> task<> {
                for (std::size_t i = 0; i < a.size(); ++i) {
                    const std::vector<std::size_t> others = co_await a[i];
                    CHECK(others.empty());
                    const std::size_t home = co_await h[i];
                    CHECK(home == i % workers);
                }
            };
            rt.block_on(main(all, homes, rt.worker_threads()));
        });
    }

    TEST_CASE("from a task: by number, with a name, by a function; and what is spawned there stays") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<> {
                const std::size_t workers = runtime_handle::current().worker_threads();
                for (std::size_t w = 0; w < workers; ++w) {
                    const std::size_t there = co_await spawn_on_worker(w, where());
                    CHECK(there == w);
                    auto named = []() -> task<std::string> {
                        co_return std::string(magpie::this_task::name());
                    };
                    const std::string name = co_await spawn_on_worker(w, "part", named());
                    CHECK(name == "part");
                    auto makes = [w]() -> task<bool> { co_return worker_index() == w; };
                    const bool made = co_await spawn_on_worker(w, makes);
                    CHECK(made);
                    auto spawns = []() -> task<std::size_t> {
                        std::size_t same = 0;
                        for (int i = 0; i < 10; ++i) {
                            const std::size_t child = co_await magpie::spawn(where());
                            same += child == worker_index() ? 1U : 0U;
                        }
                        auto body = [&same](auto& children) -> task<> {
                            auto counts = [](std::size_t& n) -> task<> {
                                n += 1; // nobody else runs meanwhile
                                co_return;
                            };
                            for (int i = 0; i < 10; ++i)
                                children.spawn(counts(same));
                            co_return;
                        };
                        co_await magpie::scope(body);
                        co_return same;
                    };
                    const std::size_t same = co_await spawn_on_worker(w, spawns());
                    CHECK(same == 20);
                }
            };
            rt.block_on(main());
        });
    }

    TEST_CASE("it waits for its worker while that is busy, though others are idle") {
        std::atomic<int> begun{0};
        std::atomic<bool> free{false};
        const runtime rt = test::multi_thread(3).build();
        join_handle<> busy = spawn_on_worker(rt.handle(), 1, keep_busy(begun, free));
        REQUIRE(test::eventually([&] { return begun == 1; }));
        join_handle<std::size_t> pinned = spawn_on_worker(rt.handle(), 1, where());
        // Everybody else's work is done meanwhile.
        for (int i = 0; i < 100; ++i)
            CHECK(rt.block_on(where()) != 1);
        CHECK_FALSE(pinned.is_finished());
        free = true;
        CHECK(pinned.blocking_join() == 1);
        busy.blocking_join();
    }

    TEST_CASE("pinned tasks and the worker's others take turns") {
        // One worker: neither kind may starve the other, nor what comes from outside, nor timers.
        std::atomic<int> pinned{0};
        std::atomic<int> plain{0};
        std::atomic<bool> done{false};
        const runtime rt = test::multi_thread(1).build();
        auto spins = [](std::atomic<int>& turns, std::atomic<bool>& end) -> task<> {
            while (!end) {
                ++turns;
                co_await magpie::yield_now();
            }
        };
        auto a = spawn_on_worker(rt.handle(), 0, spins(pinned, done));
        auto b = spawn_on_worker(rt.handle(), 0, spins(pinned, done));
        auto c = rt.spawn(spins(plain, done));
        CHECK(test::eventually([&] { return pinned > 1000 && plain > 1000; }));
        auto sleeps = []() -> task<> { co_await magpie::sleep_for(1ms); };
        rt.block_on(sleeps());
        spawn_on_worker(rt.handle(), 0, sleeps()).blocking_join();
        done = true;
        for (join_handle<>* h : {&a, &b, &c})
            h->blocking_join();
    }

    TEST_CASE("an idle worker is woken for it, and no other one") {
        event go;
        const runtime rt = test::multi_thread(4).build();
        for (int i = 0; i < 200; ++i) {
            const auto w = static_cast<std::size_t>(i) % 4;
            CHECK(spawn_on_worker(rt.handle(), w, where()).blocking_join() == w);
        }
        auto waits = [](event& e) -> task<std::size_t> {
            co_await e.wait();
            co_return worker_index().value();
        };
        std::vector<join_handle<std::size_t>> all;
        for (std::size_t w = 0; w < 4; ++w)
            all.push_back(spawn_on_worker(rt.handle(), w, waits(go)));
        go.set(); // from a plain thread
        for (std::size_t w = 0; w < 4; ++w)
            CHECK(all[w].blocking_join() == w);
    }

    TEST_CASE("an abort ends it on its worker, whoever asks for it") {
        std::atomic<std::size_t> ended_on{77};
        event begun_on[3];
        const runtime rt = test::multi_thread(3).build();
        for (std::size_t w = 0; w < 3; ++w) {
            event& begun = begun_on[w];
            ended_on = 77;
            join_handle<> h = spawn_on_worker(rt.handle(), w, wait_and_note(begun, ended_on));
            begun.blocking_wait();
            SUBCASE("a plain thread") { h.abort(); }
            SUBCASE("another task") {
                auto aborts = [](magpie::abort_handle victim) -> task<> {
                    victim.abort();
                    co_return;
                };
                rt.block_on(aborts(h.abort_handle()));
            }
            SUBCASE("a task of the same worker") {
                auto aborts = [](magpie::abort_handle victim) -> task<> {
                    victim.abort();
                    co_return;
                };
                spawn_on_worker(rt.handle(), w, aborts(h.abort_handle())).blocking_join();
            }
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
            CHECK(ended_on == w);
        }
    }

    TEST_CASE("a shutdown drops pinned tasks on their workers, those that have not begun as well") {
        std::atomic<std::size_t> ended_on[4] = {77, 77, 77, 77};
        event begun_on[4];
        auto keep = std::make_shared<int>(0);
        auto holds = [](std::shared_ptr<int>) -> task<> { co_await magpie::sleep_for(1h); };
        const auto start = [&](const runtime& rt) {
            for (std::size_t w = 0; w < 4; ++w) {
                spawn_on_worker(rt.handle(), w, wait_and_note(begun_on[w], ended_on[w])).detach();
                begun_on[w].blocking_wait();
                spawn_on_worker(rt.handle(), w, holds(keep)).detach();
            }
        };
        SUBCASE("by the destructor") {
            const runtime rt = test::multi_thread(4).build();
            start(rt);
        }
        SUBCASE("with a time limit") {
            runtime rt = test::multi_thread(4).build();
            start(rt);
            CHECK(rt.shutdown_timeout(30s));
        }
        SUBCASE("in the background") {
            runtime rt = test::multi_thread(4).build();
            start(rt);
            rt.shutdown_background();
            CHECK(test::eventually([&] { return keep.use_count() == 1; }));
        }
        CHECK(test::eventually([&] {
            for (std::size_t w = 0; w < 4; ++w)
                if (ended_on[w] != w)
                    return false;
            return true;
        }));
        CHECK(keep.use_count() == 1);
    }

    TEST_CASE("spawned on a runtime that has been shut down it is destroyed at once") {
        runtime rt = test::multi_thread(2).build();
        const runtime_handle h = rt.handle();
        CHECK(rt.shutdown_timeout(30s));
        CHECK_THROWS_AS(spawn_on_worker(h, 1, where()).blocking_join(), magpie::task_cancelled);
    }

    TEST_CASE("a task that blocks in place gives them to the thread that gets the worker") {
        std::atomic<bool> free{false};
        std::atomic<int> n{0};
        event in_section;
        const runtime rt = test::multi_thread(1).build();
        auto counts = [](std::atomic<int>& turns, std::atomic<bool>& end) -> task<bool> {
            const std::thread::id first = std::this_thread::get_id();
            bool moved = false;
            while (!end) {
                ++turns;
                moved = moved || std::this_thread::get_id() != first;
                co_await magpie::yield_now();
            }
            co_return moved&& worker_index() == 0;
        };
        auto blocks = [](event& entered, std::atomic<bool>& done) -> task<> {
            magpie::block_in_place([&] {
                entered.set(); // wakes who waits for it on the worker, which is elsewhere now
                while (!done)
                    std::this_thread::yield();
            });
            co_return;
        };
        auto waits = [](event& e) -> task<std::size_t> {
            co_await e.wait();
            co_return worker_index().value();
        };
        join_handle<std::size_t> waiter = spawn_on_worker(rt.handle(), 0, waits(in_section));
        join_handle<bool> counter = spawn_on_worker(rt.handle(), 0, counts(n, free));
        REQUIRE(test::eventually([&] { return n > 10; }));
        join_handle<> blocker = rt.spawn(blocks(in_section, free));
        CHECK(waiter.blocking_join() == 0);
        const int seen = n;
        CHECK(test::eventually([&] { return n > seen + 10; }));
        free = true;
        CHECK(counter.blocking_join());
        blocker.blocking_join();
    }

    TEST_CASE("it may not block in place itself: the worker would leave it behind") {
        const runtime rt = test::multi_thread(2).build();
        auto main = []() -> task<std::string> {
            co_return message_of<std::logic_error>([] { magpie::block_in_place([] {}); });
        };
        CHECK(has(spawn_on_worker(rt.handle(), 1, main()).blocking_join(), "spawn_blocking"));
    }

    TEST_CASE("fork_join and parallel_for in it run where it runs") {
        const runtime rt = test::multi_thread(3).build();
        auto main = []() -> task<int> {
            const std::size_t home = worker_index().value();
            auto one = [](std::size_t h) -> task<int> { co_return worker_index() == h ? 1 : 100; };
            const auto both = co_await magpie::fork_join(one(home), one(home), one(home));
            int sum = std::get<0>(both) + std::get<1>(both) + std::get<2>(both);
            std::vector<int> all(1000);
            auto notes = [home](int& n) { n = worker_index() == home ? 1 : 100; };
            co_await magpie::parallel_for(all.begin(), all.end(), notes);
            for (const int n : all)
                sum += n;
            co_return sum;
        };
        CHECK(spawn_on_worker(rt.handle(), 2, main()).blocking_join() == 1003);
    }

    TEST_CASE("timers, time-outs and the paused clock go with it") {
        const runtime rt = test::multi_thread(3).paused_clock(true).build();
        auto sleeps = [](std::size_t home, int n) -> task<bool> {
            const auto begin = magpie::clock::now();
            for (int i = 0; i < n; ++i)
                co_await magpie::sleep_for(10ms);
            event never;
            const bool in_time = co_await magpie::timeout(1s, never.wait());
            co_return worker_index() == home && !in_time &&
                magpie::clock::now() - begin == 1s + n * 10ms;
        };
        auto main = [](auto f) -> task<int> {
            std::vector<join_handle<bool>> all;
            for (std::size_t w = 0; w < 3; ++w)
                all.push_back(spawn_on_worker(w, f(w, 100)));
            int right = 0;
            for (join_handle<bool>& h : all)
                right += co_await h;
            co_return right;
        };
        CHECK(rt.block_on(main(sleeps)) == 3);
    }

    TEST_CASE(
        "an exception that nobody receives is reported, and a report names where it was spawned") {
        test::captured_log log;
        std::atomic<int> begun{0};
        std::atomic<bool> free{false};
        {
            runtime rt = test::multi_thread(2).build();
            auto fails = []() -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error("failed over there");
            };
            spawn_on_worker(rt.handle(), 1, fails()).detach();
            CHECK(test::eventually([&] { return rt.metrics().unhandled_exceptions == 1; }));
            join_handle<> stuck = spawn_on_worker(rt.handle(), 1, keep_busy(begun, free));
            REQUIRE(test::eventually([&] { return begun == 1; }));
            CHECK_FALSE(rt.shutdown_timeout(1ms));
            free = true;
            CHECK(test::ends(stuck));
        }
        CHECK(has(log.text(), "failed over there"));
        CHECK(has(log.text(), "runs on worker 1"));
        CHECK(has(log.text(), "spawn_on_worker_test.cpp"));
    }

    TEST_CASE("metrics count its turns, and an unknown worker is refused by number") {
        const runtime rt = test::multi_thread(2).build();
        for (int i = 0; i < 20; ++i)
            static_cast<void>(spawn_on_worker(rt.handle(), 1, where()).blocking_join());
        CHECK(rt.metrics().workers[1].turns >= 40);
        CHECK(rt.metrics().spawned == 20);
        CHECK(test::eventually([&] { return rt.metrics().live == 0; }));
        const std::string none = message_of<std::out_of_range>(
            [&] { spawn_on_worker(rt.handle(), 2, where()).detach(); });
        CHECK(has(none, "there is no worker 2: the runtime has 2"));
        CHECK(has(none, "spawn_on_worker_test.cpp:"));
        CHECK_THROWS_AS(spawn_on_worker(0, where()).detach(), std::logic_error);
    }
}
