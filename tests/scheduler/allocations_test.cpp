#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;

// A sanitizer has an operator new of its own, and turns the recycling of frames off.
#if !defined(MAGPIE_TEST_SANITIZED)

namespace {

std::atomic<std::size_t> allocations{0};
thread_local bool fails_next = false; // the thread's next request finds no memory

void* allocate(std::size_t size, std::size_t alignment) {
    allocations.fetch_add(1, std::memory_order_relaxed); // read on the same thread
    if (std::exchange(fails_next, false))
        throw std::bad_alloc();
    void* const p = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}

} // namespace

void* operator new(std::size_t size) { return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t a) {
    return allocate(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

/// How often the heap is asked for memory by many rounds of `round(i)`, when some have been made.
template <class Round>
task<std::size_t> allocations_of(Round round) {
    for (int i = 0; i < 200; ++i)
        co_await round(i);
    const std::size_t before = allocations;
    for (int i = 0; i < 2'000; ++i)
        co_await round(i);
    co_return allocations - before;
}

template <class Round>
std::size_t on_one_thread(Round round) {
    auto rt = test::current_thread().build();
    return rt.block_on(allocations_of(round));
}

task<int> number(int n) {
    co_await magpie::yield_now();
    co_return n;
}

} // namespace

#endif

TEST_SUITE("scheduler.allocations") {
#if defined(MAGPIE_TEST_SANITIZED)
    TEST_CASE("under a sanitizer nothing is counted") {
        MESSAGE("skipped: a sanitizer has an operator new of its own");
    }
#else
    TEST_CASE("to wait for a token allocates nothing, whether it is cancelled or lost") {
        const magpie::cancellation_token never;
        auto loses = [&](int) -> task<> {
            co_await magpie::select(never.cancelled(), magpie::yield_now());
            co_await never.run_until_cancelled(magpie::yield_now());
        };
        CHECK(on_one_thread(loses) == 0);

        auto wins = [](int) -> task<> {
            const magpie::cancellation_token stop;
            auto cancels = [](magpie::cancellation_token t) -> task<> {
                co_await magpie::yield_now();
                t.cancel();
            };
            co_await magpie::join(stop.cancelled(), stop.cancelled(), cancels(stop));
        };
        CHECK(on_one_thread(wins) == 0);
    }

    // In several coroutines: what is not optimized keeps each operation in its frame, and a frame beyond
    // 1 KiB is not recycled.
    TEST_CASE("to join, select, time out, shield and tear down allocates nothing") {
        auto joins = [](int) -> task<> {
            co_await magpie::join(number(1), number(2));
            co_await magpie::try_join(number(1), magpie::yield_now());
        };
        CHECK(on_one_thread(joins) == 0);

        magpie::sync::event never;
        auto selects = [&](int) -> task<> {
            co_await magpie::select(number(1), never.wait(), magpie::sleep_for(1h));
        };
        CHECK(on_one_thread(selects) == 0);

        auto limits = [](int i) -> task<> {
            co_await magpie::timeout(i % 100 == 0 ? 1us : 1h, number(1));
            co_await magpie::deadline(1h, number(1));
        };
        CHECK(on_one_thread(limits) == 0);

        auto ends = [](int) -> task<> {
            co_await magpie::shield(number(1));
            auto body = [](int& n) { return number(n); };
            auto teardown = [](int&) { return number(0); };
            co_await magpie::with(3, body, teardown);
        };
        CHECK(on_one_thread(ends) == 0);
    }

    TEST_CASE("the children of a fork_join are gone when there is no memory for their values") {
        auto rt = test::current_thread().build();
        rt.block_on([]() -> task<> {
            const auto held = std::make_shared<int>(0);
            auto child = [](std::shared_ptr<int>, bool last) -> task<int> {
                fails_next = last;
                co_return 1;
            };
            std::vector<task<int>> children;
            children.reserve(3);
            for (int i = 0; i < 3; ++i)
                children.push_back(child(held, i == 2));
            CHECK(held.use_count() == 4);
            bool refused = false;
            try {
                static_cast<void>(co_await magpie::fork_join(std::move(children)));
            } catch (const std::bad_alloc&) {
                refused = true;
                CHECK(held.use_count() == 1);
            }
            CHECK(refused);
        }());
    }

    TEST_CASE("a scope, its tasks and a fork_join come from the recycled memory of frames") {
        auto round = [](int) -> task<> {
            int sum = 0;
            auto body = [&sum](magpie::task_scope& s) -> task<> {
                auto adds = [](int& to) -> task<> { to += co_await number(1); };
                s.spawn(adds(sum));
                s.spawn(adds(sum));
                co_return;
            };
            co_await magpie::scope(body);
            co_await magpie::fork_join(number(1), number(2));
            co_await magpie::spawn(number(1));
        };
        CHECK(on_one_thread(round) == 0);
    }

    TEST_CASE("to wait for a lock, a permit, a notification or a message allocates nothing") {
        magpie::sync::mutex lock;
        magpie::sync::semaphore places(1);
        magpie::sync::notify bell;
        auto ends = magpie::sync::mpsc::channel<int>(1);
        auto round = [&](int i) -> task<> {
            auto holds = [](magpie::sync::mutex& m, magpie::sync::semaphore& s) -> task<> {
                const auto guard = co_await m.lock();
                const auto permit = co_await s.acquire();
                co_await magpie::yield_now();
            };
            co_await magpie::join(holds(lock, places), holds(lock, places));
            auto rings = [](magpie::sync::notify& n) -> task<> {
                co_await magpie::yield_now();
                n.notify_one();
            };
            co_await magpie::join(bell.notified(), rings(bell));
            auto sends = [](magpie::sync::mpsc::sender<int>& tx, int n) -> task<> {
                static_cast<void>(co_await tx.send(int(n)));
                static_cast<void>(co_await tx.send(int(n)));
            };
            auto receives = [](magpie::sync::mpsc::receiver<int>& rx) -> task<> {
                co_await rx.recv();
                co_await rx.recv();
            };
            co_await magpie::join(sends(ends.tx, i), receives(ends.rx));
        };
        CHECK(on_one_thread(round) == 0);
    }
#endif
}
