// Wakes from many threads meet the turns of tasks with several branches.

#include <magpie/core/strand.hpp>

#include <test/both.hpp>
#include <test/limits.hpp>
#include <test/permits.hpp>
#include <test/shared_executor.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using test::both;
using test::permits;
using test::shared_executor;
using test::workers;

namespace {

task<> take_many(permits& p, int times, int& taken) {
    for (int i = 0; i < times; ++i) {
        co_await p.take();
        ++taken; // shared with the sibling branches, without a lock
    }
}

task<> run_both(task<> a, task<> b) {
    both branches(std::move(a), std::move(b));
    co_await branches;
}

using four = std::array<permits, 4>;

task<int> four_branches(four& from, int times) {
    int taken = 0;
    both branches(run_both(take_many(from[0], times, taken), take_many(from[1], times, taken)),
                  run_both(take_many(from[2], times, taken), take_many(from[3], times, taken)));
    co_await branches;
    co_return taken;
}

} // namespace

TEST_SUITE("stress.strand") {
    TEST_CASE("branches that many threads wake never run in parallel, and miss no wake") {
        constexpr int tasks = 8;
        constexpr int times = test::scaled(20'000);
        for (const unsigned budget : {1U, 3U, 128U}) {
            CAPTURE(budget);
            std::deque<four> sources(tasks);
            shared_executor ex(static_cast<std::uint16_t>(budget));
            std::vector<join_handle<int>> handles;
            for (four& f : sources)
                handles.push_back(ex.spawn(four_branches(f, times)));
            {
                const workers turns(ex, 2);
                std::vector<std::thread> wakers;
                for (std::size_t w = 0; w < 2; ++w)
                    wakers.emplace_back([&, w] { // each task is woken by both
                        for (int i = 0; i < times; ++i)
                            for (four& f : sources)
                                for (std::size_t k = w; k < 4; k += 2)
                                    f[k].add();
                    });
                for (std::thread& t : wakers)
                    t.join();
                for (auto& h : handles)
                    CHECK(h.blocking_join() == 4 * times);
            }
            CHECK(ex.live() == 0);
        }
    }

    TEST_CASE("tasks that yield on many threads keep what they wrote") {
        constexpr int tasks = 50;
        constexpr int times = test::scaled(20'000);
        shared_executor ex;
        auto f = [](int n) -> task<int> {
            int count = 0;
            auto loop = [](int rounds, int& c) -> task<> {
                for (int i = 0; i < rounds; ++i) {
                    co_await magpie::yield_now();
                    ++c;
                }
            };
            both branches(loop(n, count), loop(n, count));
            co_await branches;
            co_return count;
        };
        std::vector<join_handle<int>> handles;
        for (int i = 0; i < tasks; ++i)
            handles.push_back(ex.spawn(f(times)));
        const workers turns(ex, 3);
        for (auto& h : handles)
            CHECK(h.blocking_join() == 2 * times);
    }

    TEST_CASE("two tasks of two executors wake each other in turn") {
        constexpr int rounds = test::scaled(100'000);
        permits to_left;
        permits to_right;
        shared_executor left;
        shared_executor right;
        auto f = [](permits& in, permits& out, int n, int& plain) -> task<> {
            for (int i = 0; i < n; ++i) {
                co_await in.take();
                ++plain; // handed to and fro with the permit
                out.add();
            }
        };
        int plain = 0;
        auto a = left.spawn(f(to_left, to_right, rounds, plain));
        auto b = right.spawn(f(to_right, to_left, rounds, plain));
        {
            const workers on_left(left, 1);
            const workers on_right(right, 1);
            to_left.add();
            a.blocking_join();
            b.blocking_join();
        }
        CHECK(plain == 2 * rounds);
        CHECK(to_left.left() == 1);
        CHECK(to_right.left() == 0);
    }

    TEST_CASE("a ring of tasks passes many permits round") {
        constexpr std::size_t size = 20;
        constexpr int rounds = test::scaled(100'000);
        std::deque<permits> ring(size);
        shared_executor ex;
        auto f = [](permits& in, permits& out, int n) -> task<> {
            for (int i = 0; i < n; ++i) {
                co_await in.take();
                out.add();
            }
        };
        std::vector<join_handle<>> handles;
        for (std::size_t i = 0; i < size; ++i)
            handles.push_back(ex.spawn(f(ring[i], ring[(i + 1) % size], rounds)));
        {
            const workers turns(ex, 3);
            for (int i = 0; i < 4; ++i)
                ring[0].add();
            for (auto& h : handles)
                h.blocking_join();
        }
        int left = 0;
        for (const permits& p : ring)
            left += p.left();
        CHECK(left == 4);
    }

    TEST_CASE("foreign awaitables resume on threads of their own while their task is elsewhere") {
        // A few threads that resume what was handed to them, in the order in which it came.
        class resumers {
        public:
            explicit resumers(int count) {
                for (int i = 0; i < count; ++i)
                    threads_.emplace_back([this] { run(); });
            }
            ~resumers() {
                for (std::thread& t : threads_)
                    t.join();
            }
            void post(std::coroutine_handle<> h) {
                const std::lock_guard guard(lock_);
                queue_.push_back(h);
            }
            void stop() { stop_.store(true, std::memory_order_release); }

        private:
            void run() {
                while (!stop_.load(std::memory_order_acquire)) {
                    std::coroutine_handle<> h;
                    {
                        const std::lock_guard guard(lock_);
                        if (!queue_.empty()) {
                            h = queue_.front();
                            queue_.pop_front();
                        }
                    }
                    if (h)
                        h.resume();
                    else
                        std::this_thread::yield();
                }
            }
            std::mutex lock_;
            std::deque<std::coroutine_handle<>> queue_;
            std::atomic<bool> stop_{false};
            std::vector<std::thread> threads_;
        };
        struct hop {
            resumers& to;
            explicit hop(resumers& r) : to(r) {}
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) { to.post(h); }
            int await_resume() const noexcept { return 1; }
        };
        constexpr int rounds = test::scaled(50'000);
        resumers others(2);
        {
            shared_executor ex;
            auto f = [](resumers& r, int n) -> task<int> {
                int sum = 0;
                auto loop = [](resumers& to, int k, int& s) -> task<> {
                    for (int i = 0; i < k; ++i)
                        s += co_await hop(to);
                };
                both branches(loop(r, n, sum), loop(r, n, sum));
                co_await branches;
                co_return sum;
            };
            std::vector<join_handle<int>> handles;
            for (int i = 0; i < 4; ++i)
                handles.push_back(ex.spawn(f(others, rounds)));
            const workers turns(ex, 2);
            for (auto& h : handles)
                CHECK(h.blocking_join() == 2 * rounds);
        }
        others.stop();
    }
}
