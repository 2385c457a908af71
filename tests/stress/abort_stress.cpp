// Aborts and timeouts meet wakes: one outcome each, every frame destroyed once, no permit lost.

#include <magpie/core/strand.hpp>

#include <magpie/core/timeout.hpp>

#include <test/both.hpp>
#include <test/eventually.hpp>
#include <test/limits.hpp>
#include <test/permits.hpp>
#include <test/shared_executor.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using test::counted;
using test::ends_cancelled;
using test::permits;
using test::shared_executor;
using test::workers;

namespace {

/// Lets a short time pass, another one each time.
void pass_time(std::minstd_rand& random) {
    for (auto i = random() % 2000; i > 0; --i)
        std::atomic_signal_fence(std::memory_order_seq_cst); // keeps the loop
}

void wait_until_at_least(const std::atomic<int>& n, int least) {
    while (n.load(std::memory_order_relaxed) < least)
        std::this_thread::yield();
}

/// Takes permits for ever, a few frames deep.
task<> consume(permits& from, std::atomic<int>& taken, counted) {
    auto once = [](permits& p, counted) -> task<> {
        const counted local;
        co_await p.take();
    };
    for (;;) {
        const counted local;
        co_await once(from, counted());
        taken.fetch_add(1, std::memory_order_relaxed);
    }
}

} // namespace

TEST_SUITE("stress.abort") {
    TEST_CASE("CPP-19 an abort from any thread at any moment and the task's end: exactly one outcome") {
        constexpr int n = test::scaled(50'000);
        const unsigned seed = 11;
        CAPTURE(seed);
        counted::alive = 0;
        int values = 0;
        int cancelled = 0;
        bool consistent = true;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            std::minstd_rand random(seed);
            auto body = [](permits& p, counted, std::atomic<int>& stage) -> task<counted> {
                const counted local;
                stage.store(1, std::memory_order_relaxed);
                co_await magpie::yield_now();
                stage.store(2, std::memory_order_relaxed);
                co_await p.take();
                stage.store(3, std::memory_order_relaxed);
                co_return counted();
            };
            for (int i = 0; i < n; ++i) {
                permits go;
                std::atomic<int> stage{0};
                auto h = ex.spawn(body(go, counted(), stage));
                const auto a = h.abort_handle();
                const auto reached = static_cast<int>(random() % 4);
                if (reached == 3)
                    go.add();
                wait_until_at_least(stage, reached);
                std::thread other;
                if (i % 100 == 0)
                    other = std::thread([a] { a.abort(); });
                if (reached < 3 && random() % 4 != 0)
                    go.add();
                pass_time(random);
                h.abort();
                try {
                    const counted c = h.blocking_join();
                    ++values;
                    consistent = consistent && stage == 3;
                } catch (const magpie::task_cancelled&) {
                    ++cancelled;
                    consistent = consistent && stage < 3;
                }
                if (other.joinable())
                    other.join();
            }
        }
        CHECK(consistent);
        CHECK(values + cancelled == n);
        CHECK(values > 0);
        CHECK(cancelled > 0);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("permits that come while their takers are aborted are not lost") {
        constexpr int rounds = test::scaled(10'000);
        constexpr int added = 40;
        const unsigned seed = 5;
        CAPTURE(seed);
        counted::alive = 0;
        bool none_lost = true;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            std::minstd_rand random(seed);
            for (int r = 0; r < rounds; ++r) {
                permits source;
                std::atomic<int> taken{0};
                auto h = ex.spawn(consume(source, taken, counted()));
                std::thread waker([&source] {
                    for (int i = 0; i < added; ++i)
                        source.add();
                });
                wait_until_at_least(taken, static_cast<int>(random() % added));
                h.abort();
                pass_time(random);
                h.abort();
                none_lost = ends_cancelled(h) && none_lost;
                waker.join();
                none_lost = none_lost && taken + source.left() == added;
            }
        }
        CHECK(none_lost);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("branches dropped while another thread wakes them") {
        constexpr int rounds = test::scaled(5'000);
        constexpr int added = 20;
        counted::alive = 0;
        bool none_lost = true;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            std::minstd_rand random(13); // NOLINT: the same each time
            auto both = [](task<> a, task<> b) -> task<> {
                test::both branches(std::move(a), std::move(b));
                co_await branches;
            };
            for (int r = 0; r < rounds; ++r) {
                std::array<permits, 4> sources;
                std::atomic<int> taken{0};
                auto h = ex.spawn(both(
                    both(consume(sources[0], taken, counted()), consume(sources[1], taken, counted())),
                    both(consume(sources[2], taken, counted()),
                         consume(sources[3], taken, counted()))));
                std::thread waker([&sources] {
                    for (int i = 0; i < added; ++i)
                        for (permits& p : sources)
                            p.add();
                });
                wait_until_at_least(taken, static_cast<int>(random() % (4 * added)));
                h.abort();
                none_lost = ends_cancelled(h) && none_lost;
                waker.join();
                int left = 0;
                for (const permits& p : sources)
                    left += p.left();
                none_lost = none_lost && taken + left == 4 * added;
            }
        }
        CHECK(none_lost);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("timeouts that run out as the permit comes: one of the two, and none is lost") {
        constexpr std::size_t tasks = 4;
        constexpr int adds = test::scaled(1'000'000);
        counted::alive = 0;
        std::array<int, tasks> taken{};
        std::array<std::atomic<int>, tasks> late{}; // also read while they count
        const auto missed = [&late] {
            int n = 0;
            for (const auto& l : late)
                n += l.load(std::memory_order_relaxed);
            return n;
        };
        int added = 0;
        int missed_before = 0;
        int left = 0;
        {
            std::deque<permits> sources(tasks);
            shared_executor ex(8);
            std::vector<join_handle<>> handles;
            auto loop = [](permits& p, int& got, std::atomic<int>& not_got) -> task<> {
                // It counts by itself: when its timeout is dropped, what it took goes with it.
                auto body = [](permits& from, int& n, counted) -> task<> {
                    const counted local;
                    co_await from.take();
                    ++n;
                };
                for (int i = 0;; ++i) {
                    bool in_time = false;
                    if (i % 3 == 0) {
                        in_time = co_await magpie::timeout(3ms, p.take());
                        got += in_time ? 1 : 0;
                    } else if (i % 3 == 1) {
                        in_time = co_await magpie::timeout(2ms, body(p, got, counted()));
                    } else {
                        const auto inner = co_await magpie::timeout(
                            4ms, magpie::timeout(3ms, body(p, got, counted())));
                        in_time = inner.value_or(false);
                    }
                    not_got.fetch_add(in_time ? 0 : 1, std::memory_order_relaxed);
                }
            };
            for (std::size_t i = 0; i < tasks; ++i)
                handles.push_back(ex.spawn(loop(sources[i], taken[i], late[i])));
            {
                const workers turns(ex, 2);
                std::atomic<bool> stop{false};
                std::thread clock([&] {
                    while (!stop.load(std::memory_order_relaxed)) {
                        ex.advance(1ms);
                        std::this_thread::yield();
                    }
                });
                std::minstd_rand random(9); // NOLINT: the same each time
                missed_before = missed();
                const auto add = [&] {
                    permits& p = sources[random() % tasks];
                    while (p.left() > 1) // no faster than they are taken
                        std::this_thread::yield();
                    p.add();
                };
                for (; added < adds; ++added)
                    add();
                // Longer if no time has run out meanwhile: the clock's thread may have had no core.
                for (const test::patience patience; missed() == missed_before && !patience.is_over();
                     ++added)
                    add();
                for (auto& h : handles)
                    h.abort();
                for (auto& h : handles)
                    CHECK(ends_cancelled(h));
                stop.store(true, std::memory_order_relaxed);
                clock.join();
            }
            for (const permits& p : sources)
                left += p.left();
        }
        int in_time = 0;
        for (const int n : taken)
            in_time += n;
        CHECK(in_time + left == added);
        CHECK(in_time > 0);
        CHECK(missed() > missed_before);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("TASK-CORE-18 an executor that closes while tasks spawn leaves nothing") {
        constexpr int rounds = test::scaled(500);
        counted::alive = 0;
        std::minstd_rand random(17); // NOLINT: the same each time
        for (int r = 0; r < rounds; ++r) {
            std::vector<join_handle<>> parents;
            std::atomic<int> spawned{0};
            shared_executor ex;
            const workers turns(ex, 2);
            auto child = [](counted) -> task<> {
                const counted local;
                co_await magpie::sleep_for(1h);
            };
            auto parent = [](auto make, counted, std::atomic<int>& n) -> task<> {
                for (int i = 0; i < 1000; ++i) {
                    const auto h = magpie::spawn(make(counted()));
                    n.fetch_add(1, std::memory_order_relaxed);
                    co_await magpie::yield_now();
                    if (h.is_finished()) // nothing but the close can end it
                        co_return;
                }
            };
            for (int i = 0; i < 3; ++i)
                parents.push_back(ex.spawn(parent(child, counted(), spawned)));
            wait_until_at_least(spawned, static_cast<int>(random() % 20));
            ex.close();
            for (auto& p : parents)
                static_cast<void>(ends_cancelled(p));
            auto late = ex.spawn(child(counted()));
            CHECK(late.is_finished());
            CHECK(ends_cancelled(late));
        }
        CHECK(counted::alive.load() == 0);
    }
}
