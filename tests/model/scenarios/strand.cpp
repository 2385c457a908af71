// The strand's word: wakers and aborters against turns, which either of two workers may run.

#include "support.hpp"

#include <scheduler/src/inbox.hpp>
#include <scheduler/src/strand_list.hpp>

#include <test/both.hpp>

#include <coroutine>

namespace {

using namespace model_test;
using how = spoiled::how;

// --- two wakers ---

magpie::task<> wait(slot& s, tracked) { co_await s.wait(); }

magpie::task<> wait_for_both(slot& a, slot& b, int& destroyed, int& passed, bool& begun) {
    begun = true;
    co_await test::both(wait(a, tracked(destroyed)), wait(b, tracked(destroyed)));
    ++passed;
}

scenario two_wakers("strand.two_wakers", [] {
    executor ex;
    slot a("slot a");
    slot b("slot b");
    int destroyed = 0;
    int passed = 0;
    bool begun = false;
    ex.spawn(wait_for_both(a, b, destroyed, passed, begun)).detach();
    thread("waker a", [&] { a.set(); });
    thread("waker b", [&] { b.set(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(passed == 1 && destroyed == 2, "the task goes on once, when both leaves were woken");
});

mistake idle_by_store(two_wakers, "a turn goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});
mistake no_second_look(two_wakers, "a turn that could not go idle does not look at the word",
                       {"strand::take_word", "load", how::outdated});
mistake take_in_two(two_wakers, "a turn takes the word by a load and a store",
                    {"strand::take_word", "exchange", how::in_two});
mistake push_in_two(two_wakers, "a waker pushes by a load and a store",
                    {"strand::push", "compare_exchange", how::in_two});

// --- two wakers, and an abort that drops both branches ---

scenario two_wakers_and_abort("strand.two_wakers_and_abort", {.preemptions = 3, .full = 4}, [] {
    executor ex;
    slot a("slot a");
    slot b("slot b");
    int destroyed = 0;
    int passed = 0;
    bool begun = false;
    auto handle = ex.spawn(wait_for_both(a, b, destroyed, passed, begun));
    thread("waker a", [&] { a.set(); });
    thread("waker b", [&] { b.set(); });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task has passed or was dropped");
    check(destroyed == (begun ? 2 : 0), "and with it both branches");
});

mistake quiet_branch(two_wakers_and_abort,
                     "a cancelled leaf says quiet though its waker has it in hand",
                     {"wait_operation::cancel", "compare_exchange", how::unconditional});

// --- a wake, an abort, and the end ---

magpie::task<int> wait_for_one(slot& s, tracked t) {
    co_await wait(s, std::move(t)); // so there are two frames to drop
    co_return 7;
}

void wake_abort_and_end() {
    executor ex;
    slot s("slot");
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_one(s, tracked(destroyed)));
    thread("waker", [&] { s.set(); });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task has ended");
    check(destroyed == 1, "its frame is gone, once");
    try {
        check(handle.blocking_join() == 7, "it gives its value");
    } catch (const magpie::task_cancelled&) { // or was dropped before
    }
}

scenario wake_and_abort("strand.wake_abort_and_end", &wake_abort_and_end);

mistake stirs_nobody(wake_and_abort, "who aborts leaves it at the bit",
                     {"strand::push_abort", "compare_exchange", how::left_out});
mistake stirs_without_looking(wake_and_abort, "who aborts writes over what was woken meanwhile",
                              {"strand::push_abort", "compare_exchange", how::unconditional});
mistake stirs_in_two(wake_and_abort, "who aborts turns idle into busy by a load and a store",
                     {"strand::push_abort", "compare_exchange", how::in_two});
mistake quiet_though_coming(wake_and_abort,
                            "a cancelled leaf says quiet though its waker has it in hand",
                            {"wait_operation::cancel", "compare_exchange", how::unconditional});
mistake busy_in_two(wake_and_abort, "a waker turns idle into busy by a load and a store",
                    {"strand::push", "compare_exchange", how::in_two});

// --- two aborts ---

scenario two_aborts("strand.two_aborts", [] {
    executor ex;
    slot s("slot");
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_one(s, tracked(destroyed)));
    auto other = handle.abort_handle();
    thread("aborter a", [&] { handle.abort(); });
    thread("aborter b", [&] { std::exchange(other, {}).abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(destroyed == 1, "the frame is gone, once");
});

mistake flag_in_two(two_aborts, "the abort flag is set by a load and a store",
                    {"cell::abort", "modify", how::in_two});

// --- an abort before the start ---

magpie::task<> note_start(bool& started) {
    started = true;
    co_return;
}

scenario before_start("strand.abort_before_start", [] {
    executor ex;
    bool started = false;
    bool aborted = false;
    bool too_late = true;
    magpie_model::baton told; // the abort happens before the turn, which else need not see the flag
    auto handle = ex.spawn(note_start(started));
    thread("aborter", [&] {
        handle.abort();
        magpie_model::step("aborted", nullptr, [&] {
            aborted = true;
            told.pass();
        });
    });
    ex.before_turn = [&] {
        too_late = !aborted;
        if (aborted)
            told.take();
    };
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task has ended");
    check(too_late || !started, "a task that was aborted before its first turn never starts");
});

mistake flag_unseen(before_start, "a turn does not look for the abort flag",
                    {"strand::abort_requested", "load", how::outdated});

// --- an abort of a task that never waits ---

/// Reads at its end what was written before the abort.
class reads_at_end {
public:
    explicit reads_at_end(magpie_model::plain<int>& said) noexcept : said_(&said) {}
    reads_at_end(reads_at_end&& other) noexcept : said_(std::exchange(other.said_, nullptr)) {}
    reads_at_end& operator=(reads_at_end&&) = delete;
    ~reads_at_end() {
        if (said_ != nullptr)
            check(said_->get() == 1, "what comes before an abort is seen by what is dropped");
    }

private:
    magpie_model::plain<int>* said_;
};

magpie::task<> yield_for_ever(reads_at_end) {
    for (;;)
        co_await magpie::yield_now();
}

scenario abort_of_yielding("strand.abort_while_yielding", [] {
    executor ex;
    magpie_model::plain<int> said;
    auto handle = ex.spawn(yield_for_ever(reads_at_end(said)));
    thread("aborter", [&] {
        said.set(1);
        handle.abort();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task has ended");
});

mistake no_look(abort_of_yielding, "a turn does not look for the abort flag",
                {"strand::abort_requested", "load", how::outdated});

// --- strands that are linked, since there is no memory to note them ---

template <class List>
class linking_executor : public magpie::executor {
public:
    /// Of so many tasks, each turn of which leaves behind what is ready beyond one leaf.
    explicit linking_executor(int tasks) : executor(1), left_(tasks) {}

    magpie::join_handle<void> spawn(magpie::task<> t) {
        return magpie::detail::spawn_on(*this, std::move(t), std::source_location::current());
    }
    bool work_once() {
        magpie_model::step_when([this] { return queued_ > 0 || has_mail_ || left_ == 0; }, "sleep",
                                this);
        if (std::exchange(has_mail_, false)) {
            inbox_.take_all([](magpie::detail::parcel p) { magpie::strand::receive(p); });
            return true;
        }
        if (queued_ == 0)
            return false;
        --queued_;
        take().run_turn();
        return true;
    }
    void work() {
        while (work_once()) {}
    }

private:
    magpie::strand& take() {
        const magpie::detail::lock_guard guard(lock_);
        return *list_.pop();
    }
    void schedule(magpie::strand& s, placement where) noexcept override {
        if (where == placement::yield)
            magpie_model::yield();
        {
            const magpie::detail::lock_guard guard(lock_);
            list_.push(s);
        }
        magpie_model::step("queue", &s, [this] { ++queued_; });
    }
    void adopt(magpie::detail::cell& c) noexcept override { schedule(c, placement::spawn); }
    bool enroll(magpie::detail::cell& c) noexcept override {
        c.set_enrolled(true);
        return true;
    }
    void retire(magpie::detail::cell&) noexcept override { --left_; }
    void send(magpie::detail::parcel p) noexcept override {
        if (inbox_.put(p))
            magpie_model::step("tell", this, [this] { has_mail_ = true; });
    }

    magpie::detail::spin_lock lock_;
    List list_; // guarded by lock_
    magpie::detail::inbox inbox_;
    int queued_ = 0;
    bool has_mail_ = false;
    int left_;
};

scenario linked("strand.linked", {.preemptions = 3, .full = 4}, [] {
    linking_executor<magpie::detail::strand_list> ex(1);
    slot a("slot a");
    slot b("slot b");
    int destroyed = 0;
    int passed = 0;
    bool begun = false;
    ex.spawn(wait_for_both(a, b, destroyed, passed, begun)).detach();
    thread("waker a", [&] { a.set(); });
    thread("waker b", [&] { b.set(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(passed == 1 && destroyed == 2, "the task goes on once, when both leaves were woken");
});

mistake linked_and_pushed(linked, "a waker pushes by a load and a store",
                          {"strand::push", "compare_exchange", how::in_two});
mistake linked_and_taken(linked, "a turn takes the word by a load and a store",
                         {"strand::take_word", "exchange", how::in_two});

/// Of pinned strands: one thread runs them, and wakes one that is linked; another queues a new one, and aborts.
template <class List>
class pinned_linking_executor final : public linking_executor<List> {
public:
    explicit pinned_linking_executor(int tasks) : linking_executor<List>(tasks) { this->set_pinned(); }

    void be_home() { magpie::detail::this_thread().home = this; }
};

template <class List>
void wake_while_linked() {
    pinned_linking_executor<List> ex(2);
    slot a("slot a");
    slot b("slot b");
    int destroyed = 0;
    int passed = 0;
    bool begun = false;
    bool started = false;
    ex.spawn(wait_for_both(a, b, destroyed, passed, begun)).detach();
    thread("home", [&] {
        ex.be_home();
        ex.work_once();
        a.set(); // it is linked from here on
        b.set();
        ex.work();
    });
    thread("other", [&] { ex.spawn(note_start(started)).detach(); });
    run();
    check(passed == 1 && destroyed == 2 && started, "both tasks have ended");
}

/// Who queues one says so in the one before.
class tailed_list {
public:
    void push(magpie::strand& s) noexcept {
        s.link(nullptr);
        if (first_ == nullptr) {
            first_ = &s;
        } else {
            static_cast<void>(last_->unlink());
            last_->link(&s);
        }
        last_ = &s;
    }
    magpie::strand* pop() noexcept {
        magpie::strand* const s = first_;
        first_ = s->unlink();
        return s;
    }

private:
    magpie::strand* first_ = nullptr;
    magpie::strand* last_ = nullptr;
};

scenario pinned_and_linked("strand.pinned_and_linked", {.preemptions = 3, .full = 4},
                           &wake_while_linked<magpie::detail::strand_list>);
mistake touches_another(pinned_and_linked, "who queues a strand touches the one before",
                        &wake_while_linked<tailed_list>);

scenario linked_and_aborted("strand.linked_and_aborted", {.preemptions = 3, .full = 4}, [] {
    pinned_linking_executor<magpie::detail::strand_list> ex(1);
    slot s("slot");
    int destroyed = 0;
    auto handle = ex.spawn(wait(s, tracked(destroyed))).abort_handle();
    thread("home", [&] {
        ex.be_home();
        ex.work_once();
        s.set();
        ex.work();
    });
    thread("aborter", [&] { std::exchange(handle, {}).abort(); });
    run();
    check(destroyed == 1, "the task has passed or was dropped");
});

mistake ends_early(linked_and_aborted, "a task ends without a look at aborts",
                   {"cell::closes_to_aborts", "modify", how::left_out});

// --- a foreign awaitable, which another thread resumes ---

/// Resumes whoever awaits it by its bare handle, on the thread that calls `resume`.
class foreign {
public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) noexcept {
        magpie_model::step("hand over", this, [&] { caller_ = caller; });
    }
    void await_resume() const noexcept {}

    void resume(const executor& ex) {
        magpie_model::step_when([&] { return caller_ != nullptr || ex.is_over(); }, "take over", this);
        if (caller_ != nullptr)
            caller_.resume();
    }

private:
    std::coroutine_handle<> caller_;
};

magpie::task<> wait_for_foreign(foreign& f, tracked) { co_await f; }

scenario foreign_and_abort("strand.foreign_and_abort", [] {
    executor ex;
    foreign f;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_foreign(f, tracked(destroyed)));
    thread("foreign", [&] { f.resume(ex); });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "the task has passed or was dropped");
});

mistake foreign_in_two(foreign_and_abort, "a waker pushes by a load and a store",
                       {"strand::push", "compare_exchange", how::in_two});

} // namespace
