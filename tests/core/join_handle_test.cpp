#include <magpie/core/join_handle.hpp>

#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::counted;
using test::unhandled_log;

namespace {

task<int> number(int n) { co_return n; }
task<int> number_after(event& e, int n) {
    co_await e.wait();
    co_return n;
}
task<int> join(join_handle<int>& h) {
    const int value = co_await h;
    co_return value;
}
task<int> join_away(join_handle<int> h) {
    const int value = co_await std::move(h);
    co_return value;
}
task<std::string> join_says(join_handle<int>& h) {
    try {
        co_await h;
    } catch (const std::logic_error& e) {
        co_return e.what();
    }
    co_return "nothing was thrown";
}

} // namespace

TEST_SUITE("core.join_handle") {
    TEST_CASE("TASK-CORE-02 awaiting the handle gives the result") {
        test::manual_executor ex;
        event e;
        SUBCASE("in a task, before the end") {
            auto h = ex.spawn(number_after(e, 5));
            auto j = ex.spawn(join(h));
            ex.run_until_idle();
            CHECK_FALSE(j.is_finished());
            e.set();
            ex.run_until_idle();
            CHECK(j.blocking_join() == 5);
        }
        SUBCASE("in a task, after the end") {
            auto h = ex.spawn(number(5));
            ex.run_until_idle();
            CHECK(test::run(ex, join(h)) == 5);
        }
        SUBCASE("in a task, the handle given away") {
            CHECK(test::run(ex, join_away(ex.spawn(number(5)))) == 5);
        }
        SUBCASE("on a thread, after the end") {
            auto h = ex.spawn(number(5));
            ex.run_until_idle();
            CHECK(h.blocking_join() == 5);
        }
        SUBCASE("on a thread, before the end") {
            auto h = ex.spawn(number_after(e, 5));
            ex.run_until_idle();
            int got = 0;
            std::thread waiter([&] { got = h.blocking_join(); });
            e.set();
            ex.run_until_idle();
            waiter.join();
            CHECK(got == 5);
        }
        SUBCASE("in a task of another executor") {
            test::manual_executor there;
            auto h = ex.spawn(number_after(e, 5));
            auto j = there.spawn(join(h));
            ex.run_until_idle();
            there.run_until_idle();
            e.set();
            ex.run_until_idle();
            CHECK_FALSE(j.is_finished());
            there.run_until_idle();
            CHECK(j.blocking_join() == 5);
        }
    }

    TEST_CASE("a chain of joins") {
        test::manual_executor ex;
        join_handle<int> last = ex.spawn(number(1));
        for (int i = 0; i < 1000; ++i) {
            auto f = [](join_handle<int> h) -> task<int> {
                const int below = co_await std::move(h);
                co_return below + 1;
            };
            last = ex.spawn(f(std::move(last)));
        }
        ex.run_until_idle();
        CHECK(last.blocking_join() == 1001);
    }

    TEST_CASE("a handle says whether its task has ended, and who it is") {
        test::manual_executor ex;
        event e;
        auto h = ex.spawn(number_after(e, 1));
        CHECK(h);
        CHECK(h.id() != 0);
        CHECK_FALSE(h.is_finished());
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        e.set();
        CHECK_FALSE(h.is_finished());
        ex.run_until_idle();
        CHECK(h.is_finished());
        h.blocking_join();
        CHECK(h.is_finished());

        const join_handle<int> empty;
        CHECK_FALSE(empty);
        CHECK(empty.is_finished());
        CHECK(empty.id() == 0);
        empty.abort();
    }

    TEST_CASE("misuse throws std::logic_error, with a sentence that says what is wrong") {
        test::manual_executor ex;
        event e;
        SUBCASE("an empty handle") {
            join_handle<int> empty;
            CHECK(test::run(ex, join_says(empty)).starts_with("this join_handle is empty"));
            CHECK_THROWS_AS(empty.blocking_join(), std::logic_error);
            CHECK_THROWS_AS(empty.abort_handle(), std::logic_error);
            auto result = [](join_handle<int>& h) -> task<> {
                static_cast<void>(co_await as_result(h));
            };
            CHECK_THROWS_AS(test::run(ex, result(empty)), std::logic_error);
        }
        SUBCASE("a handle that was moved from, awaited as an rvalue, or detached") {
            auto h = ex.spawn(number(1));
            const auto other = std::move(h);
            CHECK(test::run(ex, join_says(h)).starts_with("this join_handle is empty"));
            auto away = [](join_handle<int>& k) -> task<int> {
                const int value = co_await std::move(k);
                co_return value;
            };
            auto g = ex.spawn(number(2));
            CHECK(test::run(ex, away(g)) == 2);
            CHECK_FALSE(g); // NOLINT: moved from on purpose
            CHECK(test::run(ex, join_says(g)).starts_with("this join_handle is empty"));
            auto d = ex.spawn(number(3));
            d.detach();
            CHECK(test::run(ex, join_says(d)).starts_with("this join_handle is empty"));
        }
        SUBCASE("a result that was taken") {
            auto h = ex.spawn(number(1));
            CHECK(test::run(ex, join(h)) == 1);
            CHECK(test::run(ex, join_says(h)).starts_with("the result of this task was taken"));
            CHECK_THROWS_AS(h.blocking_join(), std::logic_error);
            CHECK(h.is_finished());
        }
        SUBCASE("an exception that was taken, and a cancellation") {
            auto fails = []() -> task<int> {
                throw std::runtime_error("no");
                co_return 1;
            };
            auto h = ex.spawn(fails());
            ex.run_until_idle();
            CHECK_THROWS_WITH(h.blocking_join(), "no");
            CHECK_THROWS_AS(h.blocking_join(), std::logic_error);
            auto c = ex.spawn(number(1));
            c.abort();
            ex.run_until_idle();
            CHECK_THROWS_AS(c.blocking_join(), magpie::task_cancelled);
            CHECK_THROWS_AS(c.blocking_join(), std::logic_error);
        }
        SUBCASE("a second waiter, which does not disturb the first") {
            auto h = ex.spawn(number_after(e, 7));
            auto first = ex.spawn(join(h));
            ex.run_until_idle();
            CHECK(test::run(ex, join_says(h)).starts_with("somebody else waits for this task"));
            CHECK_THROWS_AS(h.blocking_join(), std::logic_error);
            auto result = [](join_handle<int>& k) -> task<> {
                static_cast<void>(co_await as_result(k));
            };
            CHECK_THROWS_AS(test::run(ex, result(h)), std::logic_error);
            e.set();
            ex.run_until_idle();
            CHECK(first.blocking_join() == 7);
        }
    }

    TEST_CASE("a wait that was dropped leaves an lvalue handle as it was") {
        test::manual_executor ex;
        event e;
        auto h = ex.spawn(number_after(e, 5));
        auto waiter = ex.spawn(join(h));
        ex.run_until_idle();
        waiter.abort();
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        SUBCASE("it can be awaited again, before the end") {
            auto again = ex.spawn(join(h));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            CHECK(again.blocking_join() == 5);
        }
        SUBCASE("and after") {
            e.set();
            ex.run_until_idle();
            CHECK(test::run(ex, join(h)) == 5);
        }
    }

    TEST_CASE("a wait that is dropped as the task ends has taken nothing") {
        test::manual_executor ex;
        event e;
        auto h = ex.spawn(number_after(e, 5));
        auto waiter = ex.spawn(join(h));
        ex.run_until_idle();
        e.set();
        ex.run_one(); // the task ends: the waiter is woken, and queued
        CHECK(h.is_finished());
        waiter.abort();
        ex.run_until_idle();
        CHECK_THROWS_AS(waiter.blocking_join(), magpie::task_cancelled);
        CHECK(h.blocking_join() == 5);
    }

    TEST_CASE("a wait that is dropped lets go of a handle that was given away") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        event e;
        auto fails = [](event& ev) -> task<int> {
            co_await ev.wait();
            throw std::runtime_error("no");
        };
        auto waiter = ex.spawn(join_away(ex.spawn(fails(e))));
        ex.run_until_idle();
        SUBCASE("before the end") {
            waiter.abort();
            ex.run_until_idle();
            CHECK(ex.live() == 1); // it runs on
            e.set();
            ex.run_until_idle();
        }
        SUBCASE("as the task ends") {
            e.set();
            ex.run_one();
            waiter.abort();
            ex.run_until_idle();
        }
        CHECK(ex.live() == 0);
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "no");
    }

    TEST_CASE("dropping a handle detaches, and so does assigning to it") {
        test::manual_executor ex;
        event e;
        int ran = 0;
        auto f = [](event& ev, int& n) -> task<int> {
            co_await ev.wait();
            co_return ++n;
        };
        {
            auto h = ex.spawn(f(e, ran));
            ex.run_until_idle();
            h = ex.spawn(f(e, ran));
            ex.run_until_idle();
        }
        CHECK(ex.live() == 2);
        e.set();
        ex.run_until_idle();
        CHECK(ran == 2);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a handle and its result may outlive the executor") {
        counted::alive = 0;
        {
            join_handle<counted> h;
            join_handle<> waits;
            magpie::abort_handle a;
            event e;
            {
                test::manual_executor ex;
                auto f = []() -> task<counted> { co_return counted(4); };
                auto wait = [](event& ev) -> task<> { co_await ev.wait(); };
                h = ex.spawn(f());
                waits = ex.spawn(wait(e));
                a = h.abort_handle();
                ex.run_until_idle();
            }
            CHECK(h.is_finished());
            a.abort();
            CHECK(h.blocking_join().value == 4);
            waits.abort();
            CHECK_THROWS_AS(waits.blocking_join(), magpie::task_cancelled);
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("TASK-CORE-11 what a cancelled task throws has its id") {
        test::manual_executor ex;
        auto h = ex.spawn(number(1));
        h.abort();
        ex.run_until_idle();
        const std::string text = "task " + std::to_string(h.id()) + " was cancelled";
        CHECK_THROWS_WITH(h.blocking_join(), text.c_str());
    }

    TEST_CASE("TASK-CORE-16 frame and result are destroyed once, in every order of their ends") {
        enum class ends { by_itself, by_abort, by_close };
        for (const auto end : {ends::by_itself, ends::by_abort, ends::by_close}) {
            for (int handle_goes = 0; handle_goes <= 4; ++handle_goes) {
                for (int abort_handle_goes = 0; abort_handle_goes <= 4; ++abort_handle_goes) {
                    CAPTURE(static_cast<int>(end));
                    CAPTURE(handle_goes);
                    CAPTURE(abort_handle_goes);
                    counted::alive = 0;
                    auto body = [](event& ev, counted) -> task<counted> {
                        const counted local;
                        co_await ev.wait();
                        co_return counted(3);
                    };
                    join_handle<counted> h;
                    magpie::abort_handle a;
                    const auto at = [&](int now) {
                        if (handle_goes == now)
                            h.detach();
                        if (abort_handle_goes == now)
                            a = magpie::abort_handle();
                    };
                    {
                        event e;
                        test::manual_executor ex;
                        h = ex.spawn(body(e, counted()));
                        a = h.abort_handle();
                        const auto second = a; // copies count as well
                        at(0);
                        ex.run_until_idle();
                        at(1);
                        if (end == ends::by_itself)
                            e.set();
                        else if (end == ends::by_abort)
                            second.abort();
                        else
                            ex.close();
                        at(2);
                        ex.run_until_idle();
                        CHECK(second.is_finished());
                        at(3);
                    }
                    at(4);
                    CHECK(counted::alive.load() == 0);
                }
            }
        }
    }

    TEST_CASE("TASK-CORE-17 abort handles may outlive the task or die before it, and may be copied") {
        test::manual_executor ex;
        event e;
        magpie::abort_handle kept;
        CHECK(kept.is_finished());
        CHECK(kept.id() == 0);
        kept.abort();
        {
            auto h = ex.spawn(number_after(e, 1));
            const auto first = h.abort_handle();
            auto second = first;
            kept = second;
            second = std::move(kept);
            kept = second;
            const magpie::abort_handle& self = kept;
            kept = self;
            CHECK(kept.id() == h.id());
            CHECK_FALSE(kept.is_finished());
        }
        ex.run_until_idle();
        CHECK(ex.live() == 1);
        kept.abort();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
        CHECK(kept.is_finished());
        kept.abort();
    }

    TEST_CASE("CPP-17 a joiner runs when parameters and locals are gone") {
        test::manual_executor ex;
        event e;
        test::trace log;
        auto body = [](test::trace& l, event& ev, test::noisy) -> task<> {
            const test::noisy local(l, "local");
            co_await ev.wait();
        };
        auto joins = [](test::trace& l, join_handle<> h) -> task<> {
            co_await std::move(h);
            l.add("joined");
        };
        auto j = ex.spawn(joins(log, ex.spawn(body(log, e, test::noisy(log, "parameter")))));
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        CHECK(log.text() == "local parameter joined");
        CHECK(j.is_finished());
    }

    TEST_CASE("a handle moves, and cannot be copied") {
        static_assert(!std::is_copy_constructible_v<join_handle<int>>);
        static_assert(std::is_nothrow_move_constructible_v<join_handle<int>>);
        static_assert(std::is_nothrow_move_assignable_v<join_handle<int>>);
        static_assert(std::is_copy_constructible_v<magpie::abort_handle>);
        static_assert(sizeof(join_handle<int>) == sizeof(void*));
    }
}
