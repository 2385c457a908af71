#include <magpie/scheduler/runtime.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::spawn_local;
using magpie::task;
using magpie::sync::event;

namespace {

/// Where it runs, each time after a suspension of another kind.
task<bool> stays(std::thread::id home) {
    bool here = std::this_thread::get_id() == home;
    co_await magpie::yield_now();
    here = here && std::this_thread::get_id() == home;
    co_await magpie::sleep_for(1ms);
    here = here && std::this_thread::get_id() == home;
    co_await magpie::spawn_blocking([] {});
    co_return here&& std::this_thread::get_id() == home;
}

task<bool> stays_with_children(std::thread::id home) {
    bool here = true;
    for (int i = 0; i < 5; ++i)
        here = co_await spawn_local(stays(home)) && here;
    co_return here;
}

template <class T>
task<T> as_root(task<T> t) {
    co_return co_await spawn_local(std::move(t));
}

} // namespace

TEST_SUITE("scheduler.local") {
    TEST_CASE(
        "RT-LOCAL-01 RT-LOCAL-02 RT-LOCAL-05 a local task and what it spawns stay on one thread") {
        const runtime rt = test::current_thread().build();
        CHECK(rt.block_on(as_root(stays(std::this_thread::get_id()))));
        CHECK(rt.block_on(as_root(stays_with_children(std::this_thread::get_id()))));
    }

    TEST_CASE("RT-LOCAL-01 a worker of a pool may drive one, and its tasks stay there") {
        const runtime pool = test::multi_thread(2).build();
        auto main = []() -> task<bool> {
            co_return co_await magpie::spawn_blocking([] {
                const runtime rt = test::current_thread().build();
                return rt.block_on(as_root(stays_with_children(std::this_thread::get_id())));
            });
        };
        CHECK(pool.block_on(main()));
    }

    TEST_CASE("spawn_local is refused where a task could move, and outside of a task") {
        const runtime rt = test::multi_thread(1).build();
        auto nothing = []() -> task<> { co_return; };
        auto main = [](auto f) -> task<bool> {
            try {
                spawn_local(f()).detach();
            } catch (const std::logic_error&) {
                co_return true;
            }
            co_return false;
        };
        CHECK(rt.block_on(main(nothing)));
        CHECK_THROWS_AS(spawn_local(nothing()).detach(), std::logic_error);
        const runtime local = test::current_thread().build();
        const auto in = local.enter();
        CHECK_THROWS_AS(spawn_local(nothing()).detach(), std::logic_error);
    }

    TEST_CASE("RT-LOCAL-04 a local task's handle may be joined on another runtime") {
        const runtime rt = test::current_thread().build();
        const runtime pool = test::multi_thread(2).build();
        auto value = []() -> task<int> {
            co_await magpie::yield_now();
            co_return 5;
        };
        auto join = [](join_handle<int> h) -> task<int> { co_return co_await std::move(h); };
        auto main = [](const runtime& p, auto v, auto j) -> task<int> {
            auto elsewhere = p.spawn(j(spawn_local(v())));
            co_return co_await std::move(elsewhere);
        };
        CHECK(rt.block_on(main(pool, value, join)) == 5);
    }

    TEST_CASE(
        "RT-LOCAL-06 the end of the runtime drops local tasks, those woken from elsewhere as well") {
        auto keep = std::make_shared<int>(0);
        event go;
        {
            const runtime rt = test::current_thread().build();
            auto f = [](std::shared_ptr<int>, event& e) -> task<> {
                co_await e.wait();
                co_await magpie::sleep_for(1h);
            };
            auto main = [](std::shared_ptr<int> k, event& e, auto g) -> task<> {
                for (int i = 0; i < 10; ++i)
                    spawn_local(g(k, e)).detach();
                co_await magpie::yield_now();
                co_await magpie::yield_now();
            };
            rt.block_on(main(keep, go, f));
            std::thread([&] { go.set(); }).join();
            CHECK(keep.use_count() == 11);
        }
        CHECK(keep.use_count() == 1);
    }

    TEST_CASE("RT-LOCAL-07 local tasks that spawn local tasks all end") {
        const runtime rt = test::current_thread().build();
        int ran = 0;
        struct tree {
            static task<> grow(int depth, int& n) {
                ++n;
                if (depth == 0)
                    co_return;
                std::vector<join_handle<>> children;
                for (int i = 0; i < 3; ++i)
                    children.push_back(spawn_local(grow(depth - 1, n)));
                for (auto& c : children)
                    co_await c;
            }
        };
        rt.block_on(tree::grow(6, ran));
        CHECK(ran == 1093); // (3^7 - 1) / 2; a plain int: one thread
    }

    TEST_CASE("RT-LOCAL-08 local tasks that wake themselves for ever leave the others their turns") {
        const runtime rt = test::current_thread().build();
        bool stop = false; // plain: one thread
        int rounds = 0;
        auto greedy = [](const bool& end, int& n) -> task<> {
            while (!end) {
                ++n;
                co_await magpie::yield_now();
            }
        };
        auto main = [](bool& end, int& n, auto f) -> task<bool> {
            std::vector<join_handle<>> all;
            for (int i = 0; i < 3; ++i)
                all.push_back(spawn_local(f(end, n)));
            for (int i = 0; i < 100; ++i)
                co_await magpie::yield_now();
            co_await magpie::sleep_for(1ms);
            const bool fair = n >= 200; // they had theirs, too
            end = true;
            for (auto& h : all)
                co_await h;
            co_return fair;
        };
        CHECK(rt.block_on(main(stop, rounds, greedy)));
    }

    TEST_CASE("RT-LOCAL-10 its runtime may be a thread-local") {
        auto keep = std::make_shared<int>(0);
        std::thread([&] {
            static thread_local std::unique_ptr<runtime> here;
            here = std::make_unique<runtime>(test::current_thread().build());
            auto f = [](std::shared_ptr<int>) -> task<> { co_await magpie::sleep_for(1h); };
            auto main = [](std::shared_ptr<int> k, auto g) -> task<> {
                spawn_local(g(k)).detach();
                co_await magpie::yield_now();
            };
            here->block_on(main(keep, f));
        }).join();
        CHECK(keep.use_count() == 1);
    }
}
