// A task that is awaited by itself, and has not begun, runs within the turn of the one that awaits.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using test::on_each_layout;

namespace {

task<int> gives(int n) { co_return n; }

/// Each level spawns the next and awaits it.
task<int> deep(int levels) {
    if (levels == 0)
        co_return 0;
    auto next = magpie::spawn(deep(levels - 1));
    const int below = co_await next;
    co_return below + 1;
}

/// A binary tree; `leaf()` at each of its ends.
template <class F>
task<int> tree(int depth, F& leaf) {
    if (depth == 0) {
        leaf();
        co_return 1;
    }
    auto left = magpie::spawn(tree(depth - 1, leaf));
    auto right = magpie::spawn(tree(depth - 1, leaf));
    const int l = co_await left;
    const int r = co_await right;
    co_return l + r;
}

std::uint64_t turns(const runtime& rt) { return rt.metrics().workers[0].turns; }

} // namespace

TEST_SUITE("scheduler.awaited") {
    TEST_CASE("awaiting a new task runs it before anything else, in the order of the awaits") {
        const runtime rt = test::current_thread().build();
        std::vector<int> order;
        auto notes = [](std::vector<int>& o, int n) -> task<> {
            o.push_back(n);
            co_return;
        };
        auto main = [](std::vector<int>& o, auto f) -> task<> {
            std::vector<join_handle<>> all;
            for (int i = 0; i < 10; ++i)
                all.push_back(magpie::spawn(f(o, i)));
            for (auto& h : all)
                co_await h;
        };
        rt.block_on(main(order, notes));
        CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    }

    TEST_CASE("it is a task of its own: id, name, budget, exception") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto child = [](std::optional<std::uint64_t> parent) -> task<> {
                CHECK(magpie::this_task::id() != parent);
                CHECK(magpie::this_task::name() == "child");
                CHECK(magpie::this_task::budget() == 128);
                throw std::runtime_error("child");
                co_return;
            };
            auto main = [](auto f) -> task<> {
                const auto id = magpie::this_task::id();
                auto h = magpie::spawn("child", f(id));
                CHECK_THROWS_AS(co_await h, std::runtime_error);
                CHECK(magpie::this_task::id() == id);
            };
            rt.block_on(main(child));
        });
    }

    TEST_CASE("within a composite it does not: the other branches must not wait for its turn") {
        const runtime rt = test::current_thread().build();
        auto main = [](const runtime& r) -> task<std::uint64_t> {
            const std::uint64_t before = turns(r);
            auto h = magpie::spawn(gives(7));
            const auto value = co_await magpie::timeout(1h, std::move(h));
            CHECK(value == 7);
            co_return turns(r) - before;
        };
        CHECK(rt.block_on(main(rt)) == 2); // the child's, and the one that its end woke
    }

    TEST_CASE("one that suspends is waited for as ever") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto child = []() -> task<int> {
                co_await magpie::yield_now();
                co_await magpie::sleep_for(1ms);
                co_return 5;
            };
            auto main = [](auto f) -> task<int> {
                auto h = magpie::spawn(f());
                co_return co_await h;
            };
            CHECK(rt.block_on(main(child)) == 5);
        });
    }

    TEST_CASE("a chain of any depth uses a bounded piece of the stack") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = [](int levels) -> task<int> {
                auto h = magpie::spawn(deep(levels));
                co_return co_await h;
            };
            test::on_small_stack([&] { CHECK(rt.block_on(main(20'000)) == 20'000); });
        });
    }

    TEST_CASE("what else is ready waits for a bounded number of such turns") {
        const runtime rt = test::current_thread().build();
        int leaves = 0;
        std::optional<int> seen; // the leaves that went before the other task
        auto other = [](int& n, std::optional<int>& s) -> task<> {
            s = n;
            co_return;
        };
        auto count = [&leaves] { ++leaves; };
        auto main = [](auto f, int& n, std::optional<int>& s, auto& leaf) -> task<> {
            auto h = magpie::spawn(f(n, s));
            auto root = magpie::spawn(tree(14, leaf));
            co_await root;
            co_await h;
        };
        rt.block_on(main(other, leaves, seen, count));
        CHECK(leaves == 1 << 14);
        REQUIRE(seen);
        CHECK(*seen > 0);
        CHECK(*seen <= 256);
    }

    TEST_CASE("timers have their look in between") {
        const runtime rt = test::current_thread().build();
        bool over = false;
        int late_leaves = 0;
        auto sleeper = [](bool& o) -> task<> {
            co_await magpie::sleep_for(1ms);
            o = true;
        };
        // Trees until the sleeper has been woken, and then only a few leaves more.
        auto leaf = [&] { late_leaves += over ? 1 : 0; };
        auto main = [](bool& o, auto f, auto& l) -> task<> {
            auto h = magpie::spawn(f(o));
            while (!o) {
                auto root = magpie::spawn(tree(8, l));
                co_await root;
            }
            co_await h;
        };
        rt.block_on(main(over, sleeper, leaf));
        CHECK(late_leaves <= 1 << 8);
    }

    TEST_CASE("one that is aborted before it began is not run") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            bool ran = false;
            auto sets = [](bool& r) -> task<> {
                r = true;
                co_return;
            };
            auto main = [](bool& r, auto f) -> task<> {
                auto h = magpie::spawn(f(r));
                h.abort();
                CHECK_THROWS_AS(co_await h, magpie::task_cancelled);
            };
            if (rt.layout() == magpie::layout::current_thread) {
                rt.block_on(main(ran, sets));
                CHECK_FALSE(ran);
            }
        });
    }

    TEST_CASE("it may abort the one that awaits it, which ends at its next suspension") {
        on_each_layout([](auto builder) {
            std::atomic<bool> went_on{false};
            magpie::sync::event told;
            std::optional<magpie::abort_handle> self;
            const runtime rt = builder.build();
            auto child = [](magpie::abort_handle parent) -> task<int> {
                parent.abort();
                co_return 1;
            };
            auto parent = [](auto f, std::atomic<bool>& on, magpie::sync::event& e,
                             std::optional<magpie::abort_handle>& me) -> task<> {
                co_await e.wait();
                auto h = magpie::spawn(f(*me));
                CHECK(co_await h == 1);
                co_await magpie::yield_now();
                on = true;
            };
            auto h = rt.spawn(parent(child, went_on, told, self));
            self = h.abort_handle();
            told.set();
            auto main = [](join_handle<> p) -> task<> {
                CHECK_THROWS_AS(co_await p, magpie::task_cancelled);
            };
            rt.block_on(main(std::move(h)));
            CHECK_FALSE(went_on);
        });
    }

    TEST_CASE("it may give the worker away: the rest of the turn goes on without one") {
        const runtime rt = test::multi_thread(2).build();
        auto child = []() -> task<int> {
            auto blocks = [] { return 3; };
            const int n = magpie::block_in_place(blocks);
            co_return n;
        };
        auto parent = [](auto f) -> task<int> {
            auto h = magpie::spawn(f());
            const int n = co_await h;
            auto again = magpie::spawn(gives(n)); // from a thread that is no worker now
            const int m = co_await again;
            co_return n + m;
        };
        auto main = [](auto p, auto f) -> task<> {
            for (int i = 0; i < 20; ++i) {
                auto h = magpie::spawn(p(f));
                CHECK(co_await h == 6);
            }
        };
        rt.block_on(main(parent, child));
    }

    TEST_CASE("many workers: trees whose tasks are stolen from under their parents") {
        std::atomic<int> leaves{0};
        const runtime rt = test::multi_thread(4).build();
        auto leaf = [&] { leaves.fetch_add(1, std::memory_order_relaxed); };
        constexpr int depth = test::sanitized ? 9 : 12;
        auto main = [](auto& l) -> task<int> {
            auto root = magpie::spawn(tree(depth, l));
            co_return co_await root;
        };
        for (int i = 0; i < 5; ++i)
            CHECK(rt.block_on(main(leaf)) == 1 << depth);
        CHECK(leaves == 5 * (1 << depth));
    }
}
