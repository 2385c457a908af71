// What the primitives promise to carry: what one thread did before, another one sees after. The data is
// plain memory, so whatever is not ordered is a data race.

#include "support.hpp"

#include <magpie/core/log.hpp>
#include <magpie/scheduler/task_tracker.hpp>
#include <magpie/sync/cancel_reason.hpp>
#include <magpie/sync/cancellation_token.hpp>
#include <magpie/sync/event.hpp>
#include <magpie/sync/latch.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/mutex.hpp>
#include <magpie/sync/notify.hpp>
#include <magpie/sync/once_cell.hpp>
#include <magpie/sync/semaphore.hpp>
#include <magpie/sync/set_once.hpp>
#include <magpie/sync/watch.hpp>

#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

namespace {

using namespace model_test;
using magpie_model::plain;

scenario event("visibility.event", [] {
    magpie::sync::event ready;
    plain<int> data;
    thread("setter", [&] {
        data.set(7);
        ready.set();
    });
    thread("reader", [&] {
        if (ready.is_set())
            check(data.get() == 7, "who sees the event set sees what was done before");
    });
    thread("waiter", [&] {
        ready.blocking_wait();
        check(data.get() == 7, "who has waited sees what was done before");
    });
    run();
});

scenario mutex("visibility.mutex", [] {
    magpie::sync::mutex m;
    plain<int> n;
    threads(2, "adder", [&] {
        const auto guard = m.blocking_lock();
        n.set(n.get() + 1);
    });
    thread("passer-by", [&] {
        if (const auto guard = m.try_lock())
            n.set(n.get() + 1);
    });
    run();
    check(n.get() >= 2, "none is lost");
});

// A permit that is given back hands on what was done with it.
scenario permit("visibility.permit", [] {
    magpie::sync::semaphore s(0);
    plain<int> data;
    thread("giver", [&] {
        data.set(7);
        s.add_permits(1);
    });
    thread("taker", [&] {
        if (const auto p = s.try_acquire())
            check(data.get() == 7, "who has a permit sees what was done before it was given");
    });
    run();
});

// ... also through the hands of one that waited for more and left, and beside another one's.
magpie::task<> wait_for_permits(magpie::sync::semaphore& s, std::size_t n, plain<int>& first,
                                plain<int>& second) {
    const auto permits = co_await s.acquire_many(n);
    check(first.get() == 7 && second.get() == 7, "who has permits sees what all did who gave them");
}

scenario left_over("visibility.permit_left", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    magpie::sync::semaphore s(0);
    plain<int> data;
    auto handle = ex.spawn(wait_for_permits(s, 2, data, data));
    thread("giver", [&] {
        data.set(7);
        s.add_permits(1);
    });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    thread("taker", [&] {
        if (const auto p = s.try_acquire())
            check(data.get() == 7, "who has a permit sees what was done before it was given");
    });
    run();
});

scenario both_permits("visibility.permits", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    magpie::sync::semaphore s(0);
    plain<int> first;
    plain<int> second;
    ex.spawn(wait_for_permits(s, 2, first, second)).detach();
    thread("giver", [&] {
        first.set(7);
        s.add_permits(1);
    });
    thread("other giver", [&] {
        second.set(7);
        s.add_permits(1);
    });
    thread("worker", [&] { ex.work(); });
    run();
});

// A task waits, or finds that it was told before.
magpie::task<> read_when_told(magpie::sync::notify& n, plain<int>& data) {
    co_await n.notified();
    check(data.get() == 7, "who was told sees what was done before");
}

scenario told("visibility.notify_one", [] {
    executor ex;
    magpie::sync::notify n;
    plain<int> data;
    ex.spawn(read_when_told(n, data)).detach();
    thread("caller", [&] {
        data.set(7);
        n.notify_one();
    });
    thread("worker", [&] { ex.work(); });
    run();
});

mistake kept_late(told, "what is told is written after the call", [] {
    executor ex;
    magpie::sync::notify n;
    plain<int> data;
    ex.spawn(read_when_told(n, data)).detach();
    thread("caller", [&] {
        n.notify_one();
        data.set(7);
    });
    thread("worker", [&] { ex.work(); });
    run();
});

template <bool InTime>
void notify_all_and_read() {
    magpie::sync::notify n;
    plain<int> data;
    auto wait = n.notified(); // before the call
    thread("caller", [&] {
        if (InTime)
            data.set(7);
        n.notify_waiters();
        if (!InTime)
            data.set(7);
    });
    thread("reader", [&] {
        magpie::detail::blocking_wait(wait);
        check(data.get() == 7, "who was told sees what was done before");
    });
    run();
}

scenario told_all("visibility.notify_waiters", &notify_all_and_read<true>);

mistake told_late(told_all, "what is told is written after the call", &notify_all_and_read<false>);

// One call may stand for two.
template <bool InTime>
void notify_twice() {
    magpie::sync::notify n;
    std::array<magpie::detail::atomic<int>, 2> done;
    int seen = 0;
    for (magpie::detail::atomic<int>& mine : done)
        thread("caller", [&] {
            if (InTime)
                mine.store(1, std::memory_order_relaxed);
            n.notify_one();
            if (!InTime)
                mine.store(1, std::memory_order_relaxed);
        });
    thread("reader", [&] {
        n.blocking_wait();
        for (const magpie::detail::atomic<int>& d : done)
            seen += d.load(std::memory_order_relaxed);
    });
    run();
    auto left = n.notified();
    if (!left.enable())
        check(seen == 2, "who takes a call sees what all have done that it stands for");
}

scenario merged("visibility.notify_twice", &notify_twice<true>);

mistake merged_late(merged, "what is told is written after the call", &notify_twice<false>);

scenario cell("visibility.once_cell", [] {
    magpie::sync::once_cell<int> value;
    thread("setter", [&] { static_cast<void>(value.set(7)); });
    thread("reader", [&] {
        if (const int* const v = value.get()) {
            magpie_model::look_at_load(v, sizeof *v);
            check(*v == 7, "who sees that it is set sees the value");
        }
    });
    run();
});

// --- the end of a task ---

magpie::task<int> write(plain<int>& data) {
    data.set(7);
    co_return 7;
}

scenario finished("visibility.is_finished", [] {
    executor ex;
    plain<int> data;
    auto handle = ex.spawn(write(data));
    thread("worker", [&] { ex.work(); });
    thread("reader", [&] {
        if (handle.is_finished())
            check(data.get() == 7, "who sees the end sees what the task did");
    });
    run();
});

scenario taken("visibility.is_finished_and_taken", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    plain<int> data;
    auto handle = ex.spawn(write(data));
    auto other = handle.abort_handle();
    thread("worker", [&] { ex.work(); });
    thread("joiner", [&] { check(handle.blocking_join() == 7, "the join gives the value"); });
    thread("reader", [&] {
        if (other.is_finished())
            check(data.get() == 7, "who sees the end sees what the task did, also when it was joined");
    });
    run();
});

// --- what several have done, for who goes on behind the last of them ---

scenario latch("visibility.latch", [] {
    magpie::sync::latch both(2);
    plain<int> first;
    plain<int> second;
    thread("first", [&] {
        first.set(7);
        both.count_down();
    });
    thread("second", [&] {
        second.set(7);
        both.count_down();
    });
    thread("waiter", [&] {
        both.blocking_wait();
        check(first.get() == 7 && second.get() == 7, "who has waited sees what all did");
    });
    run();
});

magpie::task<> read_when_over(magpie::task_tracker& tracker, plain<int>& first, plain<int>& second) {
    co_await tracker.wait();
    check(first.get() == 7 && second.get() == 7, "who has waited sees what all did");
}

scenario tracker("visibility.tracker", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    magpie::task_tracker tracker;
    std::optional<magpie::tracker_token> first_token(tracker.token());
    std::optional<magpie::tracker_token> second_token(tracker.token());
    plain<int> first;
    plain<int> second;
    tracker.close();
    ex.spawn(read_when_over(tracker, first, second)).detach();
    thread("first", [&] {
        first.set(7);
        first_token.reset();
    });
    thread("second", [&] {
        second.set(7);
        second_token.reset();
    });
    thread("worker", [&] { ex.work(); });
    run();
});

scenario closed_tracker("visibility.tracker_closed", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    magpie::task_tracker tracker;
    std::optional<magpie::tracker_token> token(tracker.token());
    plain<int> first;
    plain<int> second;
    ex.spawn(read_when_over(tracker, first, second)).detach();
    thread("token", [&] {
        first.set(7);
        token.reset();
    });
    thread("closer", [&] {
        second.set(7);
        tracker.close();
    });
    thread("worker", [&] { ex.work(); });
    run();
});

// --- values ---

/// Made of 1 it throws.
class fails_with_one {
public:
    explicit fails_with_one(int n) : number(n) {}
    fails_with_one(const fails_with_one& other) : number(other.number) {
        if (number == 1)
            throw std::runtime_error("failed");
    }

    int number;
};

scenario once("visibility.set_once", [] {
    magpie::sync::set_once<fails_with_one> value;
    thread("first", [&] {
        try {
            static_cast<void>(value.set(fails_with_one(1)));
        } catch (const std::runtime_error&) { // it is left to the next
        }
    });
    thread("second", [&] { static_cast<void>(value.set(fails_with_one(2))); });
    thread("reader", [&] {
        if (const fails_with_one* const v = value.get())
            check(v->number == 2, "who gets the value gets it whole");
    });
    run();
});

scenario watched("visibility.watch", [] {
    auto ends = magpie::sync::watch::channel(0);
    plain<int> data;
    thread("sender", [&] {
        data.set(7);
        static_cast<void>(ends.tx.send(1));
    });
    thread("receiver", [&] {
        if (ends.rx.has_changed() == magpie::sync::watch::state::changed)
            check(data.get() == 7, "who sees that it has changed sees what was done before");
    });
    run();
});

/// Too large to be copied under a lock: who reads it shares it.
class large {
public:
    explicit large(int n) : number(n) {}
    large(large&& other) noexcept : number(other.number) {}

    int number;
};

scenario shared("visibility.watched_value", [] {
    auto ends = magpie::sync::watch::channel(large(1));
    thread("sender", [&] { static_cast<void>(ends.tx.send(large(2))); });
    threads(2, "reader", [&] {
        const auto r = ends.rx.borrow();
        magpie_model::look_at_load(&r->number, sizeof r->number);
        check(r->number > 0, "it is one of the values");
    });
    run();
});

scenario room("visibility.room", [] {
    auto ends = magpie::sync::mpsc::channel<int>(1);
    plain<int> data;
    check(static_cast<bool>(ends.tx.try_send(1)), "there is room for one");
    thread("receiver", [&] {
        data.set(7);
        static_cast<void>(ends.rx.try_recv());
    });
    thread("sender", [&] {
        if (ends.tx.try_send(2))
            check(data.get() == 7, "who gets the room sees what was done before it was made");
    });
    run();
});

scenario reason("visibility.cancel_reason", [] {
    using magpie::sync::cancellation_token;
    std::optional<cancellation_token> parent(std::in_place);
    std::optional<cancellation_token> child(parent->child_token());
    parent->cancel("a reason");
    const auto reads = [](std::optional<cancellation_token>& token) {
        const magpie::sync::cancel_reason* const r = token->reason();
        check(r != nullptr, "it was cancelled for a reason");
        magpie_model::look_at_load(r, sizeof *r);
        token.reset();
    };
    thread("parent", [&] { reads(parent); });
    thread("child", [&] { reads(child); });
    run();
});

// --- the log function, and what it refers to ---

plain<int>* log_data = nullptr;

void first_log(magpie::log_level, std::string_view) noexcept {
    check(log_data->get() == 7, "who calls it sees what was done before it was set");
}
void second_log(magpie::log_level, std::string_view) noexcept {}

scenario log("visibility.log", [] {
    plain<int> data;
    log_data = &data;
    const magpie::log_function before = magpie::set_log_function(&second_log);
    thread("setter", [&] {
        data.set(7);
        magpie::set_log_function(&first_log);
    });
    thread("caller", [] { magpie::log(magpie::log_level::debug, "text"); });
    thread("other setter", [] { // who replaces it may call what was there, as a part of his own
        if (magpie::set_log_function(&second_log) == &first_log)
            first_log(magpie::log_level::debug, "text");
    });
    run();
    magpie::set_log_function(before);
});

} // namespace
