// A tour of the channels: what each of them can do, in the order of docs/sync.md.

#include <magpie/magpie.hpp>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::slow_receiver;
namespace broadcast = magpie::sync::broadcast;
namespace mpmc = magpie::sync::mpmc;
namespace mpsc = magpie::sync::mpsc;
namespace oneshot = magpie::sync::oneshot;
namespace rendezvous = magpie::sync::rendezvous;
namespace watch = magpie::sync::watch;

int failures = 0;

void expect(bool holds, const char* what) {
    if (!holds) {
        std::cout << "not so: " << what << '\n';
        ++failures;
    }
}

// --- oneshot: one value, once ---

task<> oneshots() {
    auto [tx, rx] = oneshot::channel<std::string>();
    auto answers = [](oneshot::sender<std::string> to) -> task<> {
        if (!to.is_closed())
            static_cast<void>(to.send("forty-two"));
        co_return;
    };
    magpie::spawn(answers(std::move(tx))).detach();
    const std::optional<std::string> answer = co_await rx.recv();
    expect(answer == "forty-two" && rx.is_terminated(), "the answer came");

    // A sender may learn that its answer is not wanted any more, and what it has is not lost.
    auto other = oneshot::channel<std::string>();
    expect(other.rx.is_empty() && other.rx.try_recv().is_empty(), "nothing was sent");
    other.rx.close();
    co_await other.tx.closed();
    std::string late = "late";
    const auto sent = other.tx.send(std::move(late));
    expect(sent.is_closed() && late == "late",
           "the value is where it was"); // NOLINT: it was not moved from
}

// --- mpsc: a queue with back-pressure ---

task<> queues() {
    auto [tx, rx] = mpsc::channel<std::string>(4);

    // A copy of the sender for each who sends; the channel ends when the last has gone.
    auto sends = [](mpsc::sender<std::string> to, std::string name) -> task<> {
        const auto sent = co_await to.send(std::move(name)); // waits while the channel is full
        expect(static_cast<bool>(sent), "somebody receives");
    };
    std::vector<magpie::join_handle<>> senders;
    for (const char* name : {"one", "two", "three"})
        senders.push_back(magpie::spawn(sends(tx, name)));
    for (int i = 0; i < 3; ++i) {
        const std::optional<std::string> name = co_await rx.recv();
        expect(name.has_value(), "all three arrive");
    }
    for (auto& s : senders)
        co_await s; // and its copy has gone

    // Without a wait, and with one that is bounded.
    expect(static_cast<bool>(tx.try_send("a")), "there is room");
    std::string b = "b";
    const auto in_time = co_await tx.send_timeout(std::move(b), 1s);
    expect(static_cast<bool>(in_time) && rx.size() == 2 && !rx.empty(), "two are in it");

    // Places that are kept: to send through a permit never waits.
    auto place = co_await tx.reserve();
    auto two = tx.try_reserve_many(1);
    expect(place && two && tx.try_reserve().is_full() && tx.try_send("c").is_full(), "it is full");
    expect(tx.capacity() == 0 && rx.max_capacity() == 4, "four places");
    static_cast<void>(place->send("c"));
    two->release();
    auto many = co_await tx.reserve_many(1);
    expect(many->size() == 1, "a place of one's own");
    many->release();

    // Several at a time.
    std::vector<std::string> batch;
    const std::size_t n = co_await rx.recv_many(batch, 10);
    expect(n == 3 && batch.front() == "a", "in order");

    // A sender that does not keep the channel open.
    const mpsc::weak_sender<std::string> weak = tx.downgrade();
    {
        const std::optional<mpsc::sender<std::string>> strong = weak.upgrade();
        expect(strong && strong->same_channel(tx) && tx.strong_count() == 2 && tx.weak_count() == 1,
               "it can be upgraded while a sender lives");
    }
    rx.close(); // no more, please
    co_await tx.closed();
    expect(tx.is_closed() && rx.is_closed() && rx.try_recv().is_closed(), "that is the end");
}

// --- unbounded, with priorities, and on plain threads ---

task<> more_queues() {
    auto [tx, rx] = mpsc::unbounded_channel<int>();
    for (int i = 0; i < 100; ++i)
        static_cast<void>(tx.send(i)); // never waits
    for (int i = 0; i < 100; ++i)
        expect(*rx.try_recv() == i, "in order");

    auto urgent = mpsc::priority_channel<std::string>(8, 2);
    static_cast<void>(co_await urgent.tx.send(0, "later"));
    static_cast<void>(urgent.tx.try_send(1, "at once"));
    const std::optional<std::string> first = co_await urgent.rx.recv();
    expect(first == "at once" && urgent.tx.priorities() == 2, "the urgent one comes first");
}

void on_threads() {
    auto [tx, rx] = mpsc::channel<int>(1);
    std::thread sends([to = std::move(tx)] {
        for (int i = 0; i < 10; ++i)
            static_cast<void>(to.blocking_send(i));
    });
    int sum = 0;
    while (const std::optional<int> n = rx.blocking_recv())
        sum += *n;
    sends.join();
    expect(sum == 45, "all ten arrive");
}

// --- mpmc: each value to one of several receivers; rendezvous: from hand to hand ---

task<int> work(mpmc::receiver<int> jobs) {
    int sum = 0;
    for (;;) {
        const std::optional<int> job = co_await jobs.recv();
        if (!job)
            co_return sum;
        sum += *job;
    }
}

task<> shared_queues() {
    auto [tx, rx] = mpmc::channel<int>(16);
    auto a = magpie::spawn(work(rx));
    auto b = magpie::spawn(work(rx));
    expect(rx.receiver_count() == 3 && rx.same_channel(rx), "two workers, and this one");
    for (int i = 1; i <= 100; ++i)
        static_cast<void>(co_await tx.send(i));
    { const auto last = std::move(tx); }
    const int sum = co_await a + co_await b;
    expect(sum == 5050, "each job was done once");

    auto hands = rendezvous::channel<std::string>();
    expect(hands.tx.try_send("nobody waits").is_full(), "it holds nothing");
    auto gives = [](rendezvous::sender<std::string> to) -> task<> {
        static_cast<void>(co_await to.send("taken")); // returns when it was
    };
    magpie::spawn(gives(hands.tx)).detach();
    const std::optional<std::string> taken = co_await hands.rx.recv();
    expect(taken == "taken", "from hand to hand");
    hands.rx.close();
    expect(hands.rx.is_closed(), "that is the end");
}

// --- broadcast: each value to each receiver ---

task<> broadcasts() {
    auto [tx, rx] = broadcast::channel<int>(2);
    broadcast::receiver<int> second = tx.subscribe();
    for (int i = 0; i < 5; ++i)
        static_cast<void>(co_await tx.send(i));
    const magpie::sync::received<int> behind = co_await rx.recv();
    expect(behind.missed() == 3 && *rx.try_recv() == 3, "three were missed, then it goes on");
    expect(rx.size() == 1 && tx.size() == 2 && second.size() == 5, "each for itself");
    broadcast::receiver<int> fresh = second.resubscribe();
    expect(fresh.empty() && tx.receiver_count() == 3, "this one begins at the end");

    // Or the sender waits for the slowest, or the slowest is out.
    auto waits = broadcast::channel<int>(1, slow_receiver::delays);
    expect(waits.tx.try_send(1) && waits.tx.try_send(2).is_full(), "it was not read yet");
    auto hurries = broadcast::channel<int>(1, slow_receiver::disconnected);
    broadcast::receiver<int> fast = hurries.tx.subscribe();
    for (int i = 0; i < 2; ++i) {
        static_cast<void>(hurries.tx.try_send(i));
        expect(*fast.try_recv() == i, "the fast one reads all");
    }
    expect(hurries.rx.try_recv().is_disconnected(), "the slow one is out");

    const broadcast::weak_sender<int> weak = tx.downgrade();
    expect(weak.upgrade().has_value(), "a sender lives");
}

// --- watch: the latest value ---

task<> watches() {
    auto [tx, rx] = watch::channel(std::string("starting"));
    auto waits = [](watch::receiver<std::string> state) -> task<std::size_t> {
        auto running = [](const std::string& s) { return s.starts_with("running"); };
        const std::optional<watch::ref<std::string>> now = co_await state.wait_for(running);
        co_return (*now)->size();
    };
    auto waiter = magpie::spawn(waits(rx));
    static_cast<void>(tx.send("loading"));
    const bool changed = co_await rx.changed();
    expect(changed && rx.has_changed() == watch::state::unchanged, "seen");

    const watch::ref<std::string> before = rx.borrow();
    tx.send_modify([](std::string& s) { s = "running"; });
    expect(*before == "loading" && *rx.borrow_and_update() == "running", "a snapshot does not change");
    expect(co_await waiter == 7, "it was waited for");
    expect(!tx.send_if_modified([](std::string& s) { return s.empty(); }), "nobody is told");
    expect(*tx.send_replace("stopped") == "running" && *tx.borrow() == "stopped", "replaced");
    rx.mark_unchanged();
    rx.mark_changed();
    expect(rx.has_changed() == watch::state::changed, "to be looked at again");
    const watch::receiver<std::string> late = tx.subscribe();
    expect(tx.receiver_count() == 2 && late.has_changed() == watch::state::unchanged,
           "has seen the latest");
}

task<> tour() {
    co_await oneshots();
    co_await queues();
    co_await more_queues();
    co_await shared_queues();
    co_await broadcasts();
    co_await watches();
}

} // namespace

int main() {
    magpie::runtime rt = magpie::runtime::builder().build();
    rt.block_on(tour());
    on_threads();
    std::cout << (failures == 0 ? "as it should be\n" : "") << std::flush;
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
