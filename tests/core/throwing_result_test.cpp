// A result type whose destructor may throw.

#include <magpie/core/join_handle.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <utility>

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
}
