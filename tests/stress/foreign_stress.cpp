// Foreign code resumes and destroys what waits for it, on threads of its own, while tasks are dropped.

#include <magpie/core/foreign.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;

namespace {

/// Takes handles and resumes them on its threads, each seventh it destroys instead. Each second one
/// that is handed over is resumed at once, by who hands it over.
class elsewhere {
public:
    explicit elsewhere(int threads) {
        for (int t = 0; t < threads; ++t)
            threads_.emplace_back([this] { serve(); });
    }
    elsewhere(const elsewhere&) = delete;
    ~elsewhere() {
        {
            const std::lock_guard guard(lock_);
            over_ = true;
        }
        more_.notify_all();
        for (auto& t : threads_)
            t.join();
    }

    struct wait {
        elsewhere& at;
        explicit wait(elsewhere& e) : at(e) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const { at.take(h); }
        int await_resume() const noexcept { return 1; }
    };

private:
    void take(std::coroutine_handle<> h) {
        if (number_.fetch_add(1, std::memory_order_relaxed) % 2 == 0) {
            h.resume();
            return;
        }
        const std::lock_guard guard(lock_);
        handles_.push_back(h);
        more_.notify_one();
    }
    void serve() {
        for (unsigned n = 0;; ++n) {
            std::unique_lock guard(lock_);
            more_.wait(guard, [this] { return over_ || !handles_.empty(); });
            if (handles_.empty())
                return;
            const auto h = handles_.back();
            handles_.pop_back();
            guard.unlock();
            n % 7 == 6 ? h.destroy() : h.resume();
        }
    }

    std::atomic<unsigned> number_{0};
    std::mutex lock_;
    std::condition_variable more_;
    std::vector<std::coroutine_handle<>> handles_;
    bool over_ = false;
    std::vector<std::thread> threads_;
};

task<int> wait_often(elsewhere& at, int times) {
    int resumed = 0;
    for (int i = 0; i < times; ++i) {
        try {
            const elsewhere::wait w(at);
            resumed += co_await w;
        } catch (const std::logic_error&) { // it was destroyed
            ++resumed;
        }
    }
    co_return resumed;
}

} // namespace

TEST_SUITE("stress.foreign") {
    TEST_CASE("waits that end at once, on other threads, or by destruction: each ends once") {
        constexpr int times = test::scaled(20'000);
        test::on_each_layout([](auto builder) {
            elsewhere there(2);
            const runtime rt = builder.build();
            auto main = [](elsewhere& at) -> task<int> {
                std::vector<join_handle<int>> all;
                for (int i = 0; i < 8; ++i)
                    all.push_back(magpie::spawn(wait_often(at, times)));
                int sum = 0;
                for (auto& h : all)
                    sum += co_await h;
                co_return sum;
            };
            CHECK(rt.block_on(main(there)) == 8 * times);
        });
    }

    TEST_CASE("the same while the tasks are aborted, and run into time-outs") {
        const unsigned seed = 5;
        CAPTURE(seed);
        test::on_each_layout([](auto builder) {
            elsewhere there(2);
            const runtime rt = builder.build();
            auto main = [](elsewhere& at, unsigned s) -> task<int> {
                std::minstd_rand random(s);
                auto limited = [](elsewhere& to) -> task<> {
                    for (;;)
                        static_cast<void>(co_await magpie::timeout(0ms, wait_often(to, 100)));
                };
                int ended = 0;
                for (int round = 0; round < test::scaled(2'000) + 20; ++round) {
                    auto a = magpie::spawn(wait_often(at, 1'000'000'000));
                    auto b = magpie::spawn(limited(at));
                    for (auto n = random() % 4; n > 0; --n)
                        co_await magpie::yield_now();
                    a.abort();
                    b.abort();
                    const auto first = co_await magpie::as_result(a);
                    const auto second = co_await magpie::as_result(b);
                    ended += first.has_error() && second.has_error() ? 1 : 0;
                }
                co_return ended;
            };
            CHECK(rt.block_on(main(there, seed)) == test::scaled(2'000) + 20);
        });
    }
}
