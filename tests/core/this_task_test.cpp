#include <magpie/core/this_task.hpp>

#include <magpie/core/spawn.hpp>
#include <magpie/sync/event.hpp>

#include <test/run.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::event;
namespace this_task = magpie::this_task;

namespace {

/// Writes down who runs when it is destroyed.
struct who_destroys {
    std::vector<std::optional<std::uint64_t>>* into;
    explicit who_destroys(std::vector<std::optional<std::uint64_t>>& i) : into(&i) {}
    who_destroys(who_destroys&& o) noexcept : into(std::exchange(o.into, nullptr)) {}
    ~who_destroys() {
        if (into != nullptr)
            into->push_back(this_task::id());
    }
};

} // namespace

TEST_SUITE("core.this_task") {
    TEST_CASE("TASK-CORE-15 outside of a task there is no id, no name and no budget") {
        CHECK_FALSE(this_task::id().has_value());
        CHECK(this_task::name().empty());
        CHECK_FALSE(this_task::budget().has_value());
        CHECK_FALSE(this_task::exists());
    }

    TEST_CASE("TASK-CORE-13 ids are unique, and the same from inside and from the handle") {
        test::manual_executor ex;
        auto f = []() -> task<std::uint64_t> {
            const auto before = this_task::id();
            co_await magpie::yield_now();
            const auto after = this_task::id();
            co_return before == after ? before.value_or(0) : 0;
        };
        std::set<std::uint64_t> ids;
        for (int i = 0; i < 100; ++i) {
            auto h = ex.spawn(f());
            const std::uint64_t id = h.id();
            CHECK(h.abort_handle().id() == id);
            ex.run_until_idle();
            CHECK(h.id() == id);
            CHECK(h.blocking_join() == id);
            CHECK(ids.insert(id).second);
        }
        CHECK_FALSE(ids.contains(0));
    }

    TEST_CASE("an awaited task is part of who awaits it") {
        test::manual_executor ex;
        auto child = []() -> task<std::optional<std::uint64_t>> { co_return this_task::id(); };
        auto parent = [](auto c) -> task<bool> {
            const auto inner = co_await c();
            co_return inner == this_task::id();
        };
        CHECK(test::run(ex, parent(child)));
    }

    TEST_CASE("TASK-CORE-14 RT-SCHED-03 the id is visible in destructors of frame and result") {
        test::manual_executor ex;
        std::vector<std::optional<std::uint64_t>> seen;
        event e;
        auto f = [](event& ev, std::vector<std::optional<std::uint64_t>>& into,
                    who_destroys) -> task<who_destroys> {
            const who_destroys local(into);
            co_await ev.wait();
            co_return who_destroys(into);
        };
        std::uint64_t id = 0;
        SUBCASE("at its end, the handle dropped before") {
            {
                auto h = ex.spawn(f(e, seen, who_destroys(seen)));
                id = h.id();
            }
            e.set();
            ex.run_until_idle();
            CHECK(seen.size() == 3);
        }
        SUBCASE("at its end, the handle dropped after") {
            {
                auto h = ex.spawn(f(e, seen, who_destroys(seen)));
                id = h.id();
                e.set();
                ex.run_until_idle();
                CHECK(seen.size() == 2);
            }
            CHECK(seen.size() == 3);
        }
        SUBCASE("at its end, the handle dropped by another task") {
            auto h = ex.spawn(f(e, seen, who_destroys(seen)));
            id = h.id();
            e.set();
            auto drops = [](magpie::join_handle<who_destroys> k) -> task<> {
                co_await magpie::yield_now();
                k.detach();
            };
            auto d = ex.spawn(drops(std::move(h)));
            ex.run_until_idle();
            CHECK(seen.size() == 3);
            CHECK(d.is_finished());
        }
        SUBCASE("dropped while it waits") {
            auto h = ex.spawn(f(e, seen, who_destroys(seen)));
            id = h.id();
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(seen.size() == 2);
        }
        SUBCASE("dropped before its start") {
            auto h = ex.spawn(f(e, seen, who_destroys(seen)));
            id = h.id();
            h.abort();
            ex.run_until_idle();
            CHECK(seen.size() == 1);
        }
        SUBCASE("dropped by its executor's end") {
            {
                test::manual_executor other;
                auto h = other.spawn(f(e, seen, who_destroys(seen)));
                id = h.id();
                other.run_until_idle();
            }
            CHECK(seen.size() == 2);
        }
        for (const auto& s : seen)
            CHECK(s == id);
        CHECK_FALSE(this_task::exists());
    }

    TEST_CASE("the name is visible in destructors as well") {
        test::manual_executor ex;
        struct name_at_end {
            std::string& into;
            explicit name_at_end(std::string& i) : into(i) {}
            ~name_at_end() { into = this_task::name(); }
        };
        std::string seen;
        event e;
        auto f = [](event& ev, std::string& into) -> task<> {
            const name_at_end local(into);
            co_await ev.wait();
        };
        auto starts = [](task<> t) -> task<magpie::join_handle<>> {
            co_return magpie::spawn("worker", std::move(t));
        };
        auto h = test::run(ex, starts(f(e, seen)));
        h.abort();
        ex.run_until_idle();
        CHECK(seen == "worker");
    }

    TEST_CASE("a task that runs another executor is itself again afterwards") {
        test::manual_executor outer;
        auto f = []() -> task<bool> {
            const auto before = this_task::id();
            test::manual_executor inner;
            auto nothing = []() -> task<> { co_return; };
            inner.spawn(nothing()).detach();
            inner.spawn(nothing()).detach();
            inner.run_until_idle();
            const bool same = before == this_task::id();
            magpie::spawn(nothing()).detach(); // on the outer one
            co_return same&& inner.live() == 0;
        };
        auto h = outer.spawn(f());
        outer.run_one();
        CHECK(outer.live() == 1);
        CHECK(h.blocking_join());
    }
}
