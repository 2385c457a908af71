#include <magpie/sync/oneshot.hpp>

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>

#include <test/counting.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using test::counting;
namespace oneshot = magpie::sync::oneshot;

namespace {

template <class T>
task<std::optional<T>> receive(oneshot::receiver<T>& rx) {
    co_return co_await rx.recv();
}

task<> wait_closed(oneshot::sender<int>& tx, bool& told) {
    co_await tx.closed();
    told = true;
}

/// One whose move fails as often as it is told.
class brittle {
public:
    explicit brittle(int failures) : failures_(failures) {}
    brittle(brittle&& other) : failures_(other.failures_) {
        if (other.failures_ > 0) {
            --other.failures_;
            throw std::runtime_error("cannot be moved");
        }
    }
    int failures_;
};

/// One whose move looks into the channel that it goes through.
class nosy {
public:
    explicit nosy(oneshot::receiver<nosy>* rx) : rx_(rx) {}
    nosy(nosy&& other) noexcept : rx_(std::exchange(other.rx_, nullptr)) {
        if (rx_ != nullptr) {
            rx_->close();
            static_cast<void>(rx_->is_empty());
        }
    }
    ~nosy() {
        if (rx_ != nullptr)
            static_cast<void>(rx_->is_terminated());
    }

private:
    oneshot::receiver<nosy>* rx_;
};

} // namespace

TEST_SUITE("sync.oneshot") {
    TEST_CASE("SYNC-ONESHOT-01 a value sent before or after the wait starts is received once") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        SUBCASE("before") {
            CHECK(tx.send(5));
            CHECK(test::run(ex, receive(rx)) == 5);
        }
        SUBCASE("after") {
            auto h = ex.spawn(receive(rx));
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
            CHECK(tx.send(5));
            ex.run_until_idle();
            CHECK(h.blocking_join() == 5);
        }
        SUBCASE("on a plain thread") {
            std::thread sender([&] { CHECK(tx.send(5)); });
            CHECK(rx.blocking_recv() == 5);
            sender.join();
        }
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
    }

    TEST_CASE("SYNC-ONESHOT-02 a sender that goes ends the wait") {
        std::optional<oneshot::endpoints<int>> ends(oneshot::channel<int>());
        oneshot::receiver<int> rx = std::move(ends->rx);
        test::manual_executor ex;
        auto h = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        ends.reset();
        ex.run_until_idle();
        CHECK(h.blocking_join() == std::nullopt);
    }

    TEST_CASE("SYNC-ONESHOT-03 a receiver that goes makes send leave the value, and wakes closed()") {
        auto ends = std::make_unique<oneshot::endpoints<std::string>>(oneshot::channel<std::string>());
        test::manual_executor ex;
        oneshot::sender<std::string> tx = std::move(ends->tx);
        bool told = false;
        auto f = [](oneshot::sender<std::string>& s, bool& t) -> task<> {
            co_await s.closed();
            t = true;
        };
        auto h = ex.spawn(f(tx, told));
        ex.run_until_idle();
        CHECK_FALSE(told);
        ends.reset();
        ex.run_until_idle();
        CHECK(told);
        CHECK(tx.is_closed());
        std::string value(40, 'x');
        const auto r = tx.send(std::move(value));
        CHECK(r.is_closed());
        CHECK(value == std::string(40, 'x')); // NOLINT: it was not moved from
    }

    TEST_CASE("SYNC-ONESHOT-04 closing after a value was sent lets it be read") {
        auto [tx, rx] = oneshot::channel<int>();
        CHECK(tx.send(1));
        rx.close();
        CHECK(*rx.try_recv() == 1);
        CHECK(rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-ONESHOT-05 closing without a value: the sender sees it, try_recv says closed") {
        auto [tx, rx] = oneshot::channel<int>();
        CHECK(rx.try_recv().is_empty());
        CHECK_FALSE(tx.is_closed());
        rx.close();
        CHECK(tx.is_closed());
        CHECK(rx.try_recv().is_closed());
        CHECK(tx.send(1).is_closed());
        CHECK(rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-ONESHOT-06 try_recv and recv, in any order, deliver once") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        CHECK(tx.send(7));
        SUBCASE("try_recv first") {
            CHECK(*rx.try_recv() == 7);
            CHECK(test::run(ex, receive(rx)) == std::nullopt);
        }
        SUBCASE("recv first") {
            CHECK(test::run(ex, receive(rx)) == 7);
            CHECK(rx.try_recv().is_closed());
        }
    }

    TEST_CASE("SYNC-ONESHOT-07 closing after the receive is harmless") {
        auto [tx, rx] = oneshot::channel<int>();
        CHECK(tx.send(7));
        CHECK(rx.blocking_recv() == 7);
        rx.close();
        CHECK(rx.is_terminated());
    }

    TEST_CASE("SYNC-ONESHOT-08 closed, tried, awaited: neither hangs nor gives a value") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        rx.close();
        CHECK(rx.try_recv().is_closed());
        CHECK(test::run(ex, receive(rx)) == std::nullopt);
    }

    TEST_CASE("SYNC-ONESHOT-09 both ends may go while tasks wait in them") {
        bool told = false;
        auto ends = std::make_unique<oneshot::endpoints<int>>(oneshot::channel<int>());
        test::manual_executor ex;
        auto waits = ex.spawn(receive(ends->rx));
        auto closes = ex.spawn(wait_closed(ends->tx, told));
        ex.run_until_idle();
        SUBCASE("and the tasks are woken") {
            ends.reset();
            ex.run_until_idle();
            CHECK(waits.blocking_join() == std::nullopt);
            CHECK(told);
        }
        SUBCASE("and the tasks are dropped first") {
            waits.abort();
            closes.abort();
            ex.run_until_idle();
            ends.reset();
            CHECK_FALSE(told);
        }
        SUBCASE("and the tasks are dropped on their way") {
            ends.reset();
            waits.abort();
            closes.abort();
            ex.run_until_idle();
            CHECK_FALSE(told);
        }
    }

    TEST_CASE("SYNC-ONESHOT-10 another task may wait once the first has given up") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        auto first = ex.spawn(receive(rx));
        ex.run_until_idle();
        SUBCASE("given up") {
            first.abort();
            ex.run_until_idle();
            auto second = ex.spawn(receive(rx));
            ex.run_until_idle();
            CHECK(tx.send(3));
            ex.run_until_idle();
            CHECK(second.blocking_join() == 3);
        }
        SUBCASE("a second one at a time is misuse") {
            auto second = ex.spawn(receive(rx));
            ex.run_until_idle();
            CHECK_THROWS_AS(second.blocking_join(), std::logic_error);
            CHECK(tx.send(3));
            ex.run_until_idle();
            CHECK(first.blocking_join() == 3);
        }
        SUBCASE("so is a second wait for the close") {
            bool told = false;
            auto one = ex.spawn(wait_closed(tx, told));
            auto two = ex.spawn(wait_closed(tx, told));
            ex.run_until_idle();
            CHECK_THROWS_AS(two.blocking_join(), std::logic_error);
            rx.close();
            ex.run_until_idle();
            CHECK(one.is_finished());
            CHECK(told);
        }
    }

    TEST_CASE("SYNC-ONESHOT-11 is_terminated is true only when the outcome is consumed") {
        std::optional<oneshot::sender<int>> tx;
        auto ends = oneshot::channel<int>();
        tx.emplace(std::move(ends.tx));
        CHECK_FALSE(ends.rx.is_terminated());
        SUBCASE("a value") {
            CHECK(tx->send(1));
            CHECK_FALSE(ends.rx.is_terminated());
            CHECK(*ends.rx.try_recv() == 1);
        }
        SUBCASE("no value") { tx.reset(); }
        SUBCASE("closed") { ends.rx.close(); }
        CHECK(ends.rx.is_terminated());
    }

    TEST_CASE("SYNC-ONESHOT-12 is_empty follows what was sent, received, dropped and closed") {
        auto [tx, rx] = oneshot::channel<int>();
        CHECK(rx.is_empty());
        SUBCASE("sent and received") {
            CHECK(tx.send(1));
            CHECK_FALSE(rx.is_empty());
            CHECK(*rx.try_recv() == 1);
        }
        SUBCASE("closed") { rx.close(); }
        SUBCASE("dropped") { const oneshot::sender<int> gone = std::move(tx); }
        CHECK(rx.is_empty());
    }

    TEST_CASE("SYNC-ONESHOT-13 the value is destroyed exactly once") {
        counting::reset();
        {
            auto [tx, rx] = oneshot::channel<counting>();
            SUBCASE("received") {
                CHECK(tx.send(counting(4)));
                CHECK(rx.blocking_recv()->value() == 4);
            }
            SUBCASE("left in the channel") { CHECK(tx.send(counting(4))); }
            SUBCASE("left, and the receiver goes first") {
                CHECK(tx.send(counting(4)));
                const oneshot::receiver<counting> gone = std::move(rx);
            }
            SUBCASE("refused") {
                rx.close();
                counting c(4);
                CHECK(tx.send(std::move(c)).is_closed());
                CHECK(c.value() == 4); // NOLINT: it was not moved from
            }
        }
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("SYNC-ONESHOT-14 waits that move between tasks while the peer completes") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        auto first = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK(tx.send(9));
        first.abort(); // its wake is on its way
        ex.run_until_idle();
        CHECK(test::run(ex, receive(rx)) == 9);
    }

    TEST_CASE("SYNC-ONESHOT-15 a receiver dropped right after its wait began") {
        auto ends = std::make_unique<oneshot::endpoints<int>>(oneshot::channel<int>());
        test::manual_executor ex;
        auto f = [](oneshot::receiver<int> rx) -> task<> { co_await rx.recv(); };
        auto h = ex.spawn(f(std::move(ends->rx)));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(ends->tx.is_closed());
        CHECK(ends->tx.send(1).is_closed());
    }

    TEST_CASE("a receive that loses a select has taken nothing") {
        auto a = oneshot::channel<int>();
        auto b = oneshot::channel<int>();
        test::manual_executor ex;
        auto f = [](oneshot::receiver<int>& x, oneshot::receiver<int>& y) -> task<std::size_t> {
            auto r = co_await magpie::select(x.recv(), y.recv());
            co_return r.index();
        };
        auto h = ex.spawn(f(a.rx, b.rx));
        ex.run_until_idle();
        CHECK(a.tx.send(1));
        CHECK(b.tx.send(2)); // in the same batch
        ex.run_until_idle();
        CHECK(h.blocking_join() == 0);
        CHECK(*b.rx.try_recv() == 2);
    }

    TEST_CASE("a receive that had ended in a dropped join is still there") {
        auto a = oneshot::channel<int>();
        auto b = oneshot::channel<int>();
        test::manual_executor ex;
        CHECK(a.tx.send(1));
        auto f = [](oneshot::receiver<int>& x, oneshot::receiver<int>& y) -> task<bool> {
            auto r = co_await magpie::timeout(1s, magpie::join(x.recv(), y.recv()));
            co_return r.has_value();
        };
        auto h = ex.spawn(f(a.rx, b.rx));
        ex.advance(2s);
        CHECK(h.blocking_join() == false);
        CHECK(*a.rx.try_recv() == 1);
    }

    TEST_CASE("a move that throws leaves the sender to try again") {
        auto [tx, rx] = oneshot::channel<brittle>();
        brittle b(1);
        CHECK_THROWS_AS(static_cast<void>(tx.send(std::move(b))), std::runtime_error);
        CHECK(rx.is_empty());
        CHECK(tx.send(std::move(b))); // NOLINT: it was not moved from
        CHECK_FALSE(rx.is_empty());
    }

    TEST_CASE("a value may use the channel that it goes through") {
        auto [tx, rx] = oneshot::channel<nosy>();
        nosy n(&rx);
        CHECK(tx.send(std::move(n)));
        CHECK(rx.try_recv().has_value());
    }

    TEST_CASE("values that are move-only, and aligned beyond a cache line") {
        struct alignas(256) wide {
            std::unique_ptr<int> p;
        };
        auto [tx, rx] = oneshot::channel<wide>();
        CHECK(tx.send(wide{std::make_unique<int>(3)}));
        const std::optional<wide> w = rx.blocking_recv();
        CHECK(*w->p == 3);
        CHECK(reinterpret_cast<std::uintptr_t>(&*w) % 256 == 0);
    }

    TEST_CASE("misuse says what to do") {
        auto [tx, rx] = oneshot::channel<int>();
        test::manual_executor ex;
        CHECK(tx.send(1));
        CHECK_THROWS_AS(static_cast<void>(tx.send(2)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(tx.is_closed()), std::logic_error);
        auto blocks = [](oneshot::receiver<int>& r) -> task<> {
            static_cast<void>(r.blocking_recv());
            co_return;
        };
        CHECK_THROWS_AS(test::run(ex, blocks(rx)), std::logic_error);
        CHECK(rx.blocking_recv() == 1);
        const oneshot::receiver<int> moved = std::move(rx);
        CHECK_THROWS_AS(rx.close(), std::logic_error); // NOLINT: on purpose
    }
}
