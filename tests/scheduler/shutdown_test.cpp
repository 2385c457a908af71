#include <magpie/scheduler/runtime.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::spawn_blocking;
using magpie::task;
using test::eventually;
using test::on_each_layout;

namespace {

task<> sleep_long() { co_await magpie::sleep_for(1h); }

/// Holds on to `keep` while it sleeps.
task<> hold(std::shared_ptr<int> keep) {
    const std::shared_ptr<int> mine = std::move(keep);
    co_await magpie::sleep_for(1h);
}

} // namespace

TEST_SUITE("scheduler.shutdown") {
    TEST_CASE("RT-LIFE-05 shutdown_timeout gives up on what is blocked, and says that it did") {
        on_each_layout([](auto builder) {
            const test::captured_log log;
            std::atomic<bool> started{false};
            std::atomic<bool> go{false};
            runtime rt = builder.build();
            const auto handle = rt.handle();
            join_handle<> h;
            {
                const auto in = rt.enter();
                h = spawn_blocking([&] {
                    started = true;
                    static_cast<void>(eventually([&] { return go.load(); }));
                });
            }
            REQUIRE(eventually([&] { return started.load(); }));
            CHECK_FALSE(rt.shutdown_timeout(20ms));
            CHECK_FALSE(h.is_finished());
            CHECK(log.contains("blocking call " + std::to_string(h.id()) + ", spawned at"));
            go = true; // it goes on by itself
            CHECK(test::ends(h));
            h.blocking_join();
        });
    }

    TEST_CASE("RT-LIFE-05 a limit of zero returns at once, with what runs still running") {
        on_each_layout([](auto builder) {
            const test::captured_log log;
            std::atomic<bool> started{false};
            std::atomic<bool> go{false};
            runtime rt = builder.build();
            join_handle<> h;
            {
                const auto in = rt.enter();
                h = spawn_blocking([&] {
                    started = true;
                    static_cast<void>(eventually([&] { return go.load(); }));
                });
            }
            REQUIRE(eventually([&] { return started.load(); }));
            CHECK_FALSE(rt.shutdown_timeout(0s));
            CHECK_FALSE(rt.shutdown_timeout(-1s) ==
                        false); // it is empty now: nothing is left to wait for
            go = true;
            CHECK(test::ends(h));
        });
    }

    TEST_CASE("SCOPE-08 the end of a runtime waits for what is shielded, and for teardowns") {
        // Timers go on as long as a task lives.
        struct tells {
            magpie::sync::event& dropped;
            explicit tells(magpie::sync::event& e) : dropped(e) {}
            ~tells() { dropped.set(); }
        };
        static constexpr auto shields = [](std::atomic<int>& begun, std::atomic<int>& ended,
                                           magpie::sync::event& dropped) -> task<> {
            auto beside = [](magpie::sync::event& e) -> task<> {
                const tells at_end(e);
                co_await sleep_long();
            };
            auto cleanup = [](std::atomic<int>& b, std::atomic<int>& e,
                              magpie::sync::event& d) -> task<> {
                ++b;
                co_await d.wait(); // or it might be through before the runtime ends
                co_await magpie::sleep_for(30ms);
                ++e;
            };
            co_await magpie::join(beside(dropped), magpie::shield(1h, cleanup(begun, ended, dropped)));
            ended = -1; // not reached
        };
        static constexpr auto tears_down = [](std::atomic<int>& begun,
                                              std::atomic<int>& ended) -> task<> {
            auto body = [&begun](std::atomic<int>&) -> task<> {
                ++begun;
                co_await sleep_long();
            };
            auto teardown = [](std::atomic<int>& e) -> task<> {
                co_await magpie::sleep_for(30ms);
                ++e;
            };
            co_await magpie::with(ended, body, teardown);
        };
        on_each_layout([](auto builder) {
            std::atomic<int> begun{0};
            std::atomic<int> ended{0};
            magpie::sync::event dropped;
            {
                runtime rt = builder.build();
                rt.spawn(shields(begun, ended, dropped)).detach();
                rt.spawn(tears_down(begun, ended)).detach();
                auto started = [](std::atomic<int>& b) -> task<> {
                    while (b < 2)
                        co_await magpie::yield_now();
                };
                rt.block_on(started(begun));
            }
            CHECK(ended.load() == 2);
        });
    }

    TEST_CASE("SCOPE-08 a shutdown waits for a shield until its limit") {
        on_each_layout([](auto builder) {
            std::atomic<bool> begun{false};
            magpie::sync::event never;
            runtime rt = builder.build();
            auto waits = [](std::atomic<bool>& b, magpie::sync::event& e) -> task<> {
                b = true;
                co_await e.wait();
            };
            auto f = [](auto body, std::atomic<bool>& b, magpie::sync::event& e) -> task<> {
                co_await magpie::shield(100ms, body(b, e));
            };
            auto h = rt.spawn(f(waits, begun, never));
            auto started = [](std::atomic<bool>& b) -> task<> {
                while (!b)
                    co_await magpie::yield_now();
            };
            rt.block_on(started(begun));
            CHECK(rt.shutdown_timeout(30s));
            CHECK(h.is_finished());
        });
    }

    TEST_CASE("RT-LIFE-06 a huge limit returns as soon as everything has ended") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            runtime rt = builder.build();
            auto h = rt.spawn(hold(keep));
            CHECK(rt.shutdown_timeout(std::chrono::nanoseconds::max()));
            CHECK(keep.use_count() == 1);
            CHECK(test::ends_cancelled(h));
        });
    }

    TEST_CASE(
        "SCOPE-17 the report lists each task and call that still runs, with the place of its spawn") {
        const test::captured_log log;
        std::atomic<int> started{0};
        std::atomic<bool> go{false};
        runtime rt = test::multi_thread(2).name("ledger").stuck_limit(1h).build(); // no other report
        auto stuck = [](std::atomic<int>& n, std::atomic<bool>& end) -> task<> {
            ++n;
            static_cast<void>(eventually([&] { return end.load(); }));
            co_return;
        };
        auto named = rt.spawn("accountant", stuck(started, go));
        auto plain = rt.spawn(stuck(started, go));
        join_handle<> call;
        {
            const auto in = rt.enter();
            call = spawn_blocking([&] {
                ++started;
                static_cast<void>(eventually([&] { return go.load(); }));
            });
        }
        REQUIRE(eventually([&] { return started == 3; }));
        CHECK_FALSE(rt.shutdown_timeout(10ms));
        INFO(log.text());
        CHECK(log.contains("runtime \"ledger\""));
        CHECK(log.contains("task " + std::to_string(plain.id()) + ", spawned at"));
        CHECK(log.contains("task " + std::to_string(named.id())));
        CHECK(log.contains("accountant"));
        CHECK(log.contains("blocking call " + std::to_string(call.id())));
        CHECK(log.count("shutdown_test.cpp:") == 3);
        go = true;
        CHECK(test::ends(named));
        CHECK(test::ends(plain));
        CHECK(test::ends(call));
    }

    TEST_CASE(
        "SCOPE-17 the report has a task that is dropped in its first turn, and shields something") {
        static constexpr auto shields = [](std::atomic<bool>& begun, magpie::sync::event& e) -> task<> {
            auto waits = [](std::atomic<bool>& b, magpie::sync::event& until) -> task<> {
                b = true;
                co_await until.wait();
            };
            co_await magpie::shield(waits(begun, e));
        };
        const test::captured_log log;
        std::atomic<bool> ready{false};
        std::atomic<bool> begun{false};
        magpie::sync::event go;
        runtime rt = test::multi_thread(1).build();
        join_handle<> h;
        SUBCASE("by an abort") {
            auto aborted = [](std::atomic<bool>& known, std::atomic<bool>& b,
                              magpie::sync::event& e) -> task<> {
                known = true;
                static_cast<void>(eventually([&] { return !known.load(); }));
                co_await shields(b, e);
            };
            h = rt.spawn(aborted(ready, begun, go));
            REQUIRE(eventually([&] { return ready.load(); })); // in its first turn
            h.abort();
            ready = false;
            REQUIRE(eventually([&] { return begun.load(); }));
        }
        SUBCASE("by the end of the runtime") {
            auto outlasts = [](std::atomic<bool>& r, std::atomic<bool>& b,
                               magpie::sync::event& e) -> task<> {
                auto nothing = []() -> task<> { co_return; };
                r = true;
                for (;;) { // until a spawn is refused; the only worker is busy with this
                    const join_handle<> probe = magpie::spawn(nothing());
                    if (probe.is_finished())
                        break;
                    std::this_thread::yield(); // else there are millions of them before the end comes
                }
                co_await shields(b, e);
            };
            h = rt.spawn(outlasts(ready, begun, go));
            REQUIRE(eventually([&] { return ready.load(); }));
        }
        CHECK_FALSE(rt.shutdown_timeout(100ms));
        INFO(log.text());
        CHECK(log.contains("task " + std::to_string(h.id()) + ", spawned at"));
        REQUIRE(eventually([&] { return begun.load(); })); // else it finds the gate open
        go.set();
        CHECK(test::ends_cancelled(h));
    }

    TEST_CASE("CPP-24 shutdown_background in a task of the same runtime ends it") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            auto rt = std::make_unique<runtime>(builder.build());
            const auto handle = rt->handle();
            auto other = rt->spawn(hold(keep));
            keep.reset();
            auto main = [](std::unique_ptr<runtime> r) -> task<> {
                r->shutdown_background();
                co_await magpie::sleep_for(1h);
            };
            CHECK_THROWS_AS(handle.block_on(main(std::move(rt))), magpie::task_cancelled);
            CHECK(test::ends_cancelled(other));
        });
    }

    TEST_CASE("shutdown_background returns at once, and the tasks are dropped") {
        on_each_layout([](auto builder) {
            auto keep = std::make_shared<int>(0);
            std::atomic<bool> at{false};
            runtime rt = builder.build();
            auto asleep = [](std::shared_ptr<int> k, std::atomic<bool>& begun) -> task<> {
                const auto mine = std::move(k);
                begun = true;
                co_await magpie::sleep_for(1h);
            };
            auto h = rt.spawn(asleep(keep, at));
            auto nothing = []() -> task<> { co_await magpie::yield_now(); };
            rt.block_on(nothing());
            REQUIRE(eventually([&] { return at.load(); }));
            auto unstarted = rt.spawn(hold(keep));
            rt.shutdown_background();
            REQUIRE(test::ends_cancelled(h));
            CHECK(test::ends_cancelled(unstarted));
            CHECK(eventually([&] { return keep.use_count() == 1; }));
        });
    }

    TEST_CASE("a task that cannot end yet may be woken when its current_thread runtime is gone") {
        struct foreign {
            std::coroutine_handle<>& waiter;
            explicit foreign(std::coroutine_handle<>& w) : waiter(w) {}
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) noexcept { waiter = h; }
            void await_resume() const noexcept {}
        };
        const test::captured_log log;
        std::coroutine_handle<> waiter;
        auto main = [](std::coroutine_handle<>& w) -> task<> {
            foreign f(w);
            co_await f;
        };
        auto nothing = []() -> task<> { co_await magpie::yield_now(); };
        runtime rt = test::current_thread().build();
        auto h = rt.spawn(main(waiter));
        rt.block_on(nothing());
        REQUIRE(waiter);
        SUBCASE("after shutdown_timeout") { CHECK_FALSE(rt.shutdown_timeout(0s)); }
        SUBCASE("after shutdown_background") { rt.shutdown_background(); }
        CHECK(log.contains("task " + std::to_string(h.id()) + ", spawned at"));
        std::thread([&] { waiter.resume(); }).join(); // it reaches for the runtime
        CHECK_FALSE(h.is_finished());                 // which nobody drives any more
        h.detach();
    }

    TEST_CASE("one that is given up by its own task, and driven to the end, is freed later on") {
        std::weak_ptr<int> alive;
        for (int i = 0; i < 2; ++i) {
            auto kept = std::make_shared<int>(0); // goes with the runtime's options
            if (i == 0)
                alive = kept;
            auto rt = std::make_unique<runtime>(
                test::current_thread().on_task_end([kept](std::uint64_t) {}).build());
            kept.reset();
            const auto handle = rt->handle();
            auto main = [](std::unique_ptr<runtime> r) -> task<> {
                r->shutdown_background();
                co_await magpie::sleep_for(1h);
            };
            CHECK_THROWS_AS(handle.block_on(main(std::move(rt))), magpie::task_cancelled);
        }
        CHECK(alive.expired());
    }

    TEST_CASE("... with its runtime object, if that goes last") {
        auto kept = std::make_shared<int>(0);
        const std::weak_ptr<int> alive = kept;
        {
            runtime rt = test::current_thread().on_task_end([kept](std::uint64_t) {}).build();
            kept.reset();
            auto main = [](runtime& which) -> task<> {
                which.shutdown_background();
                co_await magpie::sleep_for(1h);
            };
            const auto handle = rt.handle(); // the task uses the runtime itself
            CHECK_THROWS_AS(handle.block_on(main(rt)), magpie::task_cancelled);
        }
        CHECK(alive.expired());
    }

    TEST_CASE("shutdown_timeout of zero drops what is idle, too") {
        on_each_layout([](auto builder) {
            const test::captured_log log;
            auto keep = std::make_shared<int>(0);
            runtime rt = builder.build();
            auto h = rt.spawn(hold(keep));
            static_cast<void>(rt.shutdown_timeout(0s));
            REQUIRE(test::ends_cancelled(h));
            CHECK(eventually([&] { return keep.use_count() == 1; }));
        });
    }

    TEST_CASE("RT-LIFE-10 the policy shutdown ends the runtime at an exception that nobody receives") {
        on_each_layout([](auto builder) {
            std::atomic<int> reports{0};
            const runtime rt = builder.on_unhandled(magpie::unhandled_policy::shutdown)
                                   .on_unhandled_exception(
                                       [&](const magpie::unhandled_exception&) { ++reports; })
                                   .build();
            auto failing = []() -> task<> {
                throw std::runtime_error("nobody hears this");
                co_return;
            };
            auto main = [](auto f) -> task<> {
                magpie::spawn(f()).detach();
                co_await magpie::sleep_for(1h);
            };
            CHECK_THROWS_AS(rt.block_on(main(failing)), magpie::task_cancelled);
            CHECK(reports == 1);
            auto late = rt.spawn(sleep_long());
            CHECK(test::ends_cancelled(late));
        });
    }

    TEST_CASE(
        "RT-LIFE-10 RT-LOCAL-12 the policy report does not, nor does an exception that is received") {
        on_each_layout([](auto builder) {
            std::atomic<int> reports{0};
            const runtime rt =
                builder.on_unhandled_exception([&](const magpie::unhandled_exception&) { ++reports; })
                    .build();
            auto failing = []() -> task<> {
                throw std::runtime_error("heard or not");
                co_return;
            };
            auto main = [](auto f, std::atomic<int>& n, int until) -> task<bool> {
                magpie::spawn(f()).detach();
                bool thrown = false;
                try {
                    co_await magpie::spawn(f());
                } catch (const std::runtime_error&) {
                    thrown = true;
                }
                while (n < until)
                    co_await magpie::yield_now();
                co_return thrown;
            };
            CHECK(rt.block_on(main(failing, reports, 1)));
            CHECK(rt.block_on(main(failing, reports, 2)));
            CHECK(reports == 2);
            CHECK(rt.metrics().unhandled_exceptions == 2);
        });
    }

    TEST_CASE("RT-LIFE-10 an exception that has outlived its runtime is logged, and is not another "
              "runtime's") {
        on_each_layout([](auto builder) {
            int reports = 0;
            std::optional<runtime> old(builder.build());
            auto failing = []() -> task<> {
                throw std::runtime_error("an old one");
                co_return;
            };
            auto main = [](auto f) -> task<join_handle<>> {
                auto h = magpie::spawn(f());
                while (!h.is_finished())
                    co_await magpie::yield_now();
                co_return h;
            };
            auto handle = old->block_on(main(failing));
            old.reset();
            // It is made where the other one was, as a rule.
            const runtime rt = builder.on_unhandled(magpie::unhandled_policy::shutdown)
                                   .on_unhandled_exception(
                                       [&](const magpie::unhandled_exception&) { ++reports; })
                                   .build();
            const test::captured_log log;
            handle = join_handle<>();
            CHECK(log.contains("an old one"));
            CHECK(reports == 0);
            CHECK(rt.metrics().unhandled_exceptions == 0);
            auto alive = []() -> task<bool> { co_return true; };
            CHECK(rt.block_on(alive()));
        });
    }

    TEST_CASE("RT-LOCAL-12 the policy shutdown takes a local task's exception as any other") {
        const runtime rt = test::current_thread()
                               .on_unhandled(magpie::unhandled_policy::shutdown)
                               .on_unhandled_exception([](const magpie::unhandled_exception&) {})
                               .build();
        auto failing = []() -> task<> {
            throw std::runtime_error("nobody hears this");
            co_return;
        };
        auto main = [](auto f) -> task<> {
            magpie::spawn_local(f()).detach();
            co_await magpie::sleep_for(1h);
        };
        CHECK_THROWS_AS(rt.block_on(main(failing)), magpie::task_cancelled);
    }

    TEST_CASE("RT-LIFE-11 a shutdown ends every block_on that is under way") {
        on_each_layout([](auto builder) {
            std::atomic<int> waiting{0};
            std::atomic<int> cancelled{0};
            runtime rt = builder.build();
            const auto handle = rt.handle();
            auto main = [](std::atomic<int>& n) -> task<> {
                ++n;
                co_await magpie::sleep_for(1h);
            };
            std::vector<std::thread> callers;
            for (int i = 0; i < 4; ++i)
                callers.emplace_back([&] {
                    try {
                        handle.block_on(main(waiting));
                    } catch (const magpie::task_cancelled&) {
                        ++cancelled;
                    }
                });
            REQUIRE(eventually([&] { return waiting == 4; }));
            rt.shutdown_background();
            for (auto& t : callers)
                t.join();
            CHECK(cancelled == 4);
        });
    }

    TEST_CASE("RT-LIFE-11 when the destructor returns every task has ended, whoever drives it") {
        on_each_layout([](auto builder) {
            for (int round = 0; round < 20; ++round) {
                std::atomic<bool> waiting{false};
                auto rt = std::make_unique<runtime>(builder.build());
                const auto handle = rt->handle();
                auto keep = std::make_shared<int>(0);
                struct slow_end {
                    std::shared_ptr<int> keep;
                    explicit slow_end(std::shared_ptr<int> k) : keep(std::move(k)) {}
                    ~slow_end() {
                        for (int i = 0; i < 100; ++i)
                            std::this_thread::yield();
                    }
                };
                auto main = [](std::shared_ptr<int> k, std::atomic<bool>& at) -> task<> {
                    const slow_end mine(std::move(k));
                    at = true;
                    co_await magpie::sleep_for(1h);
                };
                std::thread caller([&] {
                    CHECK_THROWS_AS(handle.block_on(main(keep, waiting)), magpie::task_cancelled);
                });
                REQUIRE(eventually([&] { return waiting.load(); }));
                rt.reset();
                CHECK(keep.use_count() == 1);
                caller.join();
            }
        });
    }
}
