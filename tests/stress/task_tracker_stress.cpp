// Trackers that are closed, reopened, waited for and let go while their tasks end on several threads.

#include <magpie/scheduler/task_tracker.hpp>

#include <test/limits.hpp>
#include <test/shared_executor.hpp>
#include <test/trace.hpp>

#include <magpie/core.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::task_tracker;
using test::counted;
using test::shared_executor;
using test::workers;

namespace {

task<> work(std::atomic<int>& done, unsigned yields) {
    const counted local;
    for (; yields > 0; --yields)
        co_await magpie::yield_now();
    ++done;
}

} // namespace

TEST_SUITE("stress.task_tracker") {
    TEST_CASE("who waits sees all tasks ended, whenever the tracker is closed") {
        constexpr int n = test::scaled(20'000);
        counted::alive = 0;
        const unsigned seed = 5;
        CAPTURE(seed);
        {
            shared_executor ex;
            const workers turns(ex, 3);
            std::minstd_rand random(seed);
            auto main = [](unsigned r) -> task<int> {
                std::atomic<int> done{0};
                const int tasks = static_cast<int>(r % 4) + 1;
                const task_tracker tracker;
                for (int i = 0; i < tasks; ++i)
                    tracker.spawn(work(done, r / 4 % 3)).detach();
                auto closes = [](task_tracker t) -> task<> {
                    t.close();
                    co_return;
                };
                auto waits = [](task_tracker t) -> task<> { co_await t.wait(); };
                auto other = magpie::spawn(waits(tracker));
                auto closer = magpie::spawn(closes(tracker));
                if (r / 12 % 4 == 0)
                    other.abort();
                co_await tracker.wait();
                const int seen = done;
                co_await magpie::as_result(other);
                co_await closer;
                co_return seen == tasks&& tracker.empty() ? 0 : 1;
            };
            int wrong = 0;
            for (int i = 0; i < n; ++i)
                wrong += ex.spawn(main(static_cast<unsigned>(random()))).blocking_join();
            CHECK(wrong == 0);
            while (ex.live() > 0)
                std::this_thread::yield();
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("tokens that come and go on plain threads, closed and reopened meanwhile") {
        constexpr int n = test::scaled(100'000);
        std::atomic<int> left{2};
        shared_executor ex;
        const workers turns(ex, 1);
        const task_tracker tracker;
        std::vector<std::thread> threads;
        for (int t = 0; t < 2; ++t)
            threads.emplace_back([&left, tracker] {
                for (int i = 0; i < n; ++i) {
                    magpie::tracker_token token = tracker.token();
                    const magpie::tracker_token copy = token;
                    token.reset();
                }
                --left;
            });
        int ends = 0;
        do { // once, should they have done before it begins
            auto waits = [](task_tracker t) -> task<> { co_await t.wait(); };
            auto h = ex.spawn(waits(tracker));
            tracker.close();
            h.blocking_join(); // sooner or later nobody holds a token for a moment
            ++ends;
            tracker.reopen();
        } while (left > 0);
        for (auto& t : threads)
            t.join();
        CHECK(ends > 0);
        CHECK(tracker.empty());
        tracker.close();
        tracker.blocking_wait();
    }
}
