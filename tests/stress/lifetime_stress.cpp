// Who was woken destroys what it waited for at once, on one worker, while the call that woke is still running on
// another one or on a thread. A touch that comes late is found by the sanitizers.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using namespace magpie::sync;

namespace {

constexpr std::size_t rounds = 20'000; // under sanitizers too: these are short

/// One object a round. The waiter's task goes through the rounds and destroys each object when its wait is over;
/// `wake(object, round)` is called by as many threads as are asked for, which run ahead of it or behind.
template <class Object, class Make, class Wait, class Wake>
void wait_and_destroy(int wakers, Make make, Wait wait, Wake wake) {
    std::vector<std::unique_ptr<Object>> objects;
    std::vector<Object*> seen; // by who wakes
    for (std::size_t i = 0; i < rounds; ++i) {
        objects.push_back(make());
        seen.push_back(objects.back().get());
    }
    auto waits = [](std::vector<std::unique_ptr<Object>>& all, Wait w) -> task<> {
        for (auto& o : all)
            co_await w(std::move(o)); // which destroys it
    };
    auto rt = test::multi_thread(2).build();
    auto waiter = rt.spawn(waits(objects, wait));
    std::vector<std::thread> threads;
    for (int t = 0; t < wakers; ++t)
        threads.emplace_back([&] {
            for (Object* const o : seen)
                wake(*o);
        });
    for (auto& t : threads)
        t.join();
    waiter.blocking_join();
}

} // namespace

TEST_SUITE("stress.lifetime") {
    TEST_CASE("an event is destroyed by who has waited for it") {
        wait_and_destroy<event>(
            1, [] { return std::make_unique<event>(); },
            [](std::unique_ptr<event> e) -> task<> { co_await e->wait(); }, [](event& e) { e.set(); });
    }

    TEST_CASE("an event is destroyed by who has seen it set") {
        wait_and_destroy<event>(
            1, [] { return std::make_unique<event>(); },
            [](std::unique_ptr<event> e) -> task<> {
                while (!e->is_set())
                    co_await magpie::yield_now();
            },
            [](event& e) { e.set(); });
    }

    TEST_CASE("an event is destroyed by a thread that has waited for it") {
        for (std::size_t i = 0; i < rounds / 10; ++i) {
            auto e = std::make_unique<event>();
            std::thread sets([&seen = *e] { seen.set(); });
            e->blocking_wait();
            e.reset();
            sets.join();
        }
    }

    TEST_CASE("a latch is destroyed by who has waited for it") {
        wait_and_destroy<latch>(
            2, [] { return std::make_unique<latch>(2); },
            [](std::unique_ptr<latch> l) -> task<> { co_await l->wait(); },
            [](latch& l) { l.count_down(); });
    }

    TEST_CASE("a set_once is destroyed by who has got its value") {
        wait_and_destroy<set_once<int>>(
            1, [] { return std::make_unique<set_once<int>>(); },
            [](std::unique_ptr<set_once<int>> s) -> task<> {
                const int& value = co_await s->wait();
                CHECK(value == 5);
            },
            [](set_once<int>& s) { s.set(5); });
    }

    TEST_CASE("a notify is destroyed by who was told, or took what was kept") {
        wait_and_destroy<notify>(
            1, [] { return std::make_unique<notify>(); },
            [](std::unique_ptr<notify> n) -> task<> { co_await n->notified(); },
            [](notify& n) { n.notify_one(); });
    }

    TEST_CASE("a notify is destroyed by who was told with all others") {
        struct called {
            notify n;
            notified_operation<notify*> made =
                n.notified(); // told by whatever comes, waited for or not
        };
        wait_and_destroy<called>(
            1, [] { return std::make_unique<called>(); },
            [](std::unique_ptr<called> c) -> task<> { co_await c->made; },
            [](called& c) { c.n.notify_waiters(); });
    }

    TEST_CASE("a barrier is destroyed by one that has waited, beside its leader") {
        std::vector<std::unique_ptr<barrier>> barriers;
        for (std::size_t i = 0; i < rounds; ++i)
            barriers.push_back(std::make_unique<barrier>(2));
        auto comes = [](std::vector<std::unique_ptr<barrier>>& all) -> task<> {
            for (auto& b : all) {
                const bool leads = co_await b->wait();
                if (!leads)
                    b.reset();
            }
        };
        auto rt = test::multi_thread(2).build();
        auto one = rt.spawn(comes(barriers));
        auto other = rt.spawn(comes(barriers));
        one.blocking_join();
        other.blocking_join();
    }

    TEST_CASE("a condition_variable and its lock are destroyed by who was told under it") {
        struct shared {
            mutex m;
            condition_variable changed;
            bool is_set = false;
        };
        wait_and_destroy<shared>(
            1, [] { return std::make_unique<shared>(); },
            [](std::unique_ptr<shared> s) -> task<> {
                auto guard = co_await s->m.lock();
                const bool& set = s->is_set;
                auto is_set = [&set] { return set; };
                co_await s->changed.wait(guard, is_set);
                guard.unlock();
            },
            [](shared& s) {
                auto guard = s.m.blocking_lock();
                s.is_set = true;
                s.changed.notify_one();
            });
    }

    TEST_CASE("a semaphore is destroyed by who has got its last permit") {
        wait_and_destroy<semaphore>(
            2, [] { return std::make_unique<semaphore>(0); },
            [](std::unique_ptr<semaphore> s) -> task<> {
                auto both = co_await s->acquire_many(2);
                both->forget();
            },
            [](semaphore& s) { s.add_permits(1); });
    }
}
