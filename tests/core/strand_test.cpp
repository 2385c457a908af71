#include <magpie/core/strand.hpp>

#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/held.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::both;
using test::held;
using test::trace;

namespace {

/// Writes down what core asks of its executor.
class recording_executor final : public magpie::executor {
public:
    explicit recording_executor(trace& log) : log_(log) {}

    template <class T>
    join_handle<T> spawn(task<T> t) {
        return magpie::detail::spawn_on(*this, std::move(t), std::source_location::current());
    }
    void run_until_idle() {
        while (!queue_.empty()) {
            magpie::strand* const s = queue_.front();
            queue_.pop_front();
            s->run_turn();
        }
    }
    void refuse_sleepers() { refuses_ = true; }

private:
    void schedule(magpie::strand& s, placement where) noexcept override {
        log_.add(where == placement::wake ? "wake" : where == placement::spawn ? "spawn" : "yield");
        queue_.push_back(&s);
    }
    void adopt(magpie::detail::cell& c) noexcept override {
        c.id = 1;
        schedule(c, placement::spawn);
    }
    bool enroll(magpie::detail::cell& c) noexcept override {
        log_.add("enroll");
        c.set_enrolled(!refuses_);
        return !refuses_;
    }
    void retire(magpie::detail::cell&) noexcept override { log_.add("retire"); }

    trace& log_;
    std::deque<magpie::strand*> queue_;
    bool refuses_ = false;
};

task<> wait_for(event& e) { co_await e.wait(); }
task<> hold(held& h, trace& log, const char* name) {
    co_await h.wait();
    log.add(name);
}
task<> run_both(task<> a, task<> b) {
    both branches(std::move(a), std::move(b));
    co_await branches;
}

} // namespace

TEST_SUITE("core.strand") {
    TEST_CASE("RT-SCHED-01 a task makes no progress unless something runs its executor") {
        test::manual_executor ex;
        bool ran = false;
        auto f = [](bool& r) -> task<> {
            r = true;
            co_return;
        };
        auto h = ex.spawn(f(ran));
        CHECK_FALSE(ran);
        CHECK(ex.run_one());
        CHECK(ran);
        CHECK(h.is_finished());
        CHECK_FALSE(ex.run_one());
    }

    TEST_CASE("RT-SCHED-02 a task is resumed once for each wake, and not without one") {
        test::manual_executor ex;
        held h;
        int resumed = 0;
        auto f = [](held& in, int& n) -> task<> {
            for (;;) {
                co_await in.wait();
                ++n;
            }
        };
        auto t = ex.spawn(f(h, resumed));
        ex.run_until_idle();
        CHECK(ex.turns() == 1);
        for (int i = 1; i <= 5; ++i) {
            ex.run_until_idle();
            CHECK(resumed == i - 1);
            h.release();
            CHECK(resumed == i - 1); // a wake never runs user code
            ex.run_until_idle();
            CHECK(resumed == i);
        }
        CHECK(ex.turns() == 6);
        t.abort();
        ex.run_until_idle();
        h.release();
    }

    TEST_CASE("leaves that become ready before the turn share it, in the order of their wakes") {
        test::manual_executor ex;
        held a;
        held b;
        held c;
        held d;
        trace log;
        auto t = ex.spawn(run_both(run_both(hold(a, log, "a"), hold(b, log, "b")),
                                   run_both(hold(c, log, "c"), hold(d, log, "d"))));
        ex.run_until_idle();
        const std::size_t turns = ex.turns();
        SUBCASE("woken on this thread") {
            c.release();
            a.release();
            d.release();
            b.release();
        }
        SUBCASE("woken on another thread") {
            std::thread([&] {
                c.release();
                a.release();
                d.release();
                b.release();
            }).join();
        }
        ex.run_until_idle();
        CHECK(log.text() == "c a d b");
        CHECK(ex.turns() == turns + 1);
        CHECK(t.is_finished());
    }

    TEST_CASE("leaves woken while the task is queued keep the order behind the first") {
        test::manual_executor ex;
        held a;
        held b;
        trace log;
        auto t = ex.spawn(run_both(hold(a, log, "a"), hold(b, log, "b")));
        ex.run_until_idle();
        b.release();
        std::thread([&] { a.release(); }).join();
        ex.run_until_idle();
        CHECK(log.text() == "b a");
        CHECK(t.is_finished());
    }

    TEST_CASE("a leaf that is woken while it suspends is not lost") {
        struct ready_at_once : magpie::operation<ready_at_once> {
            ready_at_once() = default;
            ready_at_once(ready_at_once&&) = default;
            bool try_complete() const noexcept { return false; }
            bool publish() noexcept {
                std::thread([this] { wake(*this); }).join();
                return true;
            }
            magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }
            int await_resume() const noexcept { return 1; }
        };
        auto f = []() -> task<int> {
            int sum = 0;
            for (int i = 0; i < 10; ++i)
                sum += co_await ready_at_once();
            co_return sum;
        };
        CHECK(test::run(f()) == 10);
    }

    TEST_CASE("a wake on the task's own turn takes no turn of its own") {
        test::manual_executor ex;
        held h;
        trace log;
        auto wakes = [](held& in, trace& l) -> task<> {
            in.release();
            l.add("released");
            co_return;
        };
        auto t = ex.spawn(run_both(hold(h, log, "resumed"), wakes(h, log)));
        ex.run_until_idle();
        CHECK(log.text() == "released resumed");
        CHECK(ex.turns() == 1);
        CHECK(t.is_finished());
    }

    TEST_CASE("the executor hears of a task's first sleep, and of its end before the waiter does") {
        trace log;
        recording_executor ex(log);
        event e;
        SUBCASE("one that never sleeps is not enrolled") {
            auto f = []() -> task<> { co_return; };
            auto h = ex.spawn(f());
            ex.run_until_idle();
            CHECK(log.text() == "spawn retire");
        }
        SUBCASE("one that sleeps twice is enrolled once") {
            event second;
            auto f = [](event& x, event& y) -> task<> {
                co_await x.wait();
                co_await y.wait();
            };
            auto h = ex.spawn(f(e, second));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            second.set();
            ex.run_until_idle();
            CHECK(log.text() == "spawn enroll wake wake retire");
        }
        SUBCASE("one that yields has not slept") {
            auto f = []() -> task<> { co_await magpie::yield_now(); };
            auto h = ex.spawn(f());
            ex.run_until_idle();
            CHECK(log.text() == "spawn yield retire");
        }
        SUBCASE("the end, then the waiter's wake") {
            auto h = ex.spawn(wait_for(e));
            auto join = [](join_handle<>& x) -> task<> { co_await x; };
            auto j = ex.spawn(join(h));
            ex.run_until_idle();
            log.take();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "wake retire wake retire");
        }
    }

    TEST_CASE("a task that its executor does not let sleep is dropped") {
        trace log;
        recording_executor ex(log);
        ex.refuse_sleepers();
        SUBCASE("at once") {
            event e;
            auto h = ex.spawn(wait_for(e));
            ex.run_until_idle();
            CHECK(log.text() == "spawn enroll retire");
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        }
        SUBCASE("when its leaf has surfaced") {
            held in_hand;
            auto h = ex.spawn(hold(in_hand, log, "never"));
            ex.run_until_idle();
            CHECK(log.text() == "spawn enroll enroll"); // the second for the reports alone
            CHECK_FALSE(h.is_finished());
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "spawn enroll enroll wake retire");
            CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        }
    }

    TEST_CASE("a wake runs the task where it lives, not where the waker does") {
        test::manual_executor here;
        test::manual_executor there;
        event e;
        auto waiter = here.spawn(wait_for(e));
        here.run_until_idle();
        auto sets = [](event& ev) -> task<> {
            ev.set();
            co_return;
        };
        auto setter = there.spawn(sets(e));
        there.run_until_idle();
        CHECK(setter.is_finished());
        CHECK_FALSE(waiter.is_finished());
        here.run_until_idle();
        CHECK(waiter.is_finished());
    }

    TEST_CASE("a branch that yields in a loop does not hide its sibling's wakes") {
        test::manual_executor ex;
        event e;
        bool stop = false;
        auto yields = [](bool& end) -> task<> {
            while (!end)
                co_await magpie::yield_now();
        };
        auto stops = [](event& ev, bool& end) -> task<> {
            co_await ev.wait();
            end = true;
        };
        auto t = ex.spawn(run_both(yields(stop), stops(e, stop)));
        for (int i = 0; i < 10; ++i)
            ex.run_one();
        CHECK_FALSE(t.is_finished());
        std::thread([&] { e.set(); }).join();
        for (int i = 0; i < 10; ++i)
            ex.run_one();
        CHECK(t.is_finished());
    }

    TEST_CASE("TASK-CORE-07 a task may be woken while a thread's thread-locals are destroyed") {
        test::manual_executor ex;
        event e;
        auto waiter = ex.spawn(wait_for(e));
        auto aborted = ex.spawn(wait_for(e));
        ex.run_until_idle();

        struct sets_at_exit {
            event* e = nullptr;
            magpie::abort_handle aborts;
            ~sets_at_exit() {
                aborts.abort();
                e->set();
            }
        };
        std::thread([&] {
            static thread_local sets_at_exit at_exit;
            at_exit.e = &e;
            at_exit.aborts = aborted.abort_handle();
        }).join();
        ex.run_until_idle();
        CHECK(waiter.is_finished());
        CHECK_NOTHROW(waiter.blocking_join());
        CHECK_THROWS_AS(aborted.blocking_join(), magpie::task_cancelled);
    }

    TEST_CASE("CPP-10 a task that moves between threads sees itself on each") {
        test::manual_executor ex;
        struct seen {
            std::thread::id thread;
            std::optional<std::uint64_t> id;
            bool operator==(const seen& o) const { return thread == o.thread && id == o.id; }
        };
        auto f = [](seen& first, seen& second) -> task<> {
            first = {std::this_thread::get_id(), magpie::this_task::id()};
            co_await magpie::yield_now();
            second = {std::this_thread::get_id(), magpie::this_task::id()};
            auto nothing = []() -> task<> { co_return; };
            magpie::spawn(nothing()).detach(); // on this thread's current executor
        };
        seen first;
        seen second;
        auto h = ex.spawn(f(first, second));
        std::thread a([&] { ex.run_one(); });
        const seen on_a{a.get_id(), h.id()};
        a.join();
        std::thread b([&] { ex.run_one(); });
        const seen on_b{b.get_id(), h.id()};
        b.join();
        CHECK(first == on_a);
        CHECK(second == on_b);
        CHECK_FALSE(magpie::this_task::exists());
        CHECK(h.is_finished());
        ex.run_until_idle();
        CHECK(ex.live() == 0);
    }

    TEST_CASE("RT-SCHED-04 a task may be woken by a destructor, after an exception") {
        test::manual_executor ex;
        event e;
        struct sets {
            event& ev;
            explicit sets(event& x) : ev(x) {}
            ~sets() { ev.set(); }
        };
        auto f = [](event& ev) -> task<> {
            const sets at_end(ev);
            throw std::runtime_error("no");
            co_return;
        };
        auto waiter = ex.spawn(wait_for(e));
        ex.run_until_idle();
        auto fails = ex.spawn(f(e));
        ex.run_until_idle();
        CHECK(waiter.is_finished());
        CHECK_THROWS_WITH(fails.blocking_join(), "no");
    }
}
