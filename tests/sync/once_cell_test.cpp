#include <magpie/sync/once_cell.hpp>

#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/lazy.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using magpie::result;
using magpie::task;
using magpie::sync::event;
using magpie::sync::once_cell;
using magpie::sync::set_result;
using test::counted;

namespace {

/// Makes 5 when `go` is set; what it does is counted.
task<int> make_five(event& go, int& begun) {
    ++begun;
    co_await go.wait();
    co_return 5;
}

task<int> get_five(once_cell<int>& cell, event& go, int& begun) {
    auto make = [&] { return make_five(go, begun); };
    const int& value = co_await cell.get_or_init(make);
    co_return value;
}

} // namespace

TEST_SUITE("sync.once_cell") {
    TEST_CASE("SYNC-ONCE-03 the first makes the value, the others wait and share it") {
        test::manual_executor ex;
        once_cell<int> cell;
        event go;
        int begun = 0;
        std::vector<magpie::join_handle<int>> handles;
        for (int i = 0; i < 4; ++i)
            handles.push_back(ex.spawn(get_five(cell, go, begun)));
        ex.run_until_idle();
        CHECK(begun == 1);
        CHECK(cell.get() == nullptr);
        go.set();
        ex.run_until_idle();
        for (auto& h : handles)
            CHECK(h.blocking_join() == 5);
        CHECK(begun == 1);
        CHECK(*cell.get() == 5);
        CHECK(test::run(ex, get_five(cell, go, begun)) == 5);
        CHECK(begun == 1);
    }

    TEST_CASE("SYNC-ONCE-04 an initialiser that throws leaves it empty for the next") {
        once_cell<int> cell;
        auto f = [](once_cell<int>& c) -> task<int> {
            auto throws = []() -> int { throw std::runtime_error("no"); };
            auto throws_later = []() -> task<int> {
                co_await magpie::yield_now();
                throw std::runtime_error("no");
            };
            int failed = 0;
            try {
                co_await c.get_or_init(throws);
            } catch (const std::runtime_error&) {
                ++failed;
            }
            try {
                co_await c.get_or_init(throws_later);
            } catch (const std::runtime_error&) {
                ++failed;
            }
            auto gives = [] { return 7; };
            const int value = co_await c.get_or_init(gives);
            co_return failed * 10 + value;
        };
        CHECK(test::run(f(cell)) == 27);
    }

    TEST_CASE("SYNC-ONCE-05 an initialiser that gives an error leaves it empty for the next") {
        once_cell<int> cell;
        auto f = [](once_cell<int>& c) -> task<std::string> {
            auto fails = []() -> result<int> {
                return magpie::errc::make_error_code(magpie::errc::timed_out);
            };
            auto gives = []() -> task<result<int>> { co_return 7; };
            auto first = co_await c.get_or_try_init(fails);
            auto second = co_await c.get_or_try_init(gives);
            auto third = co_await c.get_or_try_init(fails);
            second->get() += 1;
            co_return first.error().message() + " " + std::to_string(third->get());
        };
        CHECK(test::run(f(cell)).find(" 8") != std::string::npos);
    }

    TEST_CASE("SYNC-ONCE-06 set fails with what is there, or while somebody makes one, and leaves its "
              "value") {
        test::manual_executor ex;
        once_cell<std::unique_ptr<int>> cell;
        event go;
        auto makes = [](once_cell<std::unique_ptr<int>>& c, event& e) -> task<> {
            auto make = [&e]() -> task<std::unique_ptr<int>> {
                co_await e.wait();
                co_return std::make_unique<int>(1);
            };
            co_await c.get_or_init(make);
        };
        auto h = ex.spawn(makes(cell, go));
        ex.run_until_idle();
        auto mine = std::make_unique<int>(2);
        CHECK(cell.set(std::move(mine)) == set_result::initializing);
        CHECK(mine); // NOLINT: it was left alone
        SUBCASE("made") {
            go.set();
            ex.run_until_idle();
            CHECK(cell.set(std::move(mine)) == set_result::already_set); // NOLINT
            CHECK(mine);                                                 // NOLINT
            CHECK(**cell.get() == 1);
        }
        SUBCASE("dropped") {
            h.abort();
            ex.run_until_idle();
            CHECK(cell.set(std::move(mine)) == set_result::done); // NOLINT
            CHECK(**cell.get() == 2);
        }
    }

    TEST_CASE("SYNC-ONCE-07 it is empty before, and its value is destroyed once") {
        {
            once_cell<counted> cell;
            CHECK(cell.get() == nullptr);
            CHECK_FALSE(cell.is_set());
            CHECK_FALSE(cell.take());
            const counted one(1);
            CHECK(cell.set(one) == set_result::done);
            CHECK(std::as_const(cell).get()->value == 1);
            SUBCASE("with the cell") {}
            SUBCASE("taken out") {
                CHECK(cell.take()->value == 1);
                CHECK(cell.get() == nullptr);
                CHECK(cell.set(counted(2)) == set_result::done);
            }
            SUBCASE("never set") {
                const once_cell<counted> empty;
                CHECK(empty.get() == nullptr);
            }
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("SYNC-ONCE-08 when an initialiser is dropped the next who waits takes over") {
        test::manual_executor ex;
        once_cell<int> cell;
        event go;
        int begun = 0;
        auto a = ex.spawn(get_five(cell, go, begun));
        auto b = ex.spawn(get_five(cell, go, begun));
        ex.run_until_idle();
        CHECK(begun == 1);
        a.abort();
        ex.run_until_idle();
        CHECK(begun == 2);
        go.set();
        ex.run_until_idle();
        CHECK(b.blocking_join() == 5);
    }

    TEST_CASE("a lazy knows how its value is made, and tries again after a failure") {
        test::manual_executor ex;
        int calls = 0;
        magpie::sync::lazy value([&calls]() -> task<std::string> {
            if (++calls == 1)
                throw std::runtime_error("no");
            co_return "made";
        });
        auto f = [](auto& l) -> task<std::string> {
            const std::string& s = co_await l.get();
            co_return s;
        };
        CHECK(value.try_get() == nullptr);
        auto h = ex.spawn(f(value));
        ex.run_until_idle();
        CHECK(test::outcome_of(h) == "no");
        CHECK(test::run(ex, f(value)) == "made");
        CHECK(test::run(ex, f(value)) == "made");
        CHECK(calls == 2);
        CHECK(*std::as_const(value).try_get() == "made");
        magpie::sync::lazy plain([] { return 3; });
        auto g = [](auto& l) -> task<int> {
            const int n = co_await l.get();
            co_return n;
        };
        CHECK(test::run(ex, g(plain)) == 3);
    }
}
