#include <magpie/core/spawn.hpp>

#include <magpie/core/this_task.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::counted;
using test::noisy;
using test::trace;

namespace {

/// Calls `f` in a task of `ex`: there `magpie::spawn` knows where to go.
template <class F>
void in_task(test::manual_executor& ex, F f) {
    auto run = [](F& g) -> task<> {
        g();
        co_return;
    };
    test::run(ex, run(f));
}

/// Counts how often it was copied and moved.
struct travels {
    int copies = 0;
    int moves = 0;
    travels() = default;
    travels(const travels& other) : copies(other.copies + 1), moves(other.moves) {}
    travels(travels&& other) noexcept : copies(other.copies), moves(other.moves + 1) {}
};

struct server {
    int port = 0;
    task<int> serve(int more) { co_return port + more; }
    task<int> look() const { co_return port; }
};

task<int> plain(int a, int b) { co_return a + b; }

} // namespace

TEST_SUITE("core.spawn") {
    TEST_CASE("TASK-CORE-01 a spawned task runs without its handle being awaited") {
        test::manual_executor ex;
        bool ran = false;
        auto f = [](bool& r) -> task<> {
            r = true;
            co_return;
        };
        ex.spawn(f(ran)).detach();
        ex.run_until_idle();
        CHECK(ran);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("spawn in a task starts another on the same executor, which runs later") {
        test::manual_executor ex;
        trace log;
        auto child = [](trace& l) -> task<> {
            l.add("child");
            co_return;
        };
        auto parent = [](trace& l, auto c) -> task<> {
            auto h = magpie::spawn(c(l));
            l.add("parent");
            co_await h;
            l.add("joined");
        };
        test::run(ex, parent(log, child));
        CHECK(log.text() == "parent child joined");
    }

    TEST_CASE("TASK-CORE-03 many tasks, spawned from tasks, all finish") {
        test::manual_executor ex;
        struct tree {
            static task<int> grow(int depth) {
                int sum = 1;
                if (depth > 0) {
                    auto left = magpie::spawn(grow(depth - 1));
                    auto right = magpie::spawn(grow(depth - 1));
                    sum += co_await left;
                    sum += co_await right;
                }
                co_return sum;
            }
        };
        CHECK(test::run(ex, tree::grow(12)) == (1 << 13) - 1);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("CPP-03 spawning a capturing lambda keeps its captures alive until the task ends") {
        test::manual_executor ex;
        event e;
        trace log;
        std::string said;
        in_task(ex, [&] {
            auto f = [text = std::string("a capture that is too long to do without the heap"), &e,
                      &said, n = noisy(log, "captures")]() -> task<> {
                co_await e.wait();
                said = text;
            };
            magpie::spawn(std::move(f)).detach();
        });
        ex.run_until_idle();
        CHECK(log.text().empty());
        e.set();
        ex.run_until_idle();
        CHECK(said == "a capture that is too long to do without the heap");
        CHECK(log.text() == "captures");
    }

    TEST_CASE("captures and arguments are gone before the join completes, also when dropped") {
        test::manual_executor ex;
        event e;
        trace log;
        join_handle<> h;
        in_task(ex, [&] {
            auto f = [&e, n = noisy(log, "capture")](noisy) -> task<> { co_await e.wait(); };
            h = magpie::spawn(std::move(f), noisy(log, "argument"));
        });
        SUBCASE("at its end") {
            ex.run_until_idle();
            e.set();
        }
        SUBCASE("while it waits") {
            ex.run_until_idle();
            h.abort();
        }
        SUBCASE("before its start") { h.abort(); }
        auto join = [](join_handle<>& k, trace& l) -> task<> {
            static_cast<void>(co_await as_result(k));
            l.add("joined");
        };
        auto j = ex.spawn(join(h, log));
        ex.run_until_idle();
        CHECK((log.text() == "argument capture joined" || log.text() == "capture argument joined"));
        CHECK(j.is_finished());
    }

    TEST_CASE("CPP-04 spawn decays its arguments: references passed without std::ref are copied") {
        test::manual_executor ex;
        SUBCASE("a copy") {
            int n = 1;
            join_handle<int> h;
            in_task(ex, [&] {
                auto f = [](int m) -> task<int> { co_return m; };
                h = magpie::spawn(f, n);
                n = 2;
            });
            ex.run_until_idle();
            CHECK(h.blocking_join() == 1);
        }
        SUBCASE("an lvalue is copied once, an rvalue never") {
            travels t;
            join_handle<int> copied;
            join_handle<int> moved;
            in_task(ex, [&] {
                auto f = [](travels u) -> task<int> { co_return u.copies; };
                copied = magpie::spawn(f, t);
                moved = magpie::spawn(f, travels());
            });
            ex.run_until_idle();
            CHECK(copied.blocking_join() == 1);
            CHECK(moved.blocking_join() == 0);
        }
        SUBCASE("the callable is copied") {
            auto f = [v = std::make_shared<int>(3)]() -> task<int> { co_return *v; };
            join_handle<int> h;
            in_task(ex, [&] { h = magpie::spawn(f); });
            ex.run_until_idle();
            CHECK(h.blocking_join() == 3);
        }
        SUBCASE("a string literal and an array decay") {
            join_handle<std::size_t> h;
            in_task(ex, [&] {
                auto f = [](const char* s) -> task<std::size_t> {
                    co_return std::string_view(s).size();
                };
                h = magpie::spawn(f, "literal");
            });
            ex.run_until_idle();
            CHECK(h.blocking_join() == 7);
        }
        SUBCASE("std::ref passes a reference") {
            int n = 1;
            in_task(ex, [&] {
                auto f = [](int& m) -> task<> {
                    ++m;
                    co_return;
                };
                magpie::spawn(f, std::ref(n)).detach();
            });
            ex.run_until_idle();
            CHECK(n == 2);
        }
        SUBCASE("move-only arguments") {
            join_handle<int> h;
            in_task(ex, [&] {
                auto f = [](std::unique_ptr<int> p) -> task<int> { co_return *p; };
                h = magpie::spawn(f, std::make_unique<int>(5));
            });
            ex.run_until_idle();
            CHECK(h.blocking_join() == 5);
        }
        SUBCASE("a parameter that is a reference to what the task owns") {
            join_handle<std::string> h;
            in_task(ex, [&] {
                auto f = [](std::string&& s) -> task<std::string> {
                    co_await magpie::yield_now(); // the argument lives on
                    co_return std::move(s);
                };
                h = magpie::spawn(f,
                                  std::string("an argument that is too long to do without the heap"));
            });
            ex.run_until_idle();
            CHECK(h.blocking_join() == "an argument that is too long to do without the heap");
        }
    }

    TEST_CASE("whatever std::invoke calls can be spawned") {
        test::manual_executor ex;
        server s{80};
        join_handle<int> function;
        join_handle<int> member;
        join_handle<int> by_value;
        join_handle<int> bound;
        join_handle<int> erased;
        in_task(ex, [&] {
            function = magpie::spawn(&plain, 1, 2);
            member = magpie::spawn(&server::serve, &s, 1);
            by_value = magpie::spawn(&server::look, s);
            bound = magpie::spawn(std::bind_front(&plain, 3), 4);
            erased = magpie::spawn(std::function<task<int>(int, int)>(&plain), 5, 6);
        });
        ex.run_until_idle();
        CHECK(function.blocking_join() == 3);
        CHECK(member.blocking_join() == 81);
        CHECK(by_value.blocking_join() == 80);
        CHECK(bound.blocking_join() == 7);
        CHECK(erased.blocking_join() == 11);
    }

    TEST_CASE("results of all kinds come out of a spawned callable") {
        test::manual_executor ex;
        int n = 0;
        join_handle<int&> reference;
        join_handle<std::unique_ptr<int>> move_only;
        in_task(ex, [&] {
            auto f = [](int& m) -> task<int&> { co_return m; };
            reference = magpie::spawn(f, std::ref(n));
            auto g = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(2); };
            move_only = magpie::spawn(g);
        });
        ex.run_until_idle();
        CHECK(&reference.blocking_join() == &n);
        CHECK(*move_only.blocking_join() == 2);
    }

    TEST_CASE("a callable that throws before it makes a task fails the spawned one") {
        test::manual_executor ex;
        join_handle<int> h;
        in_task(ex, [&] {
            auto f = [](int k) -> task<int> {
                if (k > 0)
                    throw std::domain_error("not a coroutine, and it throws");
                return plain(k, k);
            };
            h = magpie::spawn(f, 1);
        });
        ex.run_until_idle();
        CHECK_THROWS_AS(h.blocking_join(), std::domain_error);
    }

    TEST_CASE("an argument that throws when it is copied throws out of spawn, and nothing is left") {
        struct throws_on_copy : counted {
            throws_on_copy() = default;
            throws_on_copy(const throws_on_copy& o) : counted(o) { throw std::domain_error("copied"); }
            throws_on_copy(throws_on_copy&&) = default;
        };
        test::manual_executor ex;
        counted::alive = 0;
        bool thrown = false;
        in_task(ex, [&] {
            const throws_on_copy argument;
            auto f = [c = counted()](throws_on_copy) -> task<> { co_return; };
            try {
                magpie::spawn(f, argument).detach();
            } catch (const std::domain_error&) {
                thrown = true;
            }
        });
        CHECK(thrown);
        CHECK(counted::alive.load() == 0);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("spawning an empty task throws std::logic_error") {
        test::manual_executor ex;
        CHECK_THROWS_AS(ex.spawn(task<>()).detach(), std::logic_error);
        CHECK(ex.live() == 0);
        bool thrown = false;
        in_task(ex, [&] {
            try {
                magpie::spawn(task<>()).detach();
            } catch (const std::logic_error& e) {
                thrown = std::string_view(e.what()).starts_with("this task is empty");
            }
        });
        CHECK(thrown);
        join_handle<> h;
        in_task(ex, [&] {
            auto f = []() -> task<> { return {}; };
            h = magpie::spawn(f);
        });
        ex.run_until_idle();
        CHECK_THROWS_AS(h.blocking_join(), std::logic_error);
    }

    TEST_CASE("TASK-CORE-21 spawn outside of a runtime throws, and says where the caller is") {
        const auto message_of = [](auto spawn) -> std::string {
            try {
                spawn();
            } catch (const std::logic_error& e) {
                return e.what();
            }
            return "nothing was thrown";
        };
        const std::string here = std::source_location::current().file_name();
        counted::alive = 0;
        SUBCASE("a task") {
            auto f = [](counted) -> task<> { co_return; };
            const auto line = std::to_string(std::source_location::current().line() + 1);
            const std::string said = message_of([&] { magpie::spawn(f(counted())).detach(); });
            CHECK(said.starts_with(here + ":" + line + ": spawn outside of a runtime"));
        }
        SUBCASE("a task with a name") {
            auto f = [](counted) -> task<> { co_return; };
            const std::string said = message_of([&] { magpie::spawn("name", f(counted())).detach(); });
            CHECK(said.starts_with(here));
        }
        SUBCASE("a callable") {
            auto f = []() -> task<> { co_return; };
            const auto line = std::to_string(std::source_location::current().line() + 1);
            const std::string said = message_of([&] { magpie::spawn(f).detach(); });
            CHECK(said.find("spawn outside of a runtime") != std::string::npos);
            CHECK(said.starts_with(here + ":" + line));
        }
        SUBCASE("a callable with arguments") {
            auto f = [](counted) -> task<> { co_return; };
            const auto line = std::to_string(std::source_location::current().line() + 1);
            const std::string said = message_of([&] { magpie::spawn(f, counted()).detach(); });
            CHECK(said.find("spawn outside of a runtime") != std::string::npos);
            CHECK(said.starts_with(here + ":" + line));
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("a task may have a name, which is copied") {
        test::manual_executor ex;
        join_handle<std::string> h;
        join_handle<std::string> nameless;
        in_task(ex, [&] {
            auto f = []() -> task<std::string> {
                co_await magpie::yield_now();
                co_return std::string(magpie::this_task::name());
            };
            std::string name = "a name that is too long to do without the heap";
            h = magpie::spawn(name, f());
            name = "another";
            nameless = magpie::spawn(f());
        });
        ex.run_until_idle();
        CHECK(h.blocking_join() == "a name that is too long to do without the heap");
        CHECK(nameless.blocking_join().empty());
    }

    TEST_CASE("tasks start in the order in which they were spawned") {
        test::manual_executor ex;
        trace log;
        in_task(ex, [&] {
            auto f = [](trace& l, int i) -> task<> {
                l.add(std::to_string(i));
                co_return;
            };
            for (int i = 0; i < 5; ++i)
                magpie::spawn(f(log, i)).detach();
        });
        ex.run_until_idle();
        CHECK(log.text() == "0 1 2 3 4");
    }
}
