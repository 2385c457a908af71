#include <magpie/scheduler/interval.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>

#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using magpie::clock;
using magpie::interval;
using magpie::missed_tick;
using magpie::runtime;
using magpie::sleep_for;
using magpie::task;
using test::on_each_layout;

namespace {

using list = std::vector<std::int64_t>;

std::int64_t ms(clock::duration d) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

/// When ticks of 10 ms come if the task is 35 ms late for the third: for each the time at which it
/// came, and the time for which it was due.
task<list> with_a_delay(missed_tick policy) {
    const auto start = clock::now();
    interval every(10ms, policy);
    list seen;
    for (int i = 0; i < 8; ++i) {
        if (i == 2)
            co_await sleep_for(35ms);
        const auto due = co_await every.tick();
        seen.push_back(ms(clock::now() - start));
        seen.push_back(ms(due - start));
    }
    co_return seen;
}

} // namespace

TEST_SUITE("scheduler.interval") {
    TEST_CASE("the first tick comes at once, each further one a period later") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<list> {
                const auto start = clock::now();
                interval every(10ms);
                list seen;
                for (int i = 0; i < 4; ++i) {
                    const auto due = co_await every.tick();
                    seen.push_back(ms(clock::now() - start));
                    seen.push_back(ms(due - start));
                }
                co_return seen;
            };
            CHECK(rt.block_on(main()) == list{0, 0, 10, 10, 20, 20, 30, 30});
        });
    }

    TEST_CASE("TIME-CORE-16 a period of zero or less is refused") {
        CHECK_THROWS_AS(interval(0s), std::logic_error);
        CHECK_THROWS_AS(interval(-1ns), std::logic_error);
        CHECK_THROWS_AS(interval(clock::now(), 0s), std::logic_error);
    }

    TEST_CASE(
        "TIME-CORE-17 missed ticks: burst catches up, delay begins anew, skip keeps to multiples") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            // Ticks at 0 and 10, then the task is back at 45.
            CHECK(rt.block_on(with_a_delay(missed_tick::burst)) ==
                  list{0, 0, 10, 10, 45, 20, 45, 30, 45, 40, 50, 50, 60, 60, 70, 70});
            CHECK(rt.block_on(with_a_delay(missed_tick::delay)) ==
                  list{0, 0, 10, 10, 45, 20, 55, 55, 65, 65, 75, 75, 85, 85, 95, 95});
            CHECK(rt.block_on(with_a_delay(missed_tick::skip)) ==
                  list{0, 0, 10, 10, 45, 20, 50, 50, 60, 60, 70, 70, 80, 80, 90, 90});
        });
    }

    TEST_CASE("TIME-CORE-18 each reset gives the next tick that it says") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<list> {
                const auto start = clock::now();
                list seen;
                interval every(10ms);
                co_await every.tick(); // 0
                co_await sleep_for(7ms);
                every.reset(); // from 7
                seen.push_back(ms(co_await every.tick() - start));
                co_await sleep_for(3ms); // 20
                every.reset_immediately();
                seen.push_back(ms(co_await every.tick() - start));
                every.reset_after(3ms);
                seen.push_back(ms(co_await every.tick() - start));
                every.reset_at(start + 40ms);
                seen.push_back(ms(co_await every.tick() - start));
                every.reset_at(start + 100ms); // further away than a period
                seen.push_back(ms(co_await every.tick() - start));
                seen.push_back(ms(co_await every.tick() - start));
                co_return seen;
            };
            CHECK(rt.block_on(main()) == list{17, 20, 23, 40, 100, 110});
        });
    }

    TEST_CASE("TIME-CORE-19 a tick costs one turn: nothing looks at the clock in between") {
        const runtime rt = test::current_thread().paused_clock(true).build();
        auto main = []() -> task<> {
            interval every(1s);
            for (int i = 0; i < 100; ++i)
                co_await every.tick();
        };
        rt.block_on(main());
        CHECK(rt.metrics().workers.front().turns == 100); // the first tick needs no wake
        CHECK(rt.metrics().workers.front().timers_fired == 99);
    }

    TEST_CASE("TIME-CORE-20 the longest period overflows nothing") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            for (const auto policy : {missed_tick::burst, missed_tick::delay, missed_tick::skip}) {
                auto main = [](missed_tick p) -> task<bool> {
                    interval every(clock::duration::max(), p);
                    co_await every.tick();
                    const auto second = co_await magpie::timeout(1h, every.tick());
                    interval late(clock::now() - 1h, clock::duration::max(), p);
                    co_await late.tick();
                    every.reset();
                    co_return second.has_value();
                };
                CHECK_FALSE(rt.block_on(main(policy)));
            }
        });
    }

    TEST_CASE("a tick that was dropped is not used up") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                const auto start = clock::now();
                interval every(start + 10ms, 10ms);
                for (int i = 0; i < 3; ++i) {
                    const auto t = co_await magpie::timeout(3ms, every.tick());
                    if (t.has_value())
                        co_return false;
                }
                const auto due = co_await every.tick();
                co_return due == start + 10ms && clock::now() == start + 10ms;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("period and policy can be read, and the policy changed") {
        interval every(10ms, missed_tick::skip);
        CHECK(every.period() == 10ms);
        CHECK(every.policy() == missed_tick::skip);
        every.set_policy(missed_tick::delay);
        CHECK(every.policy() == missed_tick::delay);
    }
}
