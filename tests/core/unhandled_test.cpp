#include <magpie/core/unhandled.hpp>

#include <magpie/core/log.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;
using magpie::sync::event;
using test::unhandled_log;

namespace {

task<> fails() {
    throw std::domain_error("no");
    co_return;
}
task<> fails_after(event& e) {
    co_await e.wait();
    throw std::domain_error("no");
}

/// What was logged while it lives.
class log_capture {
public:
    log_capture() : before_(magpie::set_log_function(&receive)) { lines_.clear(); }
    log_capture(const log_capture&) = delete;
    ~log_capture() { magpie::set_log_function(before_); }
    static const std::vector<std::string>& lines() { return lines_; }

private:
    static void receive(magpie::log_level level, std::string_view text) noexcept {
        lines_.push_back((level == magpie::log_level::error ? "error: " : "other: ") +
                         std::string(text));
    }
    static inline std::vector<std::string> lines_;
    magpie::log_function before_;
};

} // namespace

TEST_SUITE("core.unhandled") {
    TEST_CASE("CPP-06 an exception that nobody joins is reported once, with the place of the spawn") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        std::uint64_t id = 0;
        std::uint_least32_t line = 0;
        {
            line = std::source_location::current().line() + 1;
            auto h = ex.spawn(fails());
            id = h.id();
            SUBCASE("the handle goes before the end") { h.detach(); }
            SUBCASE("the handle goes after the end") {
                ex.run_until_idle();
                CHECK(unhandled.count() == 0);
            }
            SUBCASE("the handle is assigned to") {
                ex.run_until_idle();
                h = join_handle<>();
                CHECK(unhandled.count() == 1);
            }
        }
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 1);
        const auto r = unhandled.reports()[0];
        CHECK(r.what == "no");
        CHECK(r.task_id == id);
        CHECK(r.task_name.empty());
        CHECK(std::string_view(r.where.file_name()).ends_with("unhandled_test.cpp"));
        CHECK(r.where.line() == line);
    }

    TEST_CASE("CPP-06 the place of the spawn is the caller's, in every form of spawn") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        std::uint_least32_t line = 0;
        auto starts = [](std::uint_least32_t& at, int form) -> task<> {
            at = std::source_location::current().line() + 4 + 2 * static_cast<unsigned>(form);
            auto f = []() -> task<> { return fails(); };
            auto g = [](int) -> task<> { return fails(); };
            if (form == 0)
                magpie::spawn(fails()).detach();
            else if (form == 1)
                magpie::spawn("name", fails()).detach();
            else if (form == 2)
                magpie::spawn(f).detach();
            else if (form == 3)
                magpie::spawn(g, 1).detach();
            co_return;
        };
        int form = 0;
        SUBCASE("a task") { form = 0; }
        SUBCASE("a name and a task") { form = 1; }
        SUBCASE("a callable") { form = 2; }
        SUBCASE("a callable with an argument") { form = 3; }
        test::run(ex, starts(line, form));
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 1);
        const auto r = unhandled.reports()[0];
        CHECK(std::string_view(r.where.file_name()).ends_with("unhandled_test.cpp"));
        CHECK(r.where.line() == line);
        CHECK(r.task_name == (form == 1 ? "name" : ""));
    }

    TEST_CASE("an exception that was received is not reported") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        {
            auto h = ex.spawn(fails());
            auto joins = [](join_handle<>& k) -> task<bool> {
                try {
                    co_await k;
                } catch (const std::domain_error&) {
                    co_return true;
                }
                co_return false;
            };
            CHECK(test::run(ex, joins(h)));
        }
        {
            auto h = ex.spawn(fails());
            ex.run_until_idle();
            CHECK_THROWS_AS(h.blocking_join(), std::domain_error);
        }
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("an exception whose joiner dies before it looked is reported") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        event e;
        auto joins = [](join_handle<> k) -> task<> { co_await k; };
        auto joiner = ex.spawn(joins(ex.spawn(fails_after(e))));
        ex.run_until_idle();
        e.set();
        ex.run_one(); // the task has ended, its joiner is queued
        joiner.abort();
        ex.run_until_idle();
        CHECK(unhandled.count() == 1);
        CHECK_THROWS_AS(joiner.blocking_join(), magpie::task_cancelled);
    }

    TEST_CASE("a joiner that passes the exception on is reported in its place") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        auto joins = [](join_handle<> k) -> task<> { co_await std::move(k); };
        auto outer = ex.spawn(joins(ex.spawn(fails())));
        const std::uint64_t id = outer.id();
        outer.detach();
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].task_id == id);
    }

    TEST_CASE("neither a value nor a cancellation is reported") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        event e;
        auto number = []() -> task<int> { co_return 1; };
        ex.spawn(number()).detach();
        auto a = ex.spawn(fails_after(e));
        ex.run_until_idle();
        a.abort();
        a.detach();
        ex.spawn(fails_after(e)).detach();
        ex.run_until_idle();
        ex.close();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
        CHECK(unhandled.count() == 0);
    }

    TEST_CASE("a loser of a timeout that fails while it is dropped is not lost") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        event e;
        auto f = [](event& ev) -> task<> {
            auto body = [](event& v) -> task<> {
                const test::throws_at_end local("while dropped");
                co_await v.wait();
            };
            co_await magpie::timeout(1s, body(ev));
        };
        ex.spawn(f(e)).detach();
        ex.run_until_idle();
        ex.advance(1s);
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "while dropped");
    }

    TEST_CASE("several at once, each once") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        std::vector<join_handle<>> kept;
        for (int i = 0; i < 100; ++i) {
            auto h = ex.spawn(fails());
            if (i % 2 == 0)
                kept.push_back(std::move(h));
        }
        ex.run_until_idle();
        CHECK(unhandled.count() == 50);
        kept.clear();
        CHECK(unhandled.count() == 100);
    }

    TEST_CASE("TASK-CORE-11 without a sink it is logged: the id, the place, and what was thrown") {
        test::manual_executor ex;
        const log_capture captured;
        auto h = ex.spawn(fails());
        const std::string id = std::to_string(h.id());
        h.detach();
        ex.run_until_idle();
        REQUIRE(log_capture::lines().size() == 1);
        const std::string& line = log_capture::lines()[0];
        CHECK(line.starts_with("error: task " + id + " spawned at "));
        CHECK(line.find("unhandled_test.cpp:") != std::string::npos);
        CHECK(line.ends_with("no"));
    }

    TEST_CASE("what is no std::exception is said to be none") {
        auto throws_int = []() -> task<> {
            throw 3;
            co_return;
        };
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        ex.spawn(throws_int()).detach();
        ex.run_until_idle();
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "an exception that is no std::exception");
    }

    TEST_CASE("an exception may outlive its executor, and is logged then") {
        const log_capture captured;
        join_handle<> h;
        {
            test::manual_executor ex;
            const unhandled_log unhandled(ex);
            h = ex.spawn(fails());
            ex.run_until_idle();
            CHECK(unhandled.count() == 0);
        }
        h.detach();
        CHECK(log_capture::lines().size() == 1);
    }

    TEST_CASE("of two exceptions of one task none is lost in silence") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        std::string heard;
        const auto join = [&](join_handle<>& h) {
            try {
                h.blocking_join();
            } catch (const std::exception& x) {
                heard = x.what();
            }
            const auto reports = unhandled.reports();
            for (const auto& r : reports)
                heard += r.what;
        };
        SUBCASE("the body's and a parameter's destructor's") {
            auto f = [](test::throws_at_end) -> task<> {
                throw std::domain_error("first");
                co_return;
            };
            auto h = ex.spawn(f(test::throws_at_end("second")));
            ex.run_until_idle();
            join(h);
        }
        SUBCASE("those of two dropped frames") {
            event e;
            auto child = [](event& ev) -> task<> {
                const test::throws_at_end local("first");
                co_await ev.wait();
            };
            auto parent = [](event& ev, auto c) -> task<> {
                const test::throws_at_end local("second");
                co_await c(ev);
            };
            auto h = ex.spawn(parent(e, child));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            join(h);
        }
        CHECK(heard.find("first") != std::string::npos);
        CHECK(heard.find("second") != std::string::npos);
    }

    TEST_CASE("set_log_function gives the one before, and null is silence") {
        const magpie::log_function before = magpie::set_log_function(nullptr);
        magpie::log(magpie::log_level::error, "nobody hears this");
        CHECK((magpie::set_log_function(before) == nullptr));
    }

    TEST_CASE("a result's destructor may use what its task's executor offers, while that lives") {
        struct asks {
            std::vector<bool>* into;
            explicit asks(std::vector<bool>& i) : into(&i) {}
            asks(asks&& o) noexcept : into(std::exchange(o.into, nullptr)) {}
            ~asks() {
                if (into != nullptr)
                    into->push_back(magpie::clock::now() > magpie::clock::time_point());
            }
        };
        std::vector<bool> asked;
        test::manual_executor ex;
        auto f = [](std::vector<bool>& into) -> task<asks> { co_return asks(into); };
        auto h = ex.spawn(f(asked));
        ex.run_until_idle();
        h.detach();
        CHECK(asked == std::vector<bool>{true});
    }
}
