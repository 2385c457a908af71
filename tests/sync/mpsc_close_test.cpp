// How a channel ends: closed by its receiver, left by its senders, with permits out, with waiters inside.

#include <magpie/sync/mpsc.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::send_result;
using test::trace;
namespace mpsc = magpie::sync::mpsc;

namespace {

task<std::optional<int>> receive(mpsc::receiver<int>& rx) { co_return co_await rx.recv(); }

task<send_result> send_one(const mpsc::sender<int>& tx, int n) {
    const send_result r = co_await tx.send(n);
    co_return r;
}

task<std::string> reserve(const mpsc::sender<int>& tx, std::size_t n) {
    auto r = co_await tx.reserve_many(n);
    co_return r ? "permit" : r.is_closed() ? "closed" : "full";
}

/// An actor that knows itself by a weak sender only.
task<int> actor(mpsc::receiver<int> rx, mpsc::weak_sender<int> self) {
    int handled = 0;
    for (;;) {
        const std::optional<int> n = co_await rx.recv();
        if (!n)
            co_return handled;
        ++handled;
        if (*n > 0)
            if (const std::optional<mpsc::sender<int>> me = self.upgrade())
                static_cast<void>(me->try_send(*n - 1));
    }
}

} // namespace

TEST_SUITE("sync.mpsc_close") {
    TEST_CASE("SYNC-MPSC-14 closed with nothing in it: recv ends at once, senders see it") {
        auto [tx, rx] = mpsc::channel<int>(10);
        test::manual_executor ex;
        rx.close();
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
        CHECK(test::run(ex, send_one(tx, 1)).is_closed());
        CHECK(tx.is_closed());
    }

    TEST_CASE("SYNC-MPSC-15 closed with a permit out: recv waits for it, it may send, then none") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto place = tx.try_reserve();
        rx.close();
        auto h = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        CHECK(place->send(1));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 1);
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-16 closing wakes all that wait for room") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        CHECK(tx.try_send(1));
        auto a = ex.spawn(send_one(tx, 2));
        auto b = ex.spawn(reserve(tx, 1));
        auto c = ex.spawn(send_one(tx, 3));
        ex.run_until_idle();
        rx.close();
        ex.run_until_idle();
        CHECK(a.blocking_join().is_closed());
        CHECK(b.blocking_join() == "closed");
        CHECK(c.blocking_join().is_closed());
        CHECK(test::run(ex, receive(rx)) == 1);
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-17 SYNC-MPSC-19 a reservation that fails lets the receiver of a closed "
              "channel end") {
        for (const std::size_t n : {1u, 3u}) {
            auto [tx, rx] = mpsc::channel<int>(4);
            test::manual_executor ex;
            auto two = tx.try_reserve_many(2);
            auto two_more = tx.try_reserve_many(2);
            auto h = ex.spawn(reserve(tx, n));
            ex.run_until_idle();
            rx.close();
            auto r = ex.spawn(receive(rx));
            ex.run_until_idle();
            CHECK(h.blocking_join() == "closed");
            CHECK_FALSE(r.is_finished());
            two->release();
            ex.run_until_idle();
            CHECK_FALSE(r.is_finished());
            two_more->release();
            ex.run_until_idle();
            CHECK(r.blocking_join() == std::nullopt);
        }
    }

    TEST_CASE("SYNC-MPSC-18 SYNC-MPSC-20 a reservation that is cancelled lets the receiver of a closed "
              "channel end") {
        for (const std::size_t n : {1u, 2u}) {
            auto [tx, rx] = mpsc::channel<int>(2);
            test::manual_executor ex;
            auto place = tx.try_reserve();
            auto other = tx.try_reserve();
            auto h = ex.spawn(reserve(tx, n));
            ex.run_until_idle();
            place->release();
            other->release(); // h has been granted now, and does not know
            rx.close();
            auto r = ex.spawn(receive(rx)); // waits for h's places
            h.abort();
            ex.run_until_idle();
            CHECK(r.blocking_join() == std::nullopt);
        }
    }

    TEST_CASE("SYNC-MPSC-21 the last sender that goes ends the receives, after what is left") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(10);
        test::manual_executor ex;
        tx.emplace(std::move(ends.tx));
        SUBCASE("while it waits") {
            auto h = ex.spawn(receive(ends.rx));
            ex.run_until_idle();
            tx.reset();
            ex.run_until_idle();
            CHECK(h.blocking_join() == std::nullopt);
        }
        SUBCASE("with values left") {
            CHECK(tx->try_send(1));
            tx.reset();
            CHECK(test::run(ex, receive(ends.rx)) == 1);
            CHECK(test::run(ex, receive(ends.rx)) == std::nullopt);
        }
        SUBCASE("one of two is not the last") {
            std::optional<mpsc::sender<int>> second(*tx);
            auto h = ex.spawn(receive(ends.rx));
            tx.reset();
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            second.reset();
            ex.run_until_idle();
            CHECK(h.blocking_join() == std::nullopt);
        }
    }

    TEST_CASE("SYNC-MPSC-37 a place that was granted but not taken when the channel closed") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        CHECK(tx.try_send(1));
        auto h = ex.spawn(reserve(tx, 1));
        ex.run_until_idle();
        CHECK(*rx.try_recv() == 1); // granted
        rx.close();
        CHECK(rx.try_recv().is_empty()); // not closed: h may still send
        h.abort();
        ex.run_until_idle();
        CHECK(rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-38 closed while a permit is held: dropping it ends recv") {
        auto [tx, rx] = mpsc::channel<int>(100);
        test::manual_executor ex;
        auto h = ex.spawn(receive(rx));
        {
            auto place = tx.try_reserve();
            rx.close();
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
        }
        ex.run_until_idle();
        CHECK(h.blocking_join() == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-40 try_recv after closing says empty until the permits are resolved") {
        auto [tx, rx] = mpsc::channel<int>(2);
        auto place = tx.try_reserve();
        rx.close();
        CHECK(rx.try_recv().is_empty());
        SUBCASE("by a send") {
            CHECK(place->send(5));
            CHECK(*rx.try_recv() == 5);
        }
        SUBCASE("by being dropped") { place->release(); }
        CHECK(rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-41 try_recv after closing drains, then says closed") {
        auto [tx, rx] = mpsc::channel<int>(5);
        for (int i = 0; i < 3; ++i)
            CHECK(tx.try_send(i));
        rx.close();
        for (int i = 0; i < 3; ++i)
            CHECK(*rx.try_recv() == i);
        CHECK(rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-46 the receiver is closed after close() though senders live") {
        auto [tx, rx] = mpsc::channel<int>(5);
        CHECK_FALSE(rx.is_closed());
        rx.close();
        rx.close();
        CHECK(rx.is_closed());
    }

    TEST_CASE(
        "SYNC-MPSC-47 the receiver is closed when all senders are gone, with values left or not") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        tx.emplace(std::move(ends.tx));
        CHECK(tx->try_send(1));
        CHECK_FALSE(ends.rx.is_closed());
        tx.reset();
        CHECK(ends.rx.is_closed());
        CHECK(*ends.rx.try_recv() == 1);
        CHECK(ends.rx.is_closed());
    }

    TEST_CASE("SYNC-MPSC-48 a permit keeps the channel open without a sender") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        tx.emplace(std::move(ends.tx));
        auto place = tx->try_reserve();
        tx.reset();
        CHECK_FALSE(ends.rx.is_closed());
        CHECK(ends.rx.try_recv().is_empty());
        CHECK(place->send(3));
        CHECK(ends.rx.is_closed());
        CHECK(*ends.rx.try_recv() == 3);
        CHECK(ends.rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-52 SYNC-MPSC-60 both ends go in any order, with waiters inside") {
        auto ends = std::make_unique<mpsc::endpoints<int, mpsc::sender<int>>>(mpsc::channel<int>(1));
        test::manual_executor ex;
        SUBCASE("a receive waits") {
            auto h = ex.spawn(receive(ends->rx));
            ex.run_until_idle();
            SUBCASE("the receiver goes") {
                const mpsc::sender<int> tx = ends->tx;
                ends.reset();
                ex.run_until_idle();
                CHECK(h.blocking_join() == std::nullopt);
                CHECK(tx.is_closed());
            }
            SUBCASE("all go") {
                ends.reset();
                ex.run_until_idle();
                CHECK(h.blocking_join() == std::nullopt);
            }
            SUBCASE("all go, on another thread") {
                std::thread([&] { ends.reset(); }).join();
                ex.run_until_idle();
                CHECK(h.blocking_join() == std::nullopt);
            }
        }
        SUBCASE("sends wait") {
            CHECK(ends->tx.try_send(1));
            auto a = ex.spawn(send_one(ends->tx, 2));
            auto b = ex.spawn(send_one(ends->tx, 3));
            ex.run_until_idle();
            SUBCASE("dropped") {
                a.abort();
                ends.reset();
                ex.run_until_idle();
                CHECK(b.blocking_join().is_closed());
            }
            SUBCASE("granted") {
                CHECK(*ends->rx.try_recv() == 1);
                ends.reset();
                ex.run_until_idle();
                CHECK(a.blocking_join().is_closed());
                CHECK(b.blocking_join().is_closed());
            }
        }
    }

    TEST_CASE("SYNC-MPSC-55 a weak sender does not keep the channel open") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        test::manual_executor ex;
        tx.emplace(std::move(ends.tx));
        const mpsc::weak_sender<int> weak = tx->downgrade();
        auto h = ex.spawn(receive(ends.rx));
        ex.run_until_idle();
        tx.reset();
        CHECK(ends.rx.is_closed());
        ex.run_until_idle();
        CHECK(h.blocking_join() == std::nullopt);
    }

    TEST_CASE("SYNC-MPSC-56 a weak sender is upgraded while a sender lives, and not after") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        tx.emplace(std::move(ends.tx));
        const mpsc::weak_sender<int> weak = tx->downgrade();
        {
            const std::optional<mpsc::sender<int>> strong = weak.upgrade();
            CHECK(strong.has_value());
            tx.reset();
            CHECK(strong->try_send(1));
            CHECK(weak.upgrade().has_value());
        }
        CHECK_FALSE(weak.upgrade().has_value());
        CHECK(*ends.rx.try_recv() == 1);
        CHECK(ends.rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-57 a permit counts as a sender: upgrade succeeds") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        tx.emplace(std::move(ends.tx));
        const mpsc::weak_sender<int> weak = tx->downgrade();
        auto place = tx->try_reserve();
        tx.reset();
        CHECK(weak.upgrade().has_value());
        CHECK_FALSE(ends.rx.is_closed());
        place->release();
        CHECK_FALSE(weak.upgrade().has_value());
    }

    TEST_CASE("SYNC-MPSC-58 an actor that knows itself weakly ends when its clients have gone") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(5);
        test::manual_executor ex;
        tx.emplace(std::move(ends.tx));
        auto h = ex.spawn(actor(std::move(ends.rx), tx->downgrade()));
        CHECK(tx->try_send(3));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        tx.reset();
        ex.run_until_idle();
        CHECK(h.blocking_join() == 4);
    }

    TEST_CASE("SYNC-MPSC-59 strong and weak counts are exact") {
        auto [tx, rx] = mpsc::channel<int>(5);
        CHECK(tx.strong_count() == 1);
        CHECK(tx.weak_count() == 0);
        {
            const mpsc::sender<int> copy = tx;
            const mpsc::weak_sender<int> weak = tx.downgrade();
            const mpsc::weak_sender<int> weak_copy = weak;
            CHECK(rx.sender_count() == 2);
            CHECK(rx.weak_sender_count() == 2);
            CHECK(weak.strong_count() == 2);
            const std::optional<mpsc::sender<int>> up = weak.upgrade();
            CHECK(tx.strong_count() == 3);
            CHECK(up->weak_count() == 2);
        }
        CHECK(tx.strong_count() == 1);
        CHECK(tx.weak_count() == 0);
    }

    TEST_CASE("closed() ends when the receiver closes or goes") {
        std::optional<mpsc::endpoints<int, mpsc::sender<int>>> ends(mpsc::channel<int>(5));
        const mpsc::sender<int> tx = ends->tx;
        test::manual_executor ex;
        auto f = [](const mpsc::sender<int>& s) -> task<> { co_await s.closed(); };
        auto a = ex.spawn(f(tx));
        auto b = ex.spawn(f(tx));
        ex.run_until_idle();
        CHECK_FALSE(a.is_finished());
        b.abort();
        ex.run_until_idle();
        SUBCASE("closes") { ends->rx.close(); }
        SUBCASE("goes") { ends.reset(); }
        ex.run_until_idle();
        CHECK(a.is_finished());
        test::run(ex, f(tx));
    }
}
