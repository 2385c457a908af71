// The event: set() against waits, against waits that are dropped, and against threads that wait.

#include "support.hpp"

#include <magpie/sync/event.hpp>

namespace {

using namespace model_test;
using how = spoiled::how;

/// The product's event with one line wrong.
enum class flaw : unsigned char { none, no_second_look, always_quiet, wakes_first };

template <flaw Flaw>
class copied_event {
public:
    class wait_operation : public magpie::operation<wait_operation, magpie::sync::detail::waiter> {
    public:
        static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

        explicit wait_operation(copied_event& e) noexcept : event_(&e) {}
        wait_operation(wait_operation&&) noexcept = default;

        bool try_complete() const noexcept { return event_->is_set(); }
        bool publish() noexcept {
            const guard locked(event_->word_);
            if (Flaw != flaw::no_second_look && locked.state.is_set)
                return false;
            event_->waiters_.push_back(*this);
            return true;
        }
        void await_resume() const noexcept {}

    private:
        friend class copied_event;
        magpie::cancel_answer cancel() noexcept override {
            const guard locked(event_->word_);
            if (this->is_listed())
                event_->waiters_.remove(*this);
            else if (Flaw != flaw::always_quiet)
                return magpie::cancel_answer::coming;
            return magpie::cancel_answer::quiet;
        }

        copied_event* event_;
    };

    bool is_set() const noexcept { return word_.load(std::memory_order_acquire).is_set; }
    void set() noexcept {
        magpie::sync::detail::wake_list woken;
        guard locked(word_);
        locked.state.is_set = true;
        while (magpie::sync::detail::waiter* const w = waiters_.front()) {
            if (Flaw == flaw::wakes_first) {
                wake(*w);
                waiters_.remove(*w);
            } else {
                woken.take(waiters_, *w);
            }
        }
    }
    wait_operation wait() noexcept { return wait_operation(*this); }

private:
    struct state {
        bool is_set = false;
        bool has_lock = false;

        bool is_locked() const noexcept { return has_lock; }
        state locked() const noexcept { return {is_set, true}; }
    };
    using lock_word = magpie::detail::lock_word<state>;
    using guard = typename lock_word::guard;

    lock_word word_{state()};
    magpie::sync::detail::wait_list waiters_;
};

template <class Event>
magpie::task<> wait_for(Event& e, int& passed, tracked) {
    co_await e.wait();
    ++passed;
}

// --- two tasks wait ---

template <class Event>
void set_and_wait() {
    executor ex;
    Event e;
    int passed = 0;
    int destroyed = 0;
    ex.spawn(wait_for(e, passed, tracked(destroyed))).detach();
    ex.spawn(wait_for(e, passed, tracked(destroyed))).detach();
    thread("setter", [&] { e.set(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(passed == 2 && destroyed == 2, "both tasks pass");
}

scenario wait("event.wait", &set_and_wait<magpie::sync::event>);

mistake no_second_look(wait, "a waiter enters the list without looking again whether the event is set",
                       &set_and_wait<copied_event<flaw::no_second_look>>);
mistake wakes_first(wait, "set() takes a waiter out of the list after it has woken it",
                    &set_and_wait<copied_event<flaw::wakes_first>>);

// --- a task waits and is dropped ---

template <class Event>
void set_and_drop() {
    executor ex;
    Event e;
    int passed = 0;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for(e, passed, tracked(destroyed)));
    thread("setter", [&] { e.set(); });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "the task has passed or was dropped");
}

scenario drop("event.drop", &set_and_drop<magpie::sync::event>);

mistake always_quiet(drop, "a dropped waiter says quiet though set() has it in hand",
                     &set_and_drop<copied_event<flaw::always_quiet>>);

// --- a thread waits ---

template <class Event>
void set_and_block() {
    Event e;
    thread("setter", [&] { e.set(); });
    threads(2, "waiter", [&] { magpie::detail::blocking_wait(e.wait()); });
    run();
    check(e.is_set(), "it is set");
}

scenario blocking("event.blocking_wait", &set_and_block<magpie::sync::event>);

mistake no_second_look_either(blocking,
                              "a waiter enters the list without looking again whether the event is set",
                              &set_and_block<copied_event<flaw::no_second_look>>);

// --- a timeout: set() against the timer and an abort ---

magpie::task<> wait_for_a_time(magpie::sync::event& e, int& in_time, int& ended, tracked) {
    const bool set = co_await magpie::timeout(std::chrono::seconds(1), e.wait());
    in_time += set ? 1 : 0;
    ++ended;
}

scenario timeout("event.timeout", [] {
    executor ex;
    magpie::sync::event e;
    int in_time = 0;
    int ended = 0;
    int destroyed = 0;
    ex.spawn(wait_for_a_time(e, in_time, ended, tracked(destroyed))).detach();
    thread("setter", [&] { e.set(); });
    thread("clock", [&] { ex.tick(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(ended == 1 && destroyed == 1, "the wait ends once");
    check(in_time == 1 || e.is_set(), "the event was set in time or too late");
});

mistake idle_by_store(timeout, "a turn goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

scenario dropped_timeout("event.dropped_timeout", {.preemptions = 3, .full = 4}, [] {
    executor ex;
    magpie::sync::event e;
    int in_time = 0;
    int ended = 0;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_a_time(e, in_time, ended, tracked(destroyed)));
    thread("setter", [&] { e.set(); });
    thread("clock", [&] { ex.tick(); });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "the task has ended or was dropped");
});

mistake push_in_two(dropped_timeout, "a waker pushes by a load and a store",
                    {"strand::push", "compare_exchange", how::in_two});

} // namespace
