#include <magpie/core/parallel_for.hpp>
#include <magpie/core/parallel_reduce.hpp>

#include <magpie/core/yield.hpp>
#include <magpie/scheduler/runtime.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using magpie::parallel_for;
using magpie::parallel_reduce;
using magpie::runtime;
using magpie::task;

namespace {

bool all_are(const std::vector<int>& v, int n) {
    return std::all_of(v.begin(), v.end(), [n](int x) { return x == n; });
}

/// Computes for a moment.
std::uint64_t work(std::uint64_t n) {
    for (int i = 0; i < 100; ++i)
        n = n * 6364136223846793005U + 1442695040888963407U;
    return n;
}

} // namespace

TEST_SUITE("scheduler.parallel") {
    TEST_CASE("parallel_for calls once for each element") {
        test::on_each_layout([](auto builder) {
            auto rt = builder.build();
            for (const int n : {0, 1, 2, 3, 10, 1000, 100'000}) {
                std::vector<int> calls(static_cast<std::size_t>(n), 0);
                rt.block_on(parallel_for(calls, [](int& c) { ++c; }));
                CHECK(all_are(calls, 1));
                rt.block_on(parallel_for(0, n, [&](int i) { ++calls[static_cast<std::size_t>(i)]; }));
                CHECK(all_are(calls, 2));
                rt.block_on(parallel_for(calls.begin(), calls.end(), [](int& c) { ++c; }));
                CHECK(all_are(calls, 3));
                rt.block_on(parallel_for(std::views::iota(0, n),
                                         [&](int i) { ++calls[static_cast<std::size_t>(i)]; }));
                CHECK(all_are(calls, 4));
            }
            int never = 0;
            rt.block_on(parallel_for(5, 4, [&](int) { ++never; }));
            CHECK(never == 0);
        });
    }

    TEST_CASE("the ends of an integer's range are no trouble") {
        std::atomic<int> n{0};
        auto rt = test::multi_thread(2).build();
        rt.block_on(parallel_for<std::int8_t>(-128, 127, [&](std::int8_t) { ++n; }));
        CHECK(n == 255);
    }

    TEST_CASE("elements that take long are all taken at the same time") {
        // Each waits until all have begun: that needs a worker for each.
        auto rt = test::multi_thread(3).build();
        for (int round = 0; round < 5; ++round) {
            std::atomic<int> here{0};
            std::atomic<bool> all{true};
            rt.block_on(parallel_for(0, 3, [&](int) {
                ++here;
                if (!test::eventually([&] { return here == 3; }))
                    all = false;
            }));
            CHECK(all);
        }
    }

    TEST_CASE("short ones are shared as well once the loop is long") {
        struct shared : std::exception {}; // which ends the loop, long before it is through
        std::atomic<std::uint64_t> sum{0};
        std::atomic<std::thread::id> first{};
        auto rt = test::multi_thread(2).build();
        auto f = [&](int i) {
            const auto me = std::this_thread::get_id();
            std::thread::id none{};
            if (!first.compare_exchange_strong(none, me) && none != me)
                throw shared();
            sum.fetch_add(work(static_cast<std::uint64_t>(i)) & 1U, std::memory_order_relaxed);
        };
        CHECK_THROWS_AS(rt.block_on(parallel_for(0, 1'000'000'000, f)), shared);
    }

    TEST_CASE("what a loop gives may be a task") {
        test::on_each_layout([](auto builder) {
            auto rt = builder.build();
            std::vector<int> calls(100, 0);
            auto slow = [](int& c) -> task<> {
                co_await magpie::yield_now();
                ++c;
            };
            rt.block_on(parallel_for(calls, slow));
            CHECK(all_are(calls, 1));
        });
    }

    TEST_CASE("a call that throws ends the loop") {
        test::on_each_layout([](auto builder) {
            std::atomic<int> calls{0};
            auto rt = builder.build();
            auto fails = [&](int i) {
                ++calls;
                if (i == 500)
                    throw std::runtime_error("500");
            };
            CHECK_THROWS_WITH_AS(rt.block_on(parallel_for(0, 1000, fails)), "500", std::runtime_error);
            CHECK(calls <= 1000);
        });
    }

    TEST_CASE("a loop lets others run, and can be dropped") {
        auto rt = test::current_thread().build();
        auto f = []() -> task<int> {
            bool stop = false;
            auto forever = [](bool& s) -> task<> {
                co_await parallel_for(std::uint64_t{0}, ~std::uint64_t{0}, [&](std::uint64_t i) {
                    if (work(i) == 0 && s)
                        throw std::logic_error("the range has come to its end");
                });
            };
            auto h = magpie::spawn(forever(stop));
            int yields = 0;
            for (; yields < 10; ++yields) // each is a turn of the loop's
                co_await magpie::yield_now();
            h.abort();
            const auto r = co_await magpie::as_result(h);
            co_return r.has_error() ? yields : 0;
        };
        CHECK(rt.block_on(f()) == 10);
    }

    TEST_CASE("parallel_reduce adds up") {
        test::on_each_layout([](auto builder) {
            auto rt = builder.build();
            for (const std::uint64_t n : {0U, 1U, 2U, 3U, 1000U, 300'000U}) {
                const auto sum = rt.block_on(
                    parallel_reduce(std::uint64_t{0}, n, std::uint64_t{7}, std::plus<>()));
                CHECK(sum == 7 + (n == 0 ? 0 : n * (n - 1) / 2));
            }
            const std::vector<int> v{3, 1, 4, 1, 5};
            const auto squares = parallel_reduce(v, 0L, std::plus<>(),
                                                 [](int x) { return long{x} * x; });
            static_assert(std::is_same_v<decltype(squares), const task<long>>);
            CHECK(rt.block_on(parallel_reduce(v.begin(), v.end(), 0L, std::plus<>(),
                                              [](int x) { return long{x} * x; })) == 52);
        });
    }

    TEST_CASE("short elements are reduced in few pieces") {
        auto rt = test::multi_thread(2).build();
        const auto turns = [&] {
            std::uint64_t n = 0;
            for (const auto& w : rt.metrics().workers)
                n += w.turns;
            return n;
        };
        CHECK(rt.block_on(parallel_reduce(0, 300'000, 0, [](int a, int) { return a; })) == 0);
        CHECK(turns() < 1000); // a fork for each would take 2300
    }

    TEST_CASE("the order of the elements is kept") {
        test::on_each_layout([](auto builder) {
            auto rt = builder.build();
            auto word = [](int i) { return std::to_string(i) + ' '; };
            std::string expected = "begin ";
            for (int i = 0; i < 3000; ++i)
                expected += word(i);
            CHECK(rt.block_on(parallel_reduce(0, 3000, std::string("begin "), std::plus<>(), word)) ==
                  expected);
        });
    }

    TEST_CASE("a value may be move-only") {
        auto rt = test::multi_thread(2).build();
        using box = std::unique_ptr<int>;
        auto adds = [](box a, box b) {
            *a += *b;
            return a;
        };
        const box sum = rt.block_on(parallel_reduce(0, 1000, std::make_unique<int>(1), adds,
                                                    [](int i) { return std::make_unique<int>(i); }));
        CHECK(*sum == 499'501);
    }

    TEST_CASE("loops run on an executor without workers") {
        std::vector<int> calls(1000, 0);
        test::run(parallel_for(calls, [](int& c) { ++c; }));
        CHECK(all_are(calls, 1));
        CHECK(test::run(parallel_reduce(0, 100, 0, std::plus<>())) == 4950);
    }
}
