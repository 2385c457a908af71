// What is built of permits and lists: a condition variable, upgrades, several locks, a value that is made once.

#include "support.hpp"

#include <magpie/sync/condition_variable.hpp>
#include <magpie/sync/once_cell.hpp>
#include <magpie/sync/scoped_lock.hpp>
#include <magpie/sync/set_once.hpp>
#include <magpie/sync/shared_mutex.hpp>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::sync::condition_variable;
using magpie::sync::mutex;
using magpie::sync::shared_mutex;

// --- a condition variable: one waits with the lock, is told, and may be dropped ---

magpie::task<> wait_for(mutex& m, condition_variable& c, bool& set, int& passed, tracked) {
    auto guard = co_await m.lock();
    auto is_set = [&set] { return set; };
    co_await c.wait(guard, is_set);
    ++passed;
}

scenario condition("locks.condition", [] {
    executor ex;
    mutex m;
    condition_variable c;
    bool set = false;
    int passed = 0;
    int destroyed = 0;
    ex.spawn(wait_for(m, c, set, passed, tracked(destroyed))).detach();
    thread("setter", [&] {
        auto guard = m.blocking_lock();
        set = true;
        guard.unlock();
        c.notify_one();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(passed == 1 && destroyed == 1, "the task goes on");
    check(!m.is_locked(), "the lock is free");
});

mistake lock_over_a_waiter(condition, "the lock is let go of over the mark of a waiter",
                           {"permit_queue::put_back", "compare_exchange", how::unconditional});

scenario condition_drop("locks.condition_drop", [] {
    executor ex;
    mutex m;
    condition_variable c;
    bool set = false;
    int passed = 0;
    int destroyed = 0;
    auto first = ex.spawn(wait_for(m, c, set, passed, tracked(destroyed)));
    ex.spawn(wait_for(m, c, set, passed, tracked(destroyed))).detach();
    thread("setter", [&] {
        auto guard = m.blocking_lock();
        set = true;
        guard.unlock();
        c.notify_one();
        c.notify_one();
    });
    thread("aborter", [&] { first.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 2 && passed >= 1, "the second goes on, told or in place of the first");
    check(!m.is_locked(), "the lock is free");
});

mistake idle_by_store(condition_drop, "a strand goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- an upgradable reader, a reader and a writer ---

magpie::task<> upgrade(shared_mutex& m, int& value) {
    auto reads = co_await m.lock_upgradable();
    const int before = value;
    auto writes = co_await std::move(reads).upgrade();
    check(value == before, "nobody has written in between");
    ++value;
}

magpie::task<> write(shared_mutex& m, int& value) {
    auto writes = co_await m.lock();
    ++value;
}

scenario upgrades("locks.upgrade", [] {
    executor ex;
    shared_mutex m;
    int value = 0;
    ex.spawn(upgrade(m, value)).detach();
    ex.spawn(write(m, value)).detach();
    thread("reader", [&] { auto reads = m.blocking_lock_shared(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(value == 2, "both have written");
    check(!m.is_locked(), "the lock is free");
});

mistake marks_over_permits(upgrades, "a waiter marks the word over permits that have just come",
                           {"permit_queue::enter", "compare_exchange", how::unconditional});

// --- two locks, in different orders ---

scenario scoped("locks.scoped", [] {
    mutex a;
    mutex b;
    int inside = 0;
    const auto both = [&inside](mutex& x, mutex& y) {
        auto all = magpie::sync::blocking_scoped_lock(x, y);
        check(inside == 0, "one is inside at a time");
        inside = 1;
        magpie_model::step("work", &inside, [&] { inside = 0; });
    };
    thread("a, b", [&] { both(a, b); });
    thread("b, a", [&] { both(b, a); });
    run();
    check(!a.is_locked() && !b.is_locked(), "the locks are free");
});

mistake scoped_over_a_waiter(scoped, "a lock is let go of over the mark of a waiter",
                             {"permit_queue::put_back", "compare_exchange", how::unconditional});

// --- made once; who makes it may be dropped ---

magpie::task<> get(magpie::sync::once_cell<int>& cell, slot& s, int& made, int& got) {
    auto make = [&]() -> magpie::task<int> {
        co_await s.wait();
        ++made;
        co_return 5;
    };
    const int& value = co_await cell.get_or_init(make);
    got += value;
}

scenario once("locks.once", [] {
    executor ex;
    magpie::sync::once_cell<int> cell;
    slot s("slot");
    int made = 0;
    int got = 0;
    auto first = ex.spawn(get(cell, s, made, got));
    ex.spawn(get(cell, s, made, got)).detach();
    thread("setter", [&] { s.set(); });
    thread("aborter", [&] { first.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(made == 1 && *cell.get() == 5, "it is made once");
    check(got == 5 || got == 10, "the second has it");
});

mistake mark_stays(once, "who gives up leaves the mark of a waiter",
                   {"permit_queue::leave_to_others", "store", how::left_out});

scenario set_once("locks.set_once", [] {
    magpie::sync::set_once<int> value;
    int done = 0;
    threads(2, "setter", [&] {
        if (value.set(7))
            ++done;
    });
    thread("waiter", [&] { check(value.blocking_wait() == 7, "it gets the value"); });
    run();
    check(done == 1, "one has set it");
});

mistake claimed_in_two(set_once, "the value is claimed by a load and a store",
                       {"set_from", "exchange", how::in_two});

} // namespace
