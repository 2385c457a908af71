#include <magpie/sync/lock_trace.hpp>

#include <magpie/core.hpp>
#include <magpie/sync.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using magpie::task;
using namespace magpie::sync;

namespace {

constexpr unsigned line_of_lock = __LINE__ + 2;
task<> hold(mutex& m, event& go) {
    auto guard = co_await m.lock();
    co_await go.wait();
}

std::vector<std::string> names(const std::vector<lock_user>& users) {
    std::vector<std::string> all;
    for (const lock_user& u : users)
        all.push_back(u.who);
    return all;
}

using texts = std::vector<std::string>;

} // namespace

TEST_SUITE("lock_trace.owners") {
    TEST_CASE("a lock that is made as a named one has that name in the report, too") {
        named<mutex> m("ledger");
        named<shared_mutex> few("routes", 3U);
        const auto first = m.try_lock();
        const auto second = few.try_lock_shared();
        const auto all = lock_report();
        REQUIRE(all.size() == 2);
        CHECK(all[0].lock == "'routes'");
        CHECK(all[1].lock == "'ledger'");
    }

    TEST_CASE("who has a mutex and who waits for it, first come first, where and since when") {
        static_assert(lock_trace_is_on);
        mutex m("accounts");
        event go;
        test::manual_executor ex;
        CHECK(lock_owners(m).empty());
        const auto before = std::chrono::steady_clock::now();
        ex.spawn("a", hold(m, go)).detach();
        auto b = ex.spawn("b", hold(m, go));
        ex.spawn(hold(m, go)).detach();
        ex.run_until_idle();
        const auto owners = lock_owners(m);
        CHECK(names(owners) == texts{"task 1 'a'"});
        CHECK(owners[0].task == 1);
        CHECK(owners[0].mode == lock_mode::exclusive);
        CHECK(owners[0].where.line() == line_of_lock);
        CHECK(owners[0].since >= before);
        CHECK(owners[0].since <= std::chrono::steady_clock::now());
        CHECK(names(lock_waiters(m)) == texts{"task 2 'b'", "task 3"});

        const auto all = lock_report();
        REQUIRE(all.size() == 1);
        CHECK(all[0].lock == "'accounts'");
        std::ostringstream text;
        text << all[0];
        const std::string place = owners[0].where.file_name() + (":" + std::to_string(line_of_lock));
        CHECK(text.str() == "'accounts': held by task 1 'a' since " + place + "; task 2 'b' waits at " +
                                place + ", task 3 waits at " + place);

        b.abort(); // a waiter that is dropped is gone
        ex.run_until_idle();
        CHECK(names(lock_waiters(m)) == texts{"task 3"});
        go.set();
        ex.run_until_idle();
        CHECK(lock_owners(m).empty());
        CHECK(lock_waiters(m).empty());
        CHECK(lock_report().empty());
    }

    TEST_CASE("readers, an upgradable one and a writer of a shared_mutex") {
        guarded_shared<int> value(object_name("value"), 1);
        test::manual_executor ex;
        event go;
        auto writes = [](guarded_shared<int>& v) -> task<> { auto w = co_await v.lock(); };
        {
            auto one = value.try_lock_shared();
            auto two = value.blocking_lock_upgradable();
            auto three = value.blocking_lock_shared();
            ex.spawn("writer", writes(value)).detach();
            ex.run_until_idle();
            const auto owners = lock_owners(value);
            REQUIRE(owners.size() == 3);
            CHECK(owners[0].mode == lock_mode::shared);
            CHECK(owners[1].mode == lock_mode::upgradable);
            CHECK(owners[2].mode == lock_mode::shared);
            CHECK_FALSE(owners[0].task);
            CHECK(owners[0].who.starts_with("thread "));
            CHECK(names(lock_waiters(value)) == texts{"task 1 'writer'"});
            auto four = std::move(two).downgrade();
            CHECK(lock_owners(value)[1].mode == lock_mode::shared);
        }
        ex.run_until_idle();
        {
            auto w = value.try_lock();
            REQUIRE(w);
            CHECK(lock_owners(value)[0].mode == lock_mode::exclusive);
            auto r = std::move(*w).downgrade();
            CHECK(lock_owners(value)[0].mode == lock_mode::shared);
        }
        {
            auto r = value.try_lock_upgradable();
            REQUIRE(r);
            auto upgrade = [](guarded_shared<int>& v) -> task<int> {
                auto reads = co_await v.lock_upgradable();
                auto w = co_await std::move(reads).upgrade();
                co_return static_cast<int>(lock_owners(v).size()) * 10 +
                    (lock_owners(v)[0].mode == lock_mode::exclusive ? 1 : 0);
            };
            r.reset();
            CHECK(test::run(upgrade(value)) == 11);
        }
        CHECK(lock_report().empty());
    }

    TEST_CASE("guards that are moved, assigned, mapped, passed on and let go of early") {
        auto m = std::make_shared<mutex>(object_name("m"));
        guarded<std::pair<int, int>> pair;
        {
            auto first = mutex::try_lock_owned(m);
            std::vector<mutex::owned_guard> kept;
            kept.push_back(std::move(*first));
            CHECK(lock_owners(*m).size() == 1);
            kept[0].unlock();
            CHECK(lock_owners(*m).empty());
            auto second = mutex::try_lock_owned(m);
            kept[0] = std::move(*second);
            CHECK(lock_owners(*m).size() == 1);
            auto& same = kept[0];
            kept[0] = std::move(same);
            CHECK(lock_owners(*m).size() == 1);
            CHECK(m->is_locked());
            kept.clear();
            CHECK(lock_owners(*m).empty());
            auto part = std::move(*pair.try_lock()).map(&std::pair<int, int>::first);
            CHECK(lock_owners(pair).size() == 1);
            part.unlock();
            CHECK(lock_owners(pair).empty());
        }
        CHECK(lock_report().empty());
    }

    TEST_CASE("scoped_lock and condition_variable") {
        mutex a("a");
        guarded<int> b(object_name("b"), 0);
        condition_variable changed;
        event go;
        test::manual_executor ex;
        auto both = [](mutex& x, guarded<int>& y, event& g) -> task<> {
            auto guards = co_await scoped_lock(x, y);
            co_await g.wait();
        };
        auto waits = [](guarded<int>& y, condition_variable& c) -> task<> {
            auto guard = co_await y.lock();
            co_await c.wait(guard, [&] { return *guard == 1; });
        };
        ex.spawn("waits", waits(b, changed)).detach();
        ex.run_until_idle();
        CHECK(lock_report().empty()); // it waits to be told
        ex.spawn("both", both(a, b, go)).detach();
        ex.spawn("later", both(a, b, go)).detach();
        ex.run_until_idle();
        CHECK(names(lock_owners(a)) == texts{"task 2 'both'"});
        CHECK(names(lock_owners(b)) == texts{"task 2 'both'"});
        CHECK(names(lock_waiters(a)) == texts{"task 3 'later'"});
        changed.notify_all();
        CHECK(names(lock_waiters(b)) == texts{"task 1 'waits'"});
        go.set();
        ex.run_until_idle();
        CHECK(lock_report().empty()); // not 1 yet: it waits once more
        {
            auto value = b.try_lock();
            **value = 1;
        }
        changed.notify_all();
        ex.run_until_idle();
        CHECK(ex.live() == 0);
        CHECK(lock_report().empty());
    }

    TEST_CASE("a lock without a name is told by its address, and permits are no locks") {
        mutex m;
        semaphore permits(1);
        auto guard = m.try_lock();
        auto permit = permits.try_acquire();
        const auto all = lock_report();
        REQUIRE(all.size() == 1);
        CHECK(all[0].lock.starts_with("the lock at 0x"));
    }
}
