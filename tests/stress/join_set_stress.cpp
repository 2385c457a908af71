// Sets of tasks that end, are aborted, joined, dropped and detached on several threads: each result
// once, and no memory left.

#include <magpie/scheduler/join_set.hpp>

#include <test/limits.hpp>
#include <test/shared_executor.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <thread>
#include <utility>

using magpie::join_set;
using magpie::task;
using test::counted;
using test::shared_executor;
using test::workers;

namespace {

task<counted> number(int n) {
    const counted local;
    if (n % 3 == 0)
        co_await magpie::yield_now();
    co_return counted(n);
}

} // namespace

TEST_SUITE("stress.join_set") {
    TEST_CASE("each task of a set is joined once, while others are spawned") {
        constexpr int n = test::scaled(200'000);
        counted::alive = 0;
        std::int64_t sum = 0;
        {
            shared_executor ex;
            const workers turns(ex, 3);
            auto main = []() -> task<std::int64_t> {
                join_set<counted> set;
                std::int64_t all = 0;
                for (int i = 0; i < n; ++i) {
                    set.spawn(number(i));
                    if (set.size() > 50) {
                        const std::optional<counted> c = co_await set.join_next();
                        all += c->value;
                    }
                }
                for (;;) {
                    const std::optional<counted> c = co_await set.join_next();
                    if (!c)
                        break;
                    all += c->value;
                }
                co_return all;
            };
            sum = ex.spawn(main()).blocking_join();
        }
        CHECK(sum == std::int64_t{n} * (n - 1) / 2);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("sets that go, let go, abort, or whose task is dropped, as their tasks end") {
        constexpr int n = test::scaled(50'000);
        const unsigned seed = 11;
        CAPTURE(seed);
        counted::alive = 0;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            std::minstd_rand random(seed);
            auto main = [](unsigned r) -> task<int> {
                join_set<counted> set;
                const int tasks = static_cast<int>(r % 5) + 1;
                for (int i = 0; i < tasks; ++i)
                    set.spawn(number(i));
                int joined = 0;
                for (unsigned i = r / 5 % 4; i > 0; --i) {
                    const auto next = co_await as_result(set.join_next());
                    joined += next ? 1 : 0;
                }
                switch (r / 20 % 4) {
                case 0: break; // the set goes
                case 1: set.detach_all(); break;
                case 2: set.abort_all(); [[fallthrough]];
                default:
                    for (;;) {
                        const auto next = co_await as_result(set.join_next());
                        if (!next)
                            break;
                        ++joined;
                    }
                    if (joined != tasks)
                        co_return 1;
                }
                co_return 0;
            };
            int wrong = 0;
            for (int i = 0; i < n; ++i) {
                auto h = ex.spawn(main(static_cast<unsigned>(random())));
                if (random() % 4 == 0) {
                    for (auto spin = random() % 300; spin > 0; --spin)
                        static_cast<void>(h.is_finished());
                    h.abort();
                }
                try {
                    wrong += h.blocking_join();
                } catch (const magpie::task_cancelled&) {
                    // as it was meant
                }
            }
            CHECK(wrong == 0);
            while (ex.live() > 0)
                std::this_thread::yield();
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("waits that run out of time lose no result") {
        constexpr int n = test::scaled(50'000);
        shared_executor ex;
        const workers turns(ex, 2);
        auto main = []() -> task<int> {
            join_set<counted> set;
            int got = 0;
            for (int i = 0; i < n; ++i) {
                set.spawn(number(i));
                auto in_time = co_await magpie::timeout(std::chrono::nanoseconds(1), set.join_next());
                got += in_time && *in_time ? 1 : 0;
                while (set.size() > 20) {
                    const std::optional<counted> c = co_await set.join_next();
                    got += c ? 1 : 0;
                }
            }
            auto rest = co_await set.join_all();
            co_return got + static_cast<int>(rest.size());
        };
        auto h = ex.spawn(main());
        while (!h.is_finished()) {
            ex.advance(std::chrono::nanoseconds(1));
            std::this_thread::yield(); // not all of the only core
        }
        CHECK(h.blocking_join() == n);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a limit is kept, and no place is lost, when waits for places are dropped") {
        constexpr int n = test::scaled(50'000);
        counted::alive = 0;
        std::atomic<int> running{0};
        std::atomic<int> most{0};
        int joined = 0;
        int spawned = 0;
        {
            shared_executor ex;
            const workers turns(ex, 3);
            auto run = [](std::atomic<int>& r, std::atomic<int>& m, int i) -> task<counted> {
                const int now = ++r;
                int before = m;
                while (before < now && !m.compare_exchange_weak(before, now)) {}
                if (i % 3 != 0)
                    co_await magpie::yield_now();
                --r;
                co_return counted(i);
            };
            auto spawns = [](join_set<counted>& set, int& count, bool& over, std::atomic<int>& r,
                             std::atomic<int>& m, auto work) -> task<> {
                for (int i = 0; i < n; ++i) {
                    auto in_time = co_await magpie::timeout(std::chrono::nanoseconds(1),
                                                            set.spawn_when_free(work(r, m, i)));
                    count += in_time ? 1 : 0;
                }
                over = true;
            };
            auto joins = [](join_set<counted>& set, int& count, const bool& over) -> task<> {
                for (;;) {
                    auto next = co_await magpie::timeout(std::chrono::nanoseconds(1), set.join_next());
                    if (next && *next)
                        ++count;
                    else if (next && over)
                        break;
                    else
                        co_await magpie::yield_now();
                }
            };
            auto main = [](int& sp, int& jo, std::atomic<int>& r, std::atomic<int>& m, auto s, auto j,
                           auto w) -> task<> {
                join_set<counted> set(3);
                bool over = false;
                co_await magpie::join(s(set, sp, over, r, m, w), j(set, jo, over));
                CHECK_FALSE(set.full());
            };
            auto h = ex.spawn(main(spawned, joined, running, most, spawns, joins, run));
            while (!h.is_finished()) {
                ex.advance(std::chrono::nanoseconds(1));
                std::this_thread::yield(); // as above
            }
            h.blocking_join();
        }
        CHECK(spawned == joined);
        CHECK(spawned > 0);
        CHECK(most.load() <= 3);
        CHECK(counted::alive.load() == 0);
    }
}
