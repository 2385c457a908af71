// A worker's timers: those that are timed when they come, and those that are timed later.

#include <scheduler/src/timers.hpp>

#include <doctest/doctest.h>

using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;
using magpie::detail::worker_timers;

TEST_SUITE("scheduler.timers") {
    TEST_CASE("an entry that is timed later counts from the stamp, and is never early") {
        worker_timers timers;
        timer_entry e;
        CHECK_FALSE(timers.wants_stamp());
        timers.arm_later(e, 500);
        CHECK(timers.wants_stamp());
        CHECK(timers.next() <= 7); // due for a look, whatever the time
        CHECK(timers.stamp(7));    // in the course of millisecond 7
        CHECK_FALSE(timers.wants_stamp());
        CHECK(e.tick == 508);
        CHECK(timers.next() <= 508);
        CHECK_FALSE(timers.stamp(8));
        CHECK(timers.disarm(e));
        CHECK(timers.next() == timer_wheel::never);
        CHECK_FALSE(timers.disarm(e));
    }

    TEST_CASE("what is taken back before it is timed was never in the wheel") {
        worker_timers timers;
        timer_entry a;
        timer_entry b;
        timer_entry c;
        timers.arm_later(a, 100);
        timers.arm_later(b, 200);
        timers.arm_later(c, 300);
        SUBCASE("first, last and the one between") {
            CHECK(timers.disarm(b));
            CHECK(timers.disarm(c));
            CHECK(timers.disarm(a));
            CHECK(timers.stamp(1));
            CHECK(timers.next() == timer_wheel::never);
        }
        SUBCASE("only one of them") {
            CHECK(timers.disarm(a));
            CHECK(timers.stamp(1));
            CHECK(b.tick == 202);
            CHECK(c.tick == 302);
            CHECK(timers.disarm(b));
            CHECK(timers.disarm(c));
            CHECK(timers.next() == timer_wheel::never);
        }
    }

    TEST_CASE("to take back a deadline, or to fire, does not forget who is to be timed") {
        worker_timers timers;
        timer_entry later;
        timer_entry soon;
        timers.arm(soon, 5);
        timers.arm_later(later, 1000);
        SUBCASE("taken back") { CHECK(timers.disarm(soon)); }
        SUBCASE("fired") {
            CHECK(timers.fire(3) == 0);
            CHECK(timers.wants_stamp());
            CHECK(timers.disarm(soon));
        }
        CHECK(timers.wants_stamp());
        CHECK(timers.stamp(10));
        CHECK(later.tick == 1011);
        CHECK(timers.disarm(later));
    }

    TEST_CASE("beside one that is timed later, a deadline still counts") {
        worker_timers timers;
        timer_entry later;
        timer_entry soon;
        timers.arm_later(later, 1000);
        CHECK_FALSE(timers.arm(soon, 5)); // the owner looks anyway
        CHECK(timers.stamp(1));
        CHECK(timers.next() <= 5);
        CHECK(timers.disarm(soon));
        CHECK(timers.next() > 5);
        CHECK(timers.next() <= 1002);
        CHECK(timers.disarm(later));
    }
}
