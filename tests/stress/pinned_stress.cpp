// Tasks that are pinned to workers of a pool that steals, woken, aborted and spawned from everywhere, while other
// tasks hand the workers over to other threads.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::spawn_on_worker;
using magpie::task;
using magpie::worker_index;

namespace {

constexpr std::size_t workers = 4;

/// What one worker's tasks count without any lock: if two threads ever ran them at once, some would be lost, and
/// ThreadSanitizer would say so.
struct alignas(64) plain_count {
    std::uint64_t n = 0;
};
using counts = std::array<plain_count, workers>;

/// Counts, after waits of each kind. Also when it is dropped in one of them.
task<> count_at(std::size_t home, unsigned seed, int rounds, counts& all, std::atomic<int>& wrong,
                magpie::sync::semaphore& permits) {
    struct counted {
        plain_count& of;
        std::size_t home;
        std::atomic<int>& wrong;
        ~counted() {
            ++of.n;
            wrong += worker_index() != home;
        }
    };
    const counted at_end{all[home], home, wrong};
    std::minstd_rand random(seed);
    for (int i = 0; i < rounds; ++i) {
        ++all[home].n;
        switch (random() % 6) {
        case 0: co_await magpie::sleep_for(std::chrono::milliseconds(random() % 2)); break;
        case 1: co_await magpie::spawn_blocking([] {}); break;
        case 2: {
            const auto permit = co_await permits.acquire(); // handed over by any worker
            co_await magpie::yield_now();
            break;
        }
        default: co_await magpie::yield_now();
        }
        wrong += worker_index() != home;
    }
}

task<> hand_over(int rounds) {
    for (int i = 0; i < rounds; ++i) {
        magpie::block_in_place([] { std::this_thread::yield(); });
        co_await magpie::yield_now();
    }
}

} // namespace

TEST_SUITE("stress.pinned") {
    TEST_CASE("pinned tasks are run by their worker alone, whatever wakes, aborts and hands over") {
        constexpr int tasks = test::scaled(4000) + 100;
        const unsigned seed = std::random_device{}();
        CAPTURE(seed);
        counts all{};
        std::atomic<int> wrong{0};
        magpie::sync::semaphore permits(3);
        std::uint64_t rounds = 0;
        std::size_t aborted = 0;
        {
            const runtime rt = test::multi_thread(workers).build();
            std::minstd_rand random(seed);
            std::vector<join_handle<>> pinned;
            std::vector<join_handle<>> others;
            for (int i = 0; i < tasks; ++i) {
                const std::size_t home = random() % workers;
                const int n = static_cast<int>(random() % 8);
                pinned.push_back(spawn_on_worker(
                    rt.handle(), home,
                    count_at(home, static_cast<unsigned>(random()), n, all, wrong, permits)));
                rounds += static_cast<std::uint64_t>(n) + 1;
                if (i % 64 == 0)
                    others.push_back(rt.spawn(hand_over(5)));
                if (random() % 4 == 0)
                    pinned[random() % pinned.size()].abort();
            }
            for (join_handle<>& h : pinned) {
                try {
                    h.blocking_join();
                } catch (const magpie::task_cancelled&) {
                    ++aborted;
                }
            }
            for (join_handle<>& h : others)
                h.blocking_join();
        }
        CHECK(wrong == 0);
        std::uint64_t counted = 0;
        for (const plain_count& c : all)
            counted += c.n;
        CHECK(counted <= rounds); // those that were aborted have counted less
        CHECK(counted + 9 * aborted >= rounds);
    }

    TEST_CASE("a shutdown in the middle of it all ends every one of them on its worker") {
        constexpr int rounds = test::scaled(100) + 5;
        for (int r = 0; r < rounds; ++r) {
            counts all{};
            std::atomic<int> wrong{0};
            magpie::sync::semaphore permits(1);
            {
                const runtime rt = test::multi_thread(workers)
                                       .on_unhandled_exception(
                                           [](const auto&) {}) // calls cancelled by it
                                       .build();
                for (unsigned i = 0; i < 40; ++i) {
                    spawn_on_worker(rt.handle(), i % workers,
                                    count_at(i % workers, i + 1, 1000, all, wrong, permits))
                        .detach();
                    if (i % 8 == 0)
                        rt.spawn(hand_over(100)).detach();
                }
            }
            CHECK(wrong == 0);
        }
    }
}
