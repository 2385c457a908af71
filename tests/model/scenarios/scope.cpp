// Scopes: the ends of their tasks against the wait for the last, a failure, an abort, a wait for a place.

#include "support.hpp"

#include <magpie/core/scope.hpp>

#include <coroutine>
#include <exception>
#include <stdexcept>
#include <utility>

namespace {

using namespace model_test;
using magpie::task;
using magpie::task_scope;
using how = spoiled::how;

task<> work(tracked) { co_return; }

task<int> give(int n, tracked) { co_return n; }

task<> fail(tracked) {
    throw std::runtime_error("failed");
    co_return;
}

task<> wait_for(slot& s, tracked) { co_await s.wait(); }

// --- two tasks end, the body has ended ---

task<> two_children(int& destroyed, int& left) {
    auto body = [&](task_scope& s) -> task<> {
        s.spawn(work(tracked(destroyed)));
        s.spawn(work(tracked(destroyed)));
        co_return;
    };
    co_await magpie::scope(body);
    check(destroyed == 2, "who leaves the scope sees the frames of its tasks gone");
    ++left;
}

scenario end("scope.end", [] {
    executor ex;
    int destroyed = 0;
    int left = 0;
    ex.spawn(two_children(destroyed, left)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(left == 1, "the scope is left");
});

mistake end_in_two(end, "a child's end and its handle's are a load and a store",
                   {"cell::publish_end", "exchange", how::in_two});
mistake no_membership(end, "a child has no reference for its membership",
                      {"scope_cell", "store", how::left_out});
mistake idle_by_store(end, "a turn goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- one fails while the other waits, or ends ---

task<> one_fails(int& destroyed, int& thrown) {
    auto body = [&](task_scope& s) -> task<> {
        s.spawn(work(tracked(destroyed)));
        s.spawn(fail(tracked(destroyed)));
        co_await magpie::yield_now();
        const tracked local(destroyed);
    };
    try {
        co_await magpie::scope(body);
    } catch (const std::runtime_error&) {
        ++thrown;
    }
    check(destroyed >= 2, "the tasks are gone");
}

scenario failure("scope.failure", [] {
    executor ex;
    int destroyed = 0;
    int thrown = 0;
    ex.spawn(one_fails(destroyed, thrown)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(thrown == 1, "the failure is rethrown");
});

mistake no_reference(failure, "who aborts the siblings holds no reference to the one at hand",
                     {"cell::retain", "modify", how::left_out});
mistake walks_without_lock(failure, "the list of the children is used without the lock",
                           {"lock_guard", "lock", how::left_out});

scenario waiting("scope.waiting", {.preemptions = 2, .full = 4}, [] {
    executor ex;
    slot s("slot");
    int destroyed = 0;
    int thrown = 0;
    auto body = [](slot& one, int& d, int& t) -> task<> {
        slot two("second slot");
        auto children = [&](task_scope& scope) -> task<> {
            scope.spawn(wait_for(one, tracked(d)));
            scope.spawn(fail(tracked(d)));
            const tracked local(d);
            co_await two.wait();
        };
        try {
            co_await magpie::scope(children);
        } catch (const std::runtime_error&) {
            check(d == 3, "all are gone when the failure is rethrown");
            ++t;
        }
    };
    ex.spawn(body(s, destroyed, thrown)).detach();
    thread("setter", [&] { s.set(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(thrown == 1, "the failure is rethrown");
});

mistake abort_left_out(waiting, "an abort does not say that it was there",
                       {"strand::push", "compare_exchange", how::left_out});

// --- the task that awaits the scope is dropped ---

scenario dropped("scope.dropped", {.preemptions = 2, .full = 4}, [] {
    executor ex;
    int destroyed = 0;
    int left = 0;
    auto handle = ex.spawn(two_children(destroyed, left));
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "it has ended");
    check(destroyed == 0 || destroyed == 2, "its tasks have ended, or it has not begun");
});

mistake release_in_two(dropped, "a reference is given back by a load and a store",
                       {"cell::release", "modify", how::in_two});

// --- the body joins a task of the scope, and is dropped ---

task<> joins(int& got, int& destroyed) {
    auto body = [&](task_scope& s) -> task<> {
        auto h = s.spawn(give(7, tracked(destroyed)));
        got = co_await h;
    };
    co_await magpie::scope(body);
    check(got == 7 && destroyed == 1, "the value has come");
}

scenario joined("scope.joined", [] {
    executor ex;
    int got = 0;
    int destroyed = 0;
    auto handle = ex.spawn(joins(got, destroyed));
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && (got == 0 || destroyed == 1),
          "the value is given whole or not at all");
});

mistake withdraws_by_store(joined, "the body withdraws from the task without comparing",
                           {"cell::withdraw", "compare_exchange", how::unconditional});

// --- the first to succeed ---

task<> race(int& got, int& destroyed) {
    auto body = [&](magpie::first_success_scope<int>& s) -> task<> {
        s.spawn(give(1, tracked(destroyed)));
        s.spawn(give(2, tracked(destroyed)));
        co_return;
    };
    got = co_await magpie::scope(magpie::first_success<int>, body);
    check(destroyed == 2, "all are gone");
}

scenario first("scope.first_success", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    int got = 0;
    int destroyed = 0;
    ex.spawn(race(got, destroyed)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(got == 1 || got == 2, "one of them has given the value");
});

mistake first_without_reference(first, "who aborts the others holds no reference to the one at hand",
                                {"cell::retain", "modify", how::left_out});

// --- a wait for a place, given and dropped ---

task<> waits_for_place(int& destroyed, int& left) {
    auto waits = [&](task_scope& s) -> task<> {
        static_cast<void>(co_await s.spawn_when_free(work(tracked(destroyed))));
    };
    auto body = [&](task_scope& s) -> task<> {
        s.spawn(work(tracked(destroyed)));
        co_await waits(s);
    };
    co_await magpie::scope(magpie::fail_fast.limit(1), body);
    check(destroyed == 2, "both have run");
    ++left;
}

scenario place("scope.place", {.preemptions = 2, .full = 4}, [] {
    executor ex;
    int destroyed = 0;
    int left = 0;
    auto handle = ex.spawn(waits_for_place(destroyed, left));
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "it has ended");
});

mistake place_idle_by_store(place, "a turn goes idle by a plain store",
                            {"strand::try_idle", "compare_exchange", how::unconditional});

// --- the last touch: what scope_state::leave does, and where it would be wrong ---

enum class flaw : unsigned char { none, wakes_under_lock, looks_again, counts_first };

class counter {
public:
    void arrive(flaw f) noexcept {
        magpie::leaf* last = nullptr;
        if (f == flaw::counts_first) { // beside the lock, which then comes too late
            const bool is_last = --live_ == 0;
            const magpie::detail::lock_guard guard(lock_);
            last = is_last ? std::exchange(waiter_, nullptr) : nullptr;
        } else {
            const magpie::detail::lock_guard guard(lock_);
            if (--live_ == 0)
                last = std::exchange(waiter_, nullptr);
            if (f == flaw::wakes_under_lock && last != nullptr)
                wake(*std::exchange(last, nullptr));
        }
        if (last != nullptr)
            wake(*last);
        if (f == flaw::looks_again) {
            const magpie::detail::lock_guard guard(lock_);
        }
    }
    bool wait(magpie::leaf& l) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        if (live_ > 0)
            waiter_ = &l;
        return live_ > 0;
    }
    void enter() noexcept { ++live_; } // before the others know it

private:
    magpie::detail::mutex lock_;
    int live_ = 0;
    magpie::leaf* waiter_ = nullptr;
};

class wait_operation : public magpie::operation<wait_operation> {
public:
    explicit wait_operation(counter& c) noexcept : counter_(c) {}
    wait_operation(wait_operation&&) noexcept = default;

    bool try_complete() const noexcept { return false; }
    bool publish() noexcept { return counter_.wait(*this); }
    void await_resume() const noexcept {}

private:
    magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }

    counter& counter_;
};

template <flaw F>
task<> arrive_at(counter& c) {
    c.arrive(F);
    co_return;
}

template <flaw F>
task<> wait_for_two() {
    counter c;
    for (int i = 0; i < 2; ++i) {
        c.enter();
        magpie::spawn(arrive_at<F>(c)).detach();
    }
    co_await wait_operation(c);
}

template <flaw F>
void last_touch() {
    executor ex;
    ex.spawn(wait_for_two<F>()).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
}

scenario touch("scope.last_touch", {.preemptions = 2, .full = 3}, &last_touch<flaw::none>);

mistake under_lock(touch, "the last child wakes the parent under the lock",
                   &last_touch<flaw::wakes_under_lock>);
mistake again(touch, "a child touches the scope after it has left", &last_touch<flaw::looks_again>);
mistake beside(touch, "a child counts itself out before it takes the lock",
               &last_touch<flaw::counts_first>);

} // namespace
