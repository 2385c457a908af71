// Scopes on the runtime: in each layout, on several threads, and at its end.

#include <magpie/core/scope.hpp>

#include <magpie/scheduler.hpp>
#include <magpie/sync/event.hpp>

#include <test/layouts.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
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

    TEST_CASE("SCOPE-02 a failure on any worker drops the others") {
        on_each_layout([](auto builder) {
            std::atomic<int> dropped{0};
            const magpie::runtime rt = builder.build();
            auto main = [](std::atomic<int>& n) -> task<> {
                class at_end {
                public:
                    explicit at_end(std::atomic<int>& count) : count_(count) {}
                    at_end(const at_end&) = delete;
                    ~at_end() { ++count_; }

                private:
                    std::atomic<int>& count_;
                };
                auto waits = [&n]() -> task<> {
                    const at_end local(n);
                    co_await never();
                };
                auto body = [&](task_scope& s) -> task<> {
                    for (int i = 0; i < 100; ++i)
                        s.spawn(waits());
                    while (s.size() < 100)
                        co_await magpie::yield_now();
                    for (int i = 0; i < 10; ++i)
                        co_await magpie::yield_now();
                    s.spawn([]() -> task<> {
                        throw std::runtime_error("failed");
                        co_return;
                    });
                    co_await never();
                };
                CHECK_THROWS_AS(co_await scope(body), std::runtime_error);
                CHECK(n <= 100); // those that had begun
            };
            rt.block_on(main(dropped));
        });
    }

    TEST_CASE("SCOPE-04 at a shutdown scopes are dropped, and their tasks with them") {
        on_each_layout([](auto builder) {
            std::atomic<int> ended{0};
            {
                const magpie::runtime rt = builder.build();
                auto main = [](std::atomic<int>& n) -> task<> {
                    class checks {
                    public:
                        checks(std::atomic<int>& count, int& tasks) : count_(count), tasks_(tasks) {}
                        checks(const checks&) = delete;
                        ~checks() { ++count_; }
                        std::atomic<int>& count_;
                        int& tasks_;
                    };
                    int local = 0;
                    const checks at_end(n, local);
                    auto child = [&local]() -> task<> {
                        static_cast<void>(local);
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
                    rt.spawn(main(ended)).detach();
                auto yields = []() -> task<> {
                    for (int i = 0; i < 10; ++i)
                        co_await magpie::yield_now();
                };
                rt.block_on(yields());
            }
            CHECK(ended <= 10);
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
