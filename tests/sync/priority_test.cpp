// Channels with priorities.

#include <magpie/sync/mpsc.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

using magpie::task;
using magpie::sync::send_result;
namespace mpsc = magpie::sync::mpsc;

TEST_SUITE("sync.priority") {
    TEST_CASE("higher priorities come first, each in the order of its sends") {
        auto [tx, rx] = mpsc::priority_channel<int>(100, 3);
        CHECK(tx.priorities() == 3);
        for (int i = 0; i < 90; ++i)
            CHECK(tx.try_send(static_cast<unsigned>(i) % 3, int(i)));
        for (int level = 2; level >= 0; --level)
            for (int i = level; i < 90; i += 3)
                CHECK(*rx.try_recv() == i);
        CHECK(rx.empty());
        CHECK(tx.capacity() == 100);
    }

    TEST_CASE("the capacity is shared, and room is given first come first") {
        auto [tx, rx] = mpsc::priority_channel<std::string>(1, 2);
        test::manual_executor ex;
        CHECK(tx.try_send(0, "low"));
        CHECK(tx.try_send(1, "high").is_full());
        auto f = [](const mpsc::priority_sender<std::string>& s, unsigned p, std::string v) -> task<> {
            const send_result r = co_await s.send(p, std::move(v));
            CHECK(r);
        };
        ex.spawn(f(tx, 0, "second")).detach();
        ex.spawn(f(tx, 1, "third")).detach();
        ex.run_until_idle();
        for (const char* expected : {"low", "second", "third"}) {
            CHECK(*rx.try_recv() == expected);
            ex.run_until_idle();
        }
        CHECK(rx.empty());
        CHECK(tx.blocking_send(1, "last"));
        CHECK(tx.max_capacity() == 1);
    }

    TEST_CASE("a value that comes back keeps its priority and its place") {
        auto [tx, rx] = mpsc::priority_channel<int>(10, 2);
        test::manual_executor ex;
        auto f = [](mpsc::receiver<int>& r) -> task<std::optional<int>> {
            co_return co_await r.recv();
        };
        auto h = ex.spawn(f(rx));
        ex.run_until_idle();
        CHECK(tx.try_send(1, 1));
        CHECK(tx.try_send(1, 2));
        CHECK(tx.try_send(0, 3));
        h.abort();
        ex.run_until_idle();
        for (const int expected : {1, 2, 3})
            CHECK(*rx.try_recv() == expected);
    }

    TEST_CASE("misuse says what to do") {
        CHECK_THROWS_AS(mpsc::priority_channel<int>(1, 0), std::logic_error);
        CHECK_THROWS_AS(mpsc::priority_channel<int>(1, 65), std::logic_error);
        CHECK_THROWS_AS(mpsc::priority_channel<int>(0, 1), std::logic_error);
        auto [tx, rx] = mpsc::priority_channel<int>(1, 2);
        CHECK_THROWS_AS(static_cast<void>(tx.try_send(2, 1)), std::logic_error);
    }
}
