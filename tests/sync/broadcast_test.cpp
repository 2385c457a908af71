#include <magpie/sync/broadcast.hpp>

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::received;
using magpie::sync::send_result;
using magpie::sync::slow_receiver;
using test::counted;
using test::trace;
namespace broadcast = magpie::sync::broadcast;

namespace {

/// What a receive gave: the value, "-" for none yet, "end", "+n" for n missed, "out".
template <class T>
std::string said(const received<T>& r) {
    if (r)
        return std::to_string(*r);
    return r.is_empty()          ? "-"
           : r.is_closed()       ? "end"
           : r.is_disconnected() ? "out"
                                 : "+" + std::to_string(r.missed());
}

std::string next(broadcast::receiver<int>& rx) { return said(rx.try_recv()); }

task<std::string> receive(broadcast::receiver<int>& rx) {
    const received<int> r = co_await rx.recv();
    co_return said(r);
}

task<std::string> receive_own(broadcast::receiver<int> rx) {
    const received<int> r = co_await rx.recv();
    co_return said(r);
}

task<> wait_closed(const broadcast::sender<int>& tx, trace& log) {
    co_await tx.closed();
    log.add("closed");
}

/// One whose copy throws when it is told to.
class brittle {
public:
    explicit brittle(int v) noexcept : value(v) {}
    brittle(brittle&& other) noexcept : value(other.value) {}
    brittle(const brittle& other) : value(other.value) {
        if (throws)
            throw std::runtime_error("cannot be copied");
    }
    static inline bool throws = false;
    int value;
};

/// One that sends when it is destroyed.
class echo {
public:
    explicit echo(const broadcast::sender<echo>* tx) noexcept : tx_(tx) {}
    echo(echo&& other) noexcept : tx_(std::exchange(other.tx_, nullptr)) {}
    echo(const echo&) noexcept : tx_(nullptr) {}
    ~echo() {
        if (tx_ != nullptr)
            static_cast<void>(tx_->try_send(echo(nullptr)));
    }

private:
    const broadcast::sender<echo>* tx_;
};

} // namespace

TEST_SUITE("sync.broadcast") {
    TEST_CASE("SYNC-BCAST-01 each receiver gets each later value, in order") {
        auto [tx, rx] = broadcast::channel<int>(16);
        broadcast::receiver<int> second = tx.subscribe();
        CHECK(tx.try_send(1));
        broadcast::receiver<int> third = tx.subscribe();
        CHECK(tx.try_send(2));
        for (auto* r : {&rx, &second}) {
            CHECK(next(*r) == "1");
            CHECK(next(*r) == "2");
            CHECK(next(*r) == "-");
        }
        CHECK(next(third) == "2");
        CHECK(next(third) == "-");
    }

    TEST_CASE("SYNC-BCAST-02 a send wakes all receivers that wait") {
        auto [tx, rx] = broadcast::channel<int>(16);
        broadcast::receiver<int> second = tx.subscribe();
        test::manual_executor ex;
        auto a = ex.spawn(receive(rx));
        auto b = ex.spawn(receive(second));
        ex.run_until_idle();
        CHECK_FALSE(a.is_finished());
        CHECK(tx.try_send(5));
        ex.run_until_idle();
        CHECK(a.blocking_join() == "5");
        CHECK(b.blocking_join() == "5");
    }

    TEST_CASE("SYNC-BCAST-03 another task may wait when the first has given up, not while it waits") {
        auto [tx, rx] = broadcast::channel<int>(16);
        test::manual_executor ex;
        auto a = ex.spawn(receive(rx));
        ex.run_until_idle();
        auto refused = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK_THROWS_AS(refused.blocking_join(), std::logic_error);
        a.abort();
        ex.run_until_idle();
        auto b = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK(tx.try_send(5));
        ex.run_until_idle();
        CHECK(b.blocking_join() == "5");
    }

    TEST_CASE("SYNC-BCAST-04 a slow receiver keeps its place until it is overwritten") {
        auto [tx, rx] = broadcast::channel<int>(2);
        broadcast::receiver<int> fast = tx.subscribe();
        CHECK(tx.try_send(1));
        CHECK(next(fast) == "1");
        CHECK(tx.try_send(2));
        CHECK(next(fast) == "2");
        CHECK(next(rx) == "1");
        CHECK(tx.try_send(3));
        CHECK(next(rx) == "2");
        CHECK(next(rx) == "3");
    }

    TEST_CASE("SYNC-BCAST-05 SYNC-BCAST-11 values go with their last reader, or when he goes") {
        counted::alive = 0;
        {
            auto [tx, rx] = broadcast::channel<counted>(16);
            std::optional<broadcast::receiver<counted>> second(tx.subscribe());
            for (int i = 0; i < 5; ++i)
                CHECK(tx.try_send(counted(i)));
            CHECK(counted::alive == 5);
            CHECK(second->try_recv()->value == 0);
            CHECK(rx.try_recv()->value == 0);
            CHECK(counted::alive == 4);
            for (int i = 1; i < 4; ++i)
                CHECK(rx.try_recv()->value == i);
            CHECK(counted::alive == 4);
            CHECK(tx.size() == 4);
            second.reset();
            CHECK(counted::alive == 1);
            CHECK(tx.size() == 1);
        }
        CHECK(counted::alive == 0);
    }

    TEST_CASE("SYNC-BCAST-06 SYNC-BCAST-17 one that is overrun is told how many exactly, and goes on "
              "with the oldest") {
        for (const std::size_t capacity : {1u, 2u, 3u, 5u, 7u}) { // not rounded to a power of two
            auto [tx, rx] = broadcast::channel<int>(capacity);
            CHECK(tx.max_capacity() == capacity);
            for (int i = 0; i < 10; ++i)
                CHECK(tx.try_send(i));
            const int missed = 10 - static_cast<int>(capacity);
            CHECK(next(rx) == "+" + std::to_string(missed));
            for (int i = missed; i < 10; ++i)
                CHECK(next(rx) == std::to_string(i));
            CHECK(next(rx) == "-");
        }
    }

    TEST_CASE("SYNC-BCAST-07 a send without receivers says closed, and leaves the value") {
        auto ends = broadcast::channel<std::string>(2);
        { const auto gone = std::move(ends.rx); }
        std::string value(40, 'x');
        CHECK(ends.tx.try_send(std::move(value)).is_closed());
        CHECK(value == std::string(40, 'x')); // NOLINT: it was not moved from
        CHECK(ends.tx.is_closed());
    }

    TEST_CASE("SYNC-BCAST-08 capacity 0 and absurd ones are refused") {
        CHECK_THROWS_AS(broadcast::channel<int>(0), std::logic_error);
        CHECK_THROWS_AS(broadcast::channel<int>(static_cast<std::size_t>(-1)), std::logic_error);
    }

    TEST_CASE("SYNC-BCAST-09 a copy that throws reaches that receiver alone") {
        auto [tx, rx] = broadcast::channel<brittle>(4);
        broadcast::receiver<brittle> second = tx.subscribe();
        CHECK(tx.try_send(brittle(1)));
        CHECK(tx.try_send(brittle(2)));
        brittle::throws = true;
        CHECK_THROWS_AS(rx.try_recv(), std::runtime_error);
        const brittle constant(3);
        CHECK_THROWS_AS(static_cast<void>(tx.try_send(constant)), std::runtime_error);
        brittle::throws = false;
        CHECK(rx.try_recv()->value == 2);
        CHECK(second.try_recv()->value == 1);
        CHECK(second.try_recv()->value == 2);
        CHECK(second.try_recv().is_empty());
    }

    TEST_CASE("SYNC-BCAST-10 SYNC-BCAST-13 the last sender goes: what is kept is read, then closed") {
        auto ends = broadcast::channel<int>(2);
        std::optional<broadcast::sender<int>> tx(std::move(ends.tx));
        test::manual_executor ex;
        CHECK(tx->try_send(1));
        CHECK(tx->try_send(2));
        auto waits = ex.spawn(receive_own(tx->subscribe()));
        ex.run_until_idle();
        tx.reset();
        ex.run_until_idle();
        CHECK(waits.blocking_join() == "end");
        CHECK(ends.rx.is_closed());
        CHECK(next(ends.rx) == "1");
        CHECK(next(ends.rx) == "2");
        CHECK(next(ends.rx) == "end");
        CHECK(test::run(ex, receive(ends.rx)) == "end");
    }

    TEST_CASE("SYNC-BCAST-12 capacity 1, with receivers that come and go") {
        auto [tx, rx] = broadcast::channel<int>(1);
        for (int i = 0; i < 5; ++i) {
            std::optional<broadcast::receiver<int>> other(tx.subscribe());
            CHECK(tx.try_send(i));
            if (i % 2 == 0)
                CHECK(next(*other) == std::to_string(i));
            CHECK(next(rx) == std::to_string(i));
            other.reset();
            CHECK(tx.empty());
        }
        CHECK(tx.try_send(7));
        CHECK(tx.try_send(8));
        CHECK(next(rx) == "+1");
        CHECK(next(rx) == "8");
    }

    TEST_CASE("SYNC-BCAST-14 missed, then closed: the number, what is kept, the end; also where the "
              "ring wraps") {
        for (int sent = 3; sent < 12; ++sent) {
            auto ends = broadcast::channel<int>(2);
            for (int i = 0; i < sent; ++i)
                CHECK(ends.tx.try_send(i));
            { const auto gone = std::move(ends.tx); }
            CHECK(next(ends.rx) == "+" + std::to_string(sent - 2));
            CHECK(next(ends.rx) == std::to_string(sent - 2));
            CHECK(next(ends.rx) == std::to_string(sent - 1));
            CHECK(next(ends.rx) == "end");
        }
    }

    TEST_CASE("SYNC-BCAST-15 SYNC-BCAST-19 missed again, before or after what is kept was read") {
        auto [tx, rx] = broadcast::channel<int>(2);
        for (int i = 0; i < 4; ++i)
            CHECK(tx.try_send(i));
        CHECK(next(rx) == "+2");
        for (int i = 4; i < 7; ++i)
            CHECK(tx.try_send(i)); // before it has read 2 and 3
        CHECK(next(rx) == "+3");
        CHECK(next(rx) == "5");
        CHECK(next(rx) == "6");
        CHECK(next(rx) == "-");
        for (int i = 7; i < 10; ++i)
            CHECK(tx.try_send(i));
        CHECK(next(rx) == "+1");
        CHECK(next(rx) == "8");
    }

    TEST_CASE("SYNC-BCAST-16 a receiver's size counts what it has missed until it is told") {
        auto [tx, rx] = broadcast::channel<int>(3);
        CHECK(rx.empty());
        for (int i = 0; i < 5; ++i)
            CHECK(tx.try_send(i));
        CHECK(rx.size() == 5);
        CHECK(next(rx) == "+2");
        CHECK(rx.size() == 3);
        CHECK(next(rx) == "2");
        CHECK(rx.size() == 2);
    }

    TEST_CASE("SYNC-BCAST-18 each receiver misses for itself") {
        auto [tx, rx] = broadcast::channel<int>(2);
        broadcast::receiver<int> fast = tx.subscribe();
        for (int i = 0; i < 4; ++i) {
            CHECK(tx.try_send(i));
            CHECK(next(fast) == std::to_string(i));
        }
        CHECK(next(fast) == "-");
        CHECK(next(rx) == "+2");
    }

    TEST_CASE("SYNC-BCAST-20 a receive that is awaited is told what it has missed, and goes on") {
        auto [tx, rx] = broadcast::channel<int>(2);
        test::manual_executor ex;
        auto waits = ex.spawn(receive(rx));
        ex.run_until_idle();
        for (int i = 0; i < 5; ++i)
            CHECK(tx.try_send(i)); // before it runs
        ex.run_until_idle();
        CHECK(waits.blocking_join() == "+3");
        CHECK(test::run(ex, receive(rx)) == "3");
        CHECK(rx.blocking_recv().has_value());
    }

    TEST_CASE("SYNC-BCAST-21 resubscribe begins at the end and has missed nothing") {
        auto ends = broadcast::channel<int>(2);
        for (int i = 0; i < 5; ++i)
            CHECK(ends.tx.try_send(i));
        broadcast::receiver<int> fresh = ends.rx.resubscribe();
        CHECK(fresh.same_channel(ends.rx));
        CHECK(next(fresh) == "-");
        CHECK(ends.tx.try_send(9));
        CHECK(next(fresh) == "9");
        { const auto gone = std::move(ends.tx); }
        broadcast::receiver<int> late = ends.rx.resubscribe();
        CHECK(next(late) == "end");
    }

    TEST_CASE("SYNC-BCAST-22 a sender's size is what somebody has still to read") {
        std::mt19937 random(42);
        for (int round = 0; round < 20; ++round) {
            const std::size_t capacity = 1 + random() % 9;
            auto [tx, rx] = broadcast::channel<int>(capacity);
            std::vector<broadcast::receiver<int>> receivers;
            std::vector<std::uint64_t> unread{0};
            receivers.push_back(std::move(rx));
            for (int i = 0; i < 300; ++i) {
                const auto one = random() % receivers.size();
                switch (random() % 5) {
                case 0:
                case 1:
                    CHECK(tx.try_send(i));
                    for (auto& n : unread)
                        n = std::min<std::uint64_t>(n + 1, capacity);
                    break;
                case 2:
                    if (receivers[one].try_recv())
                        --unread[one];
                    break;
                case 3:
                    if (receivers.size() < 4) {
                        receivers.push_back(tx.subscribe());
                        unread.push_back(0);
                    }
                    break;
                default:
                    if (receivers.size() > 1) {
                        receivers.erase(receivers.begin() + static_cast<std::ptrdiff_t>(one));
                        unread.erase(unread.begin() + static_cast<std::ptrdiff_t>(one));
                    }
                    break;
                }
                REQUIRE(tx.size() == *std::max_element(unread.begin(), unread.end()));
            }
        }
    }

    TEST_CASE("SYNC-BCAST-23 a value may send while it is destroyed") {
        auto [tx, rx] = broadcast::channel<echo>(1);
        CHECK(tx.try_send(echo(&tx)));
        CHECK(tx.try_send(echo(&tx))); // overwrites the first, which sends
        CHECK(tx.size() == 1);
        CHECK_FALSE(rx.try_recv());
        { const auto gone = std::move(rx); }
        CHECK(tx.try_send(echo(nullptr)).is_closed());
    }

    TEST_CASE("SYNC-BCAST-24 a receive that is always ready lets others run") {
        trace log;
        auto [tx, rx] = broadcast::channel<int>(100);
        test::manual_executor ex(8);
        for (int i = 0; i < 20; ++i)
            CHECK(tx.try_send(i));
        auto receives = [](broadcast::receiver<int>& r, trace& l) -> task<> {
            for (int i = 0; i < 20; ++i) {
                const received<int> n = co_await r.recv();
                CHECK(n.has_value());
            }
            l.add("done");
        };
        auto other = [](trace& l) -> task<> {
            l.add("other");
            co_return;
        };
        ex.spawn(receives(rx, log)).detach();
        ex.spawn(other(log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "other done");
    }

    TEST_CASE("SYNC-BCAST-25 closed() ends with the last receiver, and waits again after a new one") {
        trace log;
        auto ends = broadcast::channel<int>(1);
        std::optional<broadcast::receiver<int>> rx(std::move(ends.rx));
        std::optional<broadcast::receiver<int>> second(ends.tx.subscribe());
        test::manual_executor ex;
        ex.spawn(wait_closed(ends.tx, log)).detach();
        ex.run_until_idle();
        rx.reset();
        ex.run_until_idle();
        CHECK(log.text().empty());
        second.reset();
        ex.run_until_idle();
        CHECK(log.text() == "closed");
        second.emplace(ends.tx.subscribe());
        ex.spawn(wait_closed(ends.tx, log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "closed");
        second.reset();
        ex.run_until_idle();
        CHECK(log.text() == "closed closed");
    }

    TEST_CASE("SYNC-BCAST-26 weak senders do not keep it open, and upgrade while a strong one lives") {
        auto ends = broadcast::channel<int>(1);
        std::optional<broadcast::sender<int>> tx(std::move(ends.tx));
        const broadcast::weak_sender<int> weak = tx->downgrade();
        CHECK(tx->weak_count() == 1);
        CHECK(weak.upgrade()->strong_count() == 2);
        CHECK(tx->strong_count() == 1);
        tx.reset();
        CHECK_FALSE(weak.upgrade().has_value());
        CHECK(next(ends.rx) == "end");
    }

    TEST_CASE("slow receivers may delay the sender, who waits for room in order") {
        trace log;
        auto ends = broadcast::channel<std::string>(2, slow_receiver::delays);
        std::optional<broadcast::receiver<std::string>> slow(std::move(ends.rx));
        broadcast::receiver<std::string> fast = ends.tx.subscribe();
        test::manual_executor ex;
        auto sends = [](const broadcast::sender<std::string>& tx, std::string v, trace& l) -> task<> {
            const std::string name = v;
            const send_result r = co_await tx.send(std::move(v));
            l.add((r ? "sent-" : "closed-") + name);
        };
        std::vector<magpie::join_handle<>> handles;
        for (const char* name : {"1", "2", "3", "4", "5"})
            handles.push_back(ex.spawn(sends(ends.tx, name, log)));
        ex.run_until_idle();
        CHECK(log.text() == "sent-1 sent-2");
        CHECK(ends.tx.try_send("6").is_full());
        CHECK(*fast.try_recv() == "1");
        ex.run_until_idle();
        CHECK(log.text() == "sent-1 sent-2");
        CHECK(*slow->try_recv() == "1");
        CHECK(ends.tx.try_send("6").is_full()); // the room is his who waits
        SUBCASE("who gives up when he has it") {
            handles[2].abort();
            ex.run_until_idle();
            CHECK(log.text() == "sent-1 sent-2 sent-4");
        }
        SUBCASE("until the slow one goes") {
            ex.run_until_idle();
            CHECK(log.text() == "sent-1 sent-2 sent-3");
            slow.reset();
            ex.run_until_idle();
            CHECK(log.text() == "sent-1 sent-2 sent-3");
            CHECK(*fast.try_recv() == "2");
            CHECK(*fast.try_recv() == "3");
            ex.run_until_idle();
            CHECK(log.text() == "sent-1 sent-2 sent-3 sent-4 sent-5");
            return;
        }
        slow.reset();
        { const auto gone = std::move(fast); }
        ex.run_until_idle();
        CHECK(log.text().ends_with("closed-5"));
    }

    TEST_CASE("slow receivers may be disconnected: they are told, and nothing waits for them") {
        counted::alive = 0;
        {
            auto [tx, rx] = broadcast::channel<counted>(2, slow_receiver::disconnected);
            broadcast::receiver<counted> fast = tx.subscribe();
            for (int i = 0; i < 4; ++i) {
                CHECK(tx.try_send(counted(i)));
                CHECK(fast.try_recv()->value == i);
            }
            CHECK(tx.receiver_count() == 1);
            CHECK(tx.empty());
            CHECK(counted::alive == 0); // nobody is left who would read them
            CHECK(rx.try_recv().is_disconnected());
            CHECK(rx.try_recv().is_disconnected());
            { const auto gone = std::move(rx); }
            CHECK(tx.receiver_count() == 1);
            for (int i = 0; i < 3; ++i)
                CHECK(tx.try_send(counted(i)));
            CHECK(tx.is_closed());
            CHECK(tx.try_send(counted(9)).is_closed());
            CHECK(counted::alive == 0);
        }
        CHECK(counted::alive == 0);
    }

    TEST_CASE("a receive that is dropped has read nothing") {
        auto a = broadcast::channel<int>(4);
        auto b = broadcast::channel<int>(4);
        test::manual_executor ex;
        auto f = [](broadcast::receiver<int>& x, broadcast::receiver<int>& y) -> task<std::size_t> {
            auto r = co_await magpie::select(x.recv(), y.recv());
            co_return r.index();
        };
        auto h = ex.spawn(f(a.rx, b.rx));
        ex.run_until_idle();
        CHECK(a.tx.try_send(1));
        CHECK(b.tx.try_send(2));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 0);
        CHECK(next(a.rx) == "-");
        CHECK(next(b.rx) == "2");
        auto waits = ex.spawn(receive(b.rx));
        ex.run_until_idle();
        CHECK(b.tx.try_send(3));
        waits.abort();
        ex.run_until_idle();
        CHECK(next(b.rx) == "3");
    }

    TEST_CASE("plain threads send and receive") {
        auto [tx, rx] = broadcast::channel<int>(3, slow_receiver::delays);
        broadcast::receiver<int> second = tx.subscribe();
        auto receives = [](broadcast::receiver<int> r) {
            int expected = 0;
            for (received<int> n = r.blocking_recv(); n; n = r.blocking_recv())
                CHECK(*n == expected++);
            CHECK(expected == 500);
        };
        std::thread one(receives, std::move(rx));
        std::thread two(receives, std::move(second));
        for (int i = 0; i < 500; ++i)
            CHECK(tx.blocking_send(i));
        { const auto gone = std::move(tx); }
        one.join();
        two.join();
    }

    TEST_CASE("handles that were moved from say so") {
        auto [tx, rx] = broadcast::channel<int>(1);
        const auto moved_tx = std::move(tx);
        const auto moved_rx = std::move(rx);
        CHECK_THROWS_AS(static_cast<void>(tx.try_send(1)), std::logic_error); // NOLINT: on purpose
        CHECK_THROWS_AS(static_cast<void>(rx.try_recv()), std::logic_error);  // NOLINT: on purpose
    }
}
