// A result type whose destructor may throw.

#include <magpie/core/join_handle.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/timeout.hpp>

#include <test/in_child.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using test::unhandled_log;

namespace {

struct throwing_result {
    test::throws_at_end at_end{"result"};
    throwing_result() = default;
    throwing_result(throwing_result&&) = default;
    ~throwing_result() noexcept(false) = default;
};

task<throwing_result> make() { co_return throwing_result(); }

} // namespace

TEST_SUITE("core.throwing_result") {
    TEST_CASE("TASK-CORE-12 a result whose destructor throws does not hit who drops the handle") {
        test::manual_executor ex;
        const unhandled_log unhandled(ex);
        SUBCASE("after the end") {
            auto h = ex.spawn(make());
            ex.run_until_idle();
            CHECK(unhandled.count() == 0);
            h.detach();
        }
        SUBCASE("before the end") {
            ex.spawn(make()).detach();
            ex.run_until_idle();
        }
        SUBCASE("with the last abort handle") {
            auto h = ex.spawn(make());
            auto a = h.abort_handle();
            h.detach();
            ex.run_until_idle();
            CHECK(unhandled.count() == 0);
            a = magpie::abort_handle();
        }
        REQUIRE(unhandled.count() == 1);
        CHECK(unhandled.reports()[0].what == "result");
    }

    TEST_CASE("it may be awaited, by itself and in a timeout, as long as it does not throw") {
        auto f = []() -> task<bool> {
            struct quiet {
                quiet() = default;
                quiet(quiet&&) = default;
                ~quiet() noexcept(false) {}
            };
            auto make_quiet = []() -> task<quiet> { co_return quiet(); };
            [[maybe_unused]] const quiet first = co_await make_quiet();
            const auto second = co_await magpie::timeout(1s, make_quiet());
            const auto third = co_await as_result(make_quiet());
            co_return second.has_value() && third.has_value();
        };
        CHECK(test::run(f()));
    }

    TEST_CASE("one that throws when it dies with a dropped timeout makes the task failed") {
        // The body has ended while its timer is on its way; then the abort comes before the timer.
        CHECK(test::survives([] {
            test::manual_executor ex;
            auto f = [](test::manual_executor& x, magpie::abort_handle& me) -> task<> {
                auto body = [](test::manual_executor& y,
                               magpie::abort_handle& self) -> task<throwing_result> {
                    co_await magpie::yield_now();
                    self.abort();
                    y.advance(1s);
                    co_return throwing_result();
                };
                co_await magpie::timeout(1s, body(x, me));
            };
            magpie::abort_handle self;
            auto h = ex.spawn(f(ex, self));
            self = h.abort_handle();
            ex.run_until_idle();
            try {
                h.blocking_join();
            } catch (const std::runtime_error& e) {
                return std::string(e.what()) == "result";
            }
            return false;
        }));
    }
}
