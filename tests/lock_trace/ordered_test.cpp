// Locks that are taken in order, by tasks on several workers and plain threads, some of which give up or are
// aborted: nothing is reported, and nothing is left behind.

#include <magpie/sync/lock_trace.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using namespace magpie::sync;
using namespace std::chrono_literals;

namespace {

constexpr int rounds = test::scaled(4'000);

struct locks {
    std::array<mutex, 3> some;
    shared_mutex table{"table"};
    condition_variable changed;
    guarded<int> value{0};
};

task<> in_order(locks& l, unsigned seed) {
    std::minstd_rand random(seed);
    for (int i = 0; i < rounds; ++i) {
        std::vector<mutex::guard> held; // on the heap
        std::optional<mutex::guard> first;
        if (random() % 2 == 0)
            first.emplace(co_await l.some[0].lock());
        if (random() % 2 == 0)
            held.push_back(co_await l.some[1].lock());
        auto second = co_await magpie::select_biased(l.some[2].lock(), magpie::yield_now());
        if (random() % 2 == 0) {
            auto reads = co_await l.table.lock_shared();
            co_await magpie::yield_now();
        } else if (random() % 4 == 0) {
            auto reads = co_await l.table.lock_upgradable();
            auto writes = co_await std::move(reads).upgrade();
        } else if (random() % 4 == 0) {
            auto writes = co_await l.table.lock();
            auto value = co_await l.value.lock();
        } else {
            auto all = co_await scoped_lock(l.table, l.value);
        }
        if (random() % 4 == 0) {
            auto value = co_await l.value.lock();
            l.changed.notify_one();
            if (++*value % 2 == 0) // an odd one tells it
                co_await magpie::select_biased(l.changed.wait(value), magpie::yield_now());
        }
    }
}

task<> branches(locks& l, unsigned seed) {
    std::minstd_rand random(seed);
    auto one = [](mutex& m) -> task<> {
        auto guard = co_await m.lock();
        co_await magpie::yield_now();
    };
    for (int i = 0; i < rounds; ++i) {
        co_await magpie::join(one(l.some[random() % 3]), one(l.some[random() % 3]));
        co_await magpie::select_biased(l.some[1].lock(), l.value.lock(), magpie::yield_now());
    }
}

} // namespace

TEST_SUITE("lock_trace.ordered") {
    TEST_CASE("locks in order, given up and aborted: no report, and nothing is left") {
        locks l;
        const test::captured_log log;
        {
            auto rt = test::multi_thread(4).stuck_limit(1h).build(); // no report of who gets no core
            std::vector<join_handle<>> handles;
            for (unsigned seed = 1; seed <= 12; ++seed) {
                handles.push_back(rt.spawn(in_order(l, seed)));
                handles.push_back(rt.spawn(branches(l, seed)));
            }
            std::thread thread([&] {
                for (int i = 0; i < rounds; ++i) {
                    auto first = l.some[1].blocking_lock();
                    auto reads = l.table.blocking_lock_shared();
                    auto value = l.value.blocking_lock();
                }
            });
            std::thread asks([&] {
                for (int i = 0; i < rounds / 8; ++i) {
                    std::size_t owners = 0;
                    for (const lock_use& use : lock_report())
                        owners += use.owners.size();
                    CHECK(owners <= 200);
                }
            });
            for (std::size_t i = 0; i < handles.size(); i += 5)
                handles[i].abort();
            thread.join();
            asks.join();
            for (auto& h : handles)
                try {
                    h.blocking_join();
                } catch (const magpie::task_cancelled&) {}
        }
        CHECK(log.text() == "");
        CHECK(lock_report().empty());
    }
}
