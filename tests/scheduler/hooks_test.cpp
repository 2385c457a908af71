#include <magpie/scheduler/builder.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <source_location>
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

task<> nothing() { co_return; }

} // namespace

TEST_SUITE("scheduler.hooks") {
    TEST_CASE("RT-SCHED-20 start and stop are called once on each thread, workers and blocking ones") {
        std::mutex lock;
        std::map<std::thread::id, int> started;
        std::map<std::thread::id, int> stopped;
        {
            const runtime rt = test::multi_thread(3)
                                   .max_blocking_threads(1)
                                   .on_thread_start([&] {
                                       const std::lock_guard guard(lock);
                                       ++started[std::this_thread::get_id()];
                                   })
                                   .on_thread_stop([&] {
                                       const std::lock_guard guard(lock);
                                       ++stopped[std::this_thread::get_id()];
                                   })
                                   .build();
            const auto in = rt.enter();
            magpie::spawn_blocking([] {}).blocking_join();
        }
        CHECK(started.size() == 4);
        CHECK(started == stopped);
        for (const auto& [thread, n] : started)
            CHECK(n == 1);
        CHECK(started.count(std::this_thread::get_id()) == 0);
    }

    TEST_CASE("on_task_spawn and on_task_end are called once for each task, with its id") {
        on_each_layout([](auto builder) {
            std::mutex lock;
            std::multiset<std::uint64_t> spawned;
            std::multiset<std::uint64_t> ended;
            std::set<std::uint64_t> expected;
            {
                const runtime rt = builder
                                       .on_task_spawn([&](std::uint64_t id) {
                                           const std::lock_guard guard(lock);
                                           spawned.insert(id);
                                       })
                                       .on_task_end([&](std::uint64_t id) {
                                           const std::lock_guard guard(lock);
                                           ended.insert(id);
                                       })
                                       .build();
                auto sleeps = []() -> task<> { co_await magpie::sleep_for(1h); };
                auto main = [](auto f) -> task<std::set<std::uint64_t>> {
                    std::set<std::uint64_t> ids{*magpie::this_task::id()};
                    auto aborted = magpie::spawn(f());
                    ids.insert(aborted.id());
                    for (int i = 0; i < 10; ++i) {
                        auto h = magpie::spawn(nothing());
                        ids.insert(h.id());
                        co_await h;
                    }
                    aborted.abort();
                    co_await magpie::as_result(aborted);
                    co_return ids;
                };
                expected = rt.block_on(main(sleeps));
                auto dropped = rt.spawn(sleeps()); // by the shutdown
                expected.insert(dropped.id());
                dropped.detach();
            }
            CHECK(spawned == std::multiset<std::uint64_t>(expected.begin(), expected.end()));
            CHECK(ended == spawned);
        });
    }

    TEST_CASE("park and unpark come in pairs on each worker, whatever ends the sleep") {
        std::atomic<int> parks{0};
        std::atomic<int> unparks{0};
        {
            const runtime rt = test::multi_thread(2)
                                   .on_thread_park([&] { ++parks; })
                                   .on_thread_unpark([&] { ++unparks; })
                                   .build();
            auto main = []() -> task<> {
                for (int i = 0; i < 5; ++i) {
                    co_await magpie::sleep_for(1ms);
                    co_await magpie::spawn_blocking([] {});
                }
            };
            rt.block_on(main());
            // A worker that is held up finds its timer due, and need not sleep: until one has.
            CHECK(eventually([&] {
                rt.spawn(nothing()).blocking_join();
                return parks > 0 && unparks > 0;
            }));
        }
        CHECK(parks >= unparks);
        CHECK(unparks > 0);
    }

    TEST_CASE("RT-SCHED-07 a park hook may spawn: the worker then does not sleep") {
        on_each_layout([](auto builder) {
            std::atomic<bool> armed{false};
            std::atomic<int> ran{0};
            auto counts = [](std::atomic<int>& n) -> task<> {
                ++n;
                co_return;
            };
            const runtime rt = builder
                                   .on_thread_park([&] {
                                       if (armed.exchange(false))
                                           magpie::spawn(counts(ran)).detach();
                                   })
                                   .build();
            auto main = [](std::atomic<bool>& a, std::atomic<int>& n) -> task<> {
                for (int i = 1; i <= 10; ++i) {
                    a = true;
                    while (n < i)
                        co_await magpie::sleep_for(1ms);
                }
            };
            rt.block_on(main(armed, ran));
            CHECK(ran == 10);
        });
    }

    TEST_CASE("RT-SCHED-07 a park hook may wake the task for which everybody waits") {
        on_each_layout([](auto builder) {
            std::vector<event> events(10);
            std::atomic<event*> awaited{nullptr};
            const runtime rt = builder
                                   .on_thread_park([&] {
                                       if (event* const e = awaited.exchange(nullptr))
                                           e->set();
                                   })
                                   .build();
            auto main = [](std::vector<event>& all, std::atomic<event*>& at) -> task<> {
                for (event& e : all) {
                    at = &e;
                    co_await e.wait();
                }
            };
            rt.block_on(main(events, awaited));
            CHECK(events.back().is_set());
        });
    }

    TEST_CASE("RT-SCHED-08 a timer of a task that a park hook has spawned fires") {
        on_each_layout([](auto builder) {
            std::atomic<bool> armed{true};
            event fired;
            auto sleeps = [](event& e) -> task<> {
                co_await magpie::sleep_for(2ms);
                e.set();
            };
            const runtime rt = builder
                                   .on_thread_park([&] {
                                       if (armed.exchange(false))
                                           magpie::spawn(sleeps(fired)).detach();
                                   })
                                   .build();
            auto main = [](event& e) -> task<> { co_await e.wait(); };
            rt.block_on(main(fired));
            CHECK(fired.is_set());
        });
    }

    TEST_CASE("CPP-06 the unhandled hook receives an exception once, with task, name and place") {
        on_each_layout([](auto builder) {
            struct seen {
                std::string what;
                std::uint64_t id;
                std::string name;
                std::source_location where;
            };
            std::mutex lock;
            std::vector<seen> all;
            const runtime rt = builder
                                   .on_unhandled_exception([&](const magpie::unhandled_exception& x) {
                                       const std::lock_guard guard(lock);
                                       all.push_back({std::string(magpie::describe(x.error)), x.task_id,
                                                      std::string(x.task_name), x.where});
                                   })
                                   .build();
            auto failing = []() -> task<> {
                throw std::runtime_error("lost letter");
                co_return;
            };
            auto main = [](const runtime& r, auto f) -> task<std::uint64_t> {
                auto h = magpie::spawn("postman", f());
                const auto id = h.id();
                h.detach();
                while (r.metrics().unhandled_exceptions == 0)
                    co_await magpie::yield_now();
                co_return id;
            };
            const auto id = rt.block_on(main(rt, failing));
            REQUIRE(eventually([&] {
                const std::lock_guard guard(lock);
                return all.size() == 1;
            }));
            CHECK(all[0].what == "lost letter");
            CHECK(all[0].id == id);
            CHECK(all[0].name == "postman");
            CHECK(std::string(all[0].where.file_name()).find("hooks_test.cpp") != std::string::npos);
        });
    }
}
