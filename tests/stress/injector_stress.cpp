// Many threads at the shared queue: nothing is lost, doubled or put out of its pusher's order.

#include <scheduler/src/injector.hpp>

#include <test/bare_strand.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <random>
#include <span>
#include <thread>
#include <vector>

using magpie::strand;
using magpie::detail::injector;
using test::bare_strand;
using test::bare_strands;

TEST_SUITE("stress.injector") {
    TEST_CASE("RT-SCHED-32 pushes and batches of many threads, taken in parts by many") {
        constexpr std::size_t pushers = 3;
        constexpr std::size_t takers = 3;
        constexpr std::size_t each = test::scaled(100'000);
        constexpr std::size_t count = pushers * each;
        const unsigned seed = 3;
        CAPTURE(seed);
        bare_strands strands(count); // those of pusher p are p * each and so on
        std::vector<std::atomic<int>> seen(count);
        std::vector<std::vector<std::size_t>> taken(takers);
        injector queue;
        std::atomic<std::size_t> left{count};
        std::vector<std::thread> threads;
        for (std::size_t p = 0; p < pushers; ++p)
            threads.emplace_back([&, p] {
                std::minstd_rand random(static_cast<unsigned>(seed + p));
                for (std::size_t i = 0; i < each;) {
                    const std::size_t n = std::min<std::size_t>(random() % 5 + 1, each - i);
                    std::array<strand*, 5> batch{};
                    for (std::size_t k = 0; k < n; ++k)
                        batch[k] = &strands[p * each + i + k];
                    queue.push(std::span(batch).first(n));
                    i += n;
                }
            });
        for (std::size_t t = 0; t < takers; ++t)
            threads.emplace_back([&, t] {
                std::minstd_rand random(static_cast<unsigned>(seed + 100 + t));
                while (left.load(std::memory_order_relaxed) > 0) {
                    std::array<strand*, 7> room{};
                    const std::size_t n = queue.pop(std::span(room).first(random() % 7 + 1));
                    for (const strand* const s : std::span(room).first(n)) {
                        seen[bare_strand::number_of(*s)].fetch_add(1, std::memory_order_relaxed);
                        taken[t].push_back(bare_strand::number_of(*s));
                    }
                    left.fetch_sub(n, std::memory_order_relaxed);
                    if (n == 0)
                        std::this_thread::yield(); // to who pushes
                }
            });
        for (auto& t : threads)
            t.join();
        bool each_once = true;
        for (const auto& n : seen)
            each_once = each_once && n.load() == 1;
        CHECK(each_once);
        CHECK(queue.size() == 0);
        bool in_order = true; // of one pusher, as one taker sees it
        for (const auto& all : taken) {
            std::vector<std::size_t> last(pushers, 0);
            for (const std::size_t n : all) {
                in_order = in_order && n + 1 > last[n / each];
                last[n / each] = n + 1;
            }
        }
        CHECK(in_order);
    }
}
