// What an abort does, and when.

#include <magpie/core/join_handle.hpp>

#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/noisy_chain.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::counted;
using test::noisy;
using test::noisy_chain;
using test::noisy_chain_dropped;
using test::outcome_of;
using test::trace;
using test::unhandled_log;

namespace {

task<> wait_for(event& e) { co_await e.wait(); }

/// A closed executor of pinned strands, whose thread is another one.
class closed_elsewhere final : public magpie::executor {
public:
    closed_elsewhere() { set_pinned(); }

    int sent() const { return sent_; }

private:
    void schedule(magpie::strand&, placement) noexcept override {}
    void adopt(magpie::detail::cell& c) noexcept override { c.refuse(); }
    bool enroll(magpie::detail::cell&) noexcept override { return false; }
    void retire(magpie::detail::cell&) noexcept override {}
    void send(magpie::detail::parcel) noexcept override { ++sent_; }

    int sent_ = 0;
};

/// Aborts a task at its end.
class aborts {
public:
    explicit aborts(magpie::abort_handle& h) : handle_(&h) {}
    aborts(aborts&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    aborts& operator=(aborts&&) = delete;
    ~aborts() {
        if (handle_ != nullptr)
            handle_->abort();
    }

private:
    magpie::abort_handle* handle_;
};
task<> keep(aborts) { co_return; }

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
constexpr bool leaks_parameters = true; // g++ 12, behind a parameter whose destructor throws
#else
constexpr bool leaks_parameters = false;
#endif

} // namespace

TEST_SUITE("core.abort") {
    TEST_CASE("CPP-18 a task that is aborted before its start never runs") {
        test::manual_executor ex;
        trace log;
        auto f = [](trace& l, noisy) -> task<> {
            l.add("body");
            co_return;
        };
        auto h = ex.spawn(f(log, noisy(log, "parameter")));
        h.abort();
        CHECK(log.text().empty()); // on its own turn
        CHECK_FALSE(h.is_finished());
        ex.run_until_idle();
        CHECK(log.text() == "parameter");
        CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a task that is refused may abort itself: nobody else hears of it") {
        closed_elsewhere ex;
        magpie::abort_handle self;
        auto* const c = new magpie::detail::task_cell<void>(
            ex, magpie::detail::task_access::release(keep(aborts(self))),
            std::source_location::current());
        const join_handle<void> h(*c);
        self = h.abort_handle();
        magpie::executor& e = ex;
        e.adopt(*c);
        CHECK(h.is_finished());
        CHECK(ex.sent() == 0);
    }

    TEST_CASE("an abort that meets the wake of its leaf goes first") {
        test::manual_executor ex;
        event e;
        trace log;
        SUBCASE("aborted, then woken") {
            auto h = ex.spawn(noisy_chain(log, wait_for(e)));
            ex.run_until_idle();
            h.abort();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == noisy_chain_dropped);
            CHECK(outcome_of(h) == "cancelled");
        }
        SUBCASE("woken, then aborted") {
            auto h = ex.spawn(noisy_chain(log, wait_for(e)));
            ex.run_until_idle();
            e.set();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == noisy_chain_dropped);
            CHECK(outcome_of(h) == "cancelled");
        }
    }

    TEST_CASE("a task may abort itself, and runs on to its next suspension") {
        test::manual_executor ex;
        trace log;
        event e;
        magpie::abort_handle self;
        auto f = [](trace& l, event& ev, magpie::abort_handle& me, bool suspends) -> task<int> {
            const noisy local(l, "local");
            me.abort();
            l.add("on");
            auto ready = []() -> task<int> { co_return 1; };
            const int one = co_await ready(); // does not suspend
            co_await magpie::consume_budget();
            l.add("on");
            if (suspends) {
                co_await ev.wait();
                l.add("never");
            }
            co_return one;
        };
        SUBCASE("which drops it") {
            auto h = ex.spawn(f(log, e, self, true));
            self = h.abort_handle();
            ex.run_until_idle();
            CHECK(log.text() == "on on local");
            CHECK(outcome_of(h) == "cancelled");
        }
        SUBCASE("without one it ends as if nothing had been") {
            auto h = ex.spawn(f(log, e, self, false));
            self = h.abort_handle();
            ex.run_until_idle();
            CHECK(log.text() == "on on local");
            CHECK(h.blocking_join() == 1);
        }
    }

    TEST_CASE("an abort after the end, and a second one, do nothing") {
        test::manual_executor ex;
        counted::alive = 0;
        {
            auto f = []() -> task<counted> { co_return counted(3); };
            auto h = ex.spawn(f());
            ex.run_until_idle();
            h.abort();
            h.abort();
            ex.run_until_idle();
            CHECK(h.blocking_join().value == 3);
            h.abort();
        }
        CHECK(counted::alive.load() == 0);

        event e;
        auto h = ex.spawn(wait_for(e));
        ex.run_until_idle();
        h.abort();
        h.abort();
        const std::size_t turns = ex.turns();
        ex.run_until_idle();
        CHECK(ex.turns() == turns + 1);
        h.abort();
        CHECK_FALSE(ex.run_one());
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("an abort cannot be caught") {
        test::manual_executor ex;
        event e;
        int caught = 0;
        auto f = [](event& ev, int& n) -> task<> {
            for (;;) {
                try {
                    co_await ev.wait();
                } catch (...) {
                    ++n;
                }
            }
        };
        auto h = ex.spawn(f(e, caught));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(caught == 0);
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("what awaits an aborted task is not aborted") {
        test::manual_executor ex;
        event e;
        auto child = ex.spawn(wait_for(e));
        auto f = [](join_handle<>& h) -> task<std::string> {
            try {
                co_await h;
            } catch (const magpie::task_cancelled& c) {
                co_return c.what();
            }
            co_return "it was not cancelled";
        };
        auto parent = ex.spawn(f(child));
        ex.run_until_idle();
        const std::string id = std::to_string(child.id());
        child.abort();
        ex.run_until_idle();
        CHECK(parent.blocking_join() == "task " + id + " was cancelled");
    }

    TEST_CASE("aborting a task does not abort what it waits for") {
        test::manual_executor ex;
        event e;
        auto child = ex.spawn(wait_for(e));
        auto f = [](join_handle<>& h) -> task<> { co_await h; };
        auto parent = ex.spawn(f(child));
        ex.run_until_idle();
        parent.abort();
        ex.run_until_idle();
        CHECK(outcome_of(parent) == "cancelled");
        CHECK_FALSE(child.is_finished());
        e.set();
        ex.run_until_idle();
        CHECK(outcome_of(child) == "a value");
    }

    TEST_CASE("TASK-CORE-09 an abort from another thread runs the destructors where the task runs") {
        test::manual_executor ex;
        event e;
        struct where_it_died {
            std::thread::id* at;
            explicit where_it_died(std::thread::id* a) : at(a) {}
            where_it_died(where_it_died&& o) noexcept : at(std::exchange(o.at, nullptr)) {}
            ~where_it_died() {
                if (at != nullptr)
                    *at = std::this_thread::get_id();
            }
        };
        std::thread::id died;
        auto f = [](event& ev, where_it_died) -> task<> { co_await ev.wait(); };
        auto h = ex.spawn(f(e, where_it_died(&died)));
        ex.run_until_idle();
        std::thread([&] { h.abort(); }).join();
        CHECK(died == std::thread::id());
        ex.run_until_idle();
        CHECK(died == std::this_thread::get_id());
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("the join completes when everything is gone") {
        test::manual_executor ex;
        event e;
        trace log;
        auto body = ex.spawn(noisy_chain(log, wait_for(e)));
        auto join = [](trace& l, join_handle<>& h) -> task<> {
            const auto r = co_await as_result(h);
            l.add(r.has_error() ? "joined" : "value");
        };
        auto joiner = ex.spawn(join(log, body));
        ex.run_until_idle();
        body.abort();
        ex.run_until_idle();
        CHECK(log.text() == std::string(noisy_chain_dropped) + " joined");
        CHECK(joiner.is_finished());
    }

    TEST_CASE("a destructor of another task, that has ended, may abort") {
        test::manual_executor ex;
        event e;
        auto victim = ex.spawn(wait_for(e));
        struct aborts {
            magpie::abort_handle h;
            explicit aborts(magpie::abort_handle a) : h(std::move(a)) {}
            ~aborts() { h.abort(); }
        };
        auto f = [](magpie::abort_handle a) -> task<> {
            const aborts at_end(std::move(a));
            co_return;
        };
        auto h = ex.spawn(f(victim.abort_handle()));
        ex.run_until_idle();
        CHECK(outcome_of(victim) == "cancelled");
        CHECK(h.is_finished());
    }

    TEST_CASE("a loop that yields can be aborted") {
        test::manual_executor ex;
        int rounds = 0;
        auto f = [](int& n) -> task<> {
            for (;;) {
                co_await magpie::yield_now();
                ++n;
            }
        };
        auto h = ex.spawn(f(rounds));
        for (int i = 0; i < 20; ++i)
            ex.run_one();
        const int seen = rounds;
        CHECK(seen > 0);
        h.abort();
        ex.run_until_idle();
        CHECK(rounds == seen);
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("a sibling that yields does not run on after its task was aborted by another branch") {
        test::manual_executor ex;
        int rounds_after = 0;
        magpie::abort_handle self;
        auto yields = [](magpie::abort_handle& me, bool& aborted, int& n) -> task<> {
            for (;;) {
                co_await magpie::yield_now();
                if (aborted)
                    ++n;
                static_cast<void>(me);
            }
        };
        auto aborts = [](magpie::abort_handle& me, bool& aborted) -> task<> {
            co_await magpie::yield_now();
            me.abort();
            aborted = true;
            co_await magpie::yield_now();
        };
        auto f = [](task<> a, task<> b) -> task<> {
            test::both branches(std::move(a), std::move(b));
            co_await branches;
        };
        bool aborted = false;
        auto h = ex.spawn(f(yields(self, aborted, rounds_after), aborts(self, aborted)));
        self = h.abort_handle();
        ex.run_until_idle();
        CHECK(aborted);
        CHECK(outcome_of(h) == "cancelled");
        CHECK(rounds_after == 0);
    }

    TEST_CASE(
        "TASK-CORE-19 where it throws, when it is aborted and when its handle goes: all at once") {
        enum class throws { nowhere, at_first, after_wait, local, parameter };
        enum class aborted { never, before_start, while_it_waits, after_its_end };
        enum class handle { kept, dropped_at_once, dropped_while_it_waits, dropped_after_its_end };

        struct maybe {
            static task<counted> body(event& e, throws where, test::throws_at_end, counted) {
                const test::throws_at_end local(where == throws::local ? "thrown" : nullptr);
                const counted mine(1);
                if (where == throws::at_first)
                    throw std::runtime_error("thrown");
                co_await e.wait();
                if (where == throws::after_wait)
                    throw std::runtime_error("thrown");
                co_return counted(2);
            }
        };

        int combinations = 0;
        for (int t = 0; t <= 4; ++t) {
            for (int a = 0; a <= 3; ++a) {
                for (int k = 0; k <= 3; ++k) {
                    CAPTURE(t);
                    CAPTURE(a);
                    CAPTURE(k);
                    const auto where = static_cast<throws>(t);
                    const auto abort = static_cast<aborted>(a);
                    const auto keep = static_cast<handle>(k);
                    counted::alive = 0;
                    std::size_t reported = 0;
                    std::string outcome = "no handle";
                    {
                        test::manual_executor ex;
                        const unhandled_log unhandled(ex);
                        event e;
                        auto h = ex.spawn(maybe::body(
                            e, where,
                            test::throws_at_end(where == throws::parameter ? "thrown" : nullptr),
                            counted(0)));
                        const auto ah = h.abort_handle();
                        if (keep == handle::dropped_at_once)
                            h.detach();
                        if (abort == aborted::before_start)
                            ah.abort();
                        ex.run_until_idle();
                        if (keep == handle::dropped_while_it_waits)
                            h.detach();
                        if (abort == aborted::while_it_waits)
                            ah.abort();
                        ex.run_until_idle();
                        e.set();
                        ex.run_until_idle();
                        if (keep == handle::dropped_after_its_end)
                            h.detach();
                        if (abort == aborted::after_its_end)
                            ah.abort();
                        ex.run_until_idle();
                        CHECK(ah.is_finished());
                        if (keep == handle::kept)
                            outcome = outcome_of(h);
                        reported = unhandled.count();
                    }
                    if (where != throws::parameter || !leaks_parameters)
                        CHECK(counted::alive.load() == 0);

                    bool fails = where == throws::local || where == throws::at_first ||
                                 where == throws::after_wait;
                    std::string expected = fails ? "thrown" : "a value";
                    const bool drops = abort == aborted::before_start ||
                                       (abort == aborted::while_it_waits && where != throws::at_first);
                    if (drops) {
                        fails = where == throws::local && abort != aborted::before_start;
                        expected = fails ? "thrown" : "cancelled";
                    }
                    if (where == throws::parameter) {
                        fails = true;
                        expected = "thrown";
                    }
                    if (keep == handle::kept)
                        CHECK(outcome == expected);
                    CHECK(reported == (fails && keep != handle::kept ? 1 : 0));
                    ++combinations;
                }
            }
        }
        CHECK(combinations == 80);
    }
}
