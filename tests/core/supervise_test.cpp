#include <magpie/core/supervise.hpp>

#include <magpie/core.hpp>

#include <test/captured_log.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;
using magpie::failed_run;
using magpie::restart_policy;
using magpie::supervise;
using magpie::task;
using test::noisy;
using test::trace;

namespace {

task<int> fail_until(int& runs, int good) {
    if (++runs < good)
        throw std::runtime_error("run " + std::to_string(runs));
    co_return runs;
}

} // namespace

TEST_SUITE("core.supervise") {
    TEST_CASE("runs again until one succeeds, and gives its value") {
        test::manual_executor ex;
        const test::captured_log log;
        int runs = 0;
        auto main = [](int& n) -> task<int> {
            auto f = [&n] { return fail_until(n, 3); };
            co_return co_await supervise(f, restart_policy().back_off(10ms, 2, 1s));
        };
        auto h = ex.spawn(main(runs));
        ex.advance(9ms);
        CHECK(runs == 1);
        ex.advance(1ms);
        CHECK(runs == 2);
        ex.advance(19ms);
        CHECK(runs == 2);
        ex.advance(1ms);
        CHECK(h.blocking_join() == 3);
        CHECK(log.count("a supervised run has failed, in task ") == 2);
        CHECK(log.contains("is restarted in 10 ms (failures: 1): run 1"));
        CHECK(log.contains("is restarted in 20 ms (failures: 2): run 2"));
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE(
        "when the limit is reached the last failure is rethrown as it is, and its count is known") {
        test::manual_executor ex;
        std::vector<std::size_t> counts;
        bool given_up = false;
        auto main = [](std::vector<std::size_t>& all, bool& last) -> task<> {
            auto f = []() -> task<> {
                throw std::system_error(std::make_error_code(std::errc::connection_refused));
                co_return;
            };
            auto note = [&](const failed_run& r) {
                all.push_back(r.failures);
                last = r.gives_up;
                CHECK_THROWS_AS(std::rethrow_exception(r.error), std::system_error);
            };
            const auto policy = restart_policy().back_off(1ms, 1, 1ms).limit(2, 1min).on_failure(note);
            CHECK_THROWS_AS(co_await supervise(f, policy), std::system_error);
        };
        auto h = ex.spawn(main(counts, given_up));
        ex.advance(2ms);
        h.blocking_join();
        CHECK(counts == std::vector<std::size_t>{1, 2, 3});
        CHECK(given_up);
    }

    TEST_CASE("only failures within the window count") {
        test::manual_executor ex;
        std::vector<magpie::clock::duration> delays;
        int runs = 0;
        auto main = [](int& n, auto& all) -> task<> {
            auto f = [&n]() -> task<> {
                ++n;
                co_await magpie::sleep_for(n < 4 ? 600ms : 0ms);
                throw std::runtime_error("failed");
            };
            const auto policy = restart_policy()
                                    .back_off(100ms, 3, 10s)
                                    .limit(2, 1s)
                                    .on_failure([&](const failed_run& r) { all.push_back(r.delay); });
            CHECK_THROWS_AS(co_await supervise(f, policy), std::runtime_error);
        };
        auto h = ex.spawn(main(runs, delays));
        ex.advance(20s);
        CHECK(h.is_finished());
        // Failures at 600, 1300 (2 within a second), 2200 (2), 2500 (2), ...
        REQUIRE(delays.size() >= 4);
        CHECK(delays[0] == 100ms);
        CHECK(delays[1] == 300ms);
        CHECK(delays[2] == 300ms);
        CHECK(delays.back() == 0ms); // it has given up
    }

    TEST_CASE("delays grow to the maximum, and jitter keeps them within its part") {
        test::manual_executor ex;
        std::vector<magpie::clock::duration> delays;
        auto main = [](auto& all, restart_policy policy) -> task<> {
            int n = 0;
            auto f = [&n] { return fail_until(n, 100); };
            policy.without_limit(24h).on_failure([&](const failed_run& r) { all.push_back(r.delay); });
            co_await supervise(f, policy);
        };
        SUBCASE("without jitter") {
            auto h = ex.spawn(main(delays, restart_policy().back_off(1ms, 10, 5s)));
            ex.advance(24h);
            CHECK(h.is_finished());
            CHECK(delays.size() == 99);
            CHECK(delays[3] == 1s);
            CHECK(delays[4] == 5s);
            CHECK(delays[98] == 5s);
        }
        SUBCASE("with jitter") {
            auto h = ex.spawn(main(delays, restart_policy().back_off(1s, 1, 10s).jitter(0.5)));
            ex.advance(24h);
            CHECK(h.is_finished());
            const auto [least, most] = std::minmax_element(delays.begin(), delays.end());
            CHECK(*least >= 500ms);
            CHECK(*least < 900ms);
            CHECK(*most <= 1500ms);
            CHECK(*most > 1100ms);
        }
        SUBCASE("none at all") {
            auto h = ex.spawn(main(delays, restart_policy().back_off(0s, 1e300, 1h)));
            ex.run_until_idle();
            CHECK(h.is_finished());
            CHECK(delays[98] == 0s);
        }
    }

    TEST_CASE("dropped, it drops the run at hand, or the wait, and starts none") {
        test::manual_executor ex;
        trace log;
        int runs = 0;
        auto main = [](trace& l, int& n) -> task<> {
            auto f = [&]() -> task<> {
                ++n;
                const noisy local(l, "run");
                co_await magpie::sleep_for(1s);
                throw std::runtime_error("failed");
            };
            co_await supervise(f, restart_policy().back_off(1s, 1, 1s).on_failure([](const auto&) {}));
        };
        auto h = ex.spawn(main(log, runs));
        SUBCASE("in a run") {
            ex.run_until_idle();
            h.abort();
        }
        SUBCASE("in a wait") {
            ex.advance(1500ms);
            h.abort();
        }
        ex.advance(10s);
        CHECK(log.text() == "run");
        CHECK(runs == 1);
        CHECK(test::outcome_of(h) == "cancelled");
        CHECK(ex.armed_timers() == 0);
    }

    TEST_CASE("supervised tasks of a scope, one for one") {
        test::manual_executor ex;
        int a = 0;
        int b = 0;
        auto main = [](int& m, int& n) -> task<int> {
            const auto policy = restart_policy().back_off(1ms, 1, 1ms).on_failure([](const auto&) {});
            auto body = [&](magpie::task_scope& s) -> task<int> {
                auto first = s.spawn(supervise([&m] { return fail_until(m, 4); }, policy));
                auto second = s.spawn(supervise([&n] { return fail_until(n, 2); }, policy));
                const int sum = co_await first;
                co_return sum + co_await second;
            };
            co_return co_await magpie::scope(body);
        };
        auto h = ex.spawn(main(a, b));
        ex.advance(1s);
        CHECK(h.blocking_join() == 6);
    }

    TEST_CASE("misuse is a logic_error") {
        CHECK_THROWS_AS(restart_policy().back_off(-1ms, 2, 1s), std::logic_error);
        CHECK_THROWS_AS(restart_policy().back_off(2s, 2, 1s), std::logic_error);
        CHECK_THROWS_AS(restart_policy().back_off(1s, 0.5, 2s), std::logic_error);
        CHECK_THROWS_AS(restart_policy().jitter(1.5), std::logic_error);
        CHECK_THROWS_AS(restart_policy().limit(1, 0s), std::logic_error);
        CHECK_THROWS_AS(restart_policy().without_limit(-1s), std::logic_error);
    }
}
