// as_result of values into which an error could be converted as well.

#include <magpie/core/as_result.hpp>

#include <magpie/core/timeout.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <any>
#include <chrono>
#include <exception>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <variant>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::task;

namespace {

enum class how { value, failure };

template <class T>
task<T> make(how h) {
    if (h == how::failure)
        throw std::domain_error("no");
    co_return T();
}

/// Whether each way to a result of a `T` tells a value from an error.
template <class T>
bool told_apart() {
    test::manual_executor ex;
    auto f = [](join_handle<T> good, join_handle<T> bad, join_handle<T> aborted) -> task<bool> {
        const auto a = co_await as_result(make<T>(how::value));
        const auto b = co_await as_result(make<T>(how::failure));
        const auto c = co_await as_result(good);
        const auto d = co_await as_result(bad);
        const auto e = co_await as_result(std::move(aborted));
        const auto t = co_await as_result(magpie::timeout(1s, make<T>(how::value)));
        auto late = []() -> task<T> {
            co_await magpie::sleep_for(1h);
            co_return T();
        };
        const auto u = co_await as_result(magpie::timeout(0s, late()));
        co_return a.has_value() && b.has_error() && c.has_value() && d.has_error() && e.has_error() &&
            t.has_value() && u.has_error();
    };
    auto aborted = ex.spawn(make<T>(how::value));
    aborted.abort();
    auto good = ex.spawn(make<T>(how::value));
    auto bad = ex.spawn(make<T>(how::failure));
    return test::run(ex, f(std::move(good), std::move(bad), std::move(aborted)));
}

} // namespace

TEST_SUITE("core.as_result_types") {
    TEST_CASE("as_result tells values from errors, whatever the value can be made of") {
        CHECK(told_apart<int>());
        CHECK(told_apart<bool>());
        CHECK(told_apart<std::exception_ptr>());
        CHECK(told_apart<std::error_code>());
        CHECK(told_apart<boost::system::error_code>());
        CHECK(told_apart<std::any>());
        CHECK(
            told_apart<std::variant<std::monostate, std::exception_ptr, boost::system::error_code>>());
        CHECK(told_apart<std::function<void()>>());
    }
}
