// The runtime itself: its workers in the explorer's threads, against other threads. Nothing times
// out: what the end of a sleep would make up for does not happen.

#include "scheduler.hpp"

#include <magpie/scheduler/blocking.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <scheduler/src/futex_driver.hpp>

#include <chrono>
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

magpie::detail::runtime_core& shard_of(runtime_group& rt) { return *rt.shards.front(); }

template <class T>
magpie::join_handle<T> spawn(runtime_group& rt, magpie::task<T> t) {
    return magpie::detail::spawn_on(shard_of(rt), std::move(t), std::source_location::current());
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
    thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
    thread("spawner", [&] { handle = spawn(*rt, count(ran)); });
    thread("closer", [&] { rt->close(); });
    run();
    check(handle.is_finished(), "the task has ended or was refused");
    check(rt->stopped() && rt->all_ended(), "the runtime has stopped, with nobody left");
});

mistake not_counted(adopt, "a task from outside is not counted",
                    {"runtime_core::count_in_from_outside", "modify", how::left_out});
mistake not_closing(adopt, "nobody sees that the runtime closes",
                    {"runtime_group::closing", "load", how::outdated});
mistake not_woken(adopt, "who spawns sees an old idle word",
                  {"idle_set::wake_one", "load", how::outdated});
mistake no_second_look(adopt, "a worker that lies down does not look into the shared queue again",
                       {"injector::size", "load", how::outdated, "idle_set::sleep",
                        "parker::announce"});
mistake no_second_question(adopt,
                           "a worker that lies down does not ask again whether the runtime closes",
                           {"runtime_group::closing", "load", how::outdated, "idle_set::sleep",
                            "parker::announce"});

// --- a wake from outside against close() and the runtime's destruction ---

magpie::task<> wait(slot& s) { co_await s.wait(); }

// Who lies down while a visitor is inside looks again after a moment (R31): `soon`.
scenario wake_and_close(
    "runtime.wake_and_close", {.preemptions = 2, .full = 3, .which = timeouts::soon}, [] {
        auto rt = make_runtime(1);
        slot s("slot");
        bool worker_left = false;
        magpie_model::baton left;
        auto handle = spawn(*rt, wait(s));
        thread("worker", [&] {
            shard_of(*rt).workers[0]->run();
            magpie_model::free_step("leave", nullptr, [&] {
                worker_left = true;
                left.pass();
            });
        });
        thread("waker", [&] { s.set(); });
        thread("closer", [&] {
            rt->close();
            magpie_model::free_step_when([&] { return worker_left; }, "wait for the worker", nullptr);
            left.take(); // what the waker has done is nothing that the worker need know
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

// --- the same with two workers: it is enough that who has taken the strand knows of the visitor ---

scenario two_visited("runtime.two_visited", {.preemptions = 0, .full = 1, .which = timeouts::soon}, [] {
    auto rt = make_runtime(2);
    slot s("slot");
    int left = 0;
    auto handle = spawn(*rt, wait(s));
    const auto work = [&](std::size_t i) {
        shard_of(*rt).workers[i]->run();
        magpie_model::step("leave", nullptr, [&] { ++left; });
    };
    thread("worker a", [&] { work(0); });
    thread("worker b", [&] { work(1); });
    thread("waker", [&] { s.set(); });
    thread("closer", [&] {
        rt->close();
        magpie_model::step_when([&] { return left == 2; }, "wait for the workers", nullptr);
        check(rt->stopped(), "the runtime has stopped");
        rt.reset(); // the waker may still be on its way out
    });
    run();
    check(handle.is_finished(), "the task has ended or was dropped");
});

mistake two_unseen(two_visited, "nobody sees that the runtime closes",
                   {"runtime_group::closing", "load", how::outdated});

// --- the clock is paused, and a visitor is inside when the last worker lies down ---

magpie::task<> sleep_long(bool& woke) {
    co_await magpie::sleep_for(std::chrono::hours(1));
    woke = true;
}

std::shared_ptr<runtime_group> make_paused() {
    magpie::detail::runtime_options o;
    o.worker_threads = 1;
    o.seed = 1;
    o.lifo_slot = false;
    o.paused_clock = true;
    return std::make_shared<runtime_group>(std::move(o), std::source_location::current());
}

scenario paused_visited("runtime.paused_visited",
                        {.preemptions = 1, .full = 2, .which = timeouts::soon}, [] {
                            const auto rt = make_paused();
                            slot s("slot");
                            bool woke = false;
                            auto waiting = spawn(*rt, wait(s));
                            spawn(*rt, sleep_long(woke)).detach();
                            thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
                            thread("waker", [&] { s.set(); });
                            thread("closer", [&] {
                                magpie_model::step_when([&] { return woke; }, "wait for the sleeper",
                                                        nullptr);
                                rt->close();
                            });
                            run();
                            check(waiting.is_finished() && rt->stopped(), "all have ended");
                        });

mistake visited_unasked(paused_visited, "who lies down does not ask for visitors before the clock does",
                        {"runtime_core::visited", "load", how::outdated, "idle_set::sleep",
                         "injector::size"});

// --- the clock is paused, and a call runs: it goes on only when that has ended ---

magpie::task<> call_and_sleep(runtime_group& rt, int& ended) {
    auto call = magpie::spawn_blocking(
        [&ended] { magpie_model::step("call", nullptr, [&] { ended = 1; }); });
    co_await magpie::sleep_for(std::chrono::hours(1));
    check(ended == 1, "the clock goes on when no call runs");
    rt.close();
}

scenario paused_call("runtime.paused_call", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_paused();
    int ended = 0;
    auto handle = spawn(*rt, call_and_sleep(*rt, ended));
    thread("worker", [&] {
        shard_of(*rt).workers[0]->run();
        check(rt->pool.join(magpie::detail::futex::time_point::max()), "all threads end");
    });
    run();
    check(handle.is_finished() && rt->stopped(), "all have ended");
});

mistake call_uncounted(paused_call, "a call is not counted",
                       {"blocking_pool::submit", "modify", how::left_out});
mistake call_unseen(paused_call, "who moves the clock sees no call",
                    {"blocking_pool::busy", "load", how::outdated});

// --- the clock is paused: who asks the reactor in a round has what others did before that ---

scenario paused_round("runtime.paused_round", [] {
    const auto rt = make_paused();
    const std::uint64_t before = rt->clock_round();
    magpie_model::plain<bool> sent{false}; // as the reactor has it
    thread("one that lies down", [&] {
        sent.set(true);
        rt->worker_lies_down();
    });
    thread("one that asks", [&] {
        if (rt->clock_round() != before)
            check(sent.get(), "the answer is not outdated");
    });
    run();
    check(rt->clock_round() != before, "who asked before asks again");
});

mistake same_round(paused_round, "who has run begins no round",
                   {"worker_lies_down", "modify", how::left_out});

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
    thread("worker a", [&] { shard_of(*rt).workers[0]->run(); });
    thread("worker b", [&] { shard_of(*rt).workers[1]->run(); });
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
    thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
    thread("spawner", [&] {
        handle = spawn(*rt, count(ran));
        magpie_model::step_when([&] { return ran == 1; }, "wait for the task", nullptr);
        rt->close();
    });
    thread("installer", [&] {
        shard_of(*rt).install_driver([]() -> magpie::detail::driver* { return new Driver; });
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

// --- a driver comes while the runtime stops: it is told ---

class counting_driver final : public magpie::detail::driver {
public:
    static inline int shut_downs = 0;

    void park(time_point) noexcept override { count(); }
    void poll() noexcept override { count(); }
    void wake() noexcept override { check(made_.get() == 7, "who wakes it sees it made"); }
    void shut_down() noexcept override { ++shut_downs; }

    int polls() const { return polls_.get(); }

private:
    void count() { polls_.set(polls_.get() + 1); }

    magpie_model::plain<int> made_{7};
    magpie_model::plain<int> polls_; // one thread at a time is in it
};

magpie::detail::driver* make_counting() {
    auto* const d = new counting_driver;
    magpie_model::look_at_store(d, sizeof *d);
    return d;
}

scenario stops("runtime.driver_stops", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    rt->close();
    counting_driver::shut_downs = 0;
    thread("worker", [&] { check(rt->stop_if_all_ended(), "nobody is left"); });
    thread("installer", [&] { shard_of(*rt).install_driver(&make_counting); });
    run();
    check(counting_driver::shut_downs > 0, "the driver hears that the runtime has stopped");
});

mistake stops_unheard(stops, "who installs a driver does not look whether the runtime has stopped",
                      {"runtime_group::stopped_in_order", "load", how::outdated});

// --- who sees that the runtime has stopped sees what its tasks did ---

template <bool InTime>
void stop_and_ask() {
    const auto rt = make_runtime(1);
    magpie_model::plain<int> done;
    rt->close();
    thread("worker", [&] {
        if (InTime)
            done.set(7);
        check(rt->stop_if_all_ended(), "nobody is left");
        if (!InTime)
            done.set(7);
    });
    thread("asker", [&] {
        if (rt->stopped())
            check(done.get() == 7, "what was done before is seen");
    });
    run();
}

scenario stopped("runtime.stopped", {.preemptions = 3, .full = 4, .which = timeouts::none},
                 &stop_and_ask<true>);

mistake stopped_early(stopped, "it is stopped before all is done", &stop_and_ask<false>);

// --- one thread at a time is in the driver ---

scenario in_driver("runtime.driver_lock", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_runtime(2);
    auto& d = static_cast<counting_driver&>(shard_of(*rt).install_driver(&make_counting));
    int polled = 0;
    threads(2, "worker", [&] {
        if (shard_of(*rt).driver_of(0).poll())
            ++polled;
    });
    run();
    check(polled >= 1 && d.polls() == polled, "each has polled by itself");
});

mistake no_lock(in_driver, "the driver is entered without looking whether somebody is in it",
                {"driver_slot::try_lock", "exchange", how::in_two});

// --- who sees that all has ended sees it so ---

/// How many tasks there were, and how many frames are gone.
struct census {
    int spawned = 0;
    int destroyed = 0;
};

magpie::task<> live(tracked) { co_return; }

magpie::task<> live_and_spawn(runtime_group& rt, census& tasks, tracked) {
    ++tasks.spawned;
    spawn(rt, live(tracked(tasks.destroyed))).detach();
    co_return;
}

scenario ended("runtime.all_ended", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    census tasks{1, 0};
    auto handle = spawn(*rt, live_and_spawn(*rt, tasks, tracked(tasks.destroyed)));
    thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
    thread("closer", [&] {
        rt->close();
        if (rt->all_ended())
            check(tasks.destroyed == tasks.spawned, "nobody is left");
    });
    run();
    check(handle.is_finished() && rt->stopped(), "all have ended");
});

mistake counted_late(ended, "a task that is spawned is not counted",
                     {"runtime_core::spawned", "load", how::outdated});

// --- a runtime is closed and asked whether all has ended, against a spawn that it has not refused ---

void close_and_ask() {
    const auto rt = make_runtime(1);
    int ran = 0;
    bool all_gone = false;
    magpie::join_handle<> handle;
    thread("spawner", [&] { handle = spawn(*rt, count(ran)); });
    thread("closer", [&] {
        rt->close();
        all_gone = rt->all_ended();
    });
    thread("reader", [&] { check(rt->metrics().live <= 1, "there are never less than none"); });
    run();
    check(!all_gone || handle.is_finished(), "what it has not refused has not ended");
    shard_of(*rt).workers[0]->run();
    check(handle.is_finished() && rt->stopped(), "all have ended");
}

scenario asked("runtime.close_and_ask", {.preemptions = 2, .full = 3, .which = timeouts::none},
               &close_and_ask);

mistake asked_early(asked, "who spawns does not see that the runtime closes",
                    {"runtime_group::closing", "load", how::outdated,
                     "runtime_core::count_in_from_outside", "injector::push"});

// --- a task ends on a thread that has handed its worker over, while the runtime closes ---

magpie::task<> block(int& done) {
    magpie::block_in_place([] {});
    ++done;
    co_return;
}

scenario handed_over("runtime.handed_over", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    int done = 0;
    auto handle = spawn(*rt, block(done));
    rt->pool.launch(*shard_of(*rt).workers[0]);
    thread("closer", [&] {
        rt->close();
        check(rt->pool.join(magpie::detail::futex::time_point::max()), "all threads end");
    });
    run();
    check(handle.is_finished() && rt->stopped(), "the task has ended, and the runtime stopped");
});

mistake end_unheard(handed_over, "who ends elsewhere does not see that the runtime closes",
                    {"runtime_group::closing", "load", how::outdated, "runtime_core::retire"});

// --- the same, from where the task has nothing to do but to end ---

scenario ended_elsewhere("runtime.ended_elsewhere",
                         {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
                             const auto rt = make_runtime(1);
                             int ran = 0;
                             auto handle = spawn(*rt, count(ran));
                             magpie::strand* const last = shard_of(*rt).injected.pop();
                             thread("other", [&] { last->run_turn(); });
                             thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
                             thread("closer", [&] { rt->close(); });
                             run();
                             check(handle.is_finished() && rt->stopped(),
                                   "the task has ended, and the runtime stopped");
                         });

mistake other_unheard(ended_elsewhere, "who ends elsewhere does not see that the runtime closes",
                      {"runtime_group::closing", "load", how::outdated, "runtime_core::retire"});

// --- a spawn that is refused makes up for no task that is still there ---

scenario refused("runtime.refused", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    int ran = 0;
    slot never("slot");
    auto waiting = spawn(*rt, wait(never));
    thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
    thread("closer", [&] {
        rt->close();
        spawn(*rt, count(ran)).detach();
    });
    run();
    check(waiting.is_finished() && ran == 0, "the one was dropped, the other refused");
    check(rt->stopped() && rt->all_ended(), "and nobody is left");
});

mistake refused_unheard(refused, "who was refused is not counted out",
                        {"runtime_core::retire_elsewhere", "modify", how::left_out});

// --- who is asked how many tasks live never says that there are less than none ---

scenario metrics("runtime.metrics", {.preemptions = 1, .full = 2, .which = timeouts::none}, [] {
    const auto rt = make_runtime(1);
    int ran = 0;
    spawn(*rt, spawn_one(*rt, ran)).detach();
    thread("worker", [&] { shard_of(*rt).workers[0]->run(); });
    thread("reader", [&] {
        check(rt->metrics().live <= 2, "there are as many as there may be");
        rt->close();
    });
    run();
});

mistake spawned_unseen(metrics, "what workers have spawned is not seen",
                       {"counter::get", "load", how::outdated});

// --- current_thread: two callers, of whom one has the seat ---

std::shared_ptr<runtime_group> make_current_thread() {
    magpie::detail::runtime_options o;
    o.layout = magpie::layout::current_thread;
    o.seed = 1;
    o.lifo_slot = false;
    return std::make_shared<runtime_group>(std::move(o), std::source_location::current());
}

magpie::task<> touch(magpie_model::plain<int>& n) {
    n.set(n.get() + 1);
    co_return;
}

scenario seat("runtime.seat", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_current_thread();
    magpie_model::plain<int> ran; // the tasks share it, for they run on one thread at a time
    threads(2, "caller", [&] {
        auto handle = spawn(*rt, touch(ran));
        magpie::detail::drive_until_finished(*rt, handle.abort_handle());
        check(handle.is_finished(), "its task has ended");
    });
    run();
    check(ran.get() == 2, "both tasks have run");
});

mistake seat_shared(seat, "the seat is taken without looking whether it is free",
                    {"drive_until_finished", "exchange", how::in_two});
mistake seat_unheard(seat, "who leaves the seat says nothing",
                     {"runtime_group::seat_changed_now", "futex wake", how::left_out});
// --- ... and drives the other's task to its end, but not yet his own ---

scenario root("runtime.seat_root", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_current_thread();
    magpie_model::plain<int> ran;
    slot s("slot");
    thread("caller a", [&] {
        auto handle = spawn(*rt, wait(s));
        magpie::detail::drive_until_finished(*rt, handle.abort_handle());
        check(ran.get() == 1, "who has driven a task sees what it did");
    });
    thread("caller b", [&] {
        auto handle = spawn(*rt, touch(ran));
        magpie::detail::drive_until_finished(*rt, handle.abort_handle());
        check(ran.get() == 1, "and so does who has waited for the seat");
        s.set();
    });
    run();
});

mistake root_unheard(root, "who drives does not look for those who wait for the seat",
                     {"worker::run_until", "load", how::outdated});

// --- the runtime is shut down by a thread that drives its last turns, while another one sits there ---

scenario last_turns("runtime.last_turns", {.preemptions = 2, .full = 3, .which = timeouts::none}, [] {
    const auto rt = make_current_thread();
    magpie_model::plain<int> ran;
    thread("caller", [&] {
        auto handle = spawn(*rt, touch(ran));
        magpie::detail::drive_until_finished(*rt, handle.abort_handle());
    });
    thread("closer", [&] {
        check(rt->shutdown(magpie::detail::futex::time_point::max()), "everything has ended");
        check(rt->stopped() && ran.get() <= 1, "and it has stopped, with what was done");
    });
    run();
});

mistake last_unheard(last_turns, "who leaves the seat says nothing",
                     {"runtime_group::seat_changed_now", "futex wake", how::left_out});
mistake last_shared(last_turns, "the seat is taken without looking whether it is free",
                    {"runtime_group::shutdown", "exchange", how::in_two});

} // namespace
