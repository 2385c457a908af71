// Shards that have much to tell each other: every message comes once and goes home, whatever is dropped.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <scheduler/src/shard_ring.hpp>

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
using magpie::submit_to;
using magpie::task;
using magpie::detail::posted;
using magpie::detail::shard_ring;

namespace {

/// Asks the shards in turn, by functions of each kind, and gives up on some of them.
task<std::uint64_t> asks(unsigned seed, int n) {
    std::minstd_rand random(seed);
    std::uint64_t sum = 0;
    for (int i = 0; i < n; ++i) {
        const std::size_t to = random() % magpie::shard_count();
        auto plain = [to] { return magpie::this_shard() == to ? 1U : 1000U; };
        auto yields = [to]() -> task<unsigned> {
            co_await magpie::yield_now();
            co_return magpie::this_shard() == to ? 1U : 1000U;
        };
        auto sleeps = []() -> task<unsigned> {
            co_await magpie::sleep_for(1h);
            co_return 1000U;
        };
        switch (random() % 8) {
        case 0: sum += co_await submit_to(to, yields); break;
        case 1: {
            const auto none = co_await magpie::timeout(1ms, submit_to(to, sleeps));
            sum += none.has_value() ? 1000U : 1U;
            break;
        }
        default: sum += co_await submit_to(to, plain); break;
        }
    }
    co_return sum;
}

} // namespace

TEST_SUITE("stress.shard") {
    TEST_CASE("a ring of two between two threads: in order, and nobody waits in vain") {
        constexpr std::size_t count = test::scaled(200'000);
        using ring_of_two = shard_ring<std::size_t, std::size_t, 2>;
        std::vector<std::size_t> items(count);
        ring_of_two ring;
        std::atomic<bool> told{false}; // of room, or of an answer
        std::size_t answers = 0;
        bool answers_in_order = true;
        const auto is_call = [](std::size_t i) { return i % 3 != 0; };
        const auto take_answers = [&] {
            ring.take_answers([&](const ring_of_two::found& x) {
                while (!is_call(answers))
                    ++answers;
                answers_in_order = answers_in_order && x.what() == answers &&
                                   x.enclosed() == answers + 7;
                ++answers;
            });
        };
        std::thread sender([&] {
            for (std::size_t i = 0; i < count;) {
                std::size_t* enclosed = ring.next_enclosed();
                if (enclosed == nullptr) {
                    ring.ask_for_room();
                    enclosed = ring.next_enclosed();
                }
                if (enclosed != nullptr) {
                    items[i] = i;
                    *enclosed = ~i;
                    ring.push(items[i], is_call(i) ? posted::call : posted::letter);
                    ++i;
                } else {
                    while (!told.exchange(false))
                        std::this_thread::yield();
                }
                take_answers();
            }
            while (answers + 1 < count) {
                take_answers();
                std::this_thread::yield();
            }
        });
        std::size_t next = 0;
        bool in_order = true;
        std::array<ring_of_two::found, 2> some;
        while (next < count) {
            for (std::size_t n; (n = ring.look(some)) > 0; ring.drop(n)) {
                for (std::size_t i = 0; i < n; ++i, ++next) {
                    in_order = in_order && some[i].what() == next && some[i].enclosed() == ~next;
                    if (some[i].how() != posted::call)
                        continue;
                    some[i].enclosed() = next + 7;
                    some[i].answer(posted::answer);
                    told = true;
                }
            }
            if (ring.room_is_wanted())
                told = true;
            else
                std::this_thread::yield();
        }
        sender.join();
        CHECK(in_order);
        CHECK(answers_in_order);
    }

    TEST_CASE("tasks of all shards ask all shards") {
        constexpr int each = test::scaled(2'000);
        const unsigned seed = 11;
        CAPTURE(seed);
        std::size_t shards = 4;
        SUBCASE("few, which look into their rings") {}
        SUBCASE("many, which look at marks") { shards = 12; }
        const runtime rt = test::thread_per_core(shards).build();
        std::vector<join_handle<std::uint64_t>> all;
        for (unsigned i = 0; i < 40; ++i)
            all.push_back(rt.spawn(asks(seed + i, each / 40)));
        for (join_handle<std::uint64_t>& h : all)
            CHECK(h.blocking_join() == static_cast<std::uint64_t>(each / 40));
    }

    TEST_CASE("aborts from everywhere while messages are under way") {
        constexpr int rounds = test::scaled(100);
        const unsigned seed = 12;
        CAPTURE(seed);
        std::minstd_rand random(seed);
        std::size_t shards = 4;
        SUBCASE("few") {}
        SUBCASE("many") { shards = 12; }
        const runtime rt = test::thread_per_core(shards).build();
        for (int r = 0; r < rounds; ++r) {
            std::vector<join_handle<std::uint64_t>> all;
            for (unsigned i = 0; i < 20; ++i)
                all.push_back(rt.spawn(asks(seed + i, 1'000'000'000))); // none gets through
            for (auto i = random() % 50; i > 0; --i)
                std::this_thread::yield();
            for (join_handle<std::uint64_t>& h : all)
                h.abort();
            for (join_handle<std::uint64_t>& h : all)
                CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        }
    }

    TEST_CASE("runtimes that go while messages are under way") {
        constexpr int rounds = test::scaled(50);
        for (int r = 0; r < rounds; ++r) {
            const runtime rt = test::thread_per_core(3).build();
            for (unsigned i = 0; i < 20; ++i)
                rt.spawn(asks(i, 100'000)).detach();
            for (int i = 0; i < r; ++i)
                std::this_thread::yield();
        }
    }

    TEST_CASE("wakes and aborts from plain threads against tasks that end") {
        constexpr int rounds = test::scaled(5'000);
        const runtime rt = test::thread_per_core(2).build();
        auto waits = [](magpie::sync::event& e) -> task<> { co_await e.wait(); };
        for (int r = 0; r < rounds; ++r) {
            magpie::sync::event e;
            join_handle<> h = rt.spawn(waits(e));
            std::thread setter;
            if (r % 8 == 0)
                setter = std::thread([&] { e.set(); });
            else
                e.set();
            h.abort();
            try {
                h.blocking_join();
            } catch (const magpie::task_cancelled&) {}
            if (setter.joinable())
                setter.join();
        }
        CHECK(rt.metrics().spawned == static_cast<std::uint64_t>(rounds));
    }
}
