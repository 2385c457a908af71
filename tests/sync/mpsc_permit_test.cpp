// Places in a channel that are reserved.

#include <magpie/sync/mpsc.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::send_result;
namespace mpsc = magpie::sync::mpsc;

namespace {

using permit = mpsc::permit<int>;

task<std::optional<permit>> reserve(const mpsc::sender<int>& tx, std::size_t n) {
    auto r = co_await tx.reserve_many(n);
    if (!r)
        co_return std::nullopt;
    co_return std::move(*r);
}

task<std::optional<int>> receive(mpsc::receiver<int>& rx) { co_return co_await rx.recv(); }

} // namespace

TEST_SUITE("sync.mpsc_permit") {
    TEST_CASE("SYNC-MPSC-22 more places than the channel has are refused at once") {
        auto [tx, rx] = mpsc::channel<int>(4);
        CHECK_THROWS_AS(static_cast<void>(tx.reserve_many(5)), std::logic_error);
        CHECK(tx.try_reserve_many(5).is_full());
        CHECK(tx.try_reserve_many(4));
    }

    TEST_CASE("SYNC-MPSC-23 no places at all can always be reserved") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        CHECK(tx.try_send(1));
        auto none = tx.try_reserve_many(0);
        CHECK(none);
        CHECK(none->size() == 0);
        CHECK(test::run(ex, reserve(tx, 0))->size() == 0);
        CHECK_THROWS_AS(static_cast<void>(none->send(1)), std::logic_error);
    }

    TEST_CASE("SYNC-MPSC-24 absurd numbers of places are full, and nothing overflows") {
        auto [tx, rx] = mpsc::channel<int>(10);
        CHECK(tx.try_reserve_many(std::numeric_limits<std::size_t>::max()).is_full());
        CHECK(tx.try_reserve_many(std::numeric_limits<std::size_t>::max() / 2).is_full());
        CHECK(tx.capacity() == 10);
        rx.close();
        CHECK(tx.try_reserve_many(std::numeric_limits<std::size_t>::max()).is_closed());
    }

    TEST_CASE("SYNC-MPSC-25 try_reserve is full, and succeeds after a receive") {
        auto [tx, rx] = mpsc::channel<int>(1);
        CHECK(tx.try_send(1));
        CHECK(tx.try_reserve().is_full());
        CHECK(*rx.try_recv() == 1);
        auto place = tx.try_reserve();
        CHECK(place);
        CHECK(tx.try_send(2).is_full());
        CHECK(place->send(3));
        CHECK(*rx.try_recv() == 3);
    }

    TEST_CASE("SYNC-MPSC-26 reserved places send without a wait, in order") {
        auto [tx, rx] = mpsc::channel<int>(100);
        test::manual_executor ex;
        for (const bool waits : {true, false}) {
            std::optional<permit> places;
            if (waits) {
                places = test::run(ex, reserve(tx, 100));
            } else {
                auto r = tx.try_reserve_many(100);
                places.emplace(std::move(*r));
            }
            CHECK(tx.capacity() == 0);
            for (int i = 0; i < 100; ++i)
                CHECK(places->send(i));
            CHECK(places->size() == 0);
            for (int i = 0; i < 100; ++i)
                CHECK(*rx.try_recv() == i);
        }
    }

    TEST_CASE("SYNC-MPSC-27 reserving in a channel whose receiver is gone fails") {
        std::optional<mpsc::endpoints<int, mpsc::sender<int>>> ends(mpsc::channel<int>(10));
        const mpsc::sender<int> tx = ends->tx;
        test::manual_executor ex;
        ends.reset();
        CHECK(tx.try_reserve().is_closed());
        CHECK(tx.try_reserve_many(10).is_closed());
        CHECK_FALSE(test::run(ex, reserve(tx, 1)));
        CHECK_FALSE(test::run(ex, reserve(tx, 10)));
        CHECK_FALSE(test::run(ex, reserve(tx, 0)));
    }

    TEST_CASE("SYNC-MPSC-28 an unused permit gives its place back and wakes the next") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto place = tx.try_reserve();
        auto h = ex.spawn(reserve(tx, 1));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        place->release();
        ex.run_until_idle();
        CHECK(h.blocking_join()->size() == 1);
        CHECK(tx.capacity() == 1);
    }

    TEST_CASE("SYNC-MPSC-29 a half used permit gives back what is left") {
        auto [tx, rx] = mpsc::channel<int>(10);
        {
            auto places = tx.try_reserve_many(8);
            CHECK(places->send(1));
            CHECK(places->send(2));
            CHECK(places->size() == 6);
            CHECK(tx.capacity() == 2);
        }
        CHECK(tx.capacity() == 8);
        CHECK(rx.size() == 2);
    }

    TEST_CASE("SYNC-MPSC-30 the last permit dropped after the close wakes the receiver, with none") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto place = tx.try_reserve();
        rx.close();
        auto h = ex.spawn(receive(rx));
        ex.run_until_idle();
        { const permit gone = std::move(*place); }
        ex.run_until_idle();
        CHECK(h.blocking_join() == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-31 sending through the last permit after the close delivers, then it ends") {
        auto [tx, rx] = mpsc::channel<int>(2);
        test::manual_executor ex;
        auto places = tx.try_reserve_many(2);
        rx.close();
        auto h = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK(places->send(1));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 1);
        auto last = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK(places->send(2));
        ex.run_until_idle();
        CHECK(last.blocking_join() == 2);
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-32 releasing a permit after the close wakes the receiver") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto place = tx.try_reserve();
        auto h = ex.spawn(receive(rx));
        ex.run_until_idle();
        rx.close();
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        place->release();
        place->release(); // idempotent
        ex.run_until_idle();
        CHECK(h.blocking_join() == std::nullopt);
    }

    TEST_CASE("UTIL-MPSC-01 reserve, then send; with a place in hand nothing waits") {
        auto [tx, rx] = mpsc::channel<int>(3);
        test::manual_executor ex;
        std::optional<permit> place = test::run(ex, reserve(tx, 1));
        std::optional<permit> more = test::run(ex, reserve(tx, 1));
        CHECK(place->send(42));
        CHECK(test::run(ex, receive(rx)) == 42);
        CHECK(more->size() == 1);
    }

    TEST_CASE("UTIL-MPSC-02 aborting a reservation, pending or granted, frees the place") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto place = tx.try_reserve();
        auto h = ex.spawn(reserve(tx, 1));
        auto next = ex.spawn(reserve(tx, 1));
        ex.run_until_idle();
        SUBCASE("pending") {
            h.abort();
            ex.run_until_idle();
            place->release();
        }
        SUBCASE("granted") {
            place->release();
            h.abort();
        }
        ex.run_until_idle();
        CHECK(next.blocking_join()->size() == 1);
        CHECK(tx.capacity() == 1);
    }

    TEST_CASE("UTIL-MPSC-03 a sender that goes before, during and after a reservation") {
        auto ends = mpsc::channel<int>(1);
        std::optional<mpsc::sender<int>> tx(std::move(ends.tx));
        test::manual_executor ex;
        SUBCASE("during: a reservation that waits keeps the channel open") {
            CHECK(tx->try_send(1));
            auto h = ex.spawn(reserve(*tx, 1));
            ex.run_until_idle();
            tx.reset();
            CHECK(*ends.rx.try_recv() == 1);
            ex.run_until_idle();
            std::optional<permit> place = h.blocking_join();
            CHECK(place->send(2));
            CHECK(*ends.rx.try_recv() == 2);
        }
        SUBCASE("after: the granted place may still send") {
            std::optional<permit> place = test::run(ex, reserve(*tx, 1));
            tx.reset();
            CHECK(ends.rx.try_recv().is_empty());
            CHECK(place->send(2));
            CHECK(*ends.rx.try_recv() == 2);
        }
        SUBCASE("before") { tx.reset(); }
        CHECK(ends.rx.try_recv().is_closed());
    }

    TEST_CASE("UTIL-MPSC-04 the last sender that goes closes the channel, one of several does not") {
        auto [tx, rx] = mpsc::channel<int>(3);
        {
            const mpsc::sender<int> copy = tx;
            const mpsc::sender<int> other = std::move(tx);
            CHECK_FALSE(rx.is_closed());
        }
        CHECK(rx.is_closed());
    }

    TEST_CASE("UTIL-MPSC-05 to send without a place is misuse") {
        auto [tx, rx] = mpsc::channel<int>(3);
        auto place = tx.try_reserve();
        CHECK(place->send(1));
        CHECK_THROWS_AS(static_cast<void>(place->send(2)), std::logic_error);
        CHECK(rx.size() == 1);
    }

    TEST_CASE(
        "UTIL-MPSC-06 a place in a channel whose receiver has gone says closed, and leaves the value") {
        std::optional<mpsc::endpoints<std::string, mpsc::sender<std::string>>> ends(
            mpsc::channel<std::string>(3));
        auto place = ends->tx.try_reserve();
        ends.reset();
        std::string value(40, 'x');
        CHECK(place->send(std::move(value)).is_closed());
        CHECK(value == std::string(40, 'x')); // NOLINT: it was not moved from
    }

    TEST_CASE("those who come later wait behind one who wants many; if he gives up they go on") {
        auto [tx, rx] = mpsc::channel<int>(4);
        test::manual_executor ex;
        auto held = tx.try_reserve_many(3);
        auto many = ex.spawn(reserve(tx, 3));
        auto one = ex.spawn(reserve(tx, 1));
        ex.run_until_idle();
        CHECK_FALSE(many.is_finished());
        CHECK_FALSE(one.is_finished());
        CHECK(tx.capacity() == 0); // the free one is his
        SUBCASE("he gives up") {
            many.abort();
            ex.run_until_idle();
            CHECK(one.blocking_join()->size() == 1);
        }
        SUBCASE("he gets them") {
            held->release();
            ex.run_until_idle();
            CHECK(many.blocking_join()->size() == 3);
            CHECK(one.blocking_join()->size() == 1);
        }
    }
}
