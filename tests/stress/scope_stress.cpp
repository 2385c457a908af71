// Scopes whose tasks end, fail, spawn, wait for places and are aborted on several threads, while the scope
// ends, fails or is dropped: nothing runs behind a scope, and no memory is left.

#include <magpie/core/as_result.hpp>
#include <magpie/core/attached_failures.hpp>
#include <magpie/core/for_each_concurrent.hpp>
#include <magpie/core/scope.hpp>
#include <magpie/core/select.hpp>
#include <magpie/sync/event.hpp>

#include <test/captured_log.hpp>
#include <test/limits.hpp>
#include <test/shared_executor.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <ranges>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using magpie::scope;
using magpie::task;
using magpie::task_scope;
using test::counted;
using test::shared_executor;
using test::workers;

namespace {

/// What tasks of one scope share: it must outlive them all.
class shared_state {
public:
    shared_state() = default;
    shared_state(const shared_state&) = delete;
    ~shared_state() {
        if (users.load() != 0)
            ++left_too_early;
    }

    class user {
    public:
        explicit user(shared_state& s) noexcept : state_(s) { ++state_.users; }
        user(const user&) = delete;
        ~user() { --state_.users; }

    private:
        shared_state& state_;
        counted counted_;
    };

    std::atomic<int> users{0};
    static inline std::atomic<int> left_too_early{0};
};

class random_source {
public:
    explicit random_source(unsigned seed) noexcept : x_(seed * 2654435761U + 1) {}
    unsigned below(unsigned n) noexcept {
        x_ ^= x_ << 13;
        x_ ^= x_ >> 17;
        x_ ^= x_ << 5;
        return x_ % n;
    }

private:
    unsigned x_;
};

task<> some_yields() {
    for (int i = 0; i < 3; ++i)
        co_await magpie::yield_now();
}

task<counted> child(task_scope& s, shared_state& state, unsigned seed, int depth) {
    const shared_state::user here(state);
    random_source random(seed);
    for (unsigned i = random.below(3); i > 0; --i)
        co_await magpie::yield_now();
    if (depth > 0 && random.below(2) == 0) {
        auto h = s.spawn(child(s, state, seed + 1, depth - 1));
        s.spawn(child(s, state, seed + 2, depth - 1));
        if (random.below(2) == 0)
            static_cast<void>(co_await as_result(h));
    }
    if (random.below(4) == 0) { // not for ever: all places may belong to those who wait for one
        auto won = co_await magpie::select(s.spawn_when_free(child(s, state, seed + 3, 0)),
                                           some_yields());
        static_cast<void>(won.index());
    }
    if (random.below(40) == 0)
        s.abort_all();
    if (random.below(20) == 0)
        throw std::runtime_error("as it was meant");
    co_return counted(1);
}

task<int> parent(unsigned seed) {
    shared_state state;
    random_source random(seed);
    auto body = [&](task_scope& s) -> task<int> {
        const shared_state::user here(state);
        for (unsigned i = random.below(4); i > 0; --i) {
            auto h = s.spawn(child(s, state, seed + i, 3));
            if (random.below(3) == 0)
                static_cast<void>(co_await as_result(h));
            if (random.below(6) == 0)
                h.abort();
        }
        if (random.below(3) == 0)
            static_cast<void>(co_await s.spawn_when_free(child(s, state, seed + 9, 1)));
        if (random.below(20) == 0)
            throw std::runtime_error("as it was meant");
        co_return 1;
    };
    const auto policy = random.below(2) == 0 ? magpie::fail_fast : magpie::collect_all;
    const auto r = co_await as_result(scope(policy.limit(3), body));
    if (state.users.load() != 0)
        ++shared_state::left_too_early;
    co_return r.has_value() || !r.failures().empty() ? 0 : 1;
}

task<int> first_of(unsigned seed) {
    shared_state state;
    random_source random(seed);
    auto attempt = [&state](unsigned n) -> task<counted> {
        const shared_state::user here(state);
        for (unsigned i = n % 3; i > 0; --i)
            co_await magpie::yield_now();
        if (n % 4 == 0)
            throw std::runtime_error("as it was meant");
        co_return counted(static_cast<int>(n));
    };
    auto body = [&](magpie::first_success_scope<counted>& s) -> task<> {
        for (unsigned i = random.below(5); i > 0; --i)
            s.spawn(attempt(random.below(100)));
        co_await magpie::yield_now();
    };
    const auto r = co_await as_result(scope(magpie::first_success<counted>, body));
    if (state.users.load() != 0)
        ++shared_state::left_too_early;
    co_return r.has_value() && r->value % 4 == 0 ? 1 : 0;
}

/// Runs many of what `make(seed)` gives, and aborts some of them at any moment. How many were wrong.
template <class Make>
int run_many(int n, Make make) {
    shared_executor ex;
    const workers turns(ex, 3);
    int wrong = 0;
    random_source random(7);
    for (int i = 0; i < n; ++i) {
        auto h = ex.spawn(make(static_cast<unsigned>(i)));
        if (random.below(3) == 0) {
            for (unsigned spin = random.below(500); spin > 0; --spin)
                static_cast<void>(h.is_finished());
            h.abort();
        }
        try {
            wrong += h.blocking_join();
        } catch (const magpie::task_cancelled&) {
            // as it was meant
        }
    }
    while (ex.live() > 0)
        std::this_thread::yield();
    return wrong;
}

} // namespace

TEST_SUITE("stress.scope") {
    TEST_CASE("nothing runs behind a scope, however it ends") {
        counted::alive = 0;
        shared_state::left_too_early = 0;
        const test::muted_log quiet; // dropped scopes report what has failed
        CHECK(run_many(test::scaled(100'000), parent) == 0);
        CHECK(shared_state::left_too_early.load() == 0);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("the first to succeed, against the others and against an abort") {
        counted::alive = 0;
        shared_state::left_too_early = 0;
        CHECK(run_many(test::scaled(100'000), first_of) == 0);
        CHECK(shared_state::left_too_early.load() == 0);
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("what else has failed goes with its exception from task to task, all of it") {
        static constexpr int others = 3;
        struct throwing {
            /// Fails when it is dropped.
            static task<> late(std::atomic<int>& begun) {
                const test::throws_at_end local("late");
                const counted here;
                ++begun;
                magpie::sync::event never;
                co_await never.wait();
            }
            static task<> together() {
                std::atomic<int> begun{0};
                auto body = [&begun](task_scope& s) -> task<> {
                    for (int i = 0; i < others; ++i)
                        s.spawn(late(begun));
                    while (begun < others)
                        co_await magpie::yield_now();
                    throw std::runtime_error("first");
                };
                co_await scope(body);
            }
            /// The same, as the only task of a scope, and awaited by its handle elsewhere.
            static task<> below() {
                auto body = [](task_scope& s) -> task<> {
                    s.spawn(together());
                    co_return;
                };
                co_await scope(body);
            }
            static task<int> count(int way) {
                auto h = magpie::spawn(way % 2 == 0 ? together() : below());
                const auto r = co_await magpie::as_result(h);
                co_return static_cast<int>(magpie::attached_failures(r.error()).size());
            }
            static task<int> run(int rounds) {
                int wrong = 0;
                for (int i = 0; i < rounds; ++i) {
                    std::vector<magpie::join_handle<int>> all;
                    for (int k = 0; k < 4; ++k)
                        all.push_back(magpie::spawn(count(i + k)));
                    for (auto& h : all) {
                        const int n = co_await h;
                        wrong += n == others ? 0 : 1;
                    }
                }
                co_return wrong;
            }
        };
        counted::alive = 0;
        const test::muted_log quiet; // they are reported as well
        {
            shared_executor ex;
            const workers turns(ex, 3);
            CHECK(ex.spawn(throwing::run(test::scaled(5'000))).blocking_join() == 0);
        }
        CHECK(counted::alive.load() == 0);
    }

    TEST_CASE("places: never more than the limit, and none is lost by waits that run out of time") {
        constexpr int n = test::scaled(100'000);
        shared_executor ex;
        const workers turns(ex, 2);
        auto main = []() -> task<int> {
            std::atomic<int> running{0};
            std::atomic<int> ran{0};
            std::atomic<int> most{0};
            auto work = [&](int i) -> task<> {
                const int now = ++running;
                int seen = most.load();
                while (now > seen && !most.compare_exchange_weak(seen, now)) {}
                if (i % 2 == 0)
                    co_await magpie::yield_now();
                ++ran;
                --running;
            };
            auto body = [&](task_scope& s) -> task<int> {
                int spawned = 0;
                for (int i = 0; i < n; ++i) {
                    if (i % 3 == 0) {
                        auto in_time = co_await magpie::timeout(std::chrono::nanoseconds(1),
                                                                s.spawn_when_free(work(i)));
                        spawned += in_time ? 1 : 0;
                    } else {
                        static_cast<void>(co_await s.spawn_when_free(work(i)));
                        ++spawned;
                    }
                }
                co_return spawned;
            };
            const int spawned = co_await scope(magpie::fail_fast.limit(4), body);
            co_return (most.load() <= 4 ? 0 : 1) + (ran.load() == spawned ? 0 : 2);
        };
        auto h = ex.spawn(main());
        while (!h.is_finished()) {
            ex.advance(std::chrono::nanoseconds(1));
            std::this_thread::yield(); // not all of the only core
        }
        CHECK(h.blocking_join() == 0);
    }

    TEST_CASE("map_concurrent keeps the order of the range") {
        static constexpr int n = test::scaled(200'000);
        shared_executor ex;
        const workers turns(ex, 3);
        auto main = []() -> task<bool> {
            auto work = [](int i) -> task<int> {
                if (i % 7 == 0)
                    co_await magpie::yield_now();
                co_return i;
            };
            const std::vector<int> all = co_await magpie::map_concurrent(std::views::iota(0, n), 50,
                                                                         work);
            co_return all.size() == static_cast<std::size_t>(n) && std::ranges::is_sorted(all);
        };
        CHECK(ex.spawn(main()).blocking_join());
    }
}
