#include <scheduler/src/neighbourhood.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/made_up_machine.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

using magpie::detail::cpu_place;
using magpie::detail::distance;
using magpie::detail::neighbourhood;
using magpie::detail::read_places;

namespace {

/// Whom a worker asks that finds nothing.
std::vector<std::size_t> order(const neighbourhood& n, std::size_t me, std::uint32_t start) {
    std::vector<std::size_t> asked;
    const int* const nothing = n.ask(me, start, [&](std::size_t w) -> const int* {
        asked.push_back(w);
        return nullptr;
    });
    CHECK(nothing == nullptr);
    return asked;
}

/// All orders of a machine's workers, with random starts.
std::vector<std::vector<std::size_t>> orders(const neighbourhood& n, std::size_t workers,
                                             unsigned seed) {
    std::minstd_rand random(seed);
    std::uniform_int_distribution<std::uint32_t> any;
    std::vector<std::vector<std::size_t>> all;
    for (std::size_t w = 0; w < workers; ++w)
        all.push_back(order(n, w, any(random)));
    return all;
}

} // namespace

TEST_SUITE("scheduler.neighbourhood") {
    TEST_CASE("thieves ask at their own cache first, then at their own memory, then elsewhere") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        // Not in the order of their places: it is the table that brings neighbours together.
        std::vector<std::size_t> cpus = test::numbers(0, 64);
        std::minstd_rand random(7);
        std::shuffle(cpus.begin(), cpus.end(), random);
        const std::vector<cpu_place> places = read_places(cpus, m.root());
        const neighbourhood near(places);
        for (unsigned seed = 1; seed <= 20; ++seed) {
            const auto all = orders(near, 64, seed);
            for (std::size_t me = 0; me < 64; ++me) {
                const std::vector<std::size_t>& asked = all[me];
                REQUIRE(asked.size() == 63);
                CHECK(std::set<std::size_t>(asked.begin(), asked.end()).size() == 63);
                CHECK(std::find(asked.begin(), asked.end(), me) == asked.end());
                for (std::size_t i = 0; i < 63; ++i) { // 16 threads at a cache, 32 at a memory
                    const std::size_t far = distance(places[me], places[asked[i]]);
                    CHECK(far >= (i < 15 ? 0U : i < 31 ? 2U : 3U));
                    CHECK(far <= (i < 15 ? 1U : i < 31 ? 2U : 3U));
                }
            }
            CHECK(all == orders(near, 64, seed)); // the same numbers, the same order
        }
        CHECK(orders(near, 64, 1) != orders(near, 64, 2));
    }

    TEST_CASE("each of the near ones comes first as often as the others") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        const neighbourhood near(read_places(test::numbers(0, 16), m.root()));
        std::vector<int> first(16);
        for (std::uint32_t i = 0; i < 7000; ++i)
            ++first[order(near, 3, i * (0xffff'ffffU / 7000))[0]];
        for (std::size_t w = 0; w < 8; ++w) // the others are at another cache
            CHECK(first[w] == doctest::Approx(w == 3 ? 0 : 1000).epsilon(0.01));
    }

    TEST_CASE("workers that are not bound are equally near, and each is asked once") {
        for (const std::size_t n : std::vector<std::size_t>{1, 2, 3, 64, 100}) {
            const neighbourhood all(n);
            for (const std::uint32_t start : {0U, 1U, 0x8000'0000U, 0xffff'ffffU}) {
                const std::vector<std::size_t> asked = order(all, n / 2, start);
                CHECK(asked.size() == n - 1);
                CHECK(std::set<std::size_t>(asked.begin(), asked.end()).size() == n - 1);
            }
        }
        CHECK(order(neighbourhood(4), 1, 0) == std::vector<std::size_t>{0, 2, 3});
        CHECK(order(neighbourhood(4), 1, 0x8000'0000U) == std::vector<std::size_t>{2, 3, 0});
    }

    TEST_CASE("the first that has something ends the round") {
        const neighbourhood four(4);
        int asked = 0;
        int value = 5;
        CHECK(four.ask(0, 0, [&](std::size_t w) {
            ++asked;
            return w == 2 ? &value : nullptr;
        }) == &value);
        CHECK(asked == 2);
    }

    TEST_CASE("workers that are bound to processors help each other") {
        std::atomic<bool> free{false};
        std::atomic<int> ran{0};
        const magpie::runtime rt = test::multi_thread(3).affinity(test::usable_cpus()).build();
        auto brief = [](std::atomic<int>& n) -> magpie::task<> {
            ++n;
            co_return;
        };
        auto busy = [](auto f, std::atomic<int>& n, std::atomic<bool>& done) -> magpie::task<> {
            for (int i = 0; i < 50; ++i)
                magpie::spawn(f(n)).detach();
            while (!done)
                std::this_thread::yield();
            co_return;
        };
        magpie::join_handle<> h = rt.spawn(busy(brief, ran, free));
        CHECK(test::eventually([&] { return ran >= 49; })); // its newest may be next there
        free = true;
        h.blocking_join();
    }
}
