#include <magpie/sync/latch.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>
#include <vector>

using magpie::task;
using magpie::sync::latch;

TEST_SUITE("sync.latch") {
    TEST_CASE("who waits goes on when the count is zero") {
        test::manual_executor ex;
        latch l(3);
        int passed = 0;
        auto f = [](latch& x, int& n) -> task<> {
            co_await x.wait();
            ++n;
        };
        ex.spawn(f(l, passed)).detach();
        ex.spawn(f(l, passed)).detach();
        ex.run_until_idle();
        l.count_down();
        CHECK_FALSE(l.try_wait());
        l.count_down(0);
        l.count_down(2);
        CHECK(l.try_wait());
        CHECK(passed == 0);
        ex.run_until_idle();
        CHECK(passed == 2);
        test::run(ex, f(l, passed)); // from now on nobody waits
        CHECK(passed == 3);
        CHECK_THROWS_AS(l.count_down(), std::logic_error);
    }

    TEST_CASE("a count of zero is there already, and more than there is throws and counts nothing") {
        latch none(0);
        CHECK(none.try_wait());
        none.blocking_wait();
        latch two(2);
        CHECK_THROWS_AS(two.count_down(3), std::logic_error);
        two.count_down(2);
        CHECK(two.try_wait());
    }

    TEST_CASE("tasks and threads arrive and wait for each other") {
        test::manual_executor ex;
        latch l(3);
        auto f = [](latch& x) -> task<> { co_await x.arrive_and_wait(); };
        auto a = ex.spawn(f(l));
        auto b = ex.spawn(f(l));
        ex.run_until_idle();
        CHECK_FALSE(a.is_finished());
        std::thread thread([&] {
            l.count_down();
            l.blocking_wait();
        });
        thread.join();
        ex.run_until_idle();
        CHECK(a.is_finished());
        CHECK(b.is_finished());
    }
}
