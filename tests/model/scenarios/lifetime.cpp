// Who was woken destroys what he waited for at once, while the call that woke him may not have returned.

#include "support.hpp"

#include <magpie/sync/barrier.hpp>
#include <magpie/sync/condition_variable.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/latch.hpp>
#include <magpie/sync/notify.hpp>
#include <magpie/sync/set_once.hpp>

#include <optional>

namespace {

using namespace model_test;
using magpie::sync::barrier;
using magpie::sync::condition_variable;
using magpie::sync::latch;
using magpie::sync::mutex;
using magpie::sync::notify;

// A mistake with `late` in its name: the call touches the object once more when it has woken.

/// A task waits, and destroys; a thread wakes.
template <class Object, class Wait, class Wake>
void wait_and_destroy(std::optional<Object>& object, Wait wait, Wake wake_up) {
    executor ex;
    auto waits = [](std::optional<Object>& o, Wait w) -> magpie::task<> {
        co_await w(*o);
        o.reset();
    };
    ex.spawn(waits(object, wait)).detach();
    thread("waker", [&] { wake_up(*object); });
    thread("worker", [&] { ex.work(); });
    run();
    check(!object, "it was destroyed");
}

// --- event ---

/// An event as it is often written: a flag, and a lock of the list.
class flag_and_lock {
public:
    class wait_operation : public magpie::operation<wait_operation, magpie::sync::detail::waiter> {
    public:
        explicit wait_operation(flag_and_lock& e) noexcept : event_(&e) {}
        wait_operation(wait_operation&&) noexcept = default;

        bool try_complete() const noexcept { return event_->set_.load(std::memory_order_acquire); }
        bool publish() noexcept {
            const magpie::detail::lock_guard guard(event_->lock_);
            if (event_->set_.load(std::memory_order_relaxed))
                return false;
            event_->waiters_.push_back(*this);
            return true;
        }
        void await_resume() const noexcept {}

    private:
        magpie::cancel_answer cancel() noexcept override {
            const magpie::detail::lock_guard guard(event_->lock_);
            if (!this->is_listed())
                return magpie::cancel_answer::coming;
            event_->waiters_.remove(*this);
            return magpie::cancel_answer::quiet;
        }

        flag_and_lock* event_;
    };

    void set() noexcept {
        magpie::sync::detail::wake_list woken;
        const magpie::detail::lock_guard guard(lock_);
        set_.store(
            true,
            std::memory_order_release); // from here on a waiter may be gone, and the event with it
        woken.take_all(waiters_);
    }
    wait_operation wait() noexcept { return wait_operation(*this); }

private:
    magpie::detail::atomic<bool> set_{false};
    magpie::detail::mutex lock_;
    magpie::sync::detail::wait_list waiters_;
};

template <class Event>
void destroy_event() {
    std::optional<Event> e(std::in_place);
    wait_and_destroy(e, [](Event& x) { return x.wait(); }, [](Event& x) { x.set(); });
}

scenario event("lifetime.event", &destroy_event<magpie::sync::event>);

mistake event_flag(event, "that it is set is seen before the lock is let go of",
                   &destroy_event<flag_and_lock>);

scenario blocked_event("lifetime.event_of_a_thread", [] {
    std::optional<magpie::sync::event> e(std::in_place);
    thread("waiter", [&] {
        e->blocking_wait();
        e.reset();
    });
    thread("setter", [&] { e->set(); });
    run();
    check(!e, "it was destroyed");
});

mistake blocked_event_flag(blocked_event, "that it is set is seen before the lock is let go of", [] {
    std::optional<flag_and_lock> e(std::in_place);
    thread("waiter", [&] {
        magpie::detail::blocking_wait(e->wait());
        e.reset();
    });
    thread("setter", [&] { e->set(); });
    run();
});

// --- latch and set_once ---

template <bool Late>
void destroy_latch() {
    executor ex;
    std::optional<latch> l(std::in_place, 2);
    auto waits = [](std::optional<latch>& o) -> magpie::task<> {
        co_await o->wait();
        o.reset();
    };
    ex.spawn(waits(l)).detach();
    threads(2, "counter", [&] {
        l->count_down();
        if (Late)
            check(l->try_wait() || true, "");
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(!l, "it was destroyed");
}

scenario latch_scenario("lifetime.latch", &destroy_latch<false>);
mistake latch_late(latch_scenario, "late: a count", &destroy_latch<true>);

template <bool Late>
void destroy_set_once() {
    std::optional<magpie::sync::set_once<int>> s(std::in_place);
    using object = magpie::sync::set_once<int>;
    wait_and_destroy(
        s, [](object& x) { return x.wait(); },
        [](object& x) {
            x.set(5);
            if (Late)
                check(x.is_set() || true, "");
        });
}

scenario set_once("lifetime.set_once", &destroy_set_once<false>);
mistake set_once_late(set_once, "late: a set", &destroy_set_once<true>);

// --- notify ---

template <bool Late>
void destroy_notify() {
    std::optional<notify> n(std::in_place);
    wait_and_destroy(
        n, [](notify& x) { return x.notified(); },
        [](notify& x) {
            x.notify_one();
            if (Late)
                x.notify_one();
        });
}

scenario one("lifetime.notify_one", &destroy_notify<false>);
mistake one_late(one, "late: a call", &destroy_notify<true>);

template <bool Late>
void destroy_notify_of_all() {
    executor ex;
    std::optional<notify> n(std::in_place);
    auto waits = [](std::optional<notify>& o,
                    magpie::sync::notified_operation<notify*> made) -> magpie::task<> {
        co_await made; // it counts from before the call, so it may be told by the number alone
        o.reset();
    };
    ex.spawn(waits(n, n->notified())).detach();
    thread("caller", [&] {
        n->notify_waiters();
        if (Late)
            n->notify_waiters();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(!n, "it was destroyed");
}

scenario all("lifetime.notify_waiters", &destroy_notify_of_all<false>);
mistake all_late(all, "late: a call", &destroy_notify_of_all<true>);

// --- barrier: the one that waited destroys it, its leader is on his way out ---

/// A barrier whose leader wakes the others while it has the lock.
class early_barrier {
public:
    class wait_operation : public magpie::operation<wait_operation, magpie::sync::detail::waiter> {
    public:
        explicit wait_operation(early_barrier& b) noexcept : barrier_(&b) {}
        wait_operation(wait_operation&&) noexcept = default;

        bool try_complete() const noexcept { return false; }
        bool publish() noexcept { return !barrier_->come(*this); }
        bool await_resume() const noexcept { return leads_; }

    private:
        magpie::cancel_answer cancel() noexcept override { return magpie::cancel_answer::coming; }

        friend class early_barrier;
        early_barrier* barrier_;
        bool leads_ = false;
    };

    explicit early_barrier(std::size_t) noexcept {}
    wait_operation wait() noexcept { return wait_operation(*this); }

private:
    bool come(wait_operation& w) noexcept {
        const magpie::detail::lock_guard guard(lock_);
        if (waiters_.empty()) {
            waiters_.push_back(w);
            return false;
        }
        magpie::sync::detail::wake_list woken;
        woken.take_all(waiters_);
        w.leads_ = true;
        return true;
    }

    magpie::detail::mutex lock_;
    magpie::sync::detail::wait_list waiters_;
};

template <class Barrier>
void destroy_barrier() {
    executor ex;
    std::optional<Barrier> b(std::in_place, 2);
    auto comes = [](std::optional<Barrier>& o) -> magpie::task<> {
        const bool leads = co_await o->wait();
        if (!leads)
            o.reset();
    };
    ex.spawn(comes(b)).detach();
    ex.spawn(comes(b)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(!b, "it was destroyed");
}

scenario meeting("lifetime.barrier", &destroy_barrier<barrier>);
mistake woken_under_lock(meeting, "the leader wakes while it has the lock",
                         &destroy_barrier<early_barrier>);

// --- condition_variable, with its lock: told under the lock, by who then lets go of that ---

template <bool Late>
void destroy_condition() {
    struct shared {
        mutex m;
        condition_variable changed;
        bool is_set = false;
    };
    executor ex;
    std::optional<shared> s(std::in_place);
    auto waits = [](std::optional<shared>& o) -> magpie::task<> {
        auto guard = co_await o->m.lock();
        const bool& set = o->is_set;
        auto is_set = [&set] { return set; };
        co_await o->changed.wait(guard, is_set);
        guard.unlock();
        o.reset();
    };
    ex.spawn(waits(s)).detach();
    thread("setter", [&] {
        auto guard = s->m.blocking_lock();
        s->is_set = true;
        if (!Late)
            s->changed.notify_one();
        guard.unlock();
        if (Late)
            s->changed.notify_one();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(!s, "it was destroyed");
}

scenario condition("lifetime.condition", &destroy_condition<false>);
mistake condition_late(condition, "late: told when the lock is free already", &destroy_condition<true>);

} // namespace
