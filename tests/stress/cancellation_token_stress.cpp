// Tokens are cancelled, dropped, copied, waited for and given children on many threads at once.

#include <magpie/sync/cancellation_token.hpp>

#include <test/limits.hpp>
#include <test/shared_executor.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using magpie::cancellation_token;
using magpie::task;
using test::shared_executor;
using test::workers;

TEST_SUITE("stress.cancellation_token") {
    TEST_CASE("SC-TOKEN-12 a tree that grows, shrinks and is cancelled by many threads") {
        constexpr int rounds = test::scaled(2'000);
        for (int round = 0; round < rounds; ++round) {
            const cancellation_token root;
            std::vector<std::thread> threads;
            for (unsigned seed = 0; seed < 3; ++seed)
                threads.emplace_back([&root, round, seed] {
                    std::minstd_rand random(static_cast<unsigned>(round) * 3 + seed);
                    std::vector<cancellation_token> held{root};
                    for (int i = 0; i < 100; ++i) {
                        const std::size_t at = random() % held.size();
                        switch (random() % 8) {
                        case 0:
                            if (at != 0)
                                held[at].cancel();
                            break;
                        case 1:
                        case 2:
                            if (at != 0) {
                                held[at] = std::move(held.back());
                                held.pop_back();
                                if (held.empty())
                                    held.push_back(root);
                            }
                            break;
                        case 3: held.push_back(held[at]); break; // NOLINT: a copy of its own
                        default: {
                            cancellation_token child = held[at].child_token();
                            held.push_back(std::move(child));
                        }
                        }
                    }
                    root.cancel();
                    for (const cancellation_token& t : held)
                        if (!t.is_cancelled())
                            throw std::runtime_error(
                                "a token under a cancelled root is not"); // ends the test
                });
            for (std::thread& t : threads)
                t.join();
            CHECK(root.is_cancelled());
        }
    }

    TEST_CASE("SC-TOKEN-12 waits that begin, end and are dropped as their tokens are cancelled") {
        constexpr int n = test::scaled(50'000);
        std::atomic<int> passed{0};
        int dropped = 0;
        {
            shared_executor ex;
            const workers turns(ex, 2);
            std::minstd_rand random(5); // NOLINT: the same each time
            auto waits = [](cancellation_token t, std::atomic<int>& count) -> task<> {
                co_await t.cancelled();
                count.fetch_add(1, std::memory_order_relaxed); // read when all have ended
            };
            auto runs = [](cancellation_token t, std::atomic<int>& count) -> task<> {
                const cancellation_token never;
                const bool ended = co_await t.run_until_cancelled(never.cancelled());
                count.fetch_add(ended ? 1'000'000 : 1, std::memory_order_relaxed); // the same
            };
            for (int i = 0; i < n; ++i) {
                const cancellation_token top;
                std::vector<magpie::join_handle<>> handles;
                {
                    const cancellation_token middle = top.child_token();
                    handles.push_back(ex.spawn(waits(middle.child_token(), passed)));
                    handles.push_back(ex.spawn(runs(middle.child_token(), passed)));
                    handles.push_back(ex.spawn(waits(middle, passed)));
                }
                for (auto spin = random() % 200; spin > 0; --spin)
                    static_cast<void>(top.is_cancelled());
                const std::size_t victim = random() % 4;
                if (victim < handles.size())
                    handles[victim].abort();
                top.cancel();
                for (auto& h : handles) {
                    try {
                        h.blocking_join();
                    } catch (const magpie::task_cancelled&) {
                        ++dropped;
                    }
                }
            }
        }
        CHECK(passed.load() + dropped == 3 * n);
    }
}
