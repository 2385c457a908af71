// Values that spawned tasks inherit: shared by many on all threads, destroyed with the last of them,
// while tasks are aborted, end, and are dropped with their runtime.

#include <magpie/core/task_local.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

using magpie::inherit;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::task_local;
using test::counted;

namespace {

constinit const task_local<counted, inherit::by_spawn> request;
constinit const task_local<counted, inherit::by_spawn> user;
constinit const task_local<int> depth_of;

std::atomic<int> wrong{0};

/// Looks at what it carries when it is destroyed, wherever that is.
struct looks {
    int expected;
    explicit looks(int e) noexcept : expected(e) {}
    looks(const looks&) = delete;
    ~looks() {
        if (request.try_get() == nullptr || request.get().value != expected)
            wrong.fetch_add(1, std::memory_order_relaxed); // read when the runtime is gone
    }
};

/// A tree of tasks that share a request. Some hide it from their children, some are aborted.
task<> work(int r, int depth, std::uint32_t seed) {
    std::minstd_rand random(seed);
    const looks local(r);
    std::vector<join_handle<>> children;
    for (int i = 0; depth > 0 && i < 3; ++i) {
        const auto child_seed = static_cast<std::uint32_t>(random());
        if (random() % 4 == 0) {
            auto another = [](int n, int d, std::uint32_t s) -> task<> {
                auto child = magpie::spawn(work(n, d, s));
                co_await child;
            };
            co_await request.with(counted(r + 1), another(r + 1, depth - 1, child_seed));
        } else {
            children.push_back(magpie::spawn(work(r, depth - 1, child_seed)));
        }
    }
    for (auto n = random() % 4; n > 0; --n)
        co_await magpie::yield_now();
    if (!children.empty() && random() % 3 == 0)
        children[random() % children.size()].abort();
    if (random() % 3 == 0)
        co_return; // the children go on without their handles
    for (auto& child : children)
        static_cast<void>(co_await magpie::as_result(child));
    if (request.get().value != r)
        wrong.fetch_add(1, std::memory_order_relaxed);
}

task<> serve(int r, std::uint32_t seed) {
    co_await user.with(counted(-r), depth_of.with(1, request.with(counted(r), work(r, 4, seed))));
}

} // namespace

TEST_SUITE("stress.task_local") {
    TEST_CASE("trees of tasks share what they inherit, until the last has ended") {
        constexpr int rounds = test::scaled(1'000);
        const std::uint32_t seed = std::random_device{}();
        INFO("seed ", seed);
        std::minstd_rand random(seed);
        for (int round = 0; round < rounds; ++round) {
            counted::alive = 0;
            wrong = 0;
            {
                const runtime rt = test::multi_thread(3).build();
                std::vector<join_handle<>> requests;
                for (int r = 0; r < 8; ++r)
                    requests.push_back(rt.spawn(serve(10 * r, static_cast<std::uint32_t>(random()))));
                for (auto& r : requests) {
                    if (random() % 4 == 0)
                        r.abort();
                    else if (random() % 4 == 0)
                        r.detach(); // dropped with the runtime, or has ended by then
                }
                for (auto& r : requests)
                    if (r) {
                        auto wait = [](join_handle<>& h) -> task<> {
                            static_cast<void>(co_await magpie::as_result(h));
                        };
                        rt.block_on(wait(r));
                    }
            }
            CHECK(wrong == 0);
            CHECK(counted::alive == 0);
        }
    }
}
