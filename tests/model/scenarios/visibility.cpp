// What the primitives promise to carry: what one thread did before, another one sees after. The data is
// plain memory, so whatever is not ordered is a data race.

#include "support.hpp"

#include <magpie/sync/event.hpp>
#include <magpie/sync/mutex.hpp>
#include <magpie/sync/notify.hpp>
#include <magpie/sync/once_cell.hpp>
#include <magpie/sync/semaphore.hpp>
#include <magpie/sync/set_once.hpp>

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

} // namespace
