#include <magpie/scheduler/builder.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <sched.h>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;

namespace {

task<std::size_t> where() {
    co_await magpie::yield_now();
    co_return magpie::worker_index().value();
}

/// Whether all of a task's suspensions end on the shard on which it began.
task<bool> stays() {
    const std::optional<std::size_t> home = magpie::worker_index();
    const std::thread::id thread = std::this_thread::get_id();
    bool here = true;
    for (int i = 0; i < 20; ++i) {
        co_await magpie::yield_now();
        here = here && std::this_thread::get_id() == thread;
        co_await magpie::sleep_for(1ms);
        here = here && std::this_thread::get_id() == thread;
        co_await magpie::spawn_blocking([] {});
        here = here && std::this_thread::get_id() == thread && magpie::worker_index() == home;
    }
    co_return here;
}

std::string message_of(const magpie::runtime_builder& b) {
    try {
        static_cast<void>(b.build());
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "built";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_SUITE("scheduler.thread_per_core") {
    TEST_CASE("each shard is a worker that is bound to its processor") {
        const std::vector<std::size_t> usable = test::usable_cpus();
        const runtime rt = test::thread_per_core(3).build();
        CHECK(rt.layout() == magpie::layout::thread_per_core);
        CHECK(rt.worker_threads() == 3);
        auto bound_to = []() -> task<std::vector<std::size_t>> {
            std::vector<std::size_t> cpus = test::usable_cpus();
            cpus.push_back(magpie::worker_index().value());
            co_return cpus;
        };
        for (int i = 0; i < 3; ++i) {
            const std::vector<std::size_t> cpus = rt.block_on(bound_to());
            REQUIRE(cpus.size() == 2);
            CHECK(cpus[0] == usable[cpus[1] % usable.size()]);
        }
    }

    TEST_CASE("without a number there is a shard for each core that the process may use") {
        const runtime rt = magpie::runtime_builder().layout(magpie::layout::thread_per_core).build();
        CHECK(rt.worker_threads() >= 1);
        CHECK(rt.worker_threads() <= test::usable_cpus().size());
    }

    TEST_CASE("a plain thread's spawns go to each shard in turn") {
        const runtime rt = test::thread_per_core(3).build();
        std::vector<std::size_t> shards;
        for (int i = 0; i < 6; ++i)
            shards.push_back(rt.block_on(where()));
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(shards[i] == shards[i + 3]);
            CHECK(std::count(shards.begin(), shards.end(), i) == 2);
        }
    }

    TEST_CASE("a thread that has entered the runtime spawns onto one shard") {
        const runtime rt = test::thread_per_core(3).build();
        const magpie::enter_guard in = rt.enter();
        const std::size_t first = magpie::spawn(where()).blocking_join();
        for (int i = 0; i < 5; ++i)
            CHECK(magpie::spawn(where()).blocking_join() == first);
    }

    TEST_CASE("a task stays on its shard, and so does what it spawns") {
        const runtime rt = test::thread_per_core(2).build();
        std::vector<join_handle<bool>> all;
        for (int i = 0; i < 8; ++i)
            all.push_back(rt.spawn(stays()));
        for (join_handle<bool>& h : all)
            CHECK(h.blocking_join());
        auto spawns = [](magpie::runtime_handle on) -> task<bool> {
            const std::size_t home = magpie::worker_index().value();
            for (int i = 0; i < 10; ++i) {
                if (co_await magpie::spawn(where()) != home)
                    co_return false;
                if (co_await on.spawn(where()) != home)
                    co_return false;
            }
            co_return true;
        };
        CHECK(rt.block_on(spawns(rt.handle())));
    }

    TEST_CASE("nothing is stolen, however long a shard is busy") {
        std::atomic<bool> free{false};
        const runtime rt = test::thread_per_core(2).build();
        auto keeps = [](std::atomic<bool>& done) -> task<std::size_t> {
            while (!done)
                std::this_thread::yield();
            co_return magpie::worker_index().value();
        };
        // On the other shard, for what is spawned from outside goes to each in turn.
        auto looks = [](std::atomic<bool>& done) -> task<> {
            for (int i = 0; i < 1000; ++i)
                co_await magpie::yield_now();
            done = true;
        };
        std::thread outside;
        auto main = [&](auto f, std::atomic<bool>& done) -> task<bool> {
            const std::size_t home = magpie::worker_index().value();
            std::vector<join_handle<std::size_t>> behind;
            for (int i = 0; i < 500; ++i) // more than a ring holds
                behind.push_back(magpie::spawn(where()));
            join_handle<std::size_t> busy = magpie::spawn(f(done));
            outside = std::thread([&] { rt.block_on(looks(free)); });
            bool here = co_await busy == home;
            for (join_handle<std::size_t>& h : behind)
                here = co_await h == home && here;
            co_return here;
        };
        CHECK(rt.block_on(main(keeps, free)));
        outside.join();
        for (const magpie::worker_metrics& w : rt.metrics().workers)
            CHECK(w.steals == 0);
    }

    TEST_CASE("tasks of different shards meet in channels and locks") {
        constexpr int each = 2000;
        auto [to, from] = magpie::sync::mpsc::channel<int>(4);
        magpie::sync::mutex lock;
        long sum = 0;
        const runtime rt = test::thread_per_core(3).build();
        auto sender = [](auto out, magpie::sync::mutex& m, long& total) -> task<> {
            for (int i = 0; i < each; ++i) {
                static_cast<void>(co_await out.send(1));
                auto guard = co_await m.lock();
                ++total;
            }
        };
        auto receiver = [](auto in) -> task<int> {
            int n = 0;
            for (;;) {
                const std::optional<int> one = co_await in.recv();
                if (!one)
                    co_return n;
                n += *one;
            }
        };
        std::vector<join_handle<>> senders;
        for (int i = 0; i < 3; ++i)
            senders.push_back(rt.spawn(sender(to, lock, sum)));
        { auto last = std::move(to); }
        CHECK(rt.block_on(receiver(std::move(from))) == 3 * each);
        for (join_handle<>& h : senders)
            h.blocking_join();
        CHECK(sum == 3 * each);
    }

    TEST_CASE("an abort from another shard and from a plain thread ends a task where it is") {
        std::atomic<std::size_t> ended_on{77};
        std::atomic<std::size_t> home{88};
        const runtime rt = test::thread_per_core(2).build();
        struct notes_end {
            std::atomic<std::size_t>* on;
            ~notes_end() { *on = magpie::worker_index().value_or(99); }
        };
        auto waits = [](std::atomic<std::size_t>& at, std::atomic<std::size_t>& end) -> task<> {
            const notes_end guard{&end};
            at = magpie::worker_index().value();
            co_await magpie::sleep_for(1h);
        };
        for (int i = 0; i < 4; ++i) { // from a plain thread, in turn
            home = 88;
            join_handle<> h = rt.spawn(waits(home, ended_on));
            REQUIRE(test::eventually([&] { return home != 88; }));
            h.abort();
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
            CHECK(ended_on == home);
        }
        auto aborts = [](magpie::abort_handle victim) -> task<> {
            victim.abort();
            co_return;
        };
        for (int i = 0; i < 4; ++i) {
            home = 88;
            join_handle<> h = rt.spawn(waits(home, ended_on));
            REQUIRE(test::eventually([&] { return home != 88; }));
            rt.block_on(aborts(h.abort_handle()));
            rt.block_on(aborts(h.abort_handle()));
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
            CHECK(ended_on == home);
        }
    }

    TEST_CASE("aborts that come when a task ends harm nobody") {
        const runtime rt = test::thread_per_core(2).build();
        auto brief = [](int yields) -> task<int> {
            for (int i = 0; i < yields; ++i)
                co_await magpie::yield_now();
            co_return 1;
        };
        int ended = 0;
        int aborted = 0;
        for (int i = 0; i < 2000; ++i) {
            join_handle<int> h = rt.spawn(brief(i % 4));
            if (i % 3 != 0)
                std::this_thread::yield();
            h.abort();
            try {
                ended += h.blocking_join();
            } catch (const magpie::task_cancelled&) {
                ++aborted;
            }
        }
        CHECK(ended + aborted == 2000);
        CHECK(test::eventually([&] { return rt.metrics().live == 0; }));
    }

    TEST_CASE("the paused clock is one for all shards, and waits for all of them") {
        const runtime rt = test::thread_per_core(3).paused_clock(true).build();
        auto sleeps = [](std::chrono::milliseconds d, int n) -> task<magpie::clock::duration> {
            const auto begin = magpie::clock::now();
            for (int i = 0; i < n; ++i)
                co_await magpie::sleep_for(d);
            co_return magpie::clock::now() - begin;
        };
        std::vector<join_handle<magpie::clock::duration>> all;
        {
            // None of them begins before all are there: the clock does not move while this one runs.
            magpie::sync::event go;
            auto main = [](auto f, magpie::runtime_handle on,
                           std::vector<join_handle<magpie::clock::duration>>& out,
                           magpie::sync::event& start) -> task<> {
                auto waits_and_sleeps = [](auto g, magpie::sync::event& e, std::chrono::milliseconds d,
                                           int n) -> task<magpie::clock::duration> {
                    co_await e.wait();
                    co_return co_await g(d, n);
                };
                std::thread([&] { // each on its shard, from outside
                    out.push_back(on.spawn(waits_and_sleeps(f, start, 10ms, 300)));
                    out.push_back(on.spawn(waits_and_sleeps(f, start, 15ms, 200)));
                    out.push_back(on.spawn(waits_and_sleeps(f, start, 1000ms, 3)));
                })
                    .join();
                start.set();
                co_return;
            };
            rt.block_on(main(sleeps, rt.handle(), all, go));
            for (auto& h : all)
                CHECK(h.blocking_join() == 3000ms);
        }
    }

    TEST_CASE("a shutdown drops the tasks of all shards, each on its own") {
        struct notes_end {
            std::atomic<int>* wrong;
            std::atomic<int>* ended;
            std::size_t home = magpie::worker_index().value();
            ~notes_end() {
                ++*ended;
                *wrong += magpie::worker_index() != home;
            }
        };
        std::atomic<int> wrong{0};
        std::atomic<int> begun{0};
        std::atomic<int> ended{0};
        auto waits = [](std::atomic<int>& w, std::atomic<int>& b, std::atomic<int>& e) -> task<> {
            const notes_end guard{&w, &e};
            ++b;
            co_await magpie::sleep_for(1h);
        };
        const auto start = [&](runtime& rt) {
            begun = ended = 0;
            for (int i = 0; i < 30; ++i)
                rt.spawn(waits(wrong, begun, ended)).detach();
            REQUIRE(test::eventually([&] { return begun == 30; }));
        };
        SUBCASE("by the destructor") {
            {
                runtime rt = test::thread_per_core(3).build();
                start(rt);
            }
            CHECK(ended == 30);
        }
        SUBCASE("with a time limit") {
            runtime rt = test::thread_per_core(3).build();
            start(rt);
            CHECK(rt.shutdown_timeout(30s));
            CHECK(ended == 30);
        }
        SUBCASE("in the background") {
            runtime rt = test::thread_per_core(3).build();
            start(rt);
            rt.shutdown_background();
            CHECK(test::eventually([&] { return ended == 30; }));
        }
        CHECK(wrong == 0);
    }

    TEST_CASE("metrics have an entry for each shard") {
        const runtime rt = test::thread_per_core(2).build();
        for (int i = 0; i < 10; ++i)
            static_cast<void>(rt.block_on(where()));
        const magpie::runtime_metrics m = rt.metrics();
        REQUIRE(m.workers.size() == 2);
        CHECK(m.spawned == 10);
        CHECK(m.workers[0].turns >= 10);
        CHECK(m.workers[1].turns >= 10);
        CHECK(m.imbalance() < 0.5);
    }

    TEST_CASE("the imbalance tells an even spread from one shard that does it all") {
        magpie::runtime_metrics m;
        CHECK(m.imbalance() == 0);
        m.workers.resize(4);
        for (magpie::worker_metrics& w : m.workers)
            w.turns = 100;
        CHECK(m.imbalance() == 0);
        m.workers[1].turns = m.workers[2].turns = m.workers[3].turns = 0;
        CHECK(m.imbalance() == 3);
    }

    TEST_CASE("spawn_local is welcome: every task is local") {
        const runtime rt = test::thread_per_core(2).build();
        auto main = []() -> task<bool> {
            const std::size_t home = magpie::worker_index().value();
            co_return co_await magpie::spawn_local(where()) == home;
        };
        CHECK(rt.block_on(main()));
    }

    TEST_CASE("block_in_place is refused: no other thread may run the shard's tasks") {
        const runtime rt = test::thread_per_core(2).build();
        auto main = []() -> task<std::string> {
            try {
                magpie::block_in_place([] {});
            } catch (const std::logic_error& e) {
                co_return e.what();
            }
            co_return "no error";
        };
        CHECK(contains(rt.block_on(main()), "spawn_blocking"));
    }

    TEST_CASE("what cannot be placed is refused, with a reason") {
        const std::size_t cores = test::usable_cpus().size();
        auto builder = [] { return magpie::runtime_builder().layout(magpie::layout::thread_per_core); };
        const std::string many = message_of(builder().worker_threads(cores + 1));
        CHECK(contains(many, "the process may use " + std::to_string(cores)));
        CHECK(contains(message_of(builder().affinity({})), "no processor in it"));
        CHECK(contains(message_of(builder().affinity({1023})), "may not use processor 1023"));
        CHECK(contains(message_of(builder().affinity(test::usable_cpus()).worker_threads(cores + 1)),
                       "a shard for each processor"));
        CHECK(contains(message_of(test::multi_thread(2).affinity({1023})), "may not use processor"));
    }
}
