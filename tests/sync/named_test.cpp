#include <magpie/core.hpp>
#include <magpie/sync.hpp>

#include <test/manual_executor.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>
#include <typeindex>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::named;
using magpie::sync::named_object;
using magpie::sync::named_objects;

namespace ms = magpie::sync;

namespace {

std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const named_object& o : named_objects())
        all.emplace_back(o.name);
    std::ranges::sort(all);
    return all;
}

using list = std::vector<std::string>;

} // namespace

TEST_SUITE("sync.named") {
    TEST_CASE("what has a name is used as ever, and is found until it goes") {
        CHECK(names().empty());
        {
            named<ms::semaphore> slots("upload slots", 2U);
            const named<ms::notify> bell("bell");
            CHECK(names() == list{"bell", "upload slots"});
            CHECK(std::string(slots.name()) == "upload slots");
            const auto all = named_objects();
            REQUIRE(all.size() == 2);
            CHECK(all[0].object == static_cast<const ms::notify*>(&bell)); // the newest first
            CHECK(all[0].type == std::type_index(typeid(ms::notify)));
            CHECK(all[1].object == static_cast<ms::semaphore*>(&slots));
            ms::semaphore& plain = slots;
            const auto permit = plain.try_acquire_many(2);
            CHECK(permit.has_value());
            CHECK(slots.available_permits() == 0);
        }
        CHECK(names().empty());
    }

    TEST_CASE("a name goes with an end of a channel that is moved") {
        auto ends = ms::mpsc::channel<int>(4);
        std::optional<named<ms::mpsc::receiver<int>>> moved;
        {
            named<ms::mpsc::receiver<int>> jobs("jobs", std::move(ends.rx));
            moved.emplace(std::move(jobs));
            CHECK(names() == list{"jobs", "jobs"}); // what was moved from is still there
        }
        const auto all = named_objects();
        REQUIRE(all.size() == 1);
        CHECK(all[0].object == static_cast<ms::mpsc::receiver<int>*>(&*moved));
        CHECK(bool(ends.tx.try_send(7)));
        test::manual_executor ex;
        auto receives = [&]() -> task<int> {
            const auto got = co_await moved->recv();
            co_return got.value();
        };
        auto h = ex.spawn(receives());
        ex.run_until_idle();
        CHECK(h.blocking_join() == 7);
        moved.reset();
        CHECK(names().empty());
    }

    TEST_CASE("everything there is can have a name") {
        const named<ms::mutex> a("mutex");
        const named<ms::shared_mutex> b("shared_mutex");
        const named<ms::guarded<int>> c("guarded", 1);
        const named<ms::guarded_shared<int>> d("guarded_shared", 1);
        const named<ms::condition_variable> e("condition_variable");
        const named<ms::event> f("event");
        const named<ms::latch> g("latch", 1U);
        const named<ms::barrier> h("barrier", 2U);
        const named<ms::once_cell<int>> i("once_cell");
        const named<ms::set_once<int>> j("set_once");
        auto one = ms::oneshot::channel<int>();
        const named<ms::oneshot::sender<int>> k("oneshot", std::move(one.tx));
        auto watch = ms::watch::channel(1);
        const named<ms::watch::sender<int>> l("watch", std::move(watch.tx));
        auto cast = ms::broadcast::channel<int>(4);
        const named<ms::broadcast::receiver<int>> m("broadcast", std::move(cast.rx));
        CHECK(names() == list{"barrier", "broadcast", "condition_variable", "event", "guarded",
                              "guarded_shared", "latch", "mutex", "once_cell", "oneshot", "set_once",
                              "shared_mutex", "watch"});
    }

    TEST_CASE("names come and go on several threads while they are asked for") {
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t)
            threads.emplace_back([] {
                for (int i = 0; i < 2000; ++i) {
                    const named<ms::event> one("one of many");
                    const named<ms::event> another("one of many");
                }
            });
        std::size_t most = 0;
        for (int i = 0; i < 500; ++i)
            most = std::max(most, named_objects().size());
        for (std::thread& t : threads)
            t.join();
        CHECK(most <= 6);
        CHECK(names().empty());
    }
}
