#include <scheduler/src/idle.hpp>
#include <scheduler/src/patience.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <sched.h>
#include <thread>
#include <vector>

using magpie::detail::idle_set;

namespace {

const auto nothing = [] {};

} // namespace

TEST_SUITE("scheduler.idle") {
    TEST_CASE("nobody is woken while all are awake, or somebody searches") {
        idle_set idle(4);
        CHECK(idle.awake() == 4);
        CHECK(idle.wake_one() == idle_set::nobody);
        CHECK_FALSE(idle.sleep(0, false, nothing));
        CHECK_FALSE(idle.sleep(1, false, nothing));
        CHECK(idle.awake() == 2);
        REQUIRE(idle.start_searching());
        CHECK(idle.wake_one() == idle_set::nobody);
        CHECK(idle.stop_searching());
        CHECK(idle.wake_one() == 1); // the last to lie down
        CHECK(idle.awake() == 3);
        CHECK(idle.searching() == 1); // it wakes as a searcher
        CHECK(idle.wake_one() == idle_set::nobody);
        CHECK(idle.stop_searching());
        CHECK(idle.wake_one() == 0);
    }

    TEST_CASE("at most half of the workers search, and the last one to find something is told") {
        idle_set idle(4);
        CHECK(idle.start_searching());
        CHECK(idle.start_searching());
        CHECK_FALSE(idle.start_searching());
        CHECK(idle.searching() == 2);
        CHECK_FALSE(idle.stop_searching());
        CHECK(idle.stop_searching());
    }

    TEST_CASE("no more than eight search, however many workers there are") {
        idle_set idle(64);
        for (int i = 0; i < 8; ++i)
            CHECK(idle.start_searching());
        CHECK_FALSE(idle.start_searching());
        CHECK_FALSE(idle.stop_searching());
        CHECK(idle.start_searching());
    }

    TEST_CASE("one worker may search, of two one") {
        idle_set one(1);
        CHECK(one.start_searching());
        CHECK_FALSE(one.start_searching());
        idle_set two(2);
        CHECK(two.start_searching());
        CHECK_FALSE(two.start_searching());
    }

    TEST_CASE("the last to lie down is told so, once") {
        idle_set idle(2);
        int last = 0;
        const auto count = [&] { ++last; };
        REQUIRE(idle.start_searching());
        CHECK_FALSE(idle.sleep(0, true, count));
        CHECK(idle.searching() == 0);
        CHECK(idle.sleep(1, false, count));
        CHECK(last == 1);
        CHECK(idle.awake() == 0);
    }

    TEST_CASE("whoever gets up by itself is counted once, though it was woken meanwhile") {
        idle_set idle(2);
        static_cast<void>(idle.sleep(0, false, nothing));
        static_cast<void>(idle.sleep(1, false, nothing));
        CHECK(idle.get_up(0));
        CHECK_FALSE(idle.get_up(0));
        CHECK(idle.stop_searching());
        CHECK(idle.wake_any() == 1);
        CHECK_FALSE(idle.get_up(1));
        CHECK(idle.awake() == 2);
        CHECK(idle.wake_any() == idle_set::nobody);
    }

    TEST_CASE("wake_any wakes one though another searches") {
        idle_set idle(4);
        static_cast<void>(idle.sleep(0, false, nothing));
        REQUIRE(idle.start_searching());
        CHECK(idle.wake_one() == idle_set::nobody);
        CHECK(idle.wake_any() == 0);
        CHECK(idle.searching() == 2);
    }

    TEST_CASE("who has locked it sees whether all sleep, and gets up") {
        idle_set idle(2);
        static_cast<void>(idle.sleep(0, false, nothing));
        idle.lock();
        CHECK_FALSE(idle.all_sleep());
        idle.unlock();
        static_cast<void>(idle.sleep(1, false, nothing));
        idle.lock();
        CHECK(idle.all_sleep());
        idle.get_up_locked(1);
        idle.unlock();
        CHECK(idle.awake() == 1);
        CHECK(idle.searching() == 1);
        CHECK(idle.wake_any() == 0); // the other one still sleeps
    }

    TEST_CASE("who has looked in vain before a sleep does so ever more rarely") {
        magpie::detail::patience p;
        auto sleeps_until_next_look = [&p] {
            int n = 0;
            while (!p.wants_to())
                ++n;
            return n;
        };
        CHECK(sleeps_until_next_look() == 0);
        for (const int skipped : {1, 3, 7, 15, 31, 63, 127, 255, 255}) {
            CHECK_FALSE(p.look([] { return false; }));
            CHECK(sleeps_until_next_look() == skipped);
        }
        CHECK(p.look([] { return true; }));
        p.learn(true);
        CHECK(sleeps_until_next_look() == 0);
        CHECK_FALSE(p.look([] { return false; }));
        CHECK(sleeps_until_next_look() == 1);
        CHECK(p.look([] { return true; }));
        p.learn(false); // it could as well have slept
        CHECK(sleeps_until_next_look() == 3);
    }

    TEST_CASE(
        "a thread that is bound to one processor looks as well: what comes, comes from the others") {
        const std::vector<std::size_t> cpus = test::usable_cpus();
        if (magpie::detail::usable_cpus() < 2) { // of a control group's, too
            MESSAGE("skipped: there is one processor");
            return;
        }
        magpie::detail::patience p;
        bool came = false;
        std::thread bound([&] {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpus.front(), &one);
            sched_setaffinity(0, sizeof one, &one);
            came = test::eventually([&p] { // some microseconds, in which it may lose the processor
                int looks = 0;
                return p.look([&looks] { return ++looks == 2; });
            });
        });
        bound.join();
        CHECK(came);
    }
}
