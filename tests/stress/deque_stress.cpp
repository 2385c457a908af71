// Thieves at a worker's queue: each strand comes out exactly once.

#include <scheduler/src/local_queue.hpp>

#include <test/bare_strand.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <random>
#include <thread>
#include <vector>

using magpie::strand;
using magpie::detail::local_queue;
using test::bare_strand;
using test::bare_strands;

namespace {

/// A worker that pushes and pops in a mixture of its own, and thieves that steal until it is done.
template <std::size_t Capacity>
void one_worker_and_thieves(int thieves, std::size_t count, unsigned seed) {
    CAPTURE(seed);
    bare_strands strands(count);
    std::vector<std::atomic<int>> seen(count);
    const auto see = [&](strand* s) {
        seen[bare_strand::number_of(*s)].fetch_add(1, std::memory_order_relaxed);
    };
    local_queue<Capacity> queue;
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < thieves; ++t)
        threads.emplace_back([&] {
            local_queue<Capacity> mine;
            for (bool last = false; !last;) {
                last = over.load(std::memory_order_acquire);
                while (strand* const s = queue.steal_into(mine)) {
                    see(s);
                    while (strand* const next = mine.pop())
                        see(next);
                }
            }
        });
    std::minstd_rand random(seed);
    for (std::size_t next = 0; next < count;) {
        for (auto n = random() % (Capacity + 2); n > 0 && next < count; --n, ++next) {
            while (!queue.push(strands[next])) {
                std::array<strand*, Capacity / 2> older{};
                if (queue.take_half(older))
                    for (strand* const s : older)
                        see(s);
            }
        }
        for (auto n = random() % (Capacity + 2); n > 0; --n)
            if (strand* const s = queue.pop())
                see(s);
    }
    over.store(true, std::memory_order_release);
    for (auto& t : threads)
        t.join();
    while (strand* const s = queue.pop())
        see(s);
    bool each_once = true;
    for (const auto& n : seen)
        each_once = each_once && n.load() == 1;
    CHECK(each_once);
}

} // namespace

TEST_SUITE("stress.deque") {
    TEST_CASE("one thief, one at a time: in order") {
        constexpr std::size_t count = test::scaled(20'000);
        bare_strands strands(count);
        local_queue<4> queue;
        std::size_t next = 0;
        bool in_order = true;
        std::thread thief([&] {
            local_queue<4> mine;
            while (next < count) {
                strand* s = queue.steal_into(mine);
                if (s == nullptr)
                    std::this_thread::yield();
                for (; s != nullptr; s = mine.pop())
                    in_order = in_order && bare_strand::number_of(*s) == next++;
            }
        });
        for (std::size_t i = 0; i < count;)
            queue.push(strands[i]) ? static_cast<void>(++i) : std::this_thread::yield();
        thief.join();
        CHECK(in_order);
    }

    TEST_CASE("RT-SCHED-30 RT-SCHED-31 many thieves, a tiny queue: each strand exactly once") {
        for (unsigned seed = 1; seed <= 5; ++seed) {
            one_worker_and_thieves<2>(3, test::scaled(100'000), seed);
            one_worker_and_thieves<4>(2, test::scaled(100'000), seed);
        }
    }

    TEST_CASE("RT-SCHED-30 many thieves, a queue of full size") {
        for (unsigned seed = 1; seed <= 3; ++seed)
            one_worker_and_thieves<256>(3, test::scaled(200'000), seed);
    }

    TEST_CASE("RT-SCHED-31 thieves that steal from one another, in a ring") {
        constexpr std::size_t count = test::scaled(200'000);
        constexpr std::size_t workers = 3;
        bare_strands strands(count);
        std::vector<std::atomic<int>> seen(count);
        std::vector<local_queue<4>> queues(workers);
        std::atomic<std::size_t> left{count};
        std::vector<std::thread> threads;
        const auto see = [&](strand* s) {
            seen[bare_strand::number_of(*s)].fetch_add(1, std::memory_order_relaxed);
            left.fetch_sub(1, std::memory_order_relaxed);
        };
        for (std::size_t w = 0; w < workers; ++w)
            threads.emplace_back([&, w] {
                std::size_t next = w;
                while (left.load(std::memory_order_relaxed) > 0) {
                    if (next < count && queues[w].push(strands[next]))
                        next += workers;
                    else if (strand* const s = queues[w].pop())
                        see(s);
                    else if (strand* const stolen = queues[(w + 1) % workers].steal_into(queues[w]))
                        see(stolen);
                    else
                        std::this_thread::yield(); // to who has the rest
                    if (next % 7 == 0)
                        if (strand* const s = queues[w].pop())
                            see(s);
                }
            });
        for (auto& t : threads)
            t.join();
        bool each_once = true;
        for (const auto& n : seen)
            each_once = each_once && n.load() == 1;
        CHECK(each_once);
    }
}
