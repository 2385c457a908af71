// notify: calls against waits, against waits that are dropped, and against each other.

#include "support.hpp"

#include <magpie/sync/notify.hpp>

namespace {

using namespace model_test;
using magpie::sync::notify;
using how = spoiled::how;

magpie::task<> wait_for(notify& n, int& told, tracked) {
    co_await n.notified();
    ++told;
}

// --- two wait, two calls come, one of them may be kept ---

scenario one("notify.one", [] {
    executor ex;
    notify n;
    int told = 0;
    int destroyed = 0;
    ex.spawn(wait_for(n, told, tracked(destroyed))).detach();
    thread("caller", [&] { n.notify_one(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(told == 1 && destroyed == 1, "the task goes on");
    n.notify_one();
    n.blocking_wait(); // nothing is left of the first call, or this would be one too many
});

mistake kept_over_a_waiter(one, "a call is kept over the mark of a waiter that has just come",
                           {"state>::compare_exchange", "compare_exchange", how::unconditional});
mistake waits_over_a_call(one, "a waiter takes the lock over a call that was just kept",
                          {"state>::lock", "compare_exchange", how::unconditional});

// --- one is dropped as it is told ---

magpie::task<> pass_on(notify& n, int& told, tracked) {
    co_await n.notified();
    ++told;
    n.notify_one();
}

scenario drop("notify.drop", [] {
    executor ex;
    notify n;
    int told = 0;
    int destroyed = 0;
    auto first = ex.spawn(pass_on(n, told, tracked(destroyed)));
    ex.spawn(wait_for(n, told, tracked(destroyed))).detach();
    thread("caller", [&] { n.notify_one(); });
    thread("aborter", [&] { first.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(first.is_finished() && destroyed == 2, "the first has gone on, or was dropped");
    check(told >= 1, "the second was told, by the first or in its place");
});

mistake lock_stays(drop, "who has the lock goes, and its mark stays",
                   {"state>::guard::~guard", "store", how::left_out});

// --- all are told ---

scenario all("notify.all", [] {
    executor ex;
    notify n;
    int told = 0;
    int destroyed = 0;
    ex.spawn(wait_for(n, told, tracked(destroyed))).detach();
    auto second = n.notified(); // before all calls
    thread("caller", [&] {
        n.notify_waiters();
        n.notify_one();
    });
    thread("waiter", [&] { magpie::detail::blocking_wait(second); });
    thread("worker", [&] { ex.work(); });
    run();
    check(told == 1 && destroyed == 1, "the task goes on");
});

mistake over_a_round(all, "a waiter takes the lock over a call of notify_waiters()",
                     {"state>::lock", "compare_exchange", how::unconditional});

// --- a condition is looked at after notified(): who is late for the call sees what was set before it ---

magpie::task<> wait_unless(notify& n, const magpie::detail::atomic<int>& is_set) {
    auto told = n.notified();
    if (is_set.load(std::memory_order_relaxed) == 0)
        co_await told;
}

template <bool InTime>
void set_and_notify() {
    executor ex;
    notify n;
    magpie::detail::atomic<int> is_set{0};
    auto handle = ex.spawn(wait_unless(n, is_set));
    thread("setter", [&] {
        if (InTime)
            is_set.store(1, std::memory_order_relaxed);
        n.notify_waiters();
        if (!InTime)
            is_set.store(1, std::memory_order_relaxed);
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task goes on");
}

scenario condition("notify.condition", &set_and_notify<true>);

mistake set_late(condition, "it is set behind the call", &set_and_notify<false>);

} // namespace
