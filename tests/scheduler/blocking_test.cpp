#include <magpie/scheduler/blocking.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <scheduler/src/blocking_pool.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/in_child.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::block_in_place;
using magpie::join_handle;
using magpie::runtime;
using magpie::spawn_blocking;
using magpie::task;
using magpie::sync::event;
using test::eventually;
using test::on_each_layout;

namespace {

/// In a child process: success is to be told, at critical level, where the runtime was made and what
/// to do instead.
void leave_when_told() {
    magpie::set_log_function([](magpie::log_level, std::string_view text) noexcept {
        if (text.find("shutdown_background()") != std::string_view::npos &&
            text.find("blocking_test.cpp") != std::string_view::npos)
            _exit(0);
    });
}

/// A job for the pool itself.
struct job final : magpie::detail::blocking_job {
    explicit job(bool must = false) : must_(must) {}
    void run() noexcept override { ran.store(true); }
    void finish() noexcept override { over.store(true); }
    void refuse() noexcept override { refused.store(true), over.store(true); }
    std::string describe() const override { return "a job"; }
    bool mandatory() const noexcept override { return must_; }

    std::atomic<bool> ran{false};
    std::atomic<bool> refused{false};
    std::atomic<bool> over{false};

private:
    const bool must_;
};

magpie::detail::blocking_pool::options pool_options(std::size_t limit, std::chrono::nanoseconds keep) {
    return {limit, keep, 0, "pool", {}, {}};
}

task<> nothing() { co_return; }

} // namespace

TEST_SUITE("scheduler.blocking") {
    TEST_CASE("TASK-BLOCK-01 the closure's result or exception arrives") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<int> {
                int n = co_await spawn_blocking([] { return 40; });
                std::unique_ptr<int> p = co_await spawn_blocking(
                    [] { return std::make_unique<int>(2); });
                co_await spawn_blocking([] {});
                bool thrown = false;
                try {
                    co_await spawn_blocking([]() -> int { throw std::out_of_range("far"); });
                } catch (const std::out_of_range&) {
                    thrown = true;
                }
                co_return thrown ? n + *p : 0;
            };
            CHECK(rt.block_on(main()) == 42);
        });
    }

    TEST_CASE("TASK-BLOCK-01 as many as the limit allows run at the same time") {
        on_each_layout([](auto builder) {
            std::latch all(8);
            const runtime rt = builder.max_blocking_threads(8).build();
            std::vector<join_handle<>> handles;
            const auto in = rt.enter();
            for (int i = 0; i < 8; ++i)
                handles.push_back(spawn_blocking([&all] { all.arrive_and_wait(); }));
            for (auto& h : handles) {
                REQUIRE(test::ends(h));
                h.blocking_join();
            }
            CHECK(rt.metrics().blocking_threads == 8);
        });
    }

    TEST_CASE("a closure sees its task's id, no worker, and may block") {
        const runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        struct seen {
            std::optional<std::uint64_t> id;
            std::optional<std::size_t> worker;
            int blocked_on;
        };
        auto h = spawn_blocking([handle = rt.handle()] {
            auto five = []() -> task<int> { co_return 5; };
            return seen{magpie::this_task::id(), magpie::worker_index(), handle.block_on(five())};
        });
        const auto id = h.id();
        const seen s = h.blocking_join();
        CHECK(s.id == id);
        CHECK_FALSE(s.worker.has_value());
        CHECK(s.blocked_on == 5);
    }

    TEST_CASE("SCOPE-18 a closure's stop token says that it was aborted") {
        std::atomic<bool> started{false};
        const runtime rt = test::multi_thread().build();
        const auto in = rt.enter();
        auto h = spawn_blocking([&started](std::stop_token stop) {
            started = true;
            return eventually([&] { return stop.stop_requested(); });
        });
        REQUIRE(eventually([&] { return started.load(); }));
        h.abort();
        CHECK(h.blocking_join());
    }

    TEST_CASE("an abort before the start means that it never runs") {
        std::latch go(1);
        const runtime rt = test::multi_thread().max_blocking_threads(1).build();
        const auto in = rt.enter();
        auto first = spawn_blocking([&go] { go.wait(); });
        bool ran = false;
        auto second = spawn_blocking([&ran] { ran = true; });
        CHECK(rt.metrics().blocking_depth == 1);
        second.abort();
        go.count_down();
        first.blocking_join();
        CHECK(test::ends_cancelled(second));
        CHECK_FALSE(ran);
    }

    TEST_CASE("TASK-BLOCK-02 blocking calls and sections inside one another") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<int> {
                co_return co_await spawn_blocking([] {
                    auto inner = spawn_blocking([] { return block_in_place([] { return 7; }); });
                    return inner.blocking_join();
                });
            };
            CHECK(rt.block_on(main()) == 7);
        });
        const runtime rt = test::multi_thread(1).build();
        auto nested = []() -> task<int> {
            co_return block_in_place([] { return block_in_place([] { return 8; }); });
        };
        CHECK(rt.block_on(nested()) == 8);
    }

    TEST_CASE("TASK-BLOCK-03 RT-LOCAL-11 block_in_place is refused on a current_thread runtime") {
        const runtime rt = test::current_thread().build();
        auto main = []() -> task<bool> {
            try {
                block_in_place([] {});
            } catch (const std::logic_error&) {
                co_return true;
            }
            co_return false;
        };
        auto local = [](auto f) -> task<bool> { co_return co_await magpie::spawn_local(f()); };
        CHECK(rt.block_on(main()));
        CHECK(rt.block_on(local(main)));
        CHECK(block_in_place([] { return 1; }) == 1); // on a plain thread it just runs
        const auto in = rt.enter();
        CHECK(block_in_place([] { return 1; }) == 1);
    }

    TEST_CASE("TASK-BLOCK-03 block_in_place in block_on's task on multi_thread gives what the closure "
              "gives") {
        const runtime rt = test::multi_thread(1).build();
        auto main = []() -> task<std::string> {
            bool thrown = false;
            try {
                block_in_place([] { throw std::runtime_error("out"); });
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            int n = 1;
            int& same = block_in_place([&n]() -> int& { return n; });
            co_return thrown && &same == &n ? block_in_place([] { return std::string("done"); }) : "";
        };
        CHECK(rt.block_on(main()) == "done");
    }

    TEST_CASE("TASK-BLOCK-04 a current_thread runtime can be driven in block_in_place") {
        const runtime rt = test::multi_thread(1).build();
        auto main = []() -> task<int> {
            const int n = block_in_place([] {
                const runtime inner = test::current_thread().build();
                auto child = []() -> task<int> {
                    co_await magpie::sleep_for(1ms);
                    co_return 3;
                };
                auto root = [](auto f) -> task<int> { co_return co_await magpie::spawn(f()); };
                return inner.block_on(root(child));
            });
            co_await magpie::yield_now(); // and this task goes on on its own runtime
            co_await magpie::sleep_for(1ms);
            co_return n;
        };
        CHECK(rt.block_on(main()) == 3);
    }

    TEST_CASE("TASK-BLOCK-05 a runtime destroyed in a task ends the program with a sentence, and says "
              "what to do") {
        const auto destroys_it = [] {
            leave_when_told();
            const runtime outer = test::current_thread().build();
            auto main = []() -> task<> {
                const runtime inner = test::current_thread().build();
                co_return;
            };
            outer.block_on(main());
            return false;
        };
        CHECK(test::survives(destroys_it));
    }

    TEST_CASE("TASK-BLOCK-05 so does one that is destroyed on one of its own threads") {
        struct value { // what a blocking call gives: it is destroyed on the call's thread
            std::unique_ptr<runtime> rt;
            explicit value(std::unique_ptr<runtime> r) : rt(std::move(r)) {}
        };
        const auto in_a_call = [](auto call) {
            leave_when_told();
            std::latch detached(1); // else the result would go with the handle
            auto rt = std::make_unique<runtime>(test::multi_thread(1).build());
            const auto handle = rt->handle();
            const auto in = handle.enter();
            spawn_blocking([&detached, call, r = std::move(rt)]() mutable {
                detached.wait();
                return call(std::move(r));
            }).detach();
            detached.count_down();
            for (;;) // the end comes from the other thread, or by SIGALRM
                ::pause();
            return false;
        };
        SUBCASE("in its blocking call") {
            CHECK(test::survives([&] { return in_a_call([](auto rt) { rt.reset(); }); }));
        }
        SUBCASE("with the closure of its blocking call") {
            CHECK(test::survives([&] { return in_a_call([](auto&&) {}); }));
        }
        SUBCASE("with the result of its blocking call") {
            CHECK(test::survives(
                [&] { return in_a_call([](auto rt) { return value(std::move(rt)); }); }));
        }
        SUBCASE("in block_in_place") {
            CHECK(test::survives([] {
                leave_when_told();
                auto rt = std::make_unique<runtime>(test::multi_thread(1).build());
                const auto handle = rt->handle();
                auto main = [](std::unique_ptr<runtime> r) -> task<> {
                    block_in_place([&] { r.reset(); });
                    co_return;
                };
                handle.block_on(main(std::move(rt)));
                return false;
            }));
        }
        SUBCASE("in a hook, by the thread that is lent to it") {
            CHECK(test::survives([] {
                leave_when_told();
                std::unique_ptr<runtime> rt;
                rt = std::make_unique<runtime>(
                    test::current_thread().on_thread_park([&] { rt.reset(); }).build());
                const auto handle = rt->handle();
                auto main = []() -> task<> { co_await magpie::sleep_for(1h); };
                handle.block_on(main());
                return false;
            }));
        }
    }

    TEST_CASE("CPP-24 on its own threads a shutdown with a limit does not wait, on others it does") {
        const auto call = [](const runtime& on, auto f) {
            const auto in = on.enter();
            return spawn_blocking(std::move(f)).blocking_join();
        };
        const runtime other = test::multi_thread(1).build();
        auto own = std::make_unique<runtime>(test::multi_thread(1).build());
        const auto handle = own->handle();
        const auto in = handle.enter();
        auto in_itself = spawn_blocking([r = std::move(own)] { return r->shutdown_timeout(1h); });
        CHECK_FALSE(in_itself.blocking_join());
        CHECK(call(other, [] { // where blocking harms nobody
            runtime rt = test::multi_thread(1).build();
            auto short_sleep = []() -> task<> { co_await magpie::sleep_for(1h); };
            rt.spawn(short_sleep()).detach();
            return rt.shutdown_timeout(30s);
        }));
    }

    TEST_CASE("TASK-BLOCK-05 CPP-24 in a task a shutdown that does not wait is allowed") {
        on_each_layout([](auto builder) {
            auto main = [](auto b) -> task<bool> {
                runtime timed = b.build();
                runtime background = b.build();
                auto sleeping = []() -> task<> { co_await magpie::sleep_for(1h); };
                auto h = timed.spawn(sleeping());
                auto g = background.spawn(sleeping());
                static_cast<void>(timed.shutdown_timeout(0s));
                background.shutdown_background();
                h.detach();
                g.detach();
                co_return true;
            };
            const runtime rt = test::multi_thread(1).build();
            CHECK(rt.block_on(main(builder)));
        });
    }

    TEST_CASE("TASK-BLOCK-06 a section takes no budget, and the task's is as it was afterwards") {
        const runtime rt = test::multi_thread(1).build();
        auto main = []() -> task<bool> {
            co_await magpie::consume_budget();
            const auto before = magpie::this_task::budget();
            const bool all = block_in_place([] {
                event set;
                set.set();
                for (int i = 0; i < 1000; ++i)
                    set.blocking_wait();
                return true;
            });
            co_return all&& magpie::this_task::budget() == before;
        };
        CHECK(rt.block_on(main()));
    }

    TEST_CASE("TASK-BLOCK-07 a paused clock waits for blocking calls, and goes on when they end") {
        on_each_layout([](auto builder) {
            struct shared {
                std::atomic<bool> go{false};
                std::atomic<bool> fired{false};
            } s;
            const runtime rt = builder.paused_clock(true).build();
            auto sleeper = [](shared& x) -> task<> {
                co_await magpie::sleep_for(1h);
                x.fired = true;
            };
            auto main = [](shared& x, auto sleep) -> task<bool> {
                auto h = magpie::spawn(sleep(x));
                const auto before = magpie::clock::now();
                const bool early = co_await spawn_blocking([&x] {
                    static_cast<void>(eventually([&x] { return x.go.load(); }));
                    return x.fired.load();
                });
                const bool stood_still = magpie::clock::now() == before;
                co_await std::move(h);
                co_return !early && stood_still && magpie::clock::now() == before + 1h;
            };
            auto root = [&] { return rt.block_on(main(s, sleeper)); };
            bool good = false;
            std::thread driver([&] { good = root(); });
            // When workers have gone to sleep again since the call began, the clock had its chance.
            const auto parks = [&] {
                std::uint64_t n = 0;
                for (const auto& w : rt.metrics().workers)
                    n += w.parks;
                return n;
            };
            CHECK(eventually([&] { return rt.metrics().blocking_threads > 0 && parks() > 0; }));
            const auto before = parks();
            auto poke = rt.spawn(nothing());
            CHECK(test::ends(poke));
            CHECK(eventually([&] { return parks() > before; }));
            auto again = rt.spawn(nothing());
            CHECK(test::ends(again));
            CHECK_FALSE(s.fired);
            s.go = true;
            driver.join();
            CHECK(good);
        });
    }

    TEST_CASE("TASK-BLOCK-07 it goes on too after a call that throws, or that nobody awaits") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true)
                                   .on_unhandled_exception([](const magpie::unhandled_exception&) {})
                                   .build();
            auto main = [](bool throws) -> task<> {
                std::latch started(1);
                spawn_blocking([&started, throws] {
                    started.count_down();
                    if (throws)
                        throw std::runtime_error("nobody hears this");
                }).detach();
                started.wait();
                co_await magpie::sleep_for(1h);
            };
            rt.block_on(main(false));
            rt.block_on(main(true));
        });
    }

    TEST_CASE("TASK-BLOCK-07 a paused clock waits for block_in_place as well") {
        std::atomic<bool> fired{false};
        const runtime rt = test::multi_thread(1).paused_clock(true).build();
        auto sleeper = [](std::atomic<bool>& f) -> task<> {
            co_await magpie::sleep_for(1h);
            f = true;
        };
        auto main = [](const runtime& r, std::atomic<bool>& f, auto sleep) -> task<bool> {
            auto h = magpie::spawn(sleep(f));
            co_await magpie::yield_now(); // it sleeps now
            const bool early = block_in_place([&] {
                // Twice the worker, on its other thread, has nothing to do: the clock had its chance.
                for (int i = 0; i < 2; ++i) {
                    const auto parks = r.metrics().workers.front().parks;
                    auto poke = r.spawn(nothing());
                    static_cast<void>(test::ends(poke));
                    static_cast<void>(
                        eventually([&] { return r.metrics().workers.front().parks > parks; }));
                }
                return f.load();
            });
            co_await std::move(h);
            co_return !early;
        };
        CHECK(rt.block_on(main(rt, fired, sleeper)));
    }

    TEST_CASE("TASK-BLOCK-08 a limit of one thread is enough: the others wait in order") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.max_blocking_threads(1).build();
            const auto in = rt.enter();
            std::vector<int> order;
            std::vector<join_handle<>> handles;
            for (int i = 0; i < 20; ++i)
                handles.push_back(spawn_blocking([&order, i] { order.push_back(i); }));
            for (auto& h : handles)
                h.blocking_join();
            REQUIRE(order.size() == 20);
            for (int i = 0; i < 20; ++i)
                CHECK(order[static_cast<std::size_t>(i)] == i);
            CHECK(rt.metrics().blocking_threads == 1);
        });
    }

    TEST_CASE("TASK-BLOCK-09 other tasks, queued or deferred, go on elsewhere during block_in_place") {
        const runtime rt = test::multi_thread(1).build();
        auto other = [](std::latch& ran) -> task<> {
            co_await magpie::yield_now();
            ran.count_down();
        };
        auto main = [](auto child) -> task<bool> {
            std::latch ran(3);
            std::vector<join_handle<>> handles;
            for (int i = 0; i < 2; ++i)
                handles.push_back(magpie::spawn(child(ran)));
            co_await magpie::yield_now(); // these have yielded, too, and stand behind this one
            handles.push_back(magpie::spawn(child(ran))); // this one is in the slot
            const bool all = block_in_place(
                [&ran] { return eventually([&] { return ran.try_wait(); }); });
            for (auto& h : handles)
                co_await std::move(h);
            co_return all;
        };
        CHECK(rt.block_on(main(other)));
    }

    TEST_CASE("TASK-BLOCK-10 block_in_place, block_on in it, and block_in_place in that") {
        const runtime rt = test::multi_thread(1).build();
        auto inner = []() -> task<int> { co_return block_in_place([] { return 11; }); };
        auto main = [](const runtime& r, auto f) -> task<int> {
            co_return block_in_place([&] { return r.block_on(f()); });
        };
        CHECK(rt.block_on(main(rt, inner)) == 11);
    }

    TEST_CASE("after block_in_place its task goes on on a worker") {
        const runtime rt = test::multi_thread(2).build();
        auto main = []() -> task<bool> {
            block_in_place([] {});
            const bool none = !magpie::worker_index().has_value();
            co_await magpie::yield_now();
            co_return none&& magpie::worker_index().has_value();
        };
        CHECK(rt.block_on(main()));
    }

    TEST_CASE("TASK-BLOCK-11 a shutdown while a worker is blocked in place ends when that does") {
        struct shared {
            std::atomic<bool> blocked{false};
            std::atomic<bool> go{false};
            std::atomic<bool> gone{false};
        } s;
        struct at_end {
            std::atomic<bool>& flag;
            explicit at_end(std::atomic<bool>& f) : flag(f) {}
            ~at_end() { flag = true; }
        };
        auto stuck = [](shared& x) -> task<> {
            const at_end last(x.gone);
            block_in_place([&x] {
                x.blocked = true;
                static_cast<void>(eventually([&x] { return x.go.load(); }));
            });
            co_return;
        };
        std::atomic<bool> over{false};
        auto rt = std::make_unique<runtime>(test::multi_thread(2).build());
        const auto handle = rt->handle();
        auto h = rt->spawn(stuck(s));
        REQUIRE(eventually([&] { return s.blocked.load(); }));
        std::thread destroyer([&] {
            rt.reset();
            over = true;
        });
        REQUIRE(eventually([&] { // until it is closed
            auto late = handle.spawn(nothing());
            return test::ends_cancelled(late);
        }));
        // The workers must have gone to sleep for good: that takes them a second.
        const auto parked = std::chrono::steady_clock::now() + 1300ms;
        static_cast<void>(eventually([&] { return std::chrono::steady_clock::now() > parked; }));
        CHECK_FALSE(over);
        s.go = true;
        CHECK(eventually([&] { return over.load(); }));
        CHECK(s.gone);
        if (!over) { // wake it up to go on with the other tests
            destroyer.detach();
            return;
        }
        destroyer.join();
        CHECK(h.is_finished());
    }

    TEST_CASE("a worker that was handed over is not taken for a stuck one") {
        const test::captured_log log;
        std::atomic<bool> in{false};
        std::atomic<bool> go{false};
        const runtime rt = test::multi_thread(3).stuck_limit(20ms).build();
        auto in_place = [](std::atomic<bool>& at, std::atomic<bool>& end) -> task<> {
            block_in_place([&] {
                at = true;
                static_cast<void>(eventually([&] { return end.load(); }));
            });
            co_return;
        };
        auto really_stuck = [](std::atomic<bool>& end) -> task<> {
            static_cast<void>(eventually([&] { return end.load(); }));
            co_return;
        };
        const auto is_reported = [&](const join_handle<>& h) {
            return log.contains("task " + std::to_string(h.id()) + ",");
        };
        CHECK(eventually([&] { // it may be, if its thread gets no core just before the section
            in = false;
            go = false;
            auto a = rt.spawn(in_place(in, go));
            REQUIRE(eventually([&] { return in.load(); }));
            auto b = rt.spawn(really_stuck(go));
            CHECK(eventually([&] { return is_reported(b); }));
            const bool wrong = is_reported(a);
            go = true;
            a.blocking_join();
            b.blocking_join();
            return !wrong;
        }));
    }

    TEST_CASE(
        "TASK-BLOCK-12 a call that meets a shutdown runs or is cancelled, and its closure is gone") {
        for (int round = 0; round < 50; ++round) {
            auto alive = std::make_shared<int>(0);
            std::atomic<int> ran{0};
            std::atomic<bool> spawning{false};
            std::vector<join_handle<>> handles;
            runtime rt = test::multi_thread(1).max_blocking_threads(2).build();
            std::thread spawner([&, handle = rt.handle()] {
                const auto in = handle.enter();
                for (int i = 0; i < 50; ++i) {
                    handles.push_back(spawn_blocking([keep = alive, &ran] { ++ran; }));
                    spawning = true;
                }
            });
            REQUIRE(eventually([&] { return spawning.load(); }));
            rt.shutdown_timeout(30s);
            spawner.join();
            int values = 0;
            int cancelled = 0;
            for (auto& h : handles) {
                REQUIRE(test::ends(h));
                try {
                    h.blocking_join();
                    ++values;
                } catch (const magpie::task_cancelled&) {
                    ++cancelled;
                }
            }
            CHECK(values == ran);
            CHECK(values + cancelled == 50);
            CHECK(alive.use_count() == 1);
        }
    }

    TEST_CASE("TASK-BLOCK-13 what has to run does so though the pool is closed, before or after it was "
              "submitted") {
        magpie::detail::blocking_pool pool(pool_options(1, 10s));
        struct gate final : magpie::detail::blocking_job {
            void run() noexcept override {
                running.count_down();
                go.wait();
            }
            void finish() noexcept override {}
            void refuse() noexcept override {}
            std::string describe() const override { return "the gate"; }
            std::latch running{1};
            std::latch go{1};
        } first;
        job waiting(false);
        job flush(true);
        job late_flush(true);
        job late(false);
        pool.submit(first);
        first.running.wait(); // what no thread has taken yet is refused
        pool.submit(waiting);
        pool.submit(flush);
        CHECK(pool.depth() == 2);
        pool.close();
        CHECK(waiting.refused);
        CHECK(pool.depth() == 1);
        pool.submit(late);
        CHECK(late.refused);
        pool.submit(late_flush);
        first.go.count_down();
        CHECK(eventually([&] { return flush.over && late_flush.over; }));
        CHECK(flush.ran);
        CHECK(late_flush.ran);
        CHECK_FALSE(waiting.ran);
        CHECK(pool.join(std::chrono::steady_clock::time_point::max()));
    }

    TEST_CASE("TASK-BLOCK-14 no call is lost when a thread's time runs out as it comes") {
        magpie::detail::blocking_pool pool(
            pool_options(2, 1ns)); // threads end as soon as they are idle
        for (int i = 0; i < 2000; ++i) {
            job j;
            pool.submit(j);
            REQUIRE(eventually([&] { return j.over.load(); }));
            CHECK(j.ran);
        }
        pool.close();
        CHECK(pool.join(std::chrono::steady_clock::time_point::max()));
    }

    TEST_CASE("TASK-BLOCK-14 a call that comes while the only thread ends gets another one") {
        std::latch ending(1);
        std::latch submitted(1);
        std::atomic<bool> first{true};
        auto options = pool_options(1, 1ns);
        options.on_stop = [&] {
            if (first.exchange(false)) {
                ending.count_down();
                submitted.wait();
            }
        };
        magpie::detail::blocking_pool pool(options);
        job before;
        job after;
        pool.submit(before);
        ending.wait();
        pool.submit(after);
        submitted.count_down();
        CHECK(eventually([&] { return after.over.load(); }));
        CHECK(after.ran);
        pool.close();
        CHECK(pool.join(std::chrono::steady_clock::time_point::max()));
    }

    TEST_CASE(
        "TASK-BLOCK-01 a call that waits for the next one holds up nobody, idle threads or none") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.max_blocking_threads(64).build();
            const auto in = rt.enter();
            for (int round = 0; round < 20; ++round) { // the first makes threads, the others wake them
                std::deque<std::latch> done;
                std::vector<join_handle<>> handles;
                for (int i = 0; i < 64; ++i)
                    done.emplace_back(1);
                for (std::size_t i = 0; i < done.size(); ++i)
                    handles.push_back(spawn_blocking([&done, i] {
                        if (i + 1 < done.size())
                            done[i + 1].wait();
                        done[i].count_down();
                    }));
                for (auto& h : handles) {
                    REQUIRE(test::ends(h));
                    h.blocking_join();
                }
            }
        });
    }

    TEST_CASE("idle threads are used again, and end after their keep-alive") {
        const runtime rt = test::multi_thread(1).thread_keep_alive(1ms).build();
        const auto in = rt.enter();
        spawn_blocking([] {}).blocking_join();
        CHECK(eventually([&] { return rt.metrics().blocking_threads == 0; }));
        CHECK(rt.metrics().idle_blocking_threads == 0);
    }

    TEST_CASE("spawn_blocking outside of a runtime says what to do") {
        CHECK_THROWS_AS(spawn_blocking([] {}).detach(), std::logic_error);
    }
}
