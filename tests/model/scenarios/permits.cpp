// Permits: who takes, gives, waits, gives up and closes, at the same time.

#include "support.hpp"

#include <magpie/sync/semaphore.hpp>

#include <optional>

namespace {

using namespace model_test;
using magpie::sync::semaphore;
using how = spoiled::how;

magpie::task<> pass(semaphore& s, std::size_t n, int& passed, tracked) {
    auto p = co_await s.acquire_many(n);
    passed += p ? 1 : 0;
}

// --- two threads with one permit, which a third one gives ---

scenario give("permits.give", [] {
    executor ex;
    semaphore s(0);
    int passed = 0;
    int destroyed = 0;
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    thread("giver", [&] { s.add_permits(1); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(passed == 2 && destroyed == 2, "both pass");
    check(s.available_permits() == 1, "the permit is there");
});

mistake queued_over_a_permit(give, "a waiter marks the queue over a permit that has just come",
                             {"permit_queue::enter", "compare_exchange", how::unconditional});
mistake given_over_a_waiter(give, "a permit is given over the mark of a waiter that has just come",
                            {"permit_queue::put_back", "compare_exchange", how::unconditional});
mistake taken_twice(give, "a permit is taken by a load and a store",
                    {"permit_queue::try_take", "compare_exchange", how::in_two});

// --- the last one destroys the semaphore ---

scenario last("permits.last", [] {
    executor ex;
    std::optional<semaphore> s(std::in_place, 1);
    int left = 2;
    const auto user = [](std::optional<semaphore>& sem, int& n) -> magpie::task<> {
        auto p = co_await sem->acquire();
        if (--n == 0) {
            p->forget();
            sem.reset();
        }
    };
    ex.spawn(user(s, left)).detach();
    ex.spawn(user(s, left)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(left == 0 && !s, "the last one has destroyed it");
});

mistake given_over_the_last(last, "a permit is given over the mark of a waiter that has just come",
                            {"permit_queue::put_back", "compare_exchange", how::unconditional});

// --- many permits, gathered one by one; one waiter gives up ---

scenario many("permits.many", [] {
    executor ex;
    semaphore s(0);
    int passed = 0;
    int destroyed = 0;
    auto large = ex.spawn(pass(s, 2, passed, tracked(destroyed)));
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    thread("giver", [&] { s.add_permits(1); });
    thread("aborter", [&] { large.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 2 && passed == 1, "the small request passes when the large one is gone");
    check(s.available_permits() == 1, "the permit is there");
});

mistake nobody_told(many, "who gives up in front leaves the mark of a waiter, and what he gathered",
                    {"permit_queue::leave_to_others", "store", how::left_out});

// --- what a dropped waiter was handed goes to the next ---

scenario drop("permits.drop", [] {
    executor ex;
    semaphore s(0);
    int passed = 0;
    int destroyed = 0;
    auto first = ex.spawn(pass(s, 1, passed, tracked(destroyed)));
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    thread("giver", [&] { s.add_permits(1); });
    thread("aborter", [&] { first.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 2 && passed >= 1, "the second task passes");
    check(s.available_permits() == 1, "the permit is there");
});

mistake idle_by_store(drop, "a strand goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- closed as somebody waits, and as a permit comes ---

scenario close("permits.close", [] {
    executor ex;
    semaphore s(0);
    int passed = 0;
    int destroyed = 0;
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    ex.spawn(pass(s, 1, passed, tracked(destroyed))).detach();
    thread("giver", [&] { s.add_permits(1); });
    thread("closer", [&] { s.close(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(destroyed == 2, "both tasks end");
    check(s.available_permits() == 1, "the permit is there");
});

mistake closed_over_a_waiter(close, "a waiter enters what was closed meanwhile",
                             {"permit_queue::enter", "compare_exchange", how::unconditional});

// --- threads that wait ---

scenario blocking("permits.blocking", [] {
    semaphore s(1);
    int inside = 0;
    threads(3, "thread", [&] {
        auto p = s.blocking_acquire();
        check(inside == 0, "one is inside at a time");
        inside = 1;
        magpie_model::step("work", &inside, [&] { inside = 0; });
    });
    run();
    check(s.available_permits() == 1, "the permit is there");
});

mistake given_over_a_thread(blocking, "a permit is given over the mark of a thread that has just come",
                            {"permit_queue::put_back", "compare_exchange", how::unconditional});

} // namespace
