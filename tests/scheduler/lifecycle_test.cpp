#include <magpie/scheduler/runtime.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/in_child.hpp>
#include <test/layouts.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

/// Calls `f` in its destructor.
template <class F>
class at_end {
public:
    explicit at_end(F f) : f_(std::move(f)) {}
    at_end(const at_end&) = delete;
    ~at_end() { f_(); }

private:
    F f_;
};

/// Where a number of tasks say, right before they wait for good, that they have come so far.
class arrivals {
public:
    explicit arrivals(int expected) : missing_(expected) {}

    void arrive() noexcept {
        if (--missing_ == 0)
            all_.set();
    }
    /// Runs `rt` until all are there.
    void wait(const runtime& rt) {
        auto until = [](event& all) -> task<> { co_await all.wait(); };
        rt.block_on(until(all_));
    }

private:
    std::atomic<int> missing_;
    event all_;
};

/// Arrives, and sleeps.
task<> asleep(std::shared_ptr<int>, arrivals& at) {
    at.arrive();
    co_await magpie::sleep_for(1h);
}

} // namespace

TEST_SUITE("scheduler.lifecycle") {
    TEST_CASE(
        "RT-LIFE-01 CPP-23 what has not ended is destroyed with its runtime, whatever it waits in") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            event never;
            arrivals at(8);
            std::vector<join_handle<>> handles;
            {
                const runtime rt = builder.build();
                auto in_event = [](std::shared_ptr<int>, event& e, arrivals& a) -> task<> {
                    a.arrive();
                    co_await e.wait();
                };
                auto in_timeout = [](std::shared_ptr<int>, event& e, arrivals& a) -> task<> {
                    a.arrive();
                    co_await magpie::timeout(1h, e.wait());
                };
                auto in_join = [](std::shared_ptr<int> k, arrivals& a) -> task<> {
                    auto h = magpie::spawn(asleep(std::move(k), a));
                    a.arrive();
                    co_await h;
                };
                auto in_child = [](std::shared_ptr<int> k, arrivals& a) -> task<> {
                    co_await asleep(std::move(k), a);
                };
                auto yielding = [](std::shared_ptr<int>, arrivals& a) -> task<> {
                    for (a.arrive();;)
                        co_await magpie::yield_now();
                };
                auto in_blocking = [](std::shared_ptr<int> k, arrivals& a) -> task<> {
                    auto call = [k] { static_cast<void>(k); };
                    for (a.arrive();;)
                        co_await magpie::spawn_blocking(call);
                };
                handles.push_back(rt.spawn(in_event(keep, never, at)));
                handles.push_back(rt.spawn(asleep(keep, at)));
                handles.push_back(rt.spawn(in_timeout(keep, never, at)));
                handles.push_back(rt.spawn(in_join(keep, at)));
                handles.push_back(rt.spawn(in_child(keep, at)));
                handles.push_back(rt.spawn(yielding(keep, at)));
                handles.push_back(rt.spawn(in_blocking(keep, at)));
                at.wait(rt);
                handles.push_back(rt.spawn(asleep(keep, at))); // may be unstarted
            }
            CHECK(keep.use_count() == 1);
            for (auto& h : handles)
                CHECK(test::ends_cancelled(h));
        });
    }

    TEST_CASE(
        "RT-LIFE-02 they are destroyed at the shutdown, though handles of runtime and tasks live on") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            arrivals at(1);
            std::optional<runtime> rt(builder.build());
            const auto handle = rt->handle();
            auto h = rt->spawn(asleep(keep, at));
            at.wait(*rt);
            CHECK(keep.use_count() == 2);
            rt.reset();
            CHECK(keep.use_count() == 1);
            CHECK(h.is_finished());
            CHECK(handle.metrics().live == 0);
            CHECK(handle.id() != 0);
        });
    }

    TEST_CASE("RT-LIFE-03 RT-SCHED-03 destructors at the shutdown are in the runtime, and may wake and "
              "spawn") {
        on_each_layout([](auto builder) {
            event e;
            std::atomic<bool> in_runtime{false};
            std::atomic<bool> late_cancelled{false};
            std::optional<std::uint64_t> seen;
            std::uint64_t id = 0;
            {
                event started;
                const runtime rt = builder.build();
                auto waiter = [](event& x) -> task<> { co_await x.wait(); };
                auto f = [](auto g, event& s) -> task<> {
                    const at_end last(g);
                    s.set();
                    co_await magpie::sleep_for(1h);
                };
                auto last = [&] {
                    seen = magpie::this_task::id();
                    in_runtime = magpie::runtime_handle::current() == rt.handle();
                    e.set();
                    auto h = magpie::spawn(waiter(e));
                    late_cancelled = h.is_finished();
                };
                auto w = rt.spawn(waiter(e));
                auto h = rt.spawn(f(last, started));
                id = h.id();
                rt.block_on(waiter(started));
            }
            CHECK(in_runtime);
            CHECK(late_cancelled);
            CHECK(seen == id);
        });
    }

    TEST_CASE("RT-LIFE-03 other threads may wake tasks while their runtime goes") {
        on_each_layout([](auto builder) {
            for (int round = 0; round < 30; ++round) {
                std::vector<event> events(20);
                arrivals at(20);
                std::optional<runtime> rt(builder.build());
                auto waiter = [](event& x, arrivals& a) -> task<> {
                    a.arrive();
                    co_await x.wait();
                    co_await magpie::sleep_for(1h);
                };
                std::vector<join_handle<>> handles;
                for (event& e : events)
                    handles.push_back(rt->spawn(waiter(e, at)));
                at.wait(*rt);
                std::thread waker([&] {
                    for (event& e : events)
                        e.set();
                });
                rt.reset();
                waker.join();
                for (auto& h : handles)
                    CHECK(test::ends_cancelled(h));
            }
        });
    }

    TEST_CASE("RT-LIFE-07 a runtime in a thread-local goes with its thread") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            arrivals at(1);
            std::thread([&] {
                static thread_local std::unique_ptr<runtime> here;
                here = std::make_unique<runtime>(builder.build());
                here->spawn(asleep(keep, at)).detach();
                at.wait(*here);
            }).join();
            CHECK(keep.use_count() == 1);
        });
    }

    TEST_CASE("RT-LIFE-08 a spawn that meets the shutdown runs or is cancelled, and is never leaked") {
        on_each_layout([](auto builder) {
            for (int round = 0; round < 20; ++round) {
                auto keep = std::make_shared<int>(0);
                std::atomic<int> spawned{0};
                std::optional<runtime> rt(builder.build());
                std::vector<join_handle<>> handles;
                auto f = [](std::shared_ptr<int>) -> task<> { co_await magpie::sleep_for(1h); };
                std::thread spawner([&, handle = rt->handle()] {
                    for (int i = 0; i < 100; ++i) {
                        handles.push_back(handle.spawn(f(keep)));
                        ++spawned;
                    }
                });
                REQUIRE(eventually([&] { return spawned > round; }));
                rt.reset();
                spawner.join();
                for (auto& h : handles)
                    CHECK(test::ends_cancelled(h));
                CHECK(keep.use_count() == 1);
            }
        });
    }

    TEST_CASE("RT-LIFE-09 a runtime may be made and destroyed by a task, but not be run there") {
        on_each_layout([](auto builder) {
            auto main = [](auto b) -> task<bool> {
                runtime inner = b.build();
                auto f = []() -> task<int> { co_return 1; };
                bool refused = false;
                try {
                    inner.block_on(f());
                } catch (const std::logic_error&) {
                    refused = true;
                }
                inner.shutdown_background();
                co_return refused;
            };
            const runtime rt = test::multi_thread(1).build();
            CHECK(rt.block_on(main(builder)));
        });
    }

    TEST_CASE(
        "RT-LIFE-14 a task that holds its own runtime's handle and its own join handle is freed") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            arrivals at(1);
            {
                const runtime rt = builder.build();
                struct knot {
                    std::optional<magpie::runtime_handle> runtime;
                    join_handle<> self;
                    std::shared_ptr<int> keep;
                };
                auto k = std::make_shared<knot>();
                auto f = [](std::shared_ptr<knot>, arrivals& a) -> task<> {
                    a.arrive();
                    co_await magpie::sleep_for(1h);
                };
                k->runtime = rt.handle();
                k->keep = keep;
                k->self = rt.spawn(f(k, at));
                k.reset();
                at.wait(rt);
                CHECK(keep.use_count() == 2);
            }
            CHECK(keep.use_count() == 1);
        });
    }

    TEST_CASE(
        "RT-LIFE-17 after the shutdown spawns are cancelled, and a running blocking call runs on") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            std::atomic<bool> started{false};
            std::atomic<bool> go{false};
            runtime rt = builder.build();
            const auto handle = rt.handle();
            join_handle<int> running;
            {
                const auto in = handle.enter();
                running = magpie::spawn_blocking([&] {
                    started = true;
                    static_cast<void>(eventually([&] { return go.load(); }));
                    return 6;
                });
            }
            REQUIRE(eventually([&] { return started.load(); }));
            rt.shutdown_background();
            auto f = [](std::shared_ptr<int>) -> task<> { co_return; };
            auto late = handle.spawn(f(keep));
            CHECK(late.is_finished());
            CHECK(test::ends_cancelled(late));
            const auto in = handle.enter();
            bool ran = false;
            auto late_call = magpie::spawn_blocking([&ran, keep] { ran = true; });
            CHECK(test::ends_cancelled(late_call));
            CHECK_FALSE(ran);
            CHECK(keep.use_count() == 1);
            CHECK_THROWS_AS(handle.block_on(f(keep)), magpie::task_cancelled);
            go = true;
            REQUIRE(test::ends(running));
            CHECK(running.blocking_join() == 6);
        });
    }

    TEST_CASE("RT-LIFE-19 a timer that is awaited at the shutdown is dropped, one from before can be "
              "destroyed") {
        on_each_layout([](auto builder) {
            magpie::timer kept(1h);
            arrivals at(1);
            std::optional<runtime> rt(builder.build());
            auto f = [](magpie::timer& t, arrivals& a) -> task<> {
                t.reset(magpie::clock::now() + 1h);
                a.arrive();
                co_await t;
            };
            auto h = rt->spawn(f(kept, at));
            at.wait(*rt);
            rt.reset();
            CHECK(test::ends_cancelled(h));
            CHECK_FALSE(kept.is_elapsed());
            kept.reset(magpie::clock::now()); // no runtime is behind it any more: a point of time
            CHECK(kept.is_elapsed());
        });
    }

    TEST_CASE("RT-LIFE-23 joining a task that a shutdown cancels always ends") {
        on_each_layout([](auto builder) {
            arrivals at(10);
            const runtime joiner = test::multi_thread(1).build();
            std::optional<runtime> rt(builder.build());
            auto f = []() -> task<> { co_await magpie::sleep_for(1h); };
            auto join = [](join_handle<> h, arrivals& a) -> task<bool> {
                a.arrive();
                const auto r = co_await magpie::as_result(std::move(h));
                co_return r.has_error();
            };
            std::vector<join_handle<bool>> joins;
            for (int i = 0; i < 10; ++i)
                joins.push_back(joiner.spawn(join(rt->spawn(f()), at)));
            at.wait(joiner);
            rt.reset();
            for (auto& j : joins) {
                REQUIRE(test::ends(j));
                CHECK(j.blocking_join());
            }
        });
    }

    TEST_CASE("CPP-17 locals of a task that is dropped go in reverse order, on its runtime, before the "
              "join") {
        on_each_layout([](auto builder) {
            test::trace log;
            event there;
            const runtime rt = builder.build();
            auto inner = [](test::trace& t, event& e) -> task<> {
                const test::noisy c(t, "c");
                e.set();
                co_await magpie::sleep_for(1h);
            };
            auto outer = [](test::trace& t, event& e, auto f) -> task<> {
                const test::noisy a(t, "a");
                const test::noisy b(t, "b");
                co_await f(t, e);
            };
            auto main = [](test::trace& t, event& e, auto f, auto g) -> task<> {
                auto h = magpie::spawn(f(t, e, g));
                co_await e.wait();
                h.abort();
                const auto r = co_await magpie::as_result(h);
                t.add(r.has_error() ? "joined" : "ended");
            };
            rt.block_on(main(log, there, outer, inner));
            CHECK(log.text() == "c b a joined");
        });
    }

    TEST_CASE("a join handle may be read when its runtime is long gone") {
        on_each_layout([](auto builder) {
            join_handle<int> h;
            join_handle<int> failed;
            {
                const runtime rt = builder.build();
                auto f = [](bool fails) -> task<int> {
                    if (fails)
                        throw std::runtime_error("kept");
                    co_return 9;
                };
                h = rt.spawn(f(false));
                failed = rt.spawn(f(true));
                auto both = [](const join_handle<int>& a, const join_handle<int>& b) -> task<> {
                    while (!a.is_finished() || !b.is_finished())
                        co_await magpie::yield_now();
                };
                rt.block_on(both(h, failed));
            }
            CHECK(h.blocking_join() == 9);
            CHECK_THROWS_AS(failed.blocking_join(), std::runtime_error);
        });
    }

    TEST_CASE("a moved runtime is the same one, and assigning shuts the old one down") {
        auto keep = std::make_shared<int>(0);
        runtime a = test::multi_thread(1).build();
        runtime b = test::multi_thread(1).build();
        auto f = [](std::shared_ptr<int>) -> task<> { co_await magpie::sleep_for(1h); };
        auto h = a.spawn(f(keep));
        const auto id = b.id();
        a = std::move(b);
        CHECK(keep.use_count() == 1);
        CHECK(a.id() == id);
        CHECK(test::ends_cancelled(h));
    }
}
