// Scopes on the runtime: in each layout, on several threads, and at its end.

#include <magpie/core/scope.hpp>

#include <magpie/core/yield.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

using magpie::scope;
using magpie::task;
using magpie::task_scope;
using magpie::sync::event;
using test::on_each_layout;

namespace {

task<> never() {
    event e;
    co_await e.wait();
}

/// Counts itself in and out.
class counted_in {
public:
    explicit counted_in(std::atomic<int>& n) noexcept : n_(n) { ++n_; }
    counted_in(const counted_in&) = delete;
    ~counted_in() { --n_; }

private:
    std::atomic<int>& n_;
};

task<std::uint64_t> sum_of(const std::vector<int>& numbers, std::size_t from, std::size_t to) {
    if (to - from <= 64) {
        std::uint64_t sum = 0;
        for (std::size_t i = from; i < to; ++i)
            sum += static_cast<std::uint64_t>(numbers[i]);
        co_return sum;
    }
    const std::size_t middle = from + (to - from) / 2;
    auto halves = [&](task_scope& s) -> task<std::uint64_t> {
        auto low = s.spawn(sum_of(numbers, from, middle));
        auto high = s.spawn(sum_of(numbers, middle, to));
        const std::uint64_t first = co_await low;
        co_return first + co_await high;
    };
    co_return co_await scope(halves);
}

} // namespace

TEST_SUITE("scheduler.scope") {
    TEST_CASE("SCOPE-05 scopes in scopes read what stands in the outermost frame") {
        on_each_layout([](auto builder) {
            const magpie::runtime rt = builder.build();
            auto main = []() -> task<std::uint64_t> {
                std::vector<int> numbers(10'000, 3);
                co_return co_await sum_of(numbers, 0, numbers.size());
            };
            CHECK(rt.block_on(main()) == 30'000);
        });
    }

    TEST_CASE(
        "SCOPE-02 a failure on any worker drops the others, and they are gone when it is rethrown") {
        on_each_layout([](auto builder) {
            std::atomic<int> begun{0};
            std::atomic<int> running{0};
            const magpie::runtime rt = builder.build();
            auto main = [](std::atomic<int>& all, std::atomic<int>& now) -> task<> {
                auto waits = [&]() -> task<> {
                    ++all;
                    const counted_in local(now);
                    co_await never();
                };
                auto fails = []() -> task<> {
                    throw std::runtime_error("failed");
                    co_return;
                };
                auto body = [&](task_scope& s) -> task<> {
                    for (int i = 0; i < 100; ++i)
                        s.spawn(waits());
                    while (all < 100)
                        co_await magpie::yield_now();
                    s.spawn(fails());
                    co_await never();
                };
                CHECK_THROWS_AS(co_await scope(body), std::runtime_error);
                CHECK(now == 0);
            };
            rt.block_on(main(begun, running));
            CHECK(begun == 100);
        });
    }

    TEST_CASE(
        "SCOPE-04 at a shutdown scopes are dropped, their tasks before the frame that they refer to") {
        on_each_layout([](auto builder) {
            std::atomic<int> parents{0};
            std::atomic<int> too_early{0};
            std::atomic<int> begun{0};
            {
                const magpie::runtime rt = builder.build();
                auto main = [](std::atomic<int>& alive, std::atomic<int>& bad,
                               std::atomic<int>& all) -> task<> {
                    const counted_in local(alive);
                    class checked {
                    public:
                        explicit checked(std::atomic<int>& wrong) noexcept : wrong_(wrong) {}
                        checked(const checked&) = delete;
                        ~checked() {
                            if (users != 0)
                                ++wrong_;
                        }
                        std::atomic<int> users{0};

                    private:
                        std::atomic<int>& wrong_;
                    };
                    checked shared(bad);
                    auto child = [&]() -> task<> {
                        const counted_in here(shared.users);
                        ++all;
                        co_await never();
                    };
                    auto body = [&](task_scope& s) -> task<> {
                        for (int i = 0; i < 20; ++i)
                            s.spawn(child());
                        co_await never();
                    };
                    co_await scope(body);
                };
                for (int i = 0; i < 10; ++i)
                    rt.spawn(main(parents, too_early, begun)).detach();
                auto until_begun = [](std::atomic<int>& all) -> task<> {
                    while (all < 200)
                        co_await magpie::yield_now();
                };
                rt.block_on(until_begun(begun));
            }
            CHECK(parents == 0);
            CHECK(too_early == 0);
        });
    }

    TEST_CASE("SCOPE-07 plain threads spawn into a scope, onto the scope's own runtime") {
        const magpie::runtime rt = test::multi_thread(2).build();
        auto main = []() -> task<int> {
            std::atomic<int> ran{0};
            auto child = [&ran]() -> task<> {
                ++ran;
                co_return;
            };
            auto body = [&](task_scope& s) -> task<> {
                auto spawns = [&] {
                    for (int i = 0; i < 100; ++i)
                        s.spawn(child());
                };
                auto one = magpie::spawn_blocking(spawns);
                auto two = magpie::spawn_blocking(spawns);
                co_await one;
                co_await two;
            };
            co_await scope(body);
            co_return ran.load();
        };
        CHECK(rt.block_on(main()) == 200);
    }
}
