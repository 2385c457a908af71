// The set of tasks: their ends against a join, a join that is dropped, and a set that goes.

#include "support.hpp"

#include <magpie/scheduler/join_set.hpp>

#include <optional>

namespace {

using namespace model_test;
using how = spoiled::how;

magpie::task<int> give(int n, tracked) { co_return n; }

// --- two ends against the joins ---

magpie::task<> join_both(int& sum, int& destroyed) {
    magpie::join_set<int> set;
    set.spawn(give(1, tracked(destroyed)));
    set.spawn(give(2, tracked(destroyed)));
    for (int joined = 1; joined <= 2; ++joined) {
        const std::optional<int> n = co_await set.join_next();
        check(n.has_value(), "there is a task left");
        check(destroyed >= joined, "who sees the end sees the frame gone");
        sum += *n;
    }
    const std::optional<int> none = co_await set.join_next();
    check(!none, "the set is empty");
}

scenario next("join_set.next", [] {
    executor ex;
    int sum = 0;
    int destroyed = 0;
    ex.spawn(join_both(sum, destroyed)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(sum == 3, "both are joined");
});

mistake waits_by_store(next, "the joiner stores its leaf without comparing",
                       {"set_word::wait", "compare_exchange", how::unconditional});
mistake arrives_by_store(next, "a member pushes without comparing",
                         {"set_word::arrive", "compare_exchange", how::unconditional});
mistake takes_in_two(next, "the set takes the stack by a load and a store",
                     {"set_word::take", "exchange", how::in_two});

// --- the joiner is dropped, and the set with it ---

magpie::task<> join_one(int& sum, int& destroyed) {
    magpie::join_set<int> set;
    set.spawn(give(1, tracked(destroyed)));
    const std::optional<int> n = co_await set.join_next();
    sum += n.value_or(0);
}

scenario dropped("join_set.dropped", [] {
    executor ex;
    int sum = 0;
    int destroyed = 0;
    auto handle = ex.spawn(join_one(sum, destroyed));
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the joiner has ended");
    check(sum == 0 || destroyed == 1, "the value is given whole or not at all");
});

mistake withdraws_by_store(dropped, "the joiner withdraws without comparing",
                           {"set_word::withdraw", "compare_exchange", how::unconditional});

// --- the set goes while its tasks end ---

magpie::task<> let_go(bool detaches, int& destroyed) {
    magpie::join_set<int> set;
    set.spawn(give(1, tracked(destroyed)));
    set.spawn(give(2, tracked(destroyed)));
    co_await magpie::yield_now();
    if (detaches)
        set.detach_all();
}

scenario gone("join_set.gone", [] {
    executor ex;
    int destroyed = 0;
    ex.spawn(let_go(false, destroyed)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(destroyed == 2, "both tasks have ended");
});

mistake leaves_in_two(gone, "the set leaves by a load and a store",
                      {"set_word::leave", "exchange", how::in_two});
mistake counts_in_two(gone, "a member counts itself out by a load and a store",
                      {"set_word::count_out", "modify", how::in_two});

scenario detached("join_set.detached", [] {
    executor ex;
    int destroyed = 0;
    ex.spawn(let_go(true, destroyed)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(destroyed == 2, "both tasks have ended");
});

mistake counts_in_two_either(detached, "a member counts itself out by a load and a store",
                             {"set_word::count_out", "modify", how::in_two});

// --- one branch spawns when there is a place, another one joins ---

magpie::task<> spawn_three(magpie::join_set<int>& set, int& destroyed) {
    for (int n = 1; n <= 3; ++n)
        co_await set.spawn_when_free(give(n, tracked(destroyed)));
}

magpie::task<> join_three(magpie::join_set<int>& set, int& sum) {
    for (int joined = 0; joined < 3;) {
        const std::optional<int> n = co_await set.join_next();
        if (n) {
            sum += *n;
            ++joined;
        } else {
            co_await magpie::yield_now();
        }
    }
}

magpie::task<> spawn_and_join(int& sum, int& destroyed) {
    magpie::join_set<int> set(1);
    co_await magpie::join(spawn_three(set, destroyed), join_three(set, sum));
}

scenario limit("join_set.limit", [] {
    executor ex;
    int sum = 0;
    int destroyed = 0;
    ex.spawn(spawn_and_join(sum, destroyed)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(sum == 6 && destroyed == 3, "all are spawned and joined");
});

mistake forgets(limit, "a branch that waits is forgotten though nobody has woken it",
                {"set_word::holds", "load", how::outdated});

} // namespace
