#include <magpie/sync/set_once.hpp>

#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::set_once;

TEST_SUITE("sync.set_once") {
    TEST_CASE("SYNC-ONCE-09 all who wait get the value, also those who come later, on any thread") {
        test::manual_executor ex;
        set_once<int> value;
        CHECK(value.get() == nullptr);
        auto f = [](set_once<int>& s) -> task<int> {
            const int& n = co_await s.wait();
            co_return n;
        };
        auto a = ex.spawn(f(value));
        auto b = ex.spawn(f(value));
        auto dropped = ex.spawn(f(value));
        ex.run_until_idle();
        dropped.abort();
        std::vector<int> seen(4);
        std::vector<std::thread> threads;
        for (int& n : seen)
            threads.emplace_back([&value, &n] { n = value.blocking_wait(); });
        std::thread([&] { value.set(7); }).join();
        for (std::thread& t : threads)
            t.join();
        ex.run_until_idle();
        CHECK(a.blocking_join() == 7);
        CHECK(b.blocking_join() == 7);
        CHECK(seen == std::vector<int>{7, 7, 7, 7});
        CHECK(test::run(ex, f(value)) == 7);
        CHECK(*value.get() == 7);
    }

    TEST_CASE("SYNC-ONCE-10 a second set leaves its value where it is") {
        set_once<std::unique_ptr<int>> value;
        CHECK(value.set(std::make_unique<int>(1)));
        auto second = std::make_unique<int>(2);
        CHECK_FALSE(value.set(std::move(second)));
        CHECK(*second == 2); // NOLINT: it was left alone
        CHECK(**value.get() == 1);
        CHECK(value.is_set());
    }

    TEST_CASE("a value that throws when it is copied leaves it unset") {
        struct throws {
            explicit throws(bool t) : now(t) {}
            throws(const throws& other) : now(other.now) {
                if (now)
                    throw std::runtime_error("no");
            }
            bool now;
        };
        set_once<throws> value;
        const throws bad(true);
        CHECK_THROWS_AS(value.set(bad), std::runtime_error);
        CHECK_FALSE(value.is_set());
        CHECK(value.set(throws(false)));
    }

    TEST_CASE("of many who set it at once one does") {
        for (int round = 0; round < 200; ++round) {
            set_once<test::counted> value;
            std::vector<std::thread> threads;
            std::vector<int> done(3);
            for (std::size_t i = 0; i < done.size(); ++i)
                threads.emplace_back([&, i] {
                    done[i] = value.set(test::counted(static_cast<int>(i))) ? 1 : 0;
                    static_cast<void>(value.blocking_wait());
                });
            for (std::thread& t : threads)
                t.join();
            REQUIRE(done[0] + done[1] + done[2] == 1);
            REQUIRE(done[static_cast<std::size_t>(value.get()->value)] == 1);
        }
        CHECK(test::counted::alive.load() == 0);
    }
}
