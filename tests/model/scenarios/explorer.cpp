// The explorer itself: that it makes each interleaving once, and notices each kind of mistake.

#include "support.hpp"

#include <cstdlib>

namespace {

using namespace model_test;
using magpie::detail::atomic;
using magpie::detail::futex;
using magpie::detail::lock_guard;
using magpie::detail::mutex;

constexpr auto relaxed = std::memory_order_relaxed;

void nothing() {}
void three_steps(atomic<int>& a) {
    for (int i = 0; i < 3; ++i)
        a.exchange(i, relaxed);
}

// Eight things in a row, of which four are the one thread's, its end included: 8 over 4.
scenario two_threads("explorer.two_threads", {.preemptions = 9, .full = 9, .exactly = 70}, [] {
    atomic<int> a{0};
    atomic<int> b{0};
    thread("a", [&] { three_steps(a); });
    thread("b", [&] { three_steps(b); });
    run();
});

// None, or one behind one of the three stores; and either thread may begin.
scenario one_preemption("explorer.one_preemption", {.preemptions = 1, .full = 1, .exactly = 8}, [] {
    atomic<int> a{0};
    atomic<int> b{0};
    thread("a", [&] { three_steps(a); });
    thread("b", [&] { three_steps(b); });
    run();
});

// Threads that are alike begin in one order only: half of the 70.
scenario twins("explorer.twins", {.preemptions = 9, .full = 9, .exactly = 35}, [] {
    atomic<int> a{0};
    threads(2, "twin", [&] { three_steps(a); });
    run();
});

// Whoever has the lock runs to its end if the other one wants it.
scenario locks("explorer.locks", {.preemptions = 9, .full = 9}, [] {
    mutex m;
    int inside = 0;
    const auto enter = [&] {
        const lock_guard guard(m);
        check(++inside == 1, "the lock excludes");
        magpie_model::step("inside", nullptr, nothing);
        --inside;
    };
    thread("a", enter);
    thread("b", enter);
    run();
});

mistake no_lock(locks, "the lock is left out", {"lock_guard", "lock", spoiled::how::left_out});

scenario sleeping("explorer.sleeping", {.preemptions = 9, .full = 9}, [] {
    futex f;
    int timed_out = 0;
    thread("sleeper", [&] {
        while (f.word.load(relaxed) == 0)
            if (!f.wait_until(0, futex::time_point()))
                ++timed_out;
        check(timed_out <= 9, "time runs out only so often as there may be preemptions");
    });
    thread("waker", [&] {
        f.word.store(1, relaxed);
        futex::wake(&f, 1);
    });
    run();
});

mistake no_wake(sleeping, "the wake is missing", [] {
    futex f;
    thread("sleeper", [&] { f.wait(0); });
    run();
});

// --- kinds of mistakes ---

scenario kinds("explorer.kinds", &nothing);

// What a compiler does not see it can neither leave out nor warn of.
template <class T>
T* unseen(T* p) {
    T* volatile hidden = p;
    return hidden;
}

mistake leak(kinds, "a leak", [] { *unseen(new int) = 1; });
mistake freed_twice(kinds, "a block is freed twice", [] {
    int* const p = new int(1);
    delete unseen(p);
    delete unseen(p);
});
mistake late_write(kinds, "a late write", [] {
    volatile int* const p = new int(1);
    delete unseen(p);
    *unseen(p) = 1;
});
mistake dead_atomic(kinds, "an atomic that is gone", [] {
    auto* const p = new atomic<int>(1);
    delete unseen(p);
    unseen(p)->store(1, relaxed);
});
mistake self_lock(kinds, "a lock that is taken twice", [] {
    mutex m;
    thread("a", [&] {
        const lock_guard once(m);
        const lock_guard twice(m);
    });
    run();
});
mistake lost_update(kinds, "an update that is lost", [] {
    atomic<int> a{0};
    threads(2, "adder", [&] { a.store(a.load(relaxed) + 1, relaxed); });
    run();
    check(a.load(relaxed) == 2, "both were counted");
});
mistake endless(kinds, "a thread that has no end", [] {
    atomic<bool> never{false};
    thread("a", [&] {
        while (!never.load(relaxed))
            magpie_model::yield();
    });
    run();
});
mistake crash(kinds, "a crash", [] {
    thread("a", [] { std::abort(); });
    run();
});
mistake whim(kinds, "a scenario that depends on more than its schedule", [] {
    static int executions = 0;
    if (++executions % 2 == 1)
        return;
    thread("a", &nothing);
    thread("b", &nothing);
    run();
});

} // namespace
