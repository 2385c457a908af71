// Channels: sends against receives, against ends that close and go, and against waits that are dropped.

#include "support.hpp"

#include <magpie/sync/broadcast.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/oneshot.hpp>
#include <magpie/sync/rendezvous.hpp>
#include <magpie/sync/watch.hpp>

#include <optional>

namespace {

using namespace model_test;
using how = spoiled::how;
namespace broadcast = magpie::sync::broadcast;
namespace mpsc = magpie::sync::mpsc;
namespace oneshot = magpie::sync::oneshot;
namespace rendezvous = magpie::sync::rendezvous;
namespace watch = magpie::sync::watch;

/// Its move is code of its own, so it is moved outside the lock. Counts those that were destroyed with a value.
class message {
public:
    message(int n, int& lost) noexcept : number(n), lost_(&lost) {}
    message(message&& other) noexcept : number(std::exchange(other.number, 0)), lost_(other.lost_) {}
    message& operator=(message&&) = delete;
    ~message() { *lost_ += number; }

    int take() noexcept { return std::exchange(number, 0); }

    int number;

private:
    int* lost_;
};

// --- oneshot ---

magpie::task<> receive_oneshot(oneshot::receiver<message> rx, int& got, int& none) {
    std::optional<message> m = co_await rx.recv();
    if (m)
        got += m->take();
    else
        ++none;
}

scenario oneshot_send("channels.oneshot", [] {
    executor ex;
    int got = 0;
    int none = 0;
    int lost = 0;
    auto ends = oneshot::channel<message>();
    ex.spawn(receive_oneshot(std::move(ends.rx), got, none)).detach();
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        check(static_cast<bool>(tx->send(message(1, lost))), "it is wanted");
        tx.reset();
    });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(got == 1 && none == 0 && lost == 0, "the value arrives");
});
mistake oneshot_idle(oneshot_send, "a turn goes idle by a plain store",
                     {"strand::try_idle", "compare_exchange", how::unconditional});

scenario oneshot_drop("channels.oneshot_drop", [] {
    executor ex;
    int got = 0;
    int none = 0;
    int lost = 0;
    int refused = 0;
    auto ends = oneshot::channel<message>();
    auto handle = ex.spawn(receive_oneshot(std::move(ends.rx), got, none));
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        message m(1, lost);
        if (!tx->send(std::move(m)))
            refused += m.take();
        tx.reset();
    });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(got + none + lost + refused == 1,
          "the value was received, destroyed with the receiver, or refused");
});
mistake oneshot_abort(oneshot_drop, "a waker pushes by a load and a store",
                      {"strand::push", "compare_exchange", how::in_two});

// --- mpsc ---

magpie::task<> receive_all(mpsc::receiver<message> rx, int& got, int& ended) {
    for (;;) {
        std::optional<message> m = co_await rx.recv();
        if (!m)
            break;
        got += m->take();
    }
    ++ended;
}

scenario send("channels.send", {.preemptions = 2, .full = 3}, [] {
    executor ex;
    int got = 0;
    int ended = 0;
    int lost = 0;
    auto ends = mpsc::channel<message>(1);
    ex.spawn(receive_all(std::move(ends.rx), got, ended)).detach();
    std::optional<decltype(ends.tx)> senders[2] = {ends.tx, ends.tx};
    for (const int n : {1, 2})
        thread("sender", [&, n] {
            auto& tx = senders[n - 1];
            check(static_cast<bool>(tx->blocking_send(message(n, lost))), "it is open");
            tx.reset();
        });
    std::optional last_end(std::move(ends.tx));
    thread("last sender", [&] {
        auto& tx = last_end;
        tx.reset();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(got == 3 && lost == 0, "each value arrives once");
    check(ended == 1, "the last sender that goes ends the receiver");
});
mistake counts_in_two(send, "a handle lets go by a load and a store",
                      {"channel_core::let_go", "modify", how::in_two});

scenario close("channels.close", {.preemptions = 2, .full = 3}, [] {
    int got = 0;
    int lost = 0;
    int refused = 0;
    auto ends = mpsc::channel<message>(1);
    const auto sends = [&](mpsc::sender<message>& tx, int n) {
        message m(n, lost);
        if (!tx.blocking_send(std::move(m)))
            refused += m.take();
    };
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        sends(*tx, 1);
        sends(*tx, 2);
        tx.reset();
    });
    std::optional rx_end(std::move(ends.rx));
    thread("receiver", [&] {
        auto& rx = rx_end;
        rx->close();
        while (std::optional<message> m = rx->blocking_recv())
            got += m->take();
        rx.reset();
    });
    run();
    check(got + refused == 3 && lost == 0, "each value is received or refused");
});
mistake closed_counts(close, "a handle lets go by a load and a store",
                      {"channel_core::let_go", "modify", how::in_two});

scenario drop("channels.drop", {.preemptions = 2, .full = 3}, [] {
    int lost = 0;
    int refused = 0;
    auto ends = mpsc::channel<message>(1);
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        for (const int n : {1, 2}) {
            message m(n, lost);
            if (!tx->blocking_send(std::move(m)))
                refused += m.take();
        }
        tx.reset();
    });
    std::optional rx_end(std::move(ends.rx));
    thread("receiver", [&] {
        auto& rx = rx_end;
        rx.reset();
    });
    run();
    check(lost + refused == 3, "each value is destroyed with the receiver or refused");
});
mistake dropped_counts(drop, "a handle lets go by a load and a store",
                       {"channel_core::let_go", "modify", how::in_two});

// Each end has its lock, and tells the other one by a number how far it has come: so there are steps under the locks.
scenario two_ends("channels.two_ends", {.preemptions = 3, .full = 4}, [] {
    int next = 1;
    auto ends = mpsc::channel<int>(1);
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        for (const int n : {1, 2})
            check(static_cast<bool>(tx->blocking_send(n)), "it is open");
        tx.reset();
    });
    std::optional rx_end(std::move(ends.rx));
    thread("receiver", [&] {
        auto& rx = rx_end;
        while (const std::optional<int> n = rx->blocking_recv())
            check(*n == next++, "in order");
        check(rx->try_recv().is_closed(), "that is the end");
        rx.reset();
    });
    run();
    check(next == 3, "each value arrives");
});
mistake no_values(two_ends, "a receive looks at an old number of values",
                  {"queue_head::look", "load", how::outdated});
mistake no_room(two_ends, "a send looks at an old number of receives",
                {"channel_core::look", "load", how::outdated});
mistake room_unsaid(two_ends, "a receive does not tell of its unit",
                    {"channel_core::count_taken", "store", how::left_out});
mistake end_unsaid(two_ends, "the end is not noted",
                   {"channel_core::note_if_over", "store", how::left_out});

scenario two_tries("channels.two_tries", {.preemptions = 3, .full = 4}, [] {
    int refused = 0;
    int got = 0;
    auto ends = mpsc::channel<int>(1);
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        for (int i = 0; i < 3; ++i)
            refused += tx->try_send(1) ? 0 : 1;
        tx.reset();
    });
    thread("receiver", [&] {
        for (;;) {
            const auto n = ends.rx.try_recv();
            if (n.is_closed())
                break;
            if (n)
                ++got;
            else
                magpie_model::yield();
        }
    });
    run();
    check(got + refused == 3 && got > 0, "each is received or refused, and the first one has room");
});
mistake end_first(two_tries, "who sees the end looks at an old number of values",
                  {"queue_head::look", "load", how::outdated});

magpie::task<> receive_one(mpsc::receiver<message>& rx, int& got) {
    std::optional<message> m = co_await rx.recv();
    if (m)
        got += m->take();
}

scenario cancel("channels.cancel", [] {
    executor ex;
    int got = 0;
    int lost = 0;
    auto ends = mpsc::channel<message>(1);
    auto handle = ex.spawn(receive_one(ends.rx, got));
    thread("sender",
           [&] { check(static_cast<bool>(ends.tx.try_send(message(1, lost))), "it is open"); });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    auto left = ends.rx.try_recv();
    if (left)
        got += left->take();
    check(got == 1 && lost == 0, "a value that was handed to the dropped receive is still there");
});
mistake cancel_push(cancel, "a waker pushes by a load and a store",
                    {"strand::push", "compare_exchange", how::in_two});

// --- rendezvous ---

scenario meet("channels.rendezvous", {.preemptions = 2, .full = 3}, [] {
    int got = 0;
    int lost = 0;
    auto ends = rendezvous::channel<message>();
    std::optional<decltype(ends.tx)> senders[2] = {ends.tx, ends.tx};
    for (const int n : {1, 2})
        thread("sender", [&, n] {
            auto& tx = senders[n - 1];
            check(static_cast<bool>(tx->blocking_send(message(n, lost))), "it is open");
            tx.reset();
        });
    thread("receiver", [&] {
        for (int i = 0; i < 2; ++i) {
            std::optional<message> m = ends.rx.blocking_recv();
            check(m.has_value(), "there is a sender");
            got += m->take();
        }
    });
    run();
    check(got == 3 && lost == 0, "both meet the receiver");
});
mistake meet_futex(meet, "a thread that waits goes idle by a plain store",
                   {"strand::try_idle", "compare_exchange", how::unconditional});

// --- watch ---

scenario watch_change("channels.watch", {.preemptions = 2, .full = 3}, [] {
    int seen = 0;
    int ends_seen = 0;
    auto ends = watch::channel(0);
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        check(static_cast<bool>(tx->send(1)), "there is a receiver");
        tx->send_modify([](int& n) { ++n; });
        tx.reset();
    });
    thread("receiver", [&] {
        while (ends.rx.blocking_changed())
            seen = *ends.rx.borrow();
        ++ends_seen;
    });
    run();
    check(seen == 2 && ends_seen == 1, "the last value is seen, then the end");
});
mistake watch_outdated(watch_change, "a wait looks at an old version",
                       {">::wait_for_change", "load", how::outdated});

// Whoever goes last takes the state along.
scenario watch_ends("channels.watch_ends", [] {
    auto ends = watch::channel(0);
    std::optional tx_end(std::move(ends.tx));
    std::optional rx_end(std::move(ends.rx));
    thread("sender", [&] {
        auto& tx = tx_end;
        tx.reset();
    });
    thread("receiver", [&] {
        auto& rx = rx_end;
        rx.reset();
    });
    run();
});
mistake watch_counts(watch_ends, "a handle lets go by a load and a store",
                     {">::release", "modify", how::in_two});

// --- broadcast ---

scenario broadcast_wrap("channels.broadcast", {.preemptions = 2, .full = 3}, [] {
    int sum = 0;
    auto ends = broadcast::channel<int>(1);
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        for (const int n : {1, 2, 3})
            static_cast<void>(tx->try_send(n));
        tx.reset();
    });
    const auto receives = [&sum](broadcast::receiver<int>& rx) {
        std::uint64_t all = 0;
        int last = 0;
        for (;;) {
            const auto r = rx.blocking_recv();
            if (r.is_closed())
                break;
            all += r ? 1 : r.missed();
            if (r) {
                check(*r > last, "in order");
                last = *r;
            }
        }
        check(all == 3 && last == 3, "each value is received or counted, and the last one is there");
        ++sum;
    };
    std::optional rx_end(std::move(ends.rx));
    thread("receiver", [&] {
        auto& rx = rx_end;
        receives(*rx);
        rx.reset();
    });
    run();
    check(sum == 1, "it ends");
});
mistake broadcast_counts(broadcast_wrap, "a handle lets go by a load and a store",
                         {">::release", "modify", how::in_two});

scenario broadcast_drop("channels.broadcast_drop", {.preemptions = 2, .full = 3}, [] {
    int got = 0;
    auto ends = broadcast::channel<int>(2, magpie::sync::slow_receiver::delays);
    auto second = ends.tx.subscribe();
    std::optional tx_end(std::move(ends.tx));
    thread("sender", [&] {
        auto& tx = tx_end;
        for (const int n : {1, 2, 3})
            static_cast<void>(tx->blocking_send(n));
        tx.reset();
    });
    thread("receiver", [&] {
        for (auto r = ends.rx.blocking_recv(); r; r = ends.rx.blocking_recv())
            got += *r;
    });
    std::optional leaving_end(std::move(second));
    thread("one that goes", [&] {
        auto& rx = leaving_end;
        rx.reset();
    });
    run();
    check(got == 6, "one that goes makes room, and the other gets all");
});
mistake broadcast_idle(broadcast_drop, "a thread that waits goes idle by a plain store",
                       {"strand::try_idle", "compare_exchange", how::unconditional});

} // namespace
