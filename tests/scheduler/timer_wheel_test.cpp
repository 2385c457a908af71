#include <scheduler/src/timer_wheel.hpp>

#include <magpie/core/timer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <vector>

using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;

namespace {

constexpr std::uint64_t level_size(unsigned n) { return std::uint64_t{1} << (6 * n); }

/// The ticks of what comes out, in order.
std::vector<std::uint64_t> ticks(timer_entry* e) {
    std::vector<std::uint64_t> all;
    for (; e != nullptr; e = e->next)
        all.push_back(e->tick);
    return all;
}

std::vector<std::uint64_t> advance(timer_wheel& w, std::uint64_t now) { return ticks(w.advance(now)); }

using list = std::vector<std::uint64_t>;

} // namespace

TEST_SUITE("scheduler.timer_wheel") {
    TEST_CASE("TIME-CORE-29 an entry comes out at its tick, once; a removed one does not") {
        timer_wheel w;
        CHECK(w.next_tick() == timer_wheel::never);
        timer_entry a;
        timer_entry b;
        w.insert(a, 10);
        w.insert(b, 20);
        CHECK(w.next_tick() <= 10);
        CHECK(advance(w, 9).empty());
        CHECK(advance(w, 10) == list{10});
        CHECK(advance(w, 11).empty());
        w.remove(b);
        CHECK(w.next_tick() == timer_wheel::never);
        CHECK(advance(w, 1000).empty());
        CHECK(w.elapsed() == 1000);
    }

    TEST_CASE("what is due by now comes with the next advance") {
        timer_wheel w;
        CHECK(advance(w, 100).empty());
        timer_entry past;
        timer_entry present;
        w.insert(past, 50);
        w.insert(present, 100);
        CHECK(w.next_tick() == 101);
        CHECK(advance(w, 101) == list{50, 100});
    }

    TEST_CASE("of one tick the order of insertion is kept; of several the order of the ticks") {
        timer_wheel w;
        std::deque<timer_entry> e(6);
        w.insert(e[0], 300);
        w.insert(e[1], 70);
        w.insert(e[2], 70);
        w.insert(e[3], 5);
        CHECK(advance(w, 69) == list{5});
        w.insert(e[4], 70);
        w.insert(e[5], 300);
        timer_entry* const first = w.advance(5000);
        REQUIRE(ticks(first) == list{70, 70, 70, 300, 300});
        CHECK(first == &e[1]);
        CHECK(first->next == &e[2]);
        CHECK(first->next->next == &e[4]);
        CHECK(first->next->next->next == &e[0]);
    }

    TEST_CASE("TIME-CORE-30 TIME-CORE-04 around each level's boundary an entry comes at its tick, not "
              "before, not after") {
        for (unsigned level = 0; level < 6; ++level) {
            for (const std::uint64_t base :
                 {level_size(level), 63 * level_size(level), 64 * level_size(level)}) {
                for (const std::int64_t off : {-1, 0, 1}) {
                    const std::uint64_t at = base + static_cast<std::uint64_t>(off);
                    if (at == 0)
                        continue;
                    for (const std::uint64_t start : {std::uint64_t{0}, at / 2, at - 1}) {
                        timer_wheel w;
                        CHECK(advance(w, start).empty());
                        timer_entry e;
                        w.insert(e, at);
                        CHECK(w.next_tick() <= at);
                        const auto early = advance(w, at - 1);
                        const auto due = advance(w, at);
                        CAPTURE(at);
                        CAPTURE(start);
                        CHECK(early.empty());
                        CHECK(due == list{at});
                    }
                }
            }
        }
    }

    TEST_CASE("TIME-CORE-30 going from next tick to next tick meets each entry at its own") {
        timer_wheel w;
        std::deque<timer_entry> entries;
        std::mt19937_64 random(7); // NOLINT: the same each time
        std::multimap<std::uint64_t, timer_entry*> expected;
        for (unsigned level = 0; level < 7; ++level) {
            for (int i = 0; i < 20; ++i) {
                const std::uint64_t at = random() % (level_size(level) * 64) + 1;
                w.insert(entries.emplace_back(), at);
                expected.emplace(at, &entries.back());
            }
        }
        std::uint64_t looks = 0;
        for (std::uint64_t at; (at = w.next_tick()) != timer_wheel::never; ++looks) {
            for (const std::uint64_t t : advance(w, at)) {
                REQUIRE_FALSE(expected.empty());
                CHECK(t == expected.begin()->first);
                CHECK(t == at);
                expected.erase(expected.begin());
            }
            REQUIRE(looks < 10'000);
        }
        CHECK(expected.empty());
    }

    TEST_CASE("TIME-CORE-07 TIME-CORE-10 the furthest ticks next to the nearest") {
        timer_wheel w;
        CHECK(advance(w, 3).empty());
        std::deque<timer_entry> e(5);
        const std::uint64_t reach = level_size(6);
        w.insert(e[0], timer_wheel::never - 1);
        w.insert(e[1], reach);
        w.insert(e[2], reach + 3);
        w.insert(e[3], 3 * reach + 17);
        w.insert(e[4], 4);
        CHECK(advance(w, 4) == list{4});
        CHECK(advance(w, reach - 1).empty());
        CHECK(advance(w, reach) == list{reach});
        CHECK(advance(w, reach + 3) == list{reach + 3});
        CHECK(advance(w, 3 * reach + 16).empty());
        CHECK(advance(w, 3 * reach + 17) == list{3 * reach + 17});
        w.remove(e[0]);
        CHECK(w.next_tick() == timer_wheel::never);
    }

    TEST_CASE("any mixture of inserts, removals and advances agrees with a sorted list") {
        for (unsigned seed = 0; seed < 20; ++seed) {
            CAPTURE(seed);
            std::mt19937_64 random(seed);
            timer_wheel w;
            std::deque<timer_entry> entries;
            std::multimap<std::uint64_t, timer_entry*> in;
            std::uint64_t now = 0;
            bool agrees = true;
            for (int step = 0; step < 2000 && agrees; ++step) {
                const auto what = random() % 10;
                if (what < 5) {
                    const std::uint64_t far = level_size(1 + static_cast<unsigned>(random() % 6));
                    const std::uint64_t at = now + 1 + random() % far;
                    w.insert(entries.emplace_back(), at);
                    in.emplace(at, &entries.back());
                } else if (what < 7 && !in.empty()) {
                    auto i = in.begin();
                    std::advance(i, static_cast<std::ptrdiff_t>(random() % in.size()));
                    w.remove(*i->second);
                    in.erase(i);
                } else {
                    now += random() % level_size(static_cast<unsigned>(random() % 5));
                    list expected;
                    while (!in.empty() && in.begin()->first <= now) {
                        expected.push_back(in.begin()->first);
                        in.erase(in.begin());
                    }
                    agrees = advance(w, now) == expected && w.elapsed() == now;
                }
                const std::uint64_t next = w.next_tick();
                agrees = agrees && (in.empty() ? next == timer_wheel::never
                                               : next > now && next <= in.begin()->first);
            }
            CHECK(agrees);
            for (auto& [at, e] : in)
                w.remove(*e);
            CHECK(w.next_tick() == timer_wheel::never);
        }
    }
}
