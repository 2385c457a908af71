// Dropping is cancelling: how the frames of what is dropped are destroyed, whoever drops them.

#include <magpie/core/strand.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/unconstrained.hpp>
#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/held.hpp>
#include <test/limits.hpp>
#include <test/noisy_chain.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::held;
using test::noisy;
using test::noisy_chain;
using test::noisy_chain_dropped;
using test::outcome_of;
using test::trace;
using test::unhandled_log;

namespace {

/// A foreign awaitable, that is resumed when the test says so.
class foreign_gate {
public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept { waiter_ = h; }
    void await_resume() const noexcept {}
    void open() { std::exchange(waiter_, {}).resume(); }

private:
    std::coroutine_handle<> waiter_;
};

/// What a task can be suspended in, and what the leaf needs to surface once it was cancelled.
struct leaf_kind {
    std::string name;
    std::function<task<>()> wait;
    std::function<void()> surface = nullptr; // null: it goes at once, or by itself
    bool never_idle = false;
};

/// One of each kind of leaf.
class leaves {
public:
    explicit leaves(test::manual_executor& ex) : ex_(ex) {}

    std::vector<leaf_kind> all() {
        std::vector<leaf_kind> kinds;
        kinds.push_back({"an event", [this] { return wait_event(); }});
        kinds.push_back({"a timer", [] { return wait_timer(); }});
        kinds.push_back({"a join", [this] { return wait_join(other()); }});
        kinds.push_back(
            {"a join of a handle given away", [this] { return wait_join_away(own_other()); }});
        kinds.push_back({"a yield", [] { return yield_for_ever(); }, nullptr, true});
        kinds.push_back({"an empty budget", [] { return work_for_ever(); }, nullptr, true});
        kinds.push_back({"an operation in a waker's hand", [this] { return wait_held(); },
                         [this] { held_.release(); }});
        kinds.push_back(
            {"a foreign awaitable", [this] { return wait_foreign(); }, [this] { gate_.open(); }});
        kinds.push_back({"a timeout of an event", [this] { return timeout_of_event(); }});
        kinds.push_back({"a timeout of a task", [this] { return timeout_of(wait_event()); }});
        kinds.push_back({"a timeout of what is in a waker's hand",
                         [this] { return timeout_of(wait_held()); }, [this] { held_.release(); }});
        kinds.push_back({"a timeout of a foreign awaitable",
                         [this] { return timeout_of(wait_foreign()); }, [this] { gate_.open(); }});
        kinds.push_back({"a timeout of a timeout", [this] { return timeout_of(timeout_of_event()); }});
        kinds.push_back(
            {"a timeout of a yield", [] { return timeout_of(yield_for_ever()); }, nullptr, true});
        kinds.push_back({"a timeout of an empty budget", [] { return timeout_of(work_for_ever()); },
                         nullptr, true});
        kinds.push_back({"unconstrained, a yield", [] { return unconstrained_of(yield_for_ever()); },
                         nullptr, true});
        kinds.push_back({"unconstrained", [this] { return unconstrained_of(wait_event()); }});
        kinds.push_back({"unconstrained, in a waker's hand",
                         [this] { return unconstrained_of(wait_held()); },
                         [this] { held_.release(); }});
        return kinds;
    }

    void end() {
        event_.set();
        ex_.run_until_idle();
    }

private:
    task<> wait_event() { co_await event_.wait(); }
    static task<> wait_timer() { co_await magpie::sleep_for(1h); }
    static task<> wait_join(join_handle<>& h) { co_await h; }
    static task<> wait_join_away(join_handle<> h) { co_await std::move(h); }
    static task<> yield_for_ever() {
        for (;;)
            co_await magpie::yield_now();
    }
    static task<> work_for_ever() {
        for (;;)
            co_await magpie::consume_budget();
    }
    task<> wait_held() { co_await held_.wait(); }
    task<> wait_foreign() { co_await gate_; }
    task<> timeout_of_event() { co_await magpie::timeout(1h, event_.wait()); }
    static task<> timeout_of(task<> t) { co_await magpie::timeout(1h, std::move(t)); }
    static task<> unconstrained_of(task<> t) { co_await magpie::unconstrained(std::move(t)); }

    join_handle<>& other() {
        other_ = own_other();
        return other_;
    }
    join_handle<> own_other() { return ex_.spawn(wait_event()); }

    test::manual_executor& ex_;
    event event_;
    held held_;
    foreign_gate gate_;
    join_handle<> other_;
};

/// A few turns: enough for whatever does not wait, and an end for what never does.
void run_some(test::manual_executor& ex) {
    for (int i = 0; i < 20; ++i)
        ex.run_one();
}

task<> wait_for(event& e) { co_await e.wait(); }

/// Checks that objects are destroyed in the order of their numbers, from 0.
struct in_order {
    static inline int next = 0;
    static inline int wrong = 0;
    int depth;
    explicit in_order(int d) : depth(d) {}
    ~in_order() { wrong += depth != next++; }
};

} // namespace

TEST_SUITE("core.drop") {
    TEST_CASE("TASK-CORE-08 CPP-17 an abort destroys the frames of a waiting task, innermost first") {
        for (const unsigned budget : {1U, 2U, 3U, 128U}) {
            CAPTURE(budget);
            test::manual_executor ex(static_cast<std::uint16_t>(budget));
            leaves one(ex);
            const std::vector<leaf_kind> kinds = one.all();
            for (const leaf_kind& kind : kinds) {
                CAPTURE(kind.name);
                trace log;
                auto h = ex.spawn(noisy_chain(log, kind.wait()));
                run_some(ex);
                REQUIRE_FALSE(h.is_finished());
                h.abort();
                run_some(ex);
                if (kind.surface)
                    kind.surface();
                run_some(ex);
                CHECK(log.text() == noisy_chain_dropped);
                CHECK(outcome_of(h) == "cancelled");
            }
            one.end();
            CHECK(ex.live() == 0);
            CHECK(ex.armed_timers() == 0);
        }
    }

    TEST_CASE("a frame waits for its leaf: nothing is destroyed while a wake is on its way") {
        test::manual_executor ex;
        held in_hand;
        trace log;
        auto wait = [](held& w) -> task<> { co_await w.wait(); };
        auto h = ex.spawn(noisy_chain(log, wait(in_hand)));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text().empty());
        CHECK_FALSE(h.is_finished());
        CHECK(in_hand.cancels() == 1);
        SUBCASE("") {}
        SUBCASE("aborting it again while it is being dropped changes nothing") {
            h.abort();
            const auto again = h.abort_handle();
            again.abort();
            ex.run_until_idle();
            CHECK(in_hand.cancels() == 1);
            CHECK_FALSE(h.is_finished());
        }
        in_hand.release();
        CHECK(log.text().empty()); // on its own turn
        ex.run_until_idle();
        CHECK(log.text() == noisy_chain_dropped);
        CHECK(in_hand.resumed() == 0);
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("destructors of a dropped task may wake, spawn, abort and lock; they see who they are") {
        test::manual_executor ex;
        event waits;
        event woken;
        trace log;
        std::mutex lock;
        auto bystander = ex.spawn(noisy_chain(log, wait_for(waits)));
        auto waiter = ex.spawn(wait_for(woken));
        join_handle<> spawned;

        struct busy_end {
            std::function<void()> work;
            explicit busy_end(std::function<void()> w) : work(std::move(w)) {}
            ~busy_end() { work(); }
        };
        std::optional<std::uint64_t> id;
        auto f = [](event& ev, std::function<void()> work) -> task<> {
            const busy_end local(std::move(work));
            co_await ev.wait();
        };
        magpie::abort_handle self;
        auto h = ex.spawn(f(waits, [&] {
            const std::lock_guard guard(lock);
            woken.set();
            spawned = magpie::spawn(wait_for(woken));
            bystander.abort();
            self.abort();
            id = magpie::this_task::id();
        }));
        self = h.abort_handle();
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(id == h.id());
        CHECK(outcome_of(h) == "cancelled");
        CHECK(outcome_of(waiter) == "a value");
        CHECK(outcome_of(spawned) == "a value");
        CHECK(outcome_of(bystander) == "cancelled");
        CHECK(log.text() == noisy_chain_dropped);
    }

    TEST_CASE("TASK-CORE-10 a destructor that throws while its task is dropped makes it failed") {
        test::manual_executor ex;
        event e;
        trace log;
        auto child = [](trace& l, event& ev, noisy, const char* what) -> task<> {
            const noisy before(l, "before");
            const test::throws_at_end local(what);
            const noisy after(l, "after");
            co_await ev.wait();
        };
        auto parent = [](trace& l, event& ev, auto c, const char* in_child,
                         const char* in_parent) -> task<> {
            const noisy outer(l, "outer");
            const test::throws_at_end local(in_parent);
            co_await c(l, ev, noisy(l, "parameter"), in_child);
        };
        const char* in_child = nullptr;
        const char* in_parent = nullptr;
        SUBCASE("in the innermost frame") { in_child = "child"; }
        SUBCASE("in the outermost frame") { in_parent = "parent"; }
        SUBCASE("in both") { in_child = in_parent = "either"; }
        auto h = ex.spawn(parent(log, e, child, in_child, in_parent));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK(log.text() == "after before parameter outer");
        CHECK(outcome_of(h) == (in_child != nullptr ? in_child : in_parent));
        CHECK(ex.live() == 0);
    }

    TEST_CASE("an awaitable's destructor that throws makes the dropped task failed") {
        struct throwing_gate : foreign_gate {
            foreign_gate*& open_by;
            test::throws_at_end at_end{"awaitable"};
            explicit throwing_gate(foreign_gate*& o) : open_by(o) { open_by = this; }
        };
        test::manual_executor ex;
        foreign_gate* gate = nullptr;
        trace log;
        auto f = [](trace& l, foreign_gate*& g, noisy) -> task<> {
            const noisy local(l, "local");
            co_await throwing_gate(g);
        };
        auto h = ex.spawn(f(log, gate, noisy(log, "parameter")));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        gate->open();
        ex.run_until_idle();
        CHECK(log.text() == "local parameter");
        CHECK(outcome_of(h) == "awaitable");
    }

    TEST_CASE("a parameter's destructor that throws makes the dropped task failed") {
        test::manual_executor ex;
        event e;
        trace log;
        auto child = [](event& ev, test::throws_at_end) -> task<> { co_await ev.wait(); };
        auto parent = [](trace& l, event& ev, auto c) -> task<> {
            const noisy outer(l, "outer");
            co_await c(ev, test::throws_at_end("parameter"));
        };
        SUBCASE("while it waits") {
            auto h = ex.spawn(parent(log, e, child));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "outer");
            CHECK(outcome_of(h) == "parameter");
        }
        SUBCASE("before it has started") {
            auto h = ex.spawn(child(e, test::throws_at_end("parameter")));
            h.abort();
            ex.run_until_idle();
            CHECK(outcome_of(h) == "parameter");
        }
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a dropped task that failed is reported if nobody joins it") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        event e;
        auto f = [](event& ev) -> task<> {
            const test::throws_at_end local("thrown while dropped");
            co_await ev.wait();
        };
        auto h = ex.spawn(f(e));
        ex.run_until_idle();
        h.abort();
        h.detach();
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "thrown while dropped");
    }

    TEST_CASE("a destructor that throws inside a dropped operation makes the task failed") {
        test::manual_executor ex;
        event e;
        held w;
        trace log;
        auto body = [](trace& l, event& ev, held& in, bool comes) -> task<> {
            const noisy before(l, "before");
            const test::throws_at_end local("in the body");
            if (comes)
                co_await in.wait();
            else
                co_await ev.wait();
        };
        auto one = [](trace& l, task<> t) -> task<> {
            const noisy outer(l, "outer");
            co_await magpie::timeout(1s, std::move(t));
        };
        auto two = [](trace& l, task<> t) -> task<> {
            const noisy outer(l, "outer");
            co_await magpie::timeout(2s, magpie::timeout(1s, std::move(t)));
        };
        auto result = [](trace& l, task<> t) -> task<> {
            const noisy outer(l, "outer");
            co_await magpie::timeout(2s, as_result(magpie::timeout(1s, std::move(t))));
        };
        auto free = [](trace& l, task<> t) -> task<> {
            const noisy outer(l, "outer");
            co_await magpie::timeout(1s, magpie::unconstrained(std::move(t)));
        };
        const auto dropped = [&](auto make) {
            for (const bool comes : {false, true}) { // its leaf is quiet, or surfaces later
                CAPTURE(comes);
                auto h = ex.spawn(make(log, body(log, e, w, comes)));
                ex.run_until_idle();
                h.abort();
                ex.run_until_idle();
                if (comes)
                    w.release();
                ex.run_until_idle();
                CHECK(log.take() == "before outer");
                CHECK(outcome_of(h) == "in the body");
            }
        };
        SUBCASE("a timeout") { dropped(one); }
        SUBCASE("a timeout in a timeout") { dropped(two); }
        SUBCASE("the result of a timeout in a timeout") { dropped(result); }
        SUBCASE("unconstrained in a timeout") { dropped(free); }
    }

    TEST_CASE("a destructor that throws where an outer timeout drops an inner one comes out") {
        test::manual_executor ex;
        event e;
        auto body = [](event& ev) -> task<> {
            const test::throws_at_end local("in the body");
            co_await ev.wait();
        };
        auto f = [](auto b, event& ev) -> task<> {
            co_await magpie::timeout(1s, magpie::timeout(2s, b(ev)));
        };
        auto h = ex.spawn(f(body, e));
        ex.run_until_idle();
        ex.advance(1s);
        CHECK(outcome_of(h) == "in the body");
    }

    TEST_CASE("all branches of a composite are dropped, the coming ones when they surface") {
        test::manual_executor ex;
        event e;
        held w;
        trace log;
        auto first = [](trace& l, event& ev) -> task<> {
            const noisy local(l, "first");
            co_await ev.wait();
        };
        auto second = [](trace& l, held& in) -> task<> {
            const noisy local(l, "second");
            co_await in.wait();
        };
        auto f = [](trace& l, task<> a, task<> b) -> task<> {
            const noisy local(l, "outer");
            test::both branches(std::move(a), std::move(b));
            co_await branches;
        };
        auto h = ex.spawn(f(log, first(log, e), second(log, w)));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        w.release();
        ex.run_until_idle();
        CHECK(log.text().ends_with("outer"));
        CHECK(log.text().find("first") != std::string::npos);
        CHECK(log.text().find("second") != std::string::npos);
        CHECK(outcome_of(h) == "cancelled");
    }

    TEST_CASE("a chain of 1,000,000 suspended tasks is dropped without recursion, innermost first") {
        constexpr int n = test::scaled(1'000'000);
        struct recursion {
            static task<> down(int k, event& e) {
                const in_order local(k);
                if (k == 0)
                    co_await e.wait();
                else
                    co_await down(k - 1, e);
            }
        };
        in_order::next = in_order::wrong = 0;
        std::string outcome;
        test::on_small_stack([&] {
            test::manual_executor ex;
            event e;
            auto h = ex.spawn(recursion::down(n, e));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            outcome = outcome_of(h);
        });
        CHECK(outcome == "cancelled");
        CHECK(in_order::next == n + 1);
        CHECK(in_order::wrong == 0);
    }

    TEST_CASE("CPP-23 an executor that closes drops what waits, whatever it waits in") {
        std::vector<std::unique_ptr<leaves>> one_of_each;
        std::vector<leaf_kind> kinds;
        std::vector<join_handle<>> handles;
        std::deque<trace> logs;
        test::manual_executor ex;
        const std::size_t count = leaves(ex).all().size();
        for (std::size_t i = 0; i < count; ++i) {
            one_of_each.push_back(std::make_unique<leaves>(ex));
            leaf_kind kind = one_of_each.back()->all()[i];
            if (kind.never_idle)
                continue;
            handles.push_back(ex.spawn(noisy_chain(logs.emplace_back(), kind.wait())));
            kinds.push_back(std::move(kind));
        }
        ex.run_until_idle();
        ex.close();
        ex.run_until_idle();
        for (const leaf_kind& kind : kinds)
            if (kind.surface)
                kind.surface();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
        for (std::size_t i = 0; i < kinds.size(); ++i) {
            CAPTURE(kinds[i].name);
            CHECK(logs[i].text() == noisy_chain_dropped);
            CHECK(outcome_of(handles[i]) == "cancelled");
        }
    }

    TEST_CASE("TASK-CORE-18 what is spawned while its executor closes is cancelled") {
        join_handle<> spawned;
        trace log;
        struct spawns {
            join_handle<>& into;
            trace& log;
            spawns(join_handle<>& h, trace& l) : into(h), log(l) {}
            ~spawns() {
                auto f = [](trace& l, noisy) -> task<> {
                    l.add("body");
                    co_return;
                };
                into = magpie::spawn(f(log, noisy(log, "parameter")));
            }
        };
        auto f = [](join_handle<>& into, trace& l) -> task<> {
            const spawns at_end(into, l);
            co_await magpie::sleep_for(1h);
        };
        {
            test::manual_executor ex;
            ex.spawn(f(spawned, log)).detach();
            ex.run_until_idle();
            ex.close();
            auto late = ex.spawn(f(spawned, log));
            CHECK(outcome_of(late) == "cancelled");
        }
        CHECK(log.text() == "parameter");
        CHECK(outcome_of(spawned) == "cancelled");
    }

    TEST_CASE("a task that is refused is destroyed as itself") {
        test::manual_executor ex;
        ex.close();
        struct who {
            std::optional<std::uint64_t>* id;
            explicit who(std::optional<std::uint64_t>* i) : id(i) {}
            who(who&& o) noexcept : id(std::exchange(o.id, nullptr)) {}
            ~who() {
                if (id != nullptr)
                    *id = magpie::this_task::id();
            }
        };
        std::optional<std::uint64_t> seen;
        auto f = [](who) -> task<> { co_return; };
        auto h = ex.spawn(f(who(&seen)));
        CHECK(seen == h.id());
        CHECK(outcome_of(h) == "cancelled");
    }
}
