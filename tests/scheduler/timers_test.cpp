// A worker's timers: those that are timed when they come, and those that are timed later.

#include <scheduler/src/timers.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstdint>

using namespace std::chrono_literals;
using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;
using magpie::detail::worker_timers;

namespace {

worker_timers::looked look(worker_timers& timers, std::uint64_t now) {
    return timers.look([now] { return now; });
}
worker_timers::looked rest(worker_timers& timers, std::uint64_t now) {
    return timers.look([now] { return now; }, true);
}

bool is_in_wheel(const timer_entry& e) { return e.list != timer_entry::unstamped; }

} // namespace

TEST_SUITE("scheduler.timers") {
    TEST_CASE("an entry that is timed later counts from the next look, and is never early") {
        worker_timers timers;
        timer_entry e;
        CHECK_FALSE(timers.has_unstamped());
        timers.arm_later(e, 500ms);
        CHECK(timers.has_unstamped());
        CHECK(timers.next() <= 7); // due for a look
        look(timers, 7);           // in the course of millisecond 7
        CHECK(timers.next() == 8); // nobody else has to look before
        std::uint64_t told = timer_wheel::never;
        SUBCASE("the next tick comes") { told = look(timers, 8).sooner; }
        SUBCASE("the clock jumps") { told = look(timers, 300).sooner; }
        SUBCASE("its owner will sleep") { told = rest(timers, 7).sooner; }
        CHECK(told <= 508);
        CHECK(is_in_wheel(e));
        CHECK(e.tick == 508);
        CHECK_FALSE(timers.has_unstamped());
        CHECK(timers.next() <= 508);
        CHECK(look(timers, 507).due == nullptr);
        CHECK(look(timers, 508).due == &e);
        CHECK_FALSE(timers.disarm(e));
        CHECK(timers.next() == timer_wheel::never);
    }

    TEST_CASE("one that was timed later may be taken back like any other") {
        worker_timers timers;
        timer_entry e;
        timers.arm_later(e, 500ms + 1ns); // a part of a millisecond is a whole one
        rest(timers, 7);
        CHECK(e.tick == 509);
        CHECK(timers.disarm(e));
        CHECK_FALSE(timers.disarm(e));
        CHECK(timers.next() == timer_wheel::never);
    }

    TEST_CASE("what is taken back within the tick in which it came was never in the wheel") {
        worker_timers timers;
        std::array<timer_entry, 64> round;
        for (std::uint64_t tick = 1; tick <= 5; ++tick) {
            for (int rounds = 0; rounds < 100; ++rounds) {
                for (timer_entry& e : round)
                    timers.arm_later(e, 10s);
                look(timers, tick);
                for (timer_entry& e : round) {
                    CHECK_FALSE(is_in_wheel(e));
                    CHECK(timers.disarm(e));
                }
            }
        }
        look(timers, 6);
        CHECK_FALSE(timers.has_unstamped());
        CHECK(timers.next() == timer_wheel::never);
    }

    TEST_CASE("each counts from the first look behind it, however many of a tick there are") {
        worker_timers timers;
        timer_entry before;
        timer_entry between;
        timer_entry behind;
        look(timers, 3);
        timers.arm_later(before, 100ms);
        look(timers, 4);
        timers.arm_later(between, 100ms);
        look(timers, 4);
        look(timers, 4);
        timers.arm_later(behind, 100ms); // in tick 4, or 5, or 6: the clock was not asked
        look(timers, 6);
        CHECK(is_in_wheel(before));
        CHECK(before.tick == 105);
        CHECK(is_in_wheel(between));
        CHECK(between.tick == 105);
        rest(timers, 7);
        CHECK(behind.tick == 107);
        CHECK_FALSE(timers.has_unstamped());
        CHECK(look(timers, 105).due != nullptr);
        CHECK_FALSE(timers.disarm(before));
        CHECK_FALSE(timers.disarm(between));
        CHECK(timers.disarm(behind));
    }

    TEST_CASE("any of those that are not timed yet may be taken back, before and behind a look") {
        for (unsigned n = 0; n < 128; ++n) {
            const unsigned taken = n / 2;
            const bool behind = n % 2 != 0;
            CAPTURE(taken);
            CAPTURE(behind);
            worker_timers timers;
            std::array<timer_entry, 6> all;
            const auto take = [&](unsigned from, unsigned to) {
                for (unsigned i = from; i < to; ++i)
                    if ((taken >> i & 1U) != 0)
                        CHECK(timers.disarm(all[i]));
            };
            look(timers, 1);
            for (unsigned i = 0; i < 3; ++i)
                timers.arm_later(all[i], 100ms);
            if (!behind)
                take(0, 3);
            look(timers, 1);
            if (behind)
                take(0, 3);
            for (unsigned i = 3; i < 6; ++i)
                timers.arm_later(all[i], 100ms);
            take(3, 6);
            look(timers, 2);
            look(timers, 3);
            for (unsigned i = 0; i < 6; ++i)
                if ((taken >> i & 1U) == 0)
                    CHECK(all[i].tick == (i < 3 ? 102 : 103));
            CHECK_FALSE(timers.has_unstamped());
            for (unsigned i = 0; i < 6; ++i)
                CHECK(timers.disarm(all[i]) == ((taken >> i & 1U) == 0));
            CHECK(timers.next() == timer_wheel::never);
        }
    }

    TEST_CASE("to take back a deadline, or to fire, does not forget who is to be timed") {
        worker_timers timers;
        timer_entry later;
        timer_entry soon;
        timers.arm(soon, 5);
        timers.arm_later(later, 1000ms);
        SUBCASE("taken back") { CHECK(timers.disarm(soon)); }
        SUBCASE("fired") {
            CHECK(look(timers, 3).due == nullptr);
            CHECK(timers.has_unstamped());
            CHECK(timers.disarm(soon));
        }
        CHECK(timers.has_unstamped());
        rest(timers, 3);
        CHECK(later.tick == 1004);
        CHECK(timers.disarm(later));
    }

    TEST_CASE("beside one that is timed later, a deadline still counts, and who sleeps hears of it") {
        worker_timers timers;
        timer_entry later;
        timer_entry soon;
        timers.arm_later(later, 1000ms);
        CHECK(timers.arm(soon, 5));
        CHECK(rest(timers, 1).sooner == timer_wheel::never); // the wheel's first is the same
        CHECK(timers.next() <= 5);
        CHECK(timers.disarm(soon));
        CHECK(timers.next() > 5);
        CHECK(timers.next() <= 1002);
        CHECK(timers.disarm(later));
    }

    TEST_CASE("to take one back does not hide from who sleeps that a later one comes first") {
        worker_timers timers;
        timer_entry first;
        timer_entry other;
        timer_entry sooner;
        CHECK(timers.arm(first, 200)); // who sleeps, sleeps until then
        CHECK_FALSE(timers.arm(other, 300));
        CHECK(timers.disarm(other));
        CHECK(timers.arm(sooner, 195)); // in the wheel they stand in one slot, which begins at 192
        for (timer_entry* const e : {&first, &sooner})
            CHECK(timers.disarm(*e));
        CHECK(timers.next() == timer_wheel::never);
    }

    TEST_CASE("one that is due by now fires with the next look, though that is of the same tick") {
        worker_timers timers;
        timer_entry e;
        look(timers, 9);
        CHECK(timers.arm(e, 9));
        CHECK(timers.next() <= 10);
        look(timers, 9);
        CHECK(timers.next() == 10);
        CHECK(look(timers, 10).due == &e);
    }
}
