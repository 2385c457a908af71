// What comes back from a send that has not delivered: as_result gives the value in the error.

#include <magpie/sync/broadcast.hpp>
#include <magpie/sync/mpmc.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/rendezvous.hpp>

#include <magpie/core/as_result.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using namespace magpie::sync;
using magpie::as_result;
using magpie::task;

namespace {

using held = std::unique_ptr<int>;

TEST_SUITE("sync.send_error") {
    TEST_CASE("a closed channel gives back what a temporary has brought") {
        test::manual_executor ex;
        const auto send = [](auto tx) -> task<int> {
            auto sent = co_await as_result(tx.send(std::make_unique<int>(7)));
            if (sent)
                co_return 0;
            CHECK(sent.error().is_closed());
            CHECK(!sent.error().is_timed_out());
            co_return *std::move(sent).error().value();
        };
        {
            auto [tx, rx] = mpsc::channel<held>(1);
            CHECK(test::run(ex, send(tx)) == 0);
            rx.close();
            CHECK(test::run(ex, send(tx)) == 7);
        }
        {
            auto [tx, rx] = mpmc::channel<held>(1);
            CHECK(test::run(ex, send(tx)) == 0);
            rx.close();
            CHECK(test::run(ex, send(tx)) == 7);
        }
        {
            auto [tx, rx] = rendezvous::channel<held>();
            rx.close();
            CHECK(test::run(ex, send(tx)) == 7);
        }
    }

    TEST_CASE("of a broadcast without receivers, too") {
        test::manual_executor ex;
        const auto send = [](broadcast::sender<std::string> tx) -> task<std::string> {
            auto sent = co_await as_result(tx.send(std::string("news")));
            co_return sent ? "sent" : std::move(sent).error().value();
        };
        auto ends = broadcast::channel<std::string>(1);
        CHECK(test::run(ex, send(ends.tx)) == "sent");
        { const auto gone = std::move(ends.rx); }
        CHECK(test::run(ex, send(ends.tx)) == "news");
    }

    TEST_CASE("one that waited when the channel closed") {
        test::manual_executor ex;
        auto ends = mpsc::channel<held>(1);
        CHECK(ends.tx.try_send(std::make_unique<int>(1)));
        const auto send = [](mpsc::sender<held> tx) -> task<int> {
            auto sent = co_await as_result(tx.send(std::make_unique<int>(2)));
            co_return sent ? 0 : *sent.error().value();
        };
        auto h = ex.spawn(send(ends.tx));
        ex.run_until_idle();
        CHECK(!h.is_finished());
        ends.rx.close();
        ex.run_until_idle();
        CHECK(h.blocking_join() == 2);
    }

    TEST_CASE("one whose time ran out, and the reason says so") {
        test::manual_executor ex;
        auto ends = mpsc::channel<held>(1);
        CHECK(ends.tx.try_send(std::make_unique<int>(1)));
        const auto send = [](mpsc::sender<held> tx) -> task<int> {
            held v = std::make_unique<int>(3);
            auto sent = co_await as_result(tx.send_timeout(std::move(v), 1s));
            CHECK(v == nullptr); // it has gone into the error
            CHECK(sent.error().is_timed_out());
            CHECK(!sent.error().is_closed());
            co_return *sent.error().value();
        };
        auto h = ex.spawn(send(ends.tx));
        ex.run_until_idle();
        ex.advance(2s);
        CHECK(h.blocking_join() == 3);
    }

    TEST_CASE("its value() throws what the reason is as an error code") {
        test::manual_executor ex;
        auto ends = mpsc::channel<held>(1);
        CHECK(ends.tx.try_send(std::make_unique<int>(1)));
        const auto send = [](mpsc::sender<held> tx) -> task<std::error_code> {
            auto sent = co_await as_result(tx.send_timeout(std::make_unique<int>(2), 1s));
            try {
                sent.value();
            } catch (const std::system_error& e) {
                co_return e.code();
            }
            co_return std::error_code();
        };
        auto late = ex.spawn(send(ends.tx));
        ex.run_until_idle();
        ex.advance(2s);
        CHECK(late.blocking_join() == std::errc::timed_out);
        ends.rx.close();
        CHECK(test::run(ex, send(ends.tx)) == std::errc::broken_pipe);
    }

    TEST_CASE("a copy that was not sent comes from a variable, which has it") {
        test::manual_executor ex;
        auto ends = mpsc::channel<std::string>(1);
        ends.rx.close();
        const auto send = [](mpsc::sender<std::string> tx) -> task<bool> {
            const std::string line = "kept";
            auto sent = co_await as_result(tx.send(line));
            CHECK(line == "kept");
            co_return sent->is_closed();
        };
        CHECK(test::run(ex, send(ends.tx)));
    }
}

} // namespace
