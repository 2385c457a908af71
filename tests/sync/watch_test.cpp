#include <magpie/sync/watch.hpp>

#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>

#include <test/counting.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using test::trace;
namespace watch = magpie::sync::watch;
using watch::state;

namespace {

template <class T>
task<bool> wait_changed(watch::receiver<T>& rx) {
    const bool changed = co_await rx.changed();
    co_return changed;
}

task<std::optional<int>> wait_over(watch::receiver<int>& rx, int limit) {
    auto over = [limit](const int& n) { return n > limit; };
    const std::optional<watch::ref<int>> found = co_await rx.wait_for(over);
    if (!found)
        co_return std::nullopt;
    co_return **found;
}

template <class T>
task<> wait_closed(watch::sender<T>& tx, trace& log) {
    co_await tx.closed();
    log.add("closed");
}

} // namespace

TEST_SUITE("sync.watch") {
    TEST_CASE("SYNC-WATCH-01 changed() waits for a value that is newer than the last seen one") {
        auto [tx, rx] = watch::channel<std::string>("one");
        watch::receiver<std::string> other = rx;
        test::manual_executor ex;
        CHECK(*rx.borrow() == "one");
        auto a = ex.spawn(wait_changed(rx));
        auto b = ex.spawn(wait_changed(other));
        ex.run_until_idle();
        CHECK_FALSE(a.is_finished());
        CHECK(tx.send("two"));
        CHECK(tx.send("three")); // the one between is missed
        ex.run_until_idle();
        CHECK(a.blocking_join());
        CHECK(b.blocking_join());
        CHECK(*rx.borrow() == "three");
        auto again = ex.spawn(wait_changed(rx));
        ex.run_until_idle();
        CHECK_FALSE(again.is_finished());
        CHECK(tx.send("four"));
        ex.run_until_idle();
        CHECK(again.blocking_join());
    }

    TEST_CASE(
        "SYNC-WATCH-02 the first value counts as seen, and so does the latest to a new receiver") {
        auto [tx, rx] = watch::channel(1);
        CHECK(rx.has_changed() == state::unchanged);
        CHECK(tx.send(2));
        CHECK(rx.has_changed() == state::changed);
        const watch::receiver<int> fresh = tx.subscribe();
        CHECK(fresh.has_changed() == state::unchanged);
        CHECK(*fresh.borrow() == 2);
    }

    TEST_CASE("SYNC-WATCH-03 a version that wraps is a version") {
        auto [tx, rx] = watch::channel(1);
        test::manual_executor ex;
        rx.mark_changed(); // below the first
        CHECK(rx.has_changed() == state::changed);
        CHECK(test::run(ex, wait_changed(rx)));
        CHECK(rx.has_changed() == state::unchanged);
    }

    TEST_CASE("SYNC-WATCH-04 mark_changed makes changed() ready, of one receiver alone") {
        auto [tx, rx] = watch::channel(1);
        test::manual_executor ex;
        const watch::receiver<int> other = rx;
        CHECK(tx.send(2));
        CHECK(test::run(ex, wait_changed(rx)));
        rx.mark_changed();
        CHECK(test::run(ex, wait_changed(rx)));
        CHECK(*rx.borrow() == 2);
        rx.mark_changed();
        watch::receiver<int> fresh = tx.subscribe();
        CHECK(fresh.has_changed() == state::unchanged);
    }

    TEST_CASE("SYNC-WATCH-05 mark_unchanged makes the latest a seen one") {
        auto [tx, rx] = watch::channel(1);
        CHECK(tx.send(2));
        rx.mark_unchanged();
        CHECK(rx.has_changed() == state::unchanged);
    }

    TEST_CASE("SYNC-WATCH-06 SYNC-WATCH-14 the last value is reported, then the end") {
        auto ends = watch::channel(1);
        std::optional<watch::sender<int>> tx(std::move(ends.tx));
        test::manual_executor ex;
        CHECK(tx->send(2));
        tx.reset();
        CHECK(test::run(ex, wait_changed(ends.rx)));
        CHECK(*ends.rx.borrow() == 2);
        CHECK_FALSE(test::run(ex, wait_changed(ends.rx)));
        CHECK_FALSE(ends.rx.blocking_changed());
    }

    TEST_CASE("SYNC-WATCH-07 closed() ends when the last receiver goes") {
        trace log;
        auto ends = watch::channel(1);
        std::optional<watch::receiver<int>> rx(std::move(ends.rx));
        std::optional<watch::receiver<int>> other(*rx);
        test::manual_executor ex;
        auto h = ex.spawn(wait_closed(ends.tx, log));
        ex.run_until_idle();
        rx.reset();
        ex.run_until_idle();
        CHECK(log.text().empty());
        other.reset();
        ex.run_until_idle();
        CHECK(log.text() == "closed");
        CHECK(ends.tx.is_closed());
        CHECK(ends.tx.send(2).is_closed());
        CHECK(*ends.tx.borrow() == 1);
        CHECK(*ends.tx.send_replace(3) == 1); // it does not ask
        CHECK(*ends.tx.borrow() == 3);
    }

    TEST_CASE("SYNC-WATCH-08 borrow_and_update counts as seen, borrow does not") {
        auto [tx, rx] = watch::channel<std::string>("one");
        CHECK(tx.send("two"));
        CHECK(*rx.borrow() == "two");
        CHECK(rx.has_changed() == state::changed);
        CHECK(rx.borrow_and_update()->size() == 3);
        CHECK(rx.has_changed() == state::unchanged);
    }

    TEST_CASE("SYNC-WATCH-09 a new receiver opens a closed watch again") {
        auto ends = watch::channel(1);
        { const watch::receiver<int> gone = std::move(ends.rx); }
        CHECK(ends.tx.is_closed());
        const watch::receiver<int> fresh = ends.tx.subscribe();
        CHECK_FALSE(ends.tx.is_closed());
        CHECK(ends.tx.send(5));
        CHECK(*fresh.borrow() == 5);
    }

    TEST_CASE("SYNC-WATCH-10 an exception in send_modify tells nobody, and what it changed is there") {
        auto run = [](auto first, auto change) {
            auto [tx, rx] = watch::channel(first);
            auto before = rx.borrow();
            CHECK_THROWS_AS(tx.send_modify([&](auto& v) {
                change(v);
                throw std::runtime_error("half-way");
            }),
                            std::runtime_error);
            CHECK(rx.has_changed() == state::unchanged);
            CHECK(*rx.borrow() != first);
            CHECK(*before == first); // a value that is held does not change
            tx.send_modify(change);
            CHECK(rx.has_changed() == state::changed);
        };
        run(1, [](int& n) { ++n; });
        run(std::string("a"), [](std::string& s) { s += "b"; });
    }

    TEST_CASE("send_if_modified tells the receivers if it is told so") {
        auto [tx, rx] = watch::channel<std::vector<int>>({});
        CHECK_FALSE(tx.send_if_modified([](std::vector<int>& v) {
            v.push_back(1);
            return false;
        }));
        CHECK(rx.has_changed() == state::unchanged);
        CHECK(rx.borrow()->size() == 1);
        CHECK(tx.send_if_modified([](std::vector<int>& v) {
            v.push_back(2);
            return true;
        }));
        CHECK(rx.has_changed() == state::changed);
        // One that sends itself is called again, on the newer value.
        int calls = 0;
        tx.send_modify([&](std::vector<int>& v) {
            if (++calls == 1)
                static_cast<void>(tx.send(std::vector<int>{7}));
            v.push_back(8);
        });
        CHECK(calls == 2);
        CHECK(*rx.borrow() == std::vector<int>{7, 8});
    }

    TEST_CASE("SYNC-WATCH-11 SYNC-WATCH-12 the last of several senders closes, and wakes who waits") {
        auto ends = watch::channel(1);
        std::optional<watch::sender<int>> tx(std::move(ends.tx));
        std::optional<watch::sender<int>> other(*tx);
        test::manual_executor ex;
        CHECK(tx->same_channel(*other));
        CHECK(ends.rx.sender_count() == 2);
        auto h = ex.spawn(wait_changed(ends.rx));
        auto p = ex.spawn(wait_over(ends.rx, 5));
        tx.reset();
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        other.reset();
        ex.run_until_idle();
        CHECK_FALSE(h.blocking_join());
        CHECK(p.blocking_join() == std::nullopt);
    }

    TEST_CASE("SYNC-WATCH-13 waits that are always ready let others run") {
        auto run = [](auto repeated) {
            trace log;
            test::manual_executor ex(8);
            auto other = [](trace& l) -> task<> {
                l.add("other");
                co_return;
            };
            ex.spawn(repeated(log)).detach();
            ex.spawn(other(log)).detach();
            ex.run_until_idle();
            CHECK(log.text() == "other done");
        };
        auto ends = watch::channel(1);
        auto changes = [&](trace& l) {
            auto f = [](watch::sender<int>& tx, watch::receiver<int>& rx, trace& log) -> task<> {
                for (int i = 0; i < 20; ++i) {
                    static_cast<void>(tx.send(i));
                    const bool changed = co_await rx.changed();
                    CHECK(changed);
                }
                log.add("done");
            };
            return f(ends.tx, ends.rx, l);
        };
        auto waits = [&](trace& l) {
            auto f = [](watch::receiver<int>& rx, trace& log) -> task<> {
                auto any = [](const int&) { return true; };
                for (int i = 0; i < 20; ++i) {
                    const auto found = co_await rx.wait_for(any);
                    CHECK(found.has_value());
                }
                log.add("done");
            };
            return f(ends.rx, l);
        };
        auto fails = [&](trace& l) {
            auto f = [](watch::receiver<int>& rx, trace& log) -> task<> {
                for (int i = 0; i < 20; ++i) {
                    const bool changed = co_await rx.changed();
                    CHECK_FALSE(changed);
                }
                log.add("done");
            };
            return f(ends.rx, l);
        };
        auto closes = [](trace& l) {
            auto f = [](watch::sender<int> tx, trace& log) -> task<> {
                for (int i = 0; i < 20; ++i)
                    co_await tx.closed();
                log.add("done");
            };
            return f(watch::channel(1).tx, l);
        };
        run(changes);
        run(waits);
        run(closes);
        { const watch::sender<int> gone = std::move(ends.tx); }
        ends.rx.mark_unchanged();
        run(fails);
    }

    TEST_CASE("SYNC-WATCH-15 has_changed says closed, whatever was seen") {
        auto ends = watch::channel(1);
        CHECK(ends.tx.send(2));
        watch::receiver<int> seen = ends.rx;
        seen.mark_unchanged();
        { const watch::sender<int> gone = std::move(ends.tx); }
        CHECK(ends.rx.has_changed() == state::closed);
        CHECK(seen.has_changed() == state::closed);
    }

    TEST_CASE("SYNC-WATCH-16 wait_for takes the latest value if it holds, also of a closed watch") {
        auto ends = watch::channel(7);
        test::manual_executor ex;
        CHECK(test::run(ex, wait_over(ends.rx, 5)) == 7);
        { const watch::sender<int> gone = std::move(ends.tx); }
        CHECK(test::run(ex, wait_over(ends.rx, 6)) == 7);
        CHECK(test::run(ex, wait_over(ends.rx, 7)) == std::nullopt);
    }

    TEST_CASE("SYNC-WATCH-17 wait_for gives no value for which the predicate does not hold") {
        auto [tx, rx] = watch::channel(0);
        test::manual_executor ex;
        auto h = ex.spawn(wait_over(rx, 5));
        ex.run_until_idle();
        for (const int n : {1, 5, 3}) {
            CHECK(tx.send(n));
            ex.run_until_idle();
            CHECK_FALSE(h.is_finished());
        }
        CHECK(tx.send(6));
        CHECK(tx.send(2)); // before it has looked
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        CHECK(tx.send(9));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 9);
        auto throws = [](watch::receiver<int>& r) -> task<> {
            auto f = [](const int&) -> bool { throw std::runtime_error("no"); };
            static_cast<void>(co_await r.wait_for(f));
        };
        CHECK_THROWS_AS(test::run(ex, throws(rx)), std::runtime_error);
    }

    TEST_CASE("SYNC-WATCH-18 several senders that go at a time close once") {
        for (int round = 0; round < 50; ++round) {
            auto ends = watch::channel(0);
            std::vector<std::thread> threads;
            for (int i = 0; i < 3; ++i)
                threads.emplace_back([tx = std::optional(ends.tx)]() mutable { tx.reset(); });
            { const watch::sender<int> gone = std::move(ends.tx); }
            CHECK_FALSE(ends.rx.blocking_changed());
            for (std::thread& t : threads)
                t.join();
            CHECK(ends.rx.has_changed() == state::closed);
        }
    }

    TEST_CASE("values are destroyed when nobody can see them any more") {
        test::counting::reset();
        {
            auto [tx, rx] = watch::channel(test::counting(1));
            const auto first = rx.borrow();
            CHECK(tx.send(test::counting(2)));
            CHECK(tx.send(test::counting(3)));
            CHECK(test::counting::alive() == 2);
            CHECK(first->value() == 1);
            CHECK(rx.borrow()->value() == 3);
            test::counting mine(4);
            { const auto gone = std::move(rx); }
            CHECK(tx.send(std::move(mine)).is_closed());
            CHECK(mine.value() == 4); // NOLINT: it was not moved from
        }
        CHECK(test::counting::alive() == 0);
    }

    TEST_CASE("a changed() that is dropped has seen nothing") {
        auto [tx, rx] = watch::channel(1);
        test::manual_executor ex;
        auto f = [](watch::receiver<int>& r) -> task<bool> {
            const auto in_time = co_await magpie::timeout(1s, r.changed());
            co_return in_time.has_value();
        };
        auto h = ex.spawn(f(rx));
        ex.advance(1s);
        CHECK_FALSE(h.blocking_join());
        auto waits = ex.spawn(wait_changed(rx));
        ex.run_until_idle();
        CHECK(tx.send(2));
        waits.abort();
        ex.run_until_idle();
        CHECK(rx.has_changed() == state::changed);
    }

    TEST_CASE("handles that were moved from say so") {
        auto [tx, rx] = watch::channel(1);
        const auto moved_tx = std::move(tx);
        const auto moved_rx = std::move(rx);
        CHECK_THROWS_AS(static_cast<void>(tx.send(1)), std::logic_error);       // NOLINT: on purpose
        CHECK_THROWS_AS(static_cast<void>(rx.has_changed()), std::logic_error); // NOLINT: on purpose
    }
}
