// Runtimes that end while everything is under way: each task and closure ends once, nothing is left.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::sync::event;
using test::eventually;

namespace {

/// Counts the objects alive, on all threads.
struct counted {
    static inline std::atomic<int> alive{0};
    counted() noexcept { alive.fetch_add(1, std::memory_order_relaxed); }
    counted(const counted&) noexcept : counted() {}
    counted& operator=(const counted&) = default;
    ~counted() { alive.fetch_sub(1, std::memory_order_relaxed); }
};

/// A little of everything, for ever.
task<> busy(unsigned seed, counted) {
    std::minstd_rand random(seed);
    auto child = [](counted, unsigned n) -> task<> {
        const counted local;
        if (n % 2 == 0)
            co_await magpie::yield_now();
        else
            co_await magpie::sleep_for(100us * (n % 10));
    };
    auto call = [keep = counted()] { static_cast<void>(keep); };
    for (;;) {
        const counted local;
        switch (random() % 5) {
        case 0: magpie::spawn(child(counted(), static_cast<unsigned>(random()))).detach(); break;
        case 1: co_await magpie::spawn(child(counted(), static_cast<unsigned>(random()))); break;
        case 2: static_cast<void>(co_await magpie::timeout(200us, magpie::sleep_for(1ms))); break;
        case 3: co_await magpie::spawn_blocking(call); break;
        default: co_await magpie::yield_now();
        }
    }
}

} // namespace

TEST_SUITE("stress.shutdown") {
    TEST_CASE("RT-LIFE-08 RT-LIFE-03 CPP-23 a runtime that ends under load leaves nothing") {
        test::on_each_layout([](auto builder) {
            const unsigned seed = 31;
            CAPTURE(seed);
            std::minstd_rand random(seed);
            counted::alive = 0;
            for (int round = 0; round < test::scaled(200) + 2; ++round) {
                std::vector<join_handle<>> handles;
                {
                    std::optional<runtime> rt(builder.build());
                    for (unsigned i = 0; i < 8; ++i)
                        handles.push_back(rt->spawn(busy(i, counted())));
                    std::thread outside([handle = rt->handle()] {
                        for (int i = 0; i < 50; ++i)
                            handle.spawn(busy(1000, counted())).detach();
                    });
                    auto turns = [](unsigned n) -> task<> {
                        for (unsigned i = 0; i < n; ++i)
                            co_await magpie::yield_now();
                    };
                    rt->block_on(turns(static_cast<unsigned>(random() % 50)));
                    rt.reset();
                    outside.join();
                }
                for (auto& h : handles)
                    CHECK(test::ends_cancelled(h));
                CHECK(counted::alive == 0);
            }
        });
    }

    TEST_CASE("RT-LIFE-05 shutdowns that do not wait, under load: everything ends by itself") {
        for (int round = 0; round < test::scaled(200) + 2; ++round) {
            counted::alive = 0;
            runtime rt = test::multi_thread(2).build();
            std::vector<join_handle<>> handles;
            for (unsigned i = 0; i < 8; ++i)
                handles.push_back(rt.spawn(busy(i, counted())));
            auto turn = []() -> task<> { co_await magpie::yield_now(); };
            rt.block_on(turn());
            rt.shutdown_background();
            for (auto& h : handles)
                CHECK(test::ends_cancelled(h));
            CHECK(eventually([] { return counted::alive == 0; }));
        }
    }

    TEST_CASE(
        "TASK-BLOCK-12 blocking calls that are spawned as the pool closes: each runs or is cancelled") {
        for (int round = 0; round < test::scaled(200) + 2; ++round) {
            counted::alive = 0;
            std::atomic<int> ran{0};
            int values = 0;
            std::vector<join_handle<>> handles;
            {
                std::atomic<bool> first{false};
                std::optional<runtime> rt(test::multi_thread(1).max_blocking_threads(2).build());
                std::thread outside([&, handle = rt->handle()] {
                    const auto in = handle.enter();
                    for (int i = 0; i < 100; ++i) {
                        handles.push_back(magpie::spawn_blocking([&ran, keep = counted()] {
                            ran.fetch_add(1, std::memory_order_relaxed);
                            static_cast<void>(keep);
                        }));
                        first = true;
                    }
                });
                CHECK(eventually([&] { return first.load(); }));
                rt.reset();
                outside.join();
            }
            for (auto& h : handles) {
                CHECK(test::ends(h));
                try {
                    h.blocking_join();
                    ++values;
                } catch (const magpie::task_cancelled&) {}
            }
            CHECK(values == ran);
            CHECK(counted::alive == 0);
        }
    }

    TEST_CASE(
        "RT-LIFE-10 handles that go unread while their runtime goes: each exception is reported") {
        test::captured_log log; // what comes after the runtime has gone
        test::on_each_layout([&log](auto builder) {
            constexpr std::size_t tasks = 24;
            constexpr std::size_t threads = 3;
            std::atomic<std::size_t> heard{0};
            std::size_t total = 0;
            constexpr const char* why = "nobody reads this"; // who gets no core is reported, too
            const std::size_t before = log.count(why);
            for (int round = 0; round < test::scaled(2000) + 100; ++round, total += tasks) {
                std::atomic<std::size_t> next{0};
                std::optional<runtime> rt(
                    builder.on_unhandled(magpie::unhandled_policy::shutdown)
                        .on_unhandled_exception([&](const magpie::unhandled_exception&) { ++heard; })
                        .build());
                auto failing = []() -> task<> {
                    throw std::runtime_error(why);
                    co_return;
                };
                auto spawn_all = [](auto f) -> task<std::vector<join_handle<>>> {
                    std::vector<join_handle<>> all;
                    for (std::size_t i = 0; i < tasks; ++i)
                        all.push_back(magpie::spawn(f()));
                    for (const auto& h : all)
                        while (!h.is_finished())
                            co_await magpie::yield_now();
                    co_return all;
                };
                auto handles = rt->block_on(spawn_all(failing));
                std::vector<std::thread> droppers;
                for (std::size_t t = 0; t < threads; ++t)
                    droppers.emplace_back([&] {
                        for (std::size_t i; (i = next.fetch_add(1)) < tasks;)
                            handles[i] = join_handle<>();
                    });
                static_cast<void>(eventually([&] { return next > tasks / 4; }));
                rt.reset();
                for (auto& t : droppers)
                    t.join();
            }
            CHECK(heard + log.count(why) - before == total);
        });
    }

    TEST_CASE("RT-LIFE-11 block_on callers of a current_thread runtime that goes") {
        for (int round = 0; round < test::scaled(200) + 2; ++round) {
            std::atomic<int> inside{0};
            std::atomic<int> over{0};
            std::optional<runtime> rt(test::current_thread().build());
            auto main = [](std::atomic<int>& n) -> task<> {
                ++n;
                co_await magpie::sleep_for(1h);
            };
            std::vector<std::thread> callers;
            for (int t = 0; t < 3; ++t)
                callers.emplace_back([&, handle = rt->handle()] {
                    try {
                        handle.block_on(main(inside));
                    } catch (const magpie::task_cancelled&) {
                        ++over;
                    }
                });
            CHECK(eventually([&] { return inside > round % 3; }));
            rt.reset();
            for (auto& t : callers)
                t.join();
            CHECK(over == 3);
        }
    }
}
