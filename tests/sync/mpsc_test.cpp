// What goes through a channel: order, room, ends, asking.

#include <magpie/sync/mpsc.hpp>

#include <magpie/core/select.hpp>
#include <magpie/core/unconstrained.hpp>

#include <test/counting.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::send_result;
using test::trace;
namespace mpsc = magpie::sync::mpsc;

namespace {

task<> send_named(const mpsc::sender<int>& tx, int n, trace& log) {
    const send_result r = co_await tx.send(n);
    log.add((r ? "sent " : "closed ") + std::to_string(n));
}

template <class T>
task<std::optional<T>> receive(mpsc::receiver<T>& rx) {
    co_return co_await rx.recv();
}

template <class T>
task<std::vector<T>> receive_all(mpsc::receiver<T>& rx) {
    std::vector<T> all;
    for (;;) {
        std::optional<T> next = co_await rx.recv();
        if (!next)
            co_return all;
        all.push_back(*std::move(next));
    }
}

template <class T>
task<std::size_t> receive_many(mpsc::receiver<T>& rx, std::vector<T>& out, std::size_t limit) {
    co_return co_await rx.recv_many(out, limit);
}

std::vector<int> numbers(int n) {
    std::vector<int> all;
    for (int i = 0; i < n; ++i)
        all.push_back(i);
    return all;
}

} // namespace

TEST_SUITE("sync.mpsc") {
    TEST_CASE("senders can be assigned: the one that was there is dropped") {
        const auto assigns = [](auto first, auto second) {
            auto copy = first.tx;
            copy = second.tx;
            second.tx = std::move(first.tx); // the second channel's other sender is `copy`
            CHECK(bool(copy.try_send(2)));
            CHECK(bool(second.tx.try_send(1)));
            CHECK(*first.rx.try_recv() == 1);
            CHECK(*second.rx.try_recv() == 2);
            copy = second.tx;
            CHECK(second.rx.try_recv().is_closed());
        };
        assigns(mpsc::channel<int>(1), mpsc::channel<int>(1));
        auto priority = mpsc::priority_channel<int>(1, 2);
        auto to = priority.tx;
        to = priority.tx;
        to = std::move(priority.tx);
        CHECK(bool(to.try_send(0, 1)));
        auto [many, rx] = mpsc::unbounded_channel<int>();
        auto other = many;
        other = many;
        other = std::move(many);
        CHECK(bool(other.send(1)));
    }

    TEST_CASE("SYNC-MPSC-01 values arrive in order, and up to the capacity without a wait") {
        auto [tx, rx] = mpsc::channel<int>(16);
        test::manual_executor ex;
        auto f = [](mpsc::sender<int> s) -> task<> {
            for (int i = 0; i < 16; ++i) {
                const send_result r = co_await s.send(i);
                CHECK(r);
            }
        };
        auto h = ex.spawn(f(std::move(tx)));
        CHECK(ex.run_one());
        CHECK(h.is_finished()); // it never waited
        CHECK(test::run(ex, receive_all(rx)) == numbers(16));
    }

    TEST_CASE("SYNC-MPSC-02 two tasks pass each value, and then end") {
        test::manual_executor ex;
        for (const std::size_t capacity : {1u, 2u, 3u, 31u, 32u, 33u, 128u}) {
            auto [tx, rx] = mpsc::channel<int>(capacity);
            auto f = [](mpsc::sender<int> s) -> task<> {
                for (int i = 0; i < 1000; ++i) {
                    const send_result r = co_await s.send(i);
                    CHECK(r);
                }
            };
            ex.spawn(f(std::move(tx))).detach();
            CHECK(test::run(ex, receive_all(rx)) == numbers(1000));
        }
    }

    TEST_CASE("SYNC-MPSC-03 a send into a full channel waits; a free slot wakes the first alone") {
        auto [tx, rx] = mpsc::channel<int>(1);
        trace log;
        test::manual_executor ex;
        for (int i = 1; i <= 3; ++i)
            ex.spawn(send_named(tx, i, log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "sent 1");
        CHECK(*rx.try_recv() == 1);
        const std::size_t turns = ex.turns();
        ex.run_until_idle();
        CHECK(ex.turns() == turns + 1);
        CHECK(log.text() == "sent 1 sent 2");
        CHECK(*rx.try_recv() == 2);
        ex.run_until_idle();
        CHECK(*rx.try_recv() == 3);
    }

    TEST_CASE("SYNC-MPSC-04 a capacity of 1 works, 0 and too many are refused") {
        CHECK_THROWS_AS(mpsc::channel<int>(0), std::logic_error);
        CHECK_THROWS_AS(mpsc::channel<int>(static_cast<std::size_t>(-1)), std::logic_error);
        auto [tx, rx] = mpsc::channel<int>(1);
        CHECK(tx.try_send(1));
        CHECK(rx.blocking_recv() == 1);
    }

    TEST_CASE("SYNC-MPSC-05 a full channel refuses try_send, and the value stays") {
        auto [tx, rx] = mpsc::channel<std::string>(1);
        CHECK(tx.try_send("first"));
        std::string second(40, 'x');
        CHECK(tx.try_send(std::move(second)).is_full());
        CHECK(second == std::string(40, 'x')); // NOLINT: it was not moved from
    }

    TEST_CASE("SYNC-MPSC-06 try_recv makes room; when the senders are gone it drains, then is closed") {
        std::optional<mpsc::sender<int>> tx;
        auto ends = mpsc::channel<int>(1);
        tx.emplace(std::move(ends.tx));
        CHECK(tx->try_send(1));
        CHECK(tx->try_send(2).is_full());
        CHECK(*ends.rx.try_recv() == 1);
        CHECK(tx->try_send(3));
        tx.reset();
        CHECK(*ends.rx.try_recv() == 3);
        CHECK(ends.rx.try_recv().is_closed());
    }

    TEST_CASE("SYNC-MPSC-07 recv_many appends in order, never more than the limit") {
        auto [tx, rx] = mpsc::channel<int>(100);
        test::manual_executor ex;
        for (int i = 0; i < 10; ++i)
            CHECK(tx.try_send(i));
        std::vector<int> out{-1};
        CHECK(test::run(ex, receive_many(rx, out, 4)) == 4);
        CHECK(out == std::vector<int>{-1, 0, 1, 2, 3});
        CHECK(test::run(ex, receive_many(rx, out, 100)) == 6);
        CHECK(out.back() == 9);
        CHECK(test::run(ex, receive_many(rx, out, 0)) == 0);
        auto waits = ex.spawn(receive_many(rx, out, 5));
        ex.run_until_idle();
        CHECK_FALSE(waits.is_finished());
        CHECK(tx.try_send(10));
        CHECK(tx.try_send(11));
        ex.run_until_idle();
        CHECK(waits.blocking_join() == 2);
        CHECK(out.back() == 11);
    }

    TEST_CASE("SYNC-MPSC-08 recv_many leaves the growth of the buffer to the buffer") {
        auto [tx, rx] = mpsc::channel<int>(100);
        test::manual_executor ex;
        for (int i = 0; i < 10; ++i)
            CHECK(tx.try_send(i));
        std::vector<int> out;
        out.reserve(20);
        const int* const before = out.data();
        CHECK(test::run(ex, receive_many(rx, out, 1000)) == 10);
        CHECK(out.data() == before);
        CHECK(out.capacity() == 20);
    }

    TEST_CASE("SYNC-MPSC-09 recv_many on a closed and drained channel gives 0 and changes nothing") {
        auto [tx, rx] = mpsc::channel<int>(4);
        test::manual_executor ex;
        rx.close();
        std::vector<int> out{1, 2, 3};
        CHECK(test::run(ex, receive_many(rx, out, 5)) == 0);
        CHECK(out == std::vector<int>{1, 2, 3});
    }

    TEST_CASE("SYNC-MPSC-10 the same for an unbounded channel") {
        auto [tx, rx] = mpsc::unbounded_channel<int>();
        test::manual_executor ex;
        rx.close();
        std::vector<int> out{1, 2, 3};
        CHECK(test::run(ex, receive_many(rx, out, 5)) == 0);
        CHECK(out == std::vector<int>{1, 2, 3});
        CHECK(tx.send(1).is_closed());
    }

    TEST_CASE("SYNC-MPSC-11 an unbounded send never waits, and keeps the order") {
        auto [tx, rx] = mpsc::unbounded_channel<int>();
        test::manual_executor ex;
        auto f = [](mpsc::unbounded_sender<int> s) -> task<> {
            for (int i = 0; i < 5000; ++i)
                CHECK(s.send(i));
            co_return;
        };
        auto h = ex.spawn(f(std::move(tx)));
        CHECK(ex.run_one());
        CHECK(h.is_finished());
        CHECK(test::run(ex, receive_all(rx)) == numbers(5000));
    }

    TEST_CASE("SYNC-MPSC-12 a value needs no copy, comparison or default construction") {
        struct plain {
            explicit plain(int) {}
            plain(plain&&) = default;
            plain& operator=(plain&&) = delete;
        };
        auto [tx, rx] = mpsc::channel<plain>(1);
        CHECK(tx.try_send(plain(1)));
        CHECK(rx.blocking_recv().has_value());
        auto unbounded = mpsc::unbounded_channel<std::unique_ptr<int>>();
        CHECK(unbounded.tx.send(std::make_unique<int>(3)));
        CHECK(**unbounded.rx.blocking_recv() == 3);
    }

    TEST_CASE("SYNC-MPSC-13 a slot that was freed for one who waits is his") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        CHECK(tx.try_send(1));
        auto f = [](const mpsc::sender<int>& s) -> task<> {
            auto place = co_await s.reserve();
            CHECK(place->send(2));
        };
        auto h = ex.spawn(f(tx));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        CHECK(*rx.try_recv() == 1);
        CHECK(tx.try_send(3).is_full()); // though it has not run yet
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(*rx.try_recv() == 2);
        CHECK(tx.try_send(3));
    }

    TEST_CASE("SYNC-MPSC-33 when the receiver goes, sends that wait fail and leave the value") {
        auto ends = std::make_unique<mpsc::endpoints<std::string, mpsc::sender<std::string>>>(
            mpsc::channel<std::string>(1));
        const mpsc::sender<std::string> tx = std::move(ends->tx);
        test::manual_executor ex;
        CHECK(tx.try_send("first"));
        std::string second(40, 'x');
        auto f = [](const mpsc::sender<std::string>& s, std::string& v) -> task<send_result> {
            const send_result r = co_await s.send(std::move(v));
            co_return r;
        };
        auto h = ex.spawn(f(tx, second));
        ex.run_until_idle();
        ends.reset();
        ex.run_until_idle();
        CHECK(h.blocking_join().is_closed());
        CHECK(second == std::string(40, 'x'));
        CHECK(tx.is_closed());
        CHECK(tx.try_send("third").is_closed());
    }

    TEST_CASE("SYNC-MPSC-34 values that nobody received are destroyed with the receiver") {
        test::counting::reset();
        std::optional<mpsc::endpoints<test::counting, mpsc::sender<test::counting>>> ends(
            mpsc::channel<test::counting>(100));
        const mpsc::sender<test::counting> tx = ends->tx;
        for (int i = 0; i < 70; ++i)
            CHECK(tx.try_send(test::counting(i)));
        CHECK(test::counting::alive() == 70);
        ends.reset();
        CHECK(test::counting::alive() == 0);
    }

    TEST_CASE("SYNC-MPSC-35 blocking_send and blocking_recv work on plain threads") {
        auto [tx, rx] = mpsc::channel<int>(2);
        std::thread sender([s = std::move(tx)] {
            for (int i = 0; i < 1000; ++i)
                CHECK(s.blocking_send(i));
        });
        int expected = 0;
        for (std::optional<int> n = rx.blocking_recv(); n; n = rx.blocking_recv())
            CHECK(*n == expected++);
        CHECK(expected == 1000);
        sender.join();
    }

    TEST_CASE("SYNC-MPSC-36 blocking calls in a task are refused") {
        auto [tx, rx] = mpsc::channel<int>(2);
        test::manual_executor ex;
        auto receives = [](mpsc::receiver<int>& r) -> task<> {
            static_cast<void>(r.blocking_recv());
            co_return;
        };
        auto sends = [](const mpsc::sender<int>& s) -> task<> {
            static_cast<void>(s.blocking_send(1));
            co_return;
        };
        CHECK_THROWS_AS(test::run(ex, receives(rx)), std::logic_error);
        CHECK_THROWS_AS(test::run(ex, sends(tx)), std::logic_error);
        CHECK(rx.empty());
    }

    TEST_CASE("SYNC-MPSC-39 try_recv tells empty from closed at each level") {
        auto check = [](auto ends, auto put) {
            CHECK(ends.rx.try_recv().is_empty());
            for (int level = 1; level < 70; level += 11) {
                for (int i = 0; i < level; ++i)
                    put(ends.tx, i);
                for (int i = 0; i < level; ++i)
                    CHECK(*ends.rx.try_recv() == i);
                CHECK(ends.rx.try_recv().is_empty());
            }
            for (int i = 0; i < 3; ++i)
                put(ends.tx, i);
            { const auto gone = std::move(ends.tx); }
            for (int i = 0; i < 3; ++i)
                CHECK(*ends.rx.try_recv() == i);
            CHECK(ends.rx.try_recv().is_closed());
        };
        check(mpsc::channel<int>(100), [](auto& tx, int i) { CHECK(tx.try_send(i)); });
        check(mpsc::unbounded_channel<int>(), [](auto& tx, int i) { CHECK(tx.send(i)); });
    }

    TEST_CASE("SYNC-MPSC-42 the last sender goes while it is empty: empty turns into closed") {
        auto check = [](auto ends) {
            std::optional tx(std::move(ends.tx));
            CHECK(ends.rx.try_recv().is_empty());
            tx.reset();
            CHECK(ends.rx.try_recv().is_closed());
        };
        check(mpsc::channel<int>(1));
        check(mpsc::unbounded_channel<int>());
    }

    TEST_CASE("SYNC-MPSC-43 send_timeout gives up in time, and the value stays") {
        auto [tx, rx] = mpsc::channel<std::string>(1);
        test::manual_executor ex;
        auto f = [](const mpsc::sender<std::string>& s, std::string& v) -> task<send_result> {
            const send_result r = co_await s.send_timeout(std::move(v), 1s);
            co_return r;
        };
        std::string value(40, 'x');
        CHECK(test::run(ex, f(tx, value)));
        value.assign(40, 'y');
        auto h = ex.spawn(f(tx, value));
        ex.advance(999ms);
        CHECK_FALSE(h.is_finished());
        SUBCASE("too late") {
            ex.advance(1ms);
            CHECK(h.blocking_join().is_timed_out());
            CHECK(value == std::string(40, 'y'));
            CHECK(rx.size() == 1);
        }
        SUBCASE("in time") {
            CHECK(rx.try_recv().has_value());
            ex.run_until_idle();
            CHECK(h.blocking_join());
            CHECK(*rx.try_recv() == std::string(40, 'y'));
        }
        SUBCASE("closed") {
            rx.close();
            ex.run_until_idle();
            CHECK(h.blocking_join().is_closed());
            CHECK(value == std::string(40, 'y'));
        }
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("SYNC-MPSC-44 send_timeout without timers is misuse, and does not hang") {
        test::manual_executor ex;
        ex.without_timers();
        auto [tx, rx] = mpsc::channel<int>(1);
        CHECK(tx.try_send(1));
        auto f = [](const mpsc::sender<int>& s) -> task<> {
            const send_result r = co_await s.send_timeout(2, 1s);
            static_cast<void>(r);
        };
        CHECK_THROWS_AS(test::run(ex, f(tx)), std::logic_error);
        CHECK(rx.size() == 1);
    }

    TEST_CASE("SYNC-MPSC-45 the capacity falls with values and permits, its maximum does not") {
        auto [tx, rx] = mpsc::channel<int>(100);
        CHECK(tx.capacity() == 100);
        CHECK(tx.try_send(1));
        CHECK(tx.try_send(2));
        CHECK(tx.capacity() == 98);
        {
            auto place = tx.try_reserve();
            auto more = tx.try_reserve_many(10);
            CHECK(tx.capacity() == 87);
            CHECK(place->send(3));
            CHECK(tx.capacity() == 87);
        }
        CHECK(tx.capacity() == 97);
        CHECK(*rx.try_recv() == 1);
        CHECK(rx.capacity() == 98);
        CHECK(tx.max_capacity() == 100);
        CHECK(rx.max_capacity() == 100);
    }

    TEST_CASE("SYNC-MPSC-49 size and empty are exact") {
        auto [tx, rx] = mpsc::channel<int>(100);
        CHECK(rx.empty());
        for (int i = 1; i <= 100; ++i) {
            CHECK(tx.try_send(i));
            CHECK(rx.size() == static_cast<std::size_t>(i));
        }
        rx.close();
        CHECK(rx.size() == 100);
        for (std::size_t left = 100; left > 0; --left) {
            CHECK_FALSE(rx.empty());
            CHECK(rx.try_recv().has_value());
            CHECK(rx.size() == left - 1);
        }
        CHECK(rx.empty());
    }

    TEST_CASE("SYNC-MPSC-50 size and empty across the ends of blocks") {
        auto [tx, rx] = mpsc::unbounded_channel<int>();
        for (int round = 0; round < 5; ++round) {
            for (int i = 0; i < 33; ++i)
                CHECK(tx.send(i));
            for (int i = 0; i < 32; ++i)
                CHECK(*rx.try_recv() == i);
            CHECK(rx.size() == 1);
            CHECK_FALSE(rx.empty());
            CHECK(*rx.try_recv() == 32);
            CHECK(rx.empty());
        }
    }

    TEST_CASE("SYNC-MPSC-53 a send that is cancelled loses nothing, and frees its place") {
        auto [tx, rx] = mpsc::channel<std::string>(1);
        test::manual_executor ex;
        CHECK(tx.try_send("in"));
        std::string mine(40, 'x');
        auto f = [](const mpsc::sender<std::string>& s, std::string& v) -> task<> {
            const send_result r = co_await s.send(std::move(v));
            static_cast<void>(r);
        };
        std::string other(40, 'y');
        auto first = ex.spawn(f(tx, mine));
        auto second = ex.spawn(f(tx, other));
        ex.run_until_idle();
        SUBCASE("while it waits") {
            first.abort();
            ex.run_until_idle();
            CHECK(*rx.try_recv() == "in");
        }
        SUBCASE("when it has its place") {
            CHECK(*rx.try_recv() == "in");
            first.abort(); // its wake is on its way
        }
        ex.run_until_idle();
        CHECK(mine == std::string(40, 'x'));
        CHECK(second.is_finished());
        CHECK(*rx.try_recv() == std::string(40, 'y'));
        CHECK(rx.empty());
        CHECK(tx.capacity() == 1);
    }

    TEST_CASE("SYNC-MPSC-54 a receive that is cancelled loses nothing, and keeps the order") {
        auto [tx, rx] = mpsc::channel<int>(4);
        test::manual_executor ex;
        auto waits = ex.spawn(receive(rx));
        ex.run_until_idle();
        SUBCASE("while it waits") {
            waits.abort();
            ex.run_until_idle();
            CHECK(tx.try_send(1));
        }
        SUBCASE("when it was handed a value") {
            CHECK(tx.try_send(1));
            waits.abort();
            CHECK(tx.try_send(2));
            ex.run_until_idle();
            CHECK(*rx.try_recv() == 1);
            CHECK(*rx.try_recv() == 2);
            CHECK(tx.try_send(1));
        }
        CHECK(rx.size() == 1);
        CHECK(*rx.try_recv() == 1);
        CHECK(tx.capacity() == 4);
    }

    TEST_CASE("a value that came back to a full channel stands over its capacity, and only once") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto waits = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK(tx.try_send(1)); // handed to the one that waits
        CHECK(tx.try_send(2)); // takes the room that this has left
        waits.abort();
        ex.run_until_idle();
        CHECK(rx.size() == 2);
        CHECK(tx.capacity() == 0);
        CHECK(*rx.try_recv() == 1);
        CHECK(tx.try_send(3).is_full());
        CHECK(*rx.try_recv() == 2);
        CHECK(tx.try_send(3));
    }

    TEST_CASE("a second receive that waits is misuse") {
        auto [tx, rx] = mpsc::channel<int>(1);
        test::manual_executor ex;
        auto first = ex.spawn(receive(rx));
        auto second = ex.spawn(receive(rx));
        ex.run_until_idle();
        CHECK_THROWS_AS(second.blocking_join(), std::logic_error);
        CHECK(tx.try_send(1));
        ex.run_until_idle();
        CHECK(first.blocking_join() == 1);
    }

    TEST_CASE("a task whose channel is never empty or never full lets others run") {
        auto [tx, rx] = mpsc::channel<int>(1000);
        trace log;
        test::manual_executor ex(8);
        auto sends = [](const mpsc::sender<int>& s, trace& l) -> task<> {
            for (int i = 0; i < 20; ++i) {
                const send_result r = co_await s.send(i);
                CHECK(r);
            }
            l.add("sent");
        };
        auto receives = [](mpsc::receiver<int>& r, trace& l) -> task<> {
            for (int i = 0; i < 20; ++i) {
                const std::optional<int> n = co_await r.recv();
                CHECK(n == i);
            }
            l.add("received");
        };
        auto other = [](trace& l) -> task<> {
            l.add("other");
            co_return;
        };
        ex.spawn(sends(tx, log)).detach();
        ex.spawn(other(log)).detach();
        ex.run_until_idle();
        ex.spawn(receives(rx, log)).detach();
        ex.spawn(other(log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "other sent other received");
    }

    TEST_CASE("senders are compared by their channel, and a handle that was moved from says so") {
        auto a = mpsc::channel<int>(1);
        auto b = mpsc::channel<int>(1);
        const mpsc::sender<int> copy = a.tx;
        CHECK(copy.same_channel(a.tx));
        CHECK_FALSE(copy.same_channel(b.tx));
        const mpsc::sender<int> moved = std::move(a.tx);
        CHECK_THROWS_AS(static_cast<void>(a.tx.try_send(1)), std::logic_error); // NOLINT: on purpose
        const mpsc::receiver<int> gone = std::move(a.rx);
        CHECK_THROWS_AS(static_cast<void>(a.rx.try_recv()), std::logic_error); // NOLINT: on purpose
        b.rx = mpsc::channel<int>(1).rx;
        CHECK(b.tx.is_closed());
    }
}
