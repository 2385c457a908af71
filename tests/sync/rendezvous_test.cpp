#include <magpie/sync/rendezvous.hpp>

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::send_result;
using test::trace;
namespace rendezvous = magpie::sync::rendezvous;

namespace {

task<> send_named(rendezvous::sender<int> tx, int n, trace& log) {
    const send_result r = co_await tx.send(n);
    log.add((r ? "sent" : "closed") + std::to_string(n));
}

task<> receive_named(rendezvous::receiver<int> rx, std::string name, trace& log) {
    const std::optional<int> n = co_await rx.recv();
    log.add(name + (n ? std::to_string(*n) : "-"));
}

} // namespace

TEST_SUITE("sync.rendezvous") {
    TEST_CASE("a send waits for its receive, a receive for its send") {
        auto [tx, rx] = rendezvous::channel<int>();
        trace log;
        test::manual_executor ex;
        SUBCASE("the send comes first") {
            ex.spawn(send_named(tx, 1, log)).detach();
            ex.run_until_idle();
            CHECK(log.text().empty());
            ex.spawn(receive_named(rx, "a", log)).detach();
            ex.run_until_idle();
            CHECK(log.text() == "sent1 a1");
        }
        SUBCASE("the receive comes first") {
            ex.spawn(receive_named(rx, "a", log)).detach();
            ex.run_until_idle();
            CHECK(log.text().empty());
            ex.spawn(send_named(tx, 1, log)).detach();
            ex.run_until_idle();
            CHECK(log.text() == "sent1 a1");
        }
        SUBCASE("several of each, in order") {
            for (int i = 1; i <= 3; ++i)
                ex.spawn(send_named(tx, i, log)).detach();
            ex.run_until_idle();
            for (const char* name : {"a", "b"})
                ex.spawn(receive_named(rx, name, log)).detach();
            ex.run_until_idle();
            CHECK(log.text() == "sent1 sent2 a1 b2");
            ex.spawn(receive_named(rx, "c", log)).detach();
            ex.run_until_idle();
            CHECK(log.text() == "sent1 sent2 a1 b2 sent3 c3");
        }
    }

    TEST_CASE("try_send needs a receiver that waits") {
        auto [tx, rx] = rendezvous::channel<int>();
        trace log;
        test::manual_executor ex;
        CHECK(tx.try_send(1).is_full());
        ex.spawn(receive_named(rx, "a", log)).detach();
        ex.run_until_idle();
        CHECK(tx.try_send(2));
        CHECK(tx.try_send(3).is_full());
        ex.run_until_idle();
        CHECK(log.text() == "a2");
    }

    TEST_CASE("a receiver that gives up leaves its sender waiting, in front") {
        auto [tx, rx] = rendezvous::channel<int>();
        trace log;
        test::manual_executor ex;
        auto a = ex.spawn(receive_named(rx, "a", log));
        ex.run_until_idle();
        SUBCASE("before a sender came") {
            a.abort();
            ex.run_until_idle();
            ex.spawn(send_named(tx, 1, log)).detach();
        }
        SUBCASE("when the sender was on its way") {
            a.abort();
            ex.run_until_idle();
            ex.spawn(send_named(tx, 1, log)).detach();
            ex.run_until_idle();
            ex.spawn(send_named(tx, 2, log)).detach();
            ex.run_until_idle();
            auto f = [](rendezvous::receiver<int>& r) -> task<std::size_t> {
                auto ready = []() -> task<> { co_return; };
                auto won = co_await magpie::select_biased(r.recv(), ready());
                co_return won.index();
            };
            CHECK(test::run(ex, f(rx)) == 1); // it woke the first sender, and was gone when that came
        }
        ex.run_until_idle();
        CHECK(log.text().empty());
        ex.spawn(receive_named(rx, "c", log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "sent1 c1");
        rx.close();
        ex.run_until_idle();
    }

    TEST_CASE("a value that comes back from one receiver goes to the next, and lets nobody else in") {
        auto [tx, rx] = rendezvous::channel<int>();
        trace log;
        test::manual_executor ex;
        auto a = ex.spawn(receive_named(rx, "a", log));
        auto b = ex.spawn(receive_named(rx, "b", log));
        ex.run_until_idle();
        CHECK(tx.try_send(1)); // handed to a
        a.abort();
        ex.run_until_idle();
        CHECK(log.text() == "b1");
        CHECK(tx.try_send(2).is_full());
        auto c = ex.spawn(receive_named(rx, "c", log));
        ex.run_until_idle();
        CHECK(tx.try_send(3));
        c.abort(); // nobody else waits: the value stays for the next
        ex.run_until_idle();
        ex.spawn(receive_named(rx, "d", log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "b1 d3");
        ex.spawn(receive_named(rx, "e", log)).detach();
        ex.spawn(send_named(tx, 4, log)).detach();
        ex.run_until_idle();
        CHECK(log.text() == "b1 d3 sent4 e4");
    }

    TEST_CASE("two branches of one task meet, and a lost select sends nothing") {
        auto [tx, rx] = rendezvous::channel<std::string>();
        test::manual_executor ex;
        auto meets = [](rendezvous::sender<std::string>& s,
                        rendezvous::receiver<std::string>& r) -> task<std::string> {
            auto both = co_await magpie::join(s.send("hello"), r.recv());
            co_return *std::get<1>(both);
        };
        CHECK(test::run(ex, meets(tx, rx)) == "hello");
        std::string value(40, 'x');
        auto loses = [](rendezvous::sender<std::string>& s, std::string& v) -> task<std::size_t> {
            auto r = co_await magpie::select(s.send(std::move(v)), magpie::sleep_for(1ms));
            co_return r.index();
        };
        auto h = ex.spawn(loses(tx, value));
        ex.advance(1ms);
        CHECK(h.blocking_join() == 1);
        CHECK(value == std::string(40, 'x'));
    }

    TEST_CASE("the end of either side ends the other") {
        trace log;
        auto ends = std::make_unique<rendezvous::endpoints<int>>(rendezvous::channel<int>());
        test::manual_executor ex;
        SUBCASE("senders wait") {
            ex.spawn(send_named(ends->tx, 1, log)).detach();
            ex.run_until_idle();
            SUBCASE("closed") { ends->rx.close(); }
            SUBCASE("gone") { ends.reset(); }
            ex.run_until_idle();
            CHECK(log.text() == "closed1");
        }
        SUBCASE("receivers wait") {
            ex.spawn(receive_named(ends->rx, "a", log)).detach();
            ex.run_until_idle();
            ends.reset();
            ex.run_until_idle();
            CHECK(log.text() == "a-");
        }
    }

    TEST_CASE("plain threads meet") {
        auto [tx, rx] = rendezvous::channel<int>();
        std::thread sends([s = std::move(tx)] {
            for (int i = 0; i < 200; ++i)
                CHECK(s.blocking_send(int(i)));
        });
        int expected = 0;
        for (std::optional<int> n = rx.blocking_recv(); n; n = rx.blocking_recv())
            CHECK(*n == expected++);
        CHECK(expected == 200);
        CHECK(rx.is_closed());
        sends.join();
    }
}
