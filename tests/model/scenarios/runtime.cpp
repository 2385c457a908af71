// The runtime itself: its workers in the explorer's threads, against other threads. Nothing times
// out: what the end of a sleep would make up for does not happen.

#include "scheduler.hpp"

#include <scheduler/src/futex_driver.hpp>

#include <memory>
#include <source_location>
#include <utility>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::detail::runtime_group;

std::shared_ptr<runtime_group> make_runtime(std::size_t workers) {
    magpie::detail::runtime_options o;
    o.worker_threads = workers;
    o.seed = 1;
    o.lifo_slot = false; // who takes from a stuck worker's slot looks at the clock
    o.move_cost = {};    // and so does a thief that asks what its last steal has brought
    return std::make_shared<runtime_group>(std::move(o), std::source_location::current());
}

template <class T>
magpie::join_handle<T> spawn(runtime_group& rt, magpie::task<T> t) {
    return magpie::detail::spawn_on(*rt.shards.front(), std::move(t), std::source_location::current());
}

magpie::task<> count(int& ran) {
    ++ran;
    co_return;
}

// --- a spawn from outside against close(): the task ends, or is refused ---

scenario adopt("runtime.adopt_and_close", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    int ran = 0;
    magpie::join_handle<> handle;
    thread("worker", [&] { rt->shards.front()->workers[0]->run(); });
    thread("spawner", [&] { handle = spawn(*rt, count(ran)); });
    thread("closer", [&] { rt->close(); });
    run();
    check(handle.is_finished(), "the task has ended or was refused");
    check(rt->stopped() && rt->all_ended(), "the runtime has stopped, with nobody left");
});

mistake not_counted(adopt, "a task from outside is not counted",
                    {"runtime_core::adopt", "modify", how::left_out});
mistake not_closing(adopt, "nobody sees that the runtime closes",
                    {"runtime_group::closing", "load", how::outdated});
mistake not_woken(adopt, "who spawns sees an old idle word",
                  {"idle_set::wake_one", "load", how::outdated});

// --- a wake from outside against close() and the runtime's destruction ---

magpie::task<> wait(slot& s) { co_await s.wait(); }

// Who lies down while a visitor is inside looks again after a moment (R31): `soon`.
scenario wake_and_close(
    "runtime.wake_and_close", {.preemptions = 2, .full = 3, .which = timeouts::soon}, [] {
        auto rt = make_runtime(1);
        slot s("slot");
        bool worker_left = false;
        auto handle = spawn(*rt, wait(s));
        thread("worker", [&] {
            rt->shards.front()->workers[0]->run();
            worker_left = true;
        });
        thread("waker", [&] { s.set(); });
        thread("closer", [&] {
            rt->close();
            magpie_model::step_when([&] { return worker_left; }, "wait for the worker", nullptr);
            check(rt->stopped() && rt->all_ended(), "the runtime has stopped, with nobody left");
            rt.reset(); // the waker may still be on its way out
        });
        run();
        check(handle.is_finished(), "the task has ended or was dropped");
    });

mistake not_seen(wake_and_close, "who lies down does not see the visitor inside",
                 {"runtime_core::visited", "load", how::outdated});
mistake close_unseen(wake_and_close, "nobody sees that the runtime closes",
                     {"runtime_group::closing", "load", how::outdated});

// --- two workers, of which one may sleep in the driver and one on the watch ---

magpie::task<> spawn_one(runtime_group& rt, int& ran) {
    spawn(rt, count(ran)).detach();
    ++ran;
    co_return;
}

scenario two("runtime.two_workers", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_runtime(2);
    int ran = 0;
    magpie::join_handle<> handle;
    thread("worker a", [&] { rt->shards.front()->workers[0]->run(); });
    thread("worker b", [&] { rt->shards.front()->workers[1]->run(); });
    thread("outside", [&] {
        handle = spawn(*rt, spawn_one(*rt, ran));
        magpie_model::step_when([&] { return ran == 2; }, "wait for the tasks", nullptr);
        rt->close();
    });
    run();
    check(handle.is_finished() && rt->stopped(), "all have ended");
});

mistake old_word(two, "who spawns sees an old idle word",
                 {"idle_set::wake_one", "load", how::outdated});
mistake driver_unseen(two, "a notification does not see where the worker sleeps",
                      {"parker::announce", "compare_exchange", how::left_out});

// --- an I/O driver takes the futex's place, against a worker that lies down and who wakes it ---

/// A driver that does not hear its first wake, which is the one of who installs it.
class deaf_at_first final : public magpie::detail::driver {
public:
    void park(time_point deadline) noexcept override { inner_.park(deadline); }
    void poll() noexcept override {}
    void wake() noexcept override {
        if (std::exchange(heard_, true))
            inner_.wake();
    }

private:
    magpie::detail::futex_driver inner_;
    bool heard_ = false;
};

template <class Driver>
void install_and_spawn() {
    const auto rt = make_runtime(1);
    int ran = 0;
    magpie::join_handle<> handle;
    thread("worker", [&] { rt->shards.front()->workers[0]->run(); });
    thread("spawner", [&] {
        handle = spawn(*rt, count(ran));
        magpie_model::step_when([&] { return ran == 1; }, "wait for the task", nullptr);
        rt->close();
    });
    thread("installer", [&] {
        rt->shards.front()->install_driver([]() -> magpie::detail::driver* { return new Driver; });
    });
    run();
    check(handle.is_finished() && rt->stopped(), "all have ended");
}

scenario driver_comes("runtime.driver_comes", {.preemptions = 2, .full = 3, .which = timeouts::none},
                      &install_and_spawn<magpie::detail::futex_driver>);

mistake slept_by_store(driver_comes, "a sleeper takes its wake by a load and a store",
                       {"futex_driver::take", "exchange", how::in_two});
mistake wakes_old_only(driver_comes, "who installs a driver wakes only the one before",
                       &install_and_spawn<deaf_at_first>);

} // namespace
