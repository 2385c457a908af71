#include <magpie/sync/mpmc.hpp>

#include <magpie/core/select.hpp>

#include <test/counting.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::send_result;
using test::trace;
namespace mpmc = magpie::sync::mpmc;

namespace {

task<> receive_one(mpmc::receiver<int> rx, std::string name, trace& log) {
    const std::optional<int> n = co_await rx.recv();
    log.add(name + (n ? std::to_string(*n) : "-"));
}

} // namespace

TEST_SUITE("sync.mpmc") {
    TEST_CASE("each value goes to one receiver, first come first") {
        auto [tx, rx] = mpmc::channel<int>(10);
        trace log;
        test::manual_executor ex;
        for (const char* name : {"a", "b", "c"})
            ex.spawn(receive_one(rx, name, log)).detach();
        ex.run_until_idle();
        CHECK(tx.try_send(1));
        CHECK(tx.try_send(2));
        CHECK(rx.empty()); // they are handed out
        CHECK(tx.try_send(3));
        CHECK(tx.try_send(4));
        CHECK(*rx.try_recv() == 4); // and cannot be overtaken
        ex.run_until_idle();
        CHECK(log.text() == "a1 b2 c3");
    }

    TEST_CASE("a receive that is cancelled with a value in hand gives it to the next") {
        auto [tx, rx] = mpmc::channel<int>(10);
        trace log;
        test::manual_executor ex;
        auto a = ex.spawn(receive_one(rx, "a", log));
        ex.run_until_idle();
        CHECK(tx.try_send(1));
        auto b = ex.spawn(receive_one(rx, "b", log));
        SUBCASE("that waits") {
            ex.run_one(); // a's turn
            CHECK(log.text() == "a1");
            return;
        }
        SUBCASE("and the order is kept") {
            CHECK(tx.try_send(2));
            a.abort();
            ex.run_until_idle();
            CHECK(log.text() == "b1");
            CHECK(*rx.try_recv() == 2);
        }
    }

    TEST_CASE("the channel is closed with its last receiver, and by any") {
        auto ends = std::make_unique<mpmc::endpoints<int>>(mpmc::channel<int>(2));
        test::manual_executor ex;
        const mpmc::sender<int> tx = ends->tx;
        std::optional<mpmc::receiver<int>> copy(ends->rx);
        CHECK(copy->receiver_count() == 2);
        CHECK(copy->same_channel(ends->rx));
        SUBCASE("last") {
            ends.reset();
            CHECK(tx.try_send(1));
            CHECK(*copy->try_recv() == 1);
            copy.reset();
        }
        SUBCASE("by one") { copy->close(); }
        CHECK(tx.is_closed());
        CHECK(tx.try_send(2).is_closed());
    }

    TEST_CASE("when the senders go all receivers that wait end") {
        trace log;
        std::optional<mpmc::sender<int>> tx;
        auto ends = mpmc::channel<int>(2);
        test::manual_executor ex;
        tx.emplace(std::move(ends.tx));
        for (const char* name : {"a", "b", "c"})
            ex.spawn(receive_one(ends.rx, name, log)).detach();
        ex.run_until_idle();
        CHECK(tx->try_send(1));
        tx.reset();
        ex.run_until_idle();
        CHECK(log.text() == "a1 b- c-");
    }

    TEST_CASE("receivers of an unbounded channel on plain threads share the values") {
        auto [tx, rx] = mpmc::unbounded_channel<int>();
        int sums[2] = {0, 0};
        auto receive = [](mpmc::receiver<int> r, int& sum) {
            for (std::optional<int> n = r.blocking_recv(); n; n = r.blocking_recv())
                sum += *n;
        };
        std::thread a(receive, rx, std::ref(sums[0]));
        std::thread b(receive, rx, std::ref(sums[1]));
        for (int i = 1; i <= 1000; ++i)
            CHECK(tx.send(i));
        { const auto gone = std::move(tx); }
        a.join();
        b.join();
        CHECK(sums[0] + sums[1] == 500'500);
    }
}
