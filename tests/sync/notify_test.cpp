#include <magpie/sync/notify.hpp>

#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

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
using magpie::sync::notify;
using test::trace;

namespace {

task<> wait_for(notify& n, trace& log, std::string name) {
    co_await n.notified();
    log.add(name);
}

struct waiting {
    explicit waiting(std::string names) {
        for (const char c : names)
            handles.push_back(ex.spawn(wait_for(n, log, std::string(1, c))));
        ex.run_until_idle();
    }
    void abort(std::size_t i) {
        handles[i].abort();
        ex.run_until_idle();
    }
    std::string told() {
        ex.run_until_idle();
        return log.take();
    }

    trace log;
    notify n;
    test::manual_executor ex;
    std::vector<magpie::join_handle<>> handles;
};

/// Whether a wait would go on at once.
bool is_ready(notify& n) {
    test::manual_executor ex;
    trace log;
    auto h = ex.spawn(wait_for(n, log, ""));
    ex.run_until_idle();
    return h.is_finished();
}

} // namespace

TEST_SUITE("sync.notify") {
    TEST_CASE("SYNC-NOTIFY-01 SYNC-NOTIFY-02 calls that tell nobody are kept, as one") {
        notify n;
        CHECK_FALSE(is_ready(n));
        n.notify_one();
        CHECK(is_ready(n));
        CHECK_FALSE(is_ready(n));
        n.notify_one();
        n.notify_last();
        n.notify_one();
        CHECK(is_ready(n));
        CHECK_FALSE(is_ready(n));
        n.notify_one();
        n.blocking_wait();
    }

    TEST_CASE("SYNC-NOTIFY-03 notify_one tells the first, notify_last the last") {
        waiting w("abcd");
        w.n.notify_one();
        CHECK(w.told() == "a");
        w.n.notify_last();
        CHECK(w.told() == "d");
        w.n.notify_one();
        w.n.notify_one();
        w.n.notify_one(); // kept
        CHECK(w.told() == "b c");
        CHECK(is_ready(w.n));
    }

    TEST_CASE("SYNC-NOTIFY-04 a call that was kept is for the first who comes") {
        waiting w("");
        w.n.notify_one();
        w.handles.push_back(w.ex.spawn(wait_for(w.n, w.log, "a")));
        w.handles.push_back(w.ex.spawn(wait_for(w.n, w.log, "b")));
        CHECK(w.told() == "a");
        w.n.notify_one();
        CHECK(w.told() == "b");
    }

    TEST_CASE("SYNC-NOTIFY-05 one that gave up is not told") {
        waiting w("abc");
        w.abort(0);
        w.n.notify_one();
        CHECK(w.told() == "b");
        w.abort(2);
        w.n.notify_one();
        CHECK(w.told().empty());
        CHECK(is_ready(w.n));
    }

    TEST_CASE("SYNC-NOTIFY-06 one that is dropped when it was told tells the next") {
        waiting w("abc");
        SUBCASE("notify_one") {
            w.n.notify_one();
            w.handles[0].abort();
            CHECK(w.told() == "b");
        }
        SUBCASE("nobody is left: it is kept") {
            w.abort(1);
            w.abort(2);
            w.n.notify_one();
            w.handles[0].abort();
            CHECK(w.told().empty());
            CHECK(is_ready(w.n));
        }
    }

    TEST_CASE("SYNC-NOTIFY-07 told by notify_last, it tells the one that is last then") {
        waiting w("abc");
        w.n.notify_last();
        w.handles[2].abort();
        CHECK(w.told() == "b");
    }

    TEST_CASE("SYNC-NOTIFY-08 a destructor may call notify while it is being woken") {
        struct tells {
            notify* n;
            ~tells() { n->notify_waiters(); }
        };
        waiting w("ab");
        auto f = [](notify& n) -> task<> {
            const tells at_end{&n};
            co_await n.notified();
        };
        w.handles.push_back(w.ex.spawn(f(w.n)));
        w.ex.run_until_idle();
        w.n.notify_last();
        CHECK(w.told() == "a b");
    }

    TEST_CASE("SYNC-NOTIFY-09 what notify_waiters told is not passed on, and a later call is kept") {
        waiting w("a");
        w.n.notify_waiters();
        w.n.notify_one();
        w.handles[0].abort();
        CHECK(w.told().empty());
        CHECK(is_ready(w.n));
        CHECK_FALSE(is_ready(w.n));
    }

    TEST_CASE("SYNC-NOTIFY-10 a wait that was made and not begun takes what is kept when it begins") {
        notify n;
        auto f = [](notify& x) -> task<bool> {
            auto first = x.notified();
            auto second = x.notified();
            x.notify_one();
            co_await second;
            const bool late = !(co_await magpie::timeout(0s, first));
            co_return late;
        };
        CHECK(test::run(f(n)));
    }

    TEST_CASE("SYNC-NOTIFY-11 enable waits without being awaited") {
        notify n;
        auto f = [](notify& x) -> task<> {
            auto first = x.notified();
            auto second = x.notified();
            CHECK_FALSE(first.enable());
            CHECK_FALSE(first.enable());
            x.notify_one(); // for the one that is enabled
            CHECK(first.enable());
            CHECK_FALSE(second.enable());
            co_await first;
            co_await first; // told once, it stays so
            x.notify_one();
            CHECK(second.enable());
            co_await second;

            x.notify_one();
            auto third = x.notified();
            CHECK(third.enable()); // takes what was kept
            CHECK(third.enable());
            CHECK_FALSE(is_ready(x));
            co_await third;
        };
        test::run(f(n));
        CHECK_FALSE(is_ready(n));
    }

    TEST_CASE("SYNC-NOTIFY-11 one that was enabled and goes leaves the queue, or tells the next") {
        waiting w("");
        std::optional<magpie::sync::notified_operation<notify*>> early;
        early.emplace(w.n.notified());
        CHECK_FALSE(early->enable());
        w.handles.push_back(w.ex.spawn(wait_for(w.n, w.log, "a")));
        w.ex.run_until_idle();
        SUBCASE("not told") {
            early.reset();
            w.n.notify_one();
        }
        SUBCASE("told by notify_one") {
            w.n.notify_one();
            CHECK(w.told().empty());
            early.reset();
        }
        CHECK(w.told() == "a");
        CHECK_FALSE(is_ready(w.n));
    }

    TEST_CASE(
        "SYNC-NOTIFY-12 a wait that lost a select keeps its place, and another task may await it") {
        waiting w("");
        auto shared = w.n.notified();
        auto loses = [](auto& wait, trace& l) -> task<> {
            auto r = co_await magpie::select_biased(wait, magpie::yield_now());
            l.add(r.index() == 1 ? "lost" : "won");
        };
        auto awaits = [](auto& wait, trace& l) -> task<> {
            co_await wait;
            l.add("told");
        };
        w.ex.spawn(loses(shared, w.log)).detach();
        CHECK(w.told() == "lost");
        w.handles.push_back(w.ex.spawn(wait_for(w.n, w.log, "behind")));
        w.ex.run_until_idle();
        SUBCASE("told while nobody awaits it") {
            w.n.notify_one();
            w.ex.spawn(awaits(shared, w.log)).detach();
        }
        SUBCASE("awaited by another task") {
            w.ex.spawn(awaits(shared, w.log)).detach();
            w.ex.run_until_idle();
            w.n.notify_one();
        }
        CHECK(w.told() == "told");
        w.n.notify_one();
        CHECK(w.told() == "behind");
    }

    TEST_CASE(
        "SYNC-NOTIFY-13 SYNC-NOTIFY-15 notify_waiters tells all that were made before, no others") {
        waiting w("ab");
        auto f = [](notify& n, trace& l) -> task<> {
            auto made_before = n.notified();
            n.notify_one(); // for a
            n.notify_one(); // for b
            n.notify_one(); // kept
            n.notify_waiters();
            auto made_after = n.notified();
            co_await made_before;
            l.add("before");
            co_await made_after; // takes what is kept: the other one did not
            l.add("after");
            co_await n.notified();
            l.add("never");
        };
        auto h = w.ex.spawn(f(w.n, w.log));
        CHECK(w.told() == "before after a b");
        CHECK_FALSE(h.is_finished());
        w.n.notify_waiters();
        CHECK(w.told() == "never");
        w.n.notify_waiters(); // tells nobody, and is not kept
        CHECK_FALSE(is_ready(w.n));
    }

    TEST_CASE("SYNC-NOTIFY-14 the owned variant keeps the notify alive") {
        test::manual_executor ex;
        trace log;
        auto n = std::make_shared<notify>();
        const std::weak_ptr<notify> alive = n;
        auto f = [](std::shared_ptr<notify> x, trace& l) -> task<> {
            co_await notify::notified_owned(std::move(x));
            l.add("told");
        };
        n->notify_one();
        CHECK(ex.spawn(f(n, log)).is_finished() == false);
        ex.run_until_idle();
        CHECK(log.take() == "told"); // what was kept
        auto a = ex.spawn(f(n, log));
        auto b = ex.spawn(f(n, log));
        ex.run_until_idle();
        n->notify_one();
        n.reset();
        a.abort();
        ex.run_until_idle();
        CHECK(log.text() == "told"); // b, in place of a
        CHECK(alive.expired());
        CHECK_THROWS_AS(static_cast<void>(notify::notified_owned(nullptr)), std::logic_error);
    }

    TEST_CASE("SYNC-NOTIFY-17 one that throws when it was told takes nothing from the others") {
        waiting w("");
        auto throws = [](notify& n) -> task<> {
            co_await n.notified();
            throw std::runtime_error("told");
        };
        auto first = w.ex.spawn(throws(w.n));
        w.handles.push_back(w.ex.spawn(wait_for(w.n, w.log, "a")));
        auto last = w.ex.spawn(throws(w.n));
        w.ex.run_until_idle();
        w.n.notify_waiters();
        CHECK(w.told() == "a");
        CHECK(test::outcome_of(first) == "told");
        CHECK(test::outcome_of(last) == "told");
    }

    TEST_CASE("a plain thread waits") {
        notify n;
        std::thread waits([&] { n.blocking_wait(); });
        n.notify_one();
        waits.join();
        CHECK_FALSE(is_ready(n));
    }

    TEST_CASE("a notified() that was moved from is refused") {
        notify n;
        auto f = [](notify& x) -> task<> {
            auto wait = x.notified();
            auto other = std::move(wait);
            x.notify_one();
            co_await other;
            co_await wait; // NOLINT: that is the mistake
        };
        test::manual_executor ex;
        auto h = ex.spawn(f(n));
        ex.run_until_idle();
        CHECK(test::outcome_of(h).find("moved") != std::string::npos);
    }
}
