#include <magpie/scheduler/local_pool.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::local_pool;
using magpie::runtime;
using magpie::task;
using magpie::worker_index;
using magpie::sync::event;

namespace {

/// What may not leave its thread; it notes that it did.
class bound_to_a_thread {
public:
    explicit bound_to_a_thread(bool& left) : left_(&left) {}
    bound_to_a_thread(const bound_to_a_thread&) = delete;
    ~bound_to_a_thread() { use(); }
    void use() { *left_ = *left_ || std::this_thread::get_id() != home_; }

private:
    bool* left_;
    std::thread::id home_ = std::this_thread::get_id();
};

class notes_end {
public:
    explicit notes_end(bool& ended) : ended_(&ended) {}
    notes_end(const notes_end&) = delete;
    ~notes_end() { *ended_ = true; }

private:
    bool* ended_;
};

std::size_t sum(const std::vector<std::size_t>& loads) {
    return std::accumulate(loads.begin(), loads.end(), std::size_t{0});
}

template <class Outcome>
std::string message_of(const Outcome& outcome) {
    return outcome.has_error() ? std::string(magpie::describe(outcome.error())) : "no error";
}

/// A function that makes a task which waits for `go`, and gives where it ran.
auto waits_for(event& go) {
    return [&go]() -> task<std::size_t> {
        co_await go.wait();
        co_return worker_index().value();
    };
}

/// Whether that worker still runs what is spawned there.
task<bool> works(const local_pool& pool, std::size_t worker) {
    auto where = []() -> task<std::size_t> { co_return worker_index().value(); };
    const std::size_t there = co_await pool.spawn_on(worker, where);
    co_return there == worker;
}

} // namespace

TEST_SUITE("scheduler.local_pool") {
    TEST_CASE("RT-LOCAL-13 a task of the pool is made, runs and is destroyed on one worker") {
        test::on_each_layout([](auto builder) {
            std::deque<bool> left(12);
            const runtime rt = builder.build();
            const local_pool pool(rt.handle());
            std::vector<join_handle<>> all;
            for (bool& l : left) {
                auto make = [&l]() -> task<> {
                    bound_to_a_thread object(l);
                    for (int i = 0; i < 10; ++i) {
                        co_await magpie::yield_now();
                        object.use();
                        co_await magpie::sleep_for(1ms);
                        object.use();
                    }
                };
                all.push_back(pool.spawn(make));
            }
            auto main = [](std::vector<join_handle<>>& tasks) -> task<> {
                for (join_handle<>& t : tasks)
                    co_await t;
            };
            rt.block_on(main(all));
            CHECK(left == std::deque<bool>(12));
            CHECK(sum(pool.loads()) == 0);
        });
    }

    TEST_CASE("RT-LOCAL-13 tasks go to the worker that has the fewest") {
        test::on_each_layout([](auto builder) {
            std::deque<event> go(6);
            const runtime rt = builder.build();
            auto main = [](std::deque<event>& may_go) -> task<> {
                const local_pool pool; // of the caller's runtime
                const std::size_t n = pool.workers();
                std::vector<join_handle<std::size_t>> tasks;
                for (std::size_t i = 0; i < n; ++i)
                    tasks.push_back(pool.spawn(waits_for(may_go[i])));
                CHECK(pool.loads() == std::vector<std::size_t>(n, 1));
                for (std::size_t i = n; i-- > 0;) { // the one that ends makes room on its worker
                    may_go[i].set();
                    const std::size_t was_on = co_await tasks[i];
                    CHECK(was_on == i);
                    CHECK(pool.loads()[i] == 0);
                    tasks[i] = pool.spawn(waits_for(may_go[n + i]));
                    CHECK(pool.loads() == std::vector<std::size_t>(n, 1));
                    may_go[n + i].set();
                    const std::size_t is_on = co_await tasks[i];
                    CHECK(is_on == i);
                    tasks[i] = pool.spawn_on(i, waits_for(may_go[2 * n + i]));
                }
                for (event& e : may_go)
                    e.set();
                for (join_handle<std::size_t>& t : tasks)
                    co_await t;
                CHECK(sum(pool.loads()) == 0);
            };
            rt.block_on(main(go));
        });
    }

    TEST_CASE("RT-LOCAL-13 by number; one that there is not is refused, and nothing is counted") {
        test::on_each_layout([](auto builder) {
            event go;
            const runtime rt = builder.build();
            const local_pool pool(rt.handle());
            CHECK(pool.workers() == rt.worker_threads());
            const std::size_t last = pool.workers() - 1;
            join_handle<std::size_t> a = pool.spawn_on(last, waits_for(go));
            join_handle<std::size_t> b = pool.spawn_on(last, waits_for(go));
            std::vector<std::size_t> two(pool.workers());
            two[last] = 2;
            CHECK(pool.loads() == two);
            CHECK_THROWS_AS(static_cast<void>(pool.spawn_on(last + 1, waits_for(go))),
                            std::out_of_range);
            CHECK(pool.loads() == two);
            go.set();
            auto join = [](join_handle<std::size_t>& h) -> task<std::size_t> { co_return co_await h; };
            CHECK(rt.block_on(join(a)) == last);
            CHECK(rt.block_on(join(b)) == last);
        });
    }

    TEST_CASE("RT-LOCAL-13 what the task throws comes to its handle, and the worker goes on") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<> {
                const local_pool pool;
                auto throws = []() -> task<int> {
                    co_await magpie::yield_now();
                    throw std::runtime_error("of the task");
                };
                join_handle<int> h = pool.spawn_on(0, throws);
                const auto outcome = co_await magpie::as_result(h);
                CHECK(message_of(outcome).find("of the task") != std::string::npos);
                const bool goes_on = co_await works(pool, 0);
                CHECK(goes_on);
                CHECK(sum(pool.loads()) == 0);
            };
            rt.block_on(main());
        });
    }

    TEST_CASE("RT-LOCAL-13 a function that throws in place of giving a task does not harm its worker") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<> {
                const local_pool pool;
                auto nothing = []() -> task<int> { co_return 1; };
                auto throws = [nothing]() -> task<int> {
                    if (magpie::shard_count() > 0)
                        throw std::runtime_error("of the function");
                    return nothing();
                };
                join_handle<int> h = pool.spawn_on(0, throws);
                const auto outcome = co_await magpie::as_result(h);
                CHECK(message_of(outcome).find("of the function") != std::string::npos);
                const bool goes_on = co_await works(pool, 0);
                CHECK(goes_on);
                CHECK(sum(pool.loads()) == 0);
            };
            rt.block_on(main());
        });
    }

    TEST_CASE("RT-LOCAL-13 aborting drops a task on its worker, and it does not count any more") {
        test::on_each_layout([](auto builder) {
            bool left = false;
            const runtime rt = builder.build();
            auto main = [](bool& l) -> task<> {
                const local_pool pool;
                event begun;
                auto forever = [&]() -> task<> {
                    const bound_to_a_thread object(l);
                    begun.set();
                    co_await magpie::sleep_for(1h);
                };
                join_handle<> h = pool.spawn(forever);
                co_await begun.wait();
                h.abort();
                const auto outcome = co_await magpie::as_result(h);
                CHECK(outcome.has_error());
                CHECK(sum(pool.loads()) == 0);
            };
            rt.block_on(main(left));
            CHECK_FALSE(left);
        });
    }

    TEST_CASE("a pool that goes leaves its tasks alone; a runtime that goes takes them along") {
        bool dropped = false;
        event begun;
        {
            const runtime rt = test::multi_thread().build();
            auto pool = std::make_unique<local_pool>(rt.handle());
            const local_pool copy = *pool; // the same pool
            auto forever = [&]() -> task<> {
                const notes_end note(dropped);
                begun.set();
                co_await magpie::sleep_for(1h);
            };
            pool->spawn(forever).detach();
            pool.reset();
            begun.blocking_wait();
            CHECK(sum(copy.loads()) == 1);
        }
        CHECK(dropped);
    }

    TEST_CASE("outside of a runtime there is none") { CHECK_THROWS_AS(local_pool(), std::logic_error); }

    TEST_CASE("what is spawned into a runtime that has ended is gone, and counts nowhere") {
        runtime rt = test::multi_thread().build();
        const local_pool pool(rt.handle());
        rt.shutdown_timeout(1s);
        auto nothing = []() -> task<> { co_return; };
        join_handle<> h = pool.spawn(nothing);
        CHECK_THROWS_AS(h.blocking_join(), magpie::task_cancelled);
        CHECK(sum(pool.loads()) == 0);
    }
}
