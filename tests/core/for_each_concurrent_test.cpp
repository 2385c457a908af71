#include <magpie/core/for_each_concurrent.hpp>

#include <magpie/core.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>
#include <test/unhandled_log.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::for_each_concurrent;
using magpie::map_concurrent;
using magpie::task;
using magpie::sync::event;
using test::noisy;
using test::trace;

namespace {

task<int> twice(int n) { co_return 2 * n; }

/// Takes longer the smaller it is.
task<int> twice_later(int n) {
    co_await magpie::sleep_for((10 - n) * 1ms);
    co_return 2 * n;
}

task<> never(trace& log, std::string name) {
    const noisy local(log, std::move(name));
    event e;
    co_await e.wait();
}

} // namespace

TEST_SUITE("core.for_each_concurrent") {
    TEST_CASE("the values come in the order of the range, whatever the order of the ends") {
        test::manual_executor ex;
        auto main = []() -> task<std::vector<int>> {
            const std::vector<int> numbers{1, 2, 3, 4, 5};
            co_return co_await map_concurrent(numbers, 5, twice_later);
        };
        auto h = ex.spawn(main());
        ex.advance(9ms);
        CHECK(h.blocking_join() == std::vector<int>{2, 4, 6, 8, 10});
    }

    TEST_CASE("at most n run at a time, and the next begins when one has ended") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            int running = 0;
            auto work = [&](int n) -> task<> {
                l.add("+" + std::to_string(n));
                CHECK(++running <= 2);
                co_await magpie::sleep_for(n * 10ms);
                --running;
                l.add("-" + std::to_string(n));
            };
            co_await for_each_concurrent(std::views::iota(1, 5), 2, work);
            l.add("end");
        };
        auto h = ex.spawn(main(log));
        ex.advance(60ms);
        CHECK(log.text() == "+1 +2 -1 +3 -2 +4 -3 -4 end");
        CHECK(h.is_finished());
    }

    TEST_CASE("a range is moved on in the calling task, when there is a place") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            auto made = std::views::iota(1, 4) | std::views::transform([&l](int n) {
                            l.add("make" + std::to_string(n));
                            return n;
                        });
            auto work = [&l](int n) -> task<> {
                co_await magpie::sleep_for(1ms);
                l.add("end" + std::to_string(n));
            };
            co_await for_each_concurrent(made, 1, work);
        };
        auto h = ex.spawn(main(log));
        ex.advance(3ms);
        CHECK(log.text() == "make1 end1 make2 end2 make3 end3");
        CHECK(h.is_finished());
    }

    TEST_CASE("elements: of an lvalue by reference, of an rvalue moved, and kept as long as needed") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            std::vector<int> numbers{1, 2, 3};
            auto add = [](int& n) -> task<> {
                co_await magpie::yield_now();
                n += 10;
            };
            co_await for_each_concurrent(numbers, 2, add);
            CHECK(numbers == std::vector<int>{11, 12, 13});

            std::vector<std::unique_ptr<int>> owned;
            owned.push_back(std::make_unique<int>(1));
            owned.push_back(std::make_unique<int>(2));
            auto take = [](std::unique_ptr<int> n) -> task<std::unique_ptr<int>> {
                co_await magpie::yield_now();
                ++*n;
                co_return n;
            };
            std::vector<std::unique_ptr<int>> moved = co_await map_concurrent(std::move(owned), 2,
                                                                              take);
            REQUIRE(moved.size() == 2);
            CHECK(*moved[0] == 2);
            CHECK(*moved[1] == 3);

            auto refer = [](int& n) -> task<int&> { co_return n; };
            std::vector<std::reference_wrapper<int>> same = co_await map_concurrent(numbers, 1, refer);
            CHECK(&same[2].get() == &numbers[2]);

            auto length = [](const std::string& s) -> task<std::size_t> {
                co_await magpie::yield_now();
                co_return s.size();
            };
            std::vector<std::string> words{"a", "bc"};
            const std::vector<std::size_t> sizes = co_await map_concurrent(std::move(words), 2, length);
            CHECK(sizes == std::vector<std::size_t>{1, 2});
        };
        test::run(ex, main());
    }

    TEST_CASE("of an empty range it is ready, with no values") {
        test::manual_executor ex;
        auto main = []() -> task<> {
            const std::vector<int> none;
            co_await for_each_concurrent(none, 1, twice);
            const std::vector<int> values = co_await map_concurrent(none, 1, twice);
            CHECK(values.empty());
        };
        test::run(ex, main());
    }

    TEST_CASE("the first failure drops the others, and is rethrown when they are gone") {
        test::manual_executor ex;
        const test::unhandled_log unhandled(ex);
        trace log;
        auto main = [](trace& l) -> task<> {
            auto work = [&l](int n) -> task<int> {
                if (n == 3)
                    throw std::runtime_error("failed");
                co_await never(l, std::to_string(n));
                co_return n;
            };
            try {
                co_await map_concurrent(std::views::iota(1, 1000), 4, work);
            } catch (const std::runtime_error& e) {
                l.add(e.what());
            }
        };
        test::run(ex, main(log));
        CHECK((log.text() == "1 2 failed" || log.text() == "2 1 failed")); // the fourth had not begun
        CHECK(unhandled.count() == 0);
        CHECK(ex.live() == 0);
    }

    TEST_CASE("a call that throws before it gives a task fails it as well") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            const std::function<task<>(int)> work = [&l](int n) {
                if (n == 2)
                    throw std::runtime_error("no task");
                return never(l, std::to_string(n));
            };
            try {
                co_await for_each_concurrent(std::views::iota(1, 3), 9, work);
            } catch (const std::runtime_error& e) {
                l.add(e.what());
            }
        };
        test::run(ex, main(log));
        CHECK(log.text() == "no task"); // the first one had not started
        CHECK(ex.live() == 0);
    }

    TEST_CASE("dropped, it drops all and waits") {
        test::manual_executor ex;
        trace log;
        auto main = [](trace& l) -> task<> {
            const noisy local(l, "parent");
            auto work = [&l](int n) { return never(l, std::to_string(n)); };
            co_await for_each_concurrent(std::views::iota(1, 10), 2, work);
        };
        auto h = ex.spawn(main(log));
        ex.run_until_idle();
        h.abort();
        ex.run_until_idle();
        CHECK((log.text() == "1 2 parent" || log.text() == "2 1 parent"));
        CHECK(ex.live() == 0);
    }

    TEST_CASE("0 at a time is a logic_error, at the call") {
        const std::vector<int> numbers{1};
        CHECK_THROWS_AS(static_cast<void>(for_each_concurrent(numbers, 0, twice)), std::logic_error);
        CHECK_THROWS_WITH_AS(
            static_cast<void>(map_concurrent(numbers, 0, twice)),
            "for_each_concurrent and map_concurrent with 0 tasks at a time would never "
            "run one: give them 1 or more",
            std::logic_error);
    }
}
