#include <magpie/sync/guarded.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::guarded;

namespace {

struct account {
    int balance = 0;
    std::vector<std::string> log;
};

struct immovable {
    explicit immovable(int a, int b) : sum(a + b) {}
    immovable(const immovable&) = delete;
    int sum;
};

} // namespace

TEST_SUITE("sync.guarded") {
    TEST_CASE("the value is reached through the guard alone") {
        test::manual_executor ex;
        guarded<account> g;
        auto f = [](guarded<account>& a) -> task<int> {
            auto held = co_await a.lock();
            held->balance += 5;
            (*held).log.push_back("five");
            co_return held->balance;
        };
        CHECK(test::run(ex, f(g)) == 5);
        CHECK(test::run(ex, f(g)) == 10);
        CHECK(g.blocking_lock()->log.size() == 2);
        CHECK_FALSE(g.is_locked());
    }

    TEST_CASE("a value that can be neither copied nor moved") {
        guarded<immovable> g(2, 3);
        CHECK((*g.try_lock())->sum == 5);
    }

    TEST_CASE("a guard goes on with a part of the value, and holds the lock as before") {
        guarded<account> g;
        auto held = g.try_lock();
        auto balance = std::move(*held).map(&account::balance);
        CHECK_FALSE(*held); // NOLINT: what a guard is after a map
        *balance = 7;
        CHECK(g.is_locked());
        balance.unlock();
        CHECK_FALSE(g.is_locked());
        CHECK_THROWS_AS(balance.unlock(), std::logic_error);
        auto whole = g.blocking_lock();
        CHECK(whole->balance == 7);

        auto first = [](account& a) { return a.log.empty() ? nullptr : &a.log.front(); };
        CHECK_FALSE(whole.try_map(first));
        CHECK(whole); // it stays as it was
        whole->log.push_back("first");
        auto entry = whole.try_map(first);
        CHECK(**entry == "first");
        CHECK_FALSE(whole);
        CHECK(g.is_locked());
        entry.reset();
        CHECK_FALSE(g.is_locked());
    }

    TEST_CASE("a projection that throws lets go of the lock") {
        guarded<account> g;
        auto held = g.try_lock();
        CHECK_THROWS_AS(static_cast<void>(std::move(*held).map(
                            [](account&) -> int& { throw std::runtime_error("no"); })),
                        std::runtime_error);
        CHECK_FALSE(g.is_locked());
        auto stays = g.try_lock();
        CHECK_THROWS_AS(
            static_cast<void>(stays->try_map([](account&) -> int* { throw std::runtime_error("no"); })),
            std::runtime_error);
        CHECK(g.is_locked());
    }

    TEST_CASE("SYNC-MUTEX-09 owned guards keep the value alive") {
        test::manual_executor ex;
        auto g = std::make_shared<guarded<account>>();
        const std::weak_ptr<guarded<account>> alive = g;
        auto held = guarded<account>::try_lock_owned(g);
        CHECK(held);
        CHECK_FALSE(guarded<account>::try_lock_owned(g));
        auto f = [](std::shared_ptr<guarded<account>> a) -> task<int> {
            auto mine = co_await guarded<account>::lock_owned(std::move(a));
            auto part = std::move(mine).map(&account::balance);
            co_return ++*part;
        };
        auto h = ex.spawn(f(std::move(g)));
        ex.run_until_idle();
        (*held)->balance = 4;
        held.reset();
        CHECK_FALSE(alive.expired());
        ex.run_until_idle();
        CHECK(h.blocking_join() == 5);
        CHECK(alive.expired());
        CHECK_THROWS_AS(static_cast<void>(guarded<account>::lock_owned(nullptr)), std::logic_error);
        CHECK_THROWS_AS(guarded<account>::try_lock_owned(nullptr), std::logic_error);
    }

    TEST_CASE("SYNC-MUTEX-08 printing shows the value, or that it is locked") {
        guarded<int> g(5);
        std::ostringstream out;
        out << g;
        const auto held = g.try_lock();
        out << ' ' << g;
        CHECK(out.str() == "guarded(5) guarded(locked)");
    }

    TEST_CASE("into_inner gives the value, unless it is locked") {
        guarded<std::unique_ptr<int>> g(std::make_unique<int>(3));
        auto held = g.try_lock();
        CHECK_THROWS_AS(std::move(g).into_inner(), std::logic_error);
        held.reset();
        CHECK(*std::move(g).into_inner() == 3); // NOLINT: nothing was moved by the call that threw
    }
}
