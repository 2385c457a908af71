#include <magpie/core/attached_failures.hpp>

#include <magpie/core.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using magpie::attached_failures;
using magpie::scope;
using magpie::task;
using magpie::task_scope;

namespace {

/// Fails when it is dropped.
task<> fail_late(std::string what) {
    const test::throws_at_end local(what.c_str());
    magpie::sync::event e;
    co_await e.wait();
}

task<> fail() {
    throw std::system_error(std::make_error_code(std::errc::timed_out));
    co_return;
}

/// Throws a system_error that has the `losers`, which are words, attached.
task<> fail_together(std::string losers) {
    auto body = [losers](task_scope& s) -> task<> {
        std::istringstream words(losers);
        for (std::string name; words >> name;)
            s.spawn(name, fail_late(name));
        s.spawn("cause", fail());
        magpie::sync::event e;
        co_await e.wait();
    };
    co_await scope(body);
}

/// Of the exception that is being handled.
std::string attached() {
    test::trace words;
    for (const auto& f : attached_failures()) {
        CHECK(f.task_id != 0);
        words.add(std::string(magpie::describe(f.error)));
    }
    return words.text();
}

/// What an awaitable throws, and what is attached to it.
template <class Awaitable>
task<std::string> thrown_by(Awaitable a) {
    try {
        co_await std::move(a);
    } catch (const std::system_error& e) {
        CHECK(e.code() == std::errc::timed_out);
        co_return attached();
    }
    co_return "nothing is thrown";
}

/// The children of a scope are dropped in the order of their spawns, the newest first.
const char* const both = "two one";

} // namespace

TEST_SUITE("core.attached_failures") {
    TEST_CASE(
        "SCOPE-02 the handler of the first failure, whatever its type, finds the others attached") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        CHECK(test::run(ex, thrown_by(fail_together("one two"))) == both);
        REQUIRE(unhandled.count() == 2); // nobody has to ask
        CHECK(unhandled.reports()[0].task_name == "two");
    }

    TEST_CASE("SCOPE-02 the failure of the body, too, whichever comes first") {
        test::manual_executor ex;
        auto body_first = [](task_scope& s) -> task<> {
            s.spawn("late", fail_late("late"));
            co_await magpie::yield_now();
            throw std::system_error(std::make_error_code(std::errc::timed_out));
        };
        CHECK(test::run(ex, thrown_by(scope(body_first))) == "late");

        auto body_last = [](task_scope& s) -> task<> {
            auto shielded = []() -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error("of the body");
            };
            s.spawn(fail());
            co_await magpie::shield(shielded());
        };
        CHECK(test::run(ex, thrown_by(scope(body_last))) == "of the body");
    }

    TEST_CASE(
        "nothing is attached to what fails alone, to another exception, and outside of handlers") {
        test::manual_executor ex;
        CHECK(test::run(ex, thrown_by(fail_together(""))).empty());
        CHECK(test::run(ex, thrown_by(fail())).empty());
        auto f = []() -> task<> {
            std::exception_ptr first;
            try {
                co_await fail_together("one");
            } catch (const std::system_error&) {
                first = std::current_exception();
            }
            CHECK(attached_failures().empty());
            CHECK(attached_failures(nullptr).empty());
            co_await magpie::yield_now();
            CHECK(attached_failures(first).size() == 1); // it stays with the task
            try {
                throw std::runtime_error("another");
            } catch (const std::runtime_error&) {
                CHECK(attached_failures().empty());
            }
            try {
                co_await fail_together("two three");
            } catch (const std::system_error&) {
                CHECK(attached() == "three two");
            }
            CHECK(attached_failures(first).empty()); // of the last one only
        };
        test::run(ex, f());
    }

    TEST_CASE("they go with the exception: frames, composites, teardowns, scopes, handles") {
        test::manual_executor ex;
        SUBCASE("frames and composites") {
            auto deep = [](auto make) -> task<> {
                co_await magpie::join(magpie::yield_now(), magpie::timeout(1h, make("one two")));
            };
            CHECK(test::run(ex, thrown_by(deep(fail_together))) == both);
        }
        SUBCASE("a teardown that waits") {
            auto f = [](auto make) -> task<> {
                auto body = [make](int&) { return make("one two"); };
                auto teardown = [](int&) -> task<> { co_await magpie::yield_now(); };
                co_await magpie::with(0, body, teardown);
            };
            CHECK(test::run(ex, thrown_by(f(fail_together))) == both);
        }
        SUBCASE("a scope around it, whose own others are attached as well") {
            auto body = [](task_scope& s) -> task<> {
                s.spawn("three", fail_late("three"));
                s.spawn(fail_together("one two"));
                co_return;
            };
            CHECK(test::run(ex, thrown_by(scope(body))) == "two one three");
            auto body_itself = [](task_scope& s) -> task<> {
                s.spawn("three", fail_late("three"));
                co_await fail_together("one two");
            };
            CHECK(test::run(ex, thrown_by(scope(body_itself))) == "two one three");
        }
        SUBCASE("a handle") {
            auto f = [](auto make) -> task<> { co_await magpie::spawn(make("one two")); };
            CHECK(test::run(ex, thrown_by(f(fail_together))) == both);
        }
        SUBCASE("a handle on a plain thread") {
            auto h = ex.spawn(fail_together("one two"));
            ex.run_until_idle();
            try {
                h.blocking_join();
                FAIL("it throws");
            } catch (const std::system_error&) {
                CHECK(attached() == both);
            }
            CHECK(attached_failures().empty());
        }
        SUBCASE("as_result of a handle, whose error is asked for") {
            auto f = [](auto make) -> task<std::size_t> {
                auto h = magpie::spawn(make("one two"));
                const auto r = co_await magpie::as_result(h);
                co_return attached_failures(r.error()).size();
            };
            CHECK(test::run(ex, f(fail_together)) == 2);
        }
    }

    TEST_CASE("what waits for several things attaches the others, too") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        // fail_late() fails when it is dropped, by a destructor.
        SUBCASE("join: of its branches") {
            auto late = [](std::string what) -> task<> {
                co_await magpie::yield_now();
                throw std::runtime_error(what);
            };
            CHECK(test::run(ex, thrown_by(magpie::join(fail(), late("one"), late("two")))) ==
                  "one two");
        }
        SUBCASE("try_join: of the siblings it drops") {
            CHECK(test::run(ex, thrown_by(magpie::try_join(fail_late("one"), fail_late("two"),
                                                           fail()))) == "one two");
        }
        SUBCASE("select: of the losers") {
            CHECK(test::run(ex, thrown_by(magpie::select_biased(fail_late("one"), fail_late("two"),
                                                                fail()))) == "one two");
        }
        SUBCASE("with: of the teardown") {
            auto f = []() -> task<> {
                auto body = [](int&) { return fail(); };
                auto teardown = [](int&) -> task<> {
                    co_await magpie::yield_now();
                    throw std::runtime_error("one");
                };
                co_await magpie::with(0, body, teardown);
            };
            CHECK(test::run(ex, thrown_by(f())) == "one");
        }
        SUBCASE("fork_join: of the children it drops") {
            auto f = []() -> task<> {
                co_await magpie::fork_join(fail_late("one"), fail_late("two"), fail());
            };
            CHECK(test::run(ex, thrown_by(f())) == "one two");
        }
        SUBCASE("what was attached to one of the others, behind it") {
            CHECK(test::run(ex, thrown_by(magpie::join(fail(), fail_together("one")))) ==
                  "Connection timed out one");
        }
        SUBCASE("as_result: they are attached to the error") {
            auto f = []() -> task<std::size_t> {
                const auto r = co_await magpie::as_result(magpie::try_join(fail_late("one"), fail()));
                co_return attached_failures(r.error()).size();
            };
            CHECK(test::run(ex, f()) == 1);
        }
        CHECK(unhandled.count() > 0); // nobody has to ask
    }

    TEST_CASE("what is attached lives as long as the task") {
        struct keeps : std::runtime_error {
            explicit keeps(std::shared_ptr<int> k) : std::runtime_error("keeps"), kept(std::move(k)) {}
            std::shared_ptr<int> kept;
        };
        auto kept = std::make_shared<int>(0);
        test::manual_executor ex;
        auto f = [](std::shared_ptr<int> k) -> task<> {
            auto body = [k](task_scope& s) -> task<> {
                auto throws = [](std::shared_ptr<int> mine) -> task<> {
                    throw keeps(std::move(mine));
                    co_return;
                };
                s.spawn(fail_late("late"));
                s.spawn(throws(k));
                co_return;
            };
            try {
                co_await scope(body);
            } catch (const keeps&) {
                CHECK(attached_failures().size() == 1);
            }
        };
        auto h = ex.spawn(f(kept));
        ex.run_until_idle();
        h.blocking_join();
        CHECK(kept.use_count() > 1);
        h = {};
        CHECK(kept.use_count() == 1);
    }
}
