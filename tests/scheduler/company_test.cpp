#include <scheduler/src/company.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>

using magpie::detail::company;
using magpie::detail::rests;
using namespace std::chrono_literals;

namespace {

/// A thief and its victim, of whom each does so many operations a microsecond.
class pair {
public:
    company c;

    void run(std::chrono::microseconds time, std::uint64_t victim, std::uint64_t own) {
        now_ += time;
        const auto n = static_cast<std::uint64_t>(time.count());
        done_.victim += victim * n;
        done_.own += own * n;
    }
    void steals() { c.begin(0, done_, now_); }
    bool wants_rest(bool just_two = true) { return c.wants_rest(done_, now_, just_two); }
    bool rests(std::uint64_t victim) {
        run(200us, victim, 0);
        return c.rested(victim * 200, 200us, now_);
    }
    /// Steals and helps for a while, until it wants to rest, or not. Whether it does.
    bool gives_up(std::uint64_t victim, std::uint64_t own, bool just_two = true) {
        steals();
        run(1100us, victim, own);
        return wants_rest(just_two);
    }

private:
    company::time_point now_{1h};
    company::count done_;
};

} // namespace

TEST_SUITE("scheduler.company") {
    TEST_CASE("a thief first rests to see what is done without it, and stays if two do more") {
        pair p;
        p.steals();
        CHECK(p.c.is_under_way());
        p.run(900us, 10, 10);
        CHECK_FALSE(p.wants_rest()); // too soon to tell
        p.run(200us, 10, 10);
        CHECK(p.wants_rest());
        CHECK_FALSE(p.c.is_under_way());
        CHECK(p.rests(12));
        CHECK_FALSE(p.gives_up(10, 10));
        p.steals();
        CHECK_FALSE(p.c.is_under_way()); // that is settled, for now
        p.run(30ms, 10, 10);
        p.steals();
        CHECK(p.c.is_under_way());
    }

    TEST_CASE("one that does not help rests ever longer, and no longer when it has helped") {
        pair p;
        CHECK(p.gives_up(5, 5));
        for (const std::uint32_t slices : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 64U}) {
            CHECK(p.c.slices() == slices);
            CHECK(p.rests(20));
            CHECK(p.gives_up(5, 5)); // half as much as the other one alone
        }
        CHECK(p.rests(20));
        CHECK_FALSE(p.gives_up(20, 18));
        CHECK(p.c.slices() == 1);
    }

    TEST_CASE(
        "two must do more than one; one of many stays, however small its part, if it does no harm") {
        pair two;
        CHECK(two.gives_up(30, 4));
        CHECK(two.rests(30));
        CHECK(two.gives_up(30, 4));
        pair many;
        CHECK(many.gives_up(30, 4, false));
        CHECK(many.rests(30)); // the others help
        CHECK_FALSE(many.gives_up(30, 4, false));
        pair harm;
        CHECK(harm.gives_up(20, 4, false));
        CHECK(harm.rests(30));
        CHECK(harm.gives_up(20, 4, false));
    }

    TEST_CASE("what it settles holds for longer each time") {
        pair p;
        for (const auto held : {20ms, 40ms, 80ms}) {
            CHECK(p.gives_up(10, 10));
            CHECK(p.rests(10));
            CHECK_FALSE(p.gives_up(10, 10));
            p.run(std::chrono::microseconds(held) - 1us, 10, 10);
            p.steals();
            CHECK_FALSE(p.c.is_under_way());
            p.run(2us, 10, 10);
        }
    }

    TEST_CASE("operations of a microsecond and more are shared without a question") {
        pair p;
        p.steals();
        p.run(1100us, 1, 0);
        CHECK_FALSE(p.wants_rest());
        p.steals();
        CHECK_FALSE(p.c.is_under_way());
    }

    TEST_CASE("one that has got all of the work is not in company") {
        pair p;
        CHECK_FALSE(p.gives_up(0, 20));
        CHECK(p.c.is_under_way());
        p.run(1100us, 5, 5);
        CHECK(p.wants_rest());
    }

    TEST_CASE("a rest ends when the other one does something else, and nothing is learned from one "
              "that sleeps") {
        pair p;
        CHECK(p.gives_up(5, 5));
        CHECK(p.rests(20));
        CHECK_FALSE(p.rests(9));
        CHECK(p.gives_up(5, 5));
        CHECK_FALSE(p.rests(0));
        CHECK(p.gives_up(9, 9)); // it does not pay, to compare with nothing
    }

    TEST_CASE("a rest ends when the other one sleeps, also if nothing was known of it") {
        pair p;
        CHECK(p.gives_up(5, 5));
        CHECK_FALSE(p.rests(0)); // it would not come to what it was given
    }

    TEST_CASE("who rests for another one does not rest for it at the same time as that for him") {
        rests a;
        rests b;
        rests c;
        CHECK(a.try_begin(b));
        CHECK_FALSE(b.try_begin(a)); // a counts on it
        CHECK_FALSE(b.try_begin(c));
        CHECK(c.try_begin(b));
        CHECK_FALSE(a.try_begin(c)); // it rests already
        a.end(b);
        CHECK_FALSE(b.try_begin(a)); // c counts on it
        c.end(b);
        CHECK(b.try_begin(a));
        CHECK_FALSE(a.try_begin(b));
        b.end(a);
    }
}
