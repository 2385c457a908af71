#include "workloads.hpp"

#include "frames.hpp"
#include "reactor.hpp"

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <scheduler/src/runtime_core.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace magpie_machine {

using magpie::join_handle;
using magpie::task;
using magpie::sync::notify;
namespace oneshot = magpie::sync::oneshot;

namespace {

struct totals {
    std::uint64_t steals = 0;
    std::uint64_t stolen = 0;
    std::uint64_t parks = 0;
};

totals read_totals() {
    const magpie::runtime_metrics all = magpie::runtime_handle::current().metrics();
    totals t;
    for (const magpie::worker_metrics& w : all.workers) {
        t.steals += w.steals;
        t.stolen += w.stolen_tasks;
        t.parks += w.parks;
    }
    return t;
}

} // namespace

void window::open() {
    const totals t = read_totals(); // which takes time, too
    steals = t.steals;
    stolen = t.stolen;
    parks = t.parks;
    before_ = counted();
    begin_ = now();
    forget_heat();
}

void window::close(std::uint64_t n) {
    operations = n;
    took = now() - begin_;
    done = counted().since(before_);
    hot = hottest();
    const totals t = read_totals();
    steals = t.steals - steals;
    stolen = t.stolen - stolen;
    parks = t.parks - parks;
}

void window::add(const window& other) {
    operations += other.operations;
    took += other.took;
    done.add(other.done);
    for (const hot_line& theirs : other.hot) {
        auto mine = hot.begin();
        while (mine != hot.end() && mine->name[0] != 0 && std::string_view(mine->name) != theirs.name)
            ++mine;
        if (mine == hot.end())
            continue;
        std::copy(std::begin(theirs.name), std::end(theirs.name), mine->name);
        mine->fetches += theirs.fetches;
        mine->queueing += theirs.queueing;
    }
    steals += other.steals;
    stolen += other.stolen;
    parks += other.parks;
}

namespace {

/// Runs `make(i)` for each worker, on each shard of thread_per_core, and waits for all.
template <class Make>
task<> on_each_worker(std::size_t count, Make make) {
    std::vector<join_handle<>> all;
    const std::size_t shards = magpie::shard_count();
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(magpie::spawn_on(i % shards, make(i)));
    for (auto& h : all)
        co_await h;
}

/// A first round, then those that count.
template <class Make>
task<> measured(const setting& s, window& w, std::size_t tasks, std::uint64_t in_each, Make make) {
    auto first = [&make](std::size_t) { return make(std::uint64_t{1}); };
    auto rest = [&make, &s](std::size_t) { return make(s.rounds); };
    co_await on_each_worker(tasks, first);
    w.open();
    co_await on_each_worker(tasks, rest);
    w.close(tasks * s.rounds * in_each);
}

task<> compute(picoseconds work) {
    spend(work);
    co_return;
}

// --- spawn: a task that is awaited by its handle, a hundred at a time ---

constexpr std::uint64_t batch = 100;

task<> spawn_batches(std::uint64_t rounds, picoseconds work) {
    std::vector<join_handle<>> handles;
    handles.reserve(batch);
    for (std::uint64_t r = 0; r < rounds; ++r) {
        for (std::uint64_t i = 0; i < batch; ++i)
            handles.push_back(magpie::spawn(compute(work)));
        for (auto& h : handles)
            co_await h;
        handles.clear();
    }
}

task<> spawn_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return spawn_batches(rounds, s.work); };
    co_await measured(s, w, s.workers, batch, make);
}

// --- skynet: a tree of tasks, ten to a node, from one root ---

task<std::uint64_t> skynet_node(std::uint64_t leaves, picoseconds work) {
    if (leaves == 1) {
        spend(work);
        co_return std::uint64_t{1};
    }
    std::array<join_handle<std::uint64_t>, 10> children;
    for (auto& child : children)
        child = magpie::spawn(skynet_node(leaves / 10, work));
    std::uint64_t sum = 0;
    for (auto& child : children)
        sum += co_await child;
    co_return sum;
}

task<> skynet_root(const setting& s, window& w) {
    std::uint64_t leaves = 10;
    while (leaves * 10 <= s.rounds)
        leaves *= 10;
    co_await magpie::spawn(skynet_node(leaves, s.work));
    w.open();
    const std::uint64_t sum = co_await magpie::spawn(skynet_node(leaves, s.work));
    w.close(sum);
}

// --- chain: a task that spawns the next and ends; one chain a worker ---

task<> chain_link(std::uint64_t left, picoseconds work, std::shared_ptr<magpie::sync::event> done) {
    spend(work);
    if (left <= 1)
        done->set();
    else
        magpie::spawn(chain_link(left - 1, work, std::move(done))).detach();
    co_return;
}

task<> chain(std::uint64_t length, picoseconds work) {
    const auto done = std::make_shared<magpie::sync::event>();
    magpie::spawn(chain_link(length, work, done)).detach();
    co_await done->wait();
}

task<> chain_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return chain(rounds, s.work); };
    co_await measured(s, w, s.workers, 1, make);
}

// --- yield ---

task<> yields(std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        spend(work);
        co_await magpie::yield_now();
    }
}

task<> yield_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return yields(rounds, s.work); };
    co_await measured(s, w, 16 * s.workers, 1, make);
}

// --- wake: two tasks that notify each other, four pairs a worker ---

task<> answer(notify& question, notify& reply, std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        co_await question.notified();
        spend(work);
        reply.notify_one();
    }
}

task<> ask(std::uint64_t rounds, picoseconds work) {
    notify question;
    notify reply;
    auto other = magpie::spawn(answer(question, reply, rounds, work));
    for (std::uint64_t i = 0; i < rounds; ++i) {
        question.notify_one();
        co_await reply.notified();
        spend(work);
    }
    co_await other;
}

task<> wake_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return ask(rounds, s.work); };
    co_await measured(s, w, 4 * s.workers, 2, make);
}

// --- ping_pong: a task, its partner, two oneshots; sixteen pairs a worker ---

task<> pong(oneshot::receiver<std::uint64_t> rx, oneshot::sender<std::uint64_t> tx) {
    const std::optional<std::uint64_t> n = co_await rx.recv();
    static_cast<void>(tx.send(*n + 1));
}

task<> ping(std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        auto there = oneshot::channel<std::uint64_t>();
        auto back = oneshot::channel<std::uint64_t>();
        magpie::spawn(pong(std::move(there.rx), std::move(back.tx))).detach();
        static_cast<void>(there.tx.send(i));
        static_cast<void>(co_await back.rx.recv());
        spend(work);
    }
}

task<> ping_pong_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return ping(rounds, s.work); };
    co_await measured(s, w, 16 * s.workers, 1, make);
}

// --- steal: one task spawns all, and each computes for 5 us; an operation is a task that was stolen ---

task<> steal_root(const setting& s, window& w) {
    auto few = magpie::spawn(spawn_batches(2, 5 * microsecond));
    co_await few;
    w.open();
    auto many = magpie::spawn(spawn_batches(s.rounds * s.workers, 5 * microsecond));
    co_await many;
    w.close(0);
    w.operations = std::max<std::uint64_t>(w.stolen, 1);
}

// --- inject: threads that are no workers spawn, one for eight workers ---

void spawn_from_outside(const magpie::runtime_handle& rt, std::uint64_t count, picoseconds work) {
    std::vector<join_handle<>> handles;
    handles.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i)
        handles.push_back(rt.spawn(compute(work)));
    for (auto& h : handles)
        h.blocking_join();
}

task<> inject_root(const setting& s, window& w) {
    const std::size_t threads = (s.workers + 7) / 8;
    const std::uint64_t each = s.rounds * batch;
    const magpie::runtime_handle rt = magpie::runtime_handle::current();
    auto all = [&rt, &s, threads, each] {
        std::vector<std::size_t> outside;
        for (std::size_t t = 0; t < threads; ++t)
            outside.push_back(start_thread([&rt, &s, each] { spawn_from_outside(rt, each, s.work); }));
        for (const std::size_t t : outside)
            join_thread(t);
    };
    w.open();
    co_await magpie::spawn_blocking(all);
    w.close(threads * each);
}

// --- timer: limits that are not reached, and sleeps ---

task<> limits(std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        spend(work);
        co_await magpie::timeout(std::chrono::seconds(10), magpie::yield_now());
    }
}

task<> timeout_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return limits(rounds, s.work); };
    co_await measured(s, w, 4 * s.workers, 1, make);
}

task<> sleeps(std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        spend(work);
        co_await magpie::sleep_for(std::chrono::milliseconds(1));
    }
}

task<> sleep_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return sleeps(rounds, s.work); };
    co_await measured(s, w, 32 * s.workers, 1, make);
}

// --- message: each shard asks the next, four tasks at a time ---

task<> ask_next(std::uint64_t rounds, picoseconds work) {
    const std::size_t next = (magpie::this_shard() + 1) % magpie::shard_count();
    for (std::uint64_t i = 0; i < rounds; ++i) {
        auto f = [work] { spend(work); };
        co_await magpie::submit_to(next, f);
    }
}

task<> message_root(const setting& s, window& w) {
    auto make = [&s](std::uint64_t rounds) { return ask_next(rounds, s.work); };
    co_await measured(s, w, 4 * s.workers, 1, make);
}

// --- echo: eight connections a worker, each with one request under way ---

constexpr picoseconds to_receive = 1 * microsecond;
constexpr picoseconds to_send = 2 * microsecond;
constexpr picoseconds round_trip = 20 * microsecond;

task<> echo(source& connection, std::uint64_t rounds, picoseconds work) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        at(now() + round_trip, [&connection] { connection.arrive(); });
        co_await connection.read(to_receive);
        spend(work);
        call_system(to_send);
    }
}

task<> echo_root(const setting& s, window& w) {
    // On each shard its part, in the middle of `measured`: so they are connected before, and closed after.
    const std::size_t shards = magpie::shard_count();
    std::vector<std::unique_ptr<source>> connections(8 * s.workers);
    auto connect = [&connections, shards](std::size_t shard) -> task<> {
        for (std::size_t i = shard; i < connections.size(); i += shards)
            connections[i] = std::make_unique<source>();
        co_return;
    };
    auto close = [&connections, shards](std::size_t shard) -> task<> {
        for (std::size_t i = shard; i < connections.size(); i += shards)
            connections[i].reset();
        co_return;
    };
    co_await on_each_worker(shards, connect);
    std::size_t next = 0;
    auto make = [&connections, &s, &next](std::uint64_t rounds) {
        return echo(*connections[next++ % connections.size()], rounds, s.work);
    };
    co_await measured(s, w, connections.size(), 1, make);
    co_await on_each_worker(shards, close);
}

// --- accept: a listener a shard, sixteen clients a worker that connect, ask once, and connect again ---

task<> serve_once(clients& c, picoseconds work) {
    source connection;
    connection.arrive(); // the request has come with the connection
    co_await connection.read(to_receive);
    spend(work);
    call_system(to_send);
    c.one_served(round_trip);
}

task<> accept_on(std::uint64_t connections, std::uint64_t at_a_time, picoseconds work) {
    source listener;
    source all_served;
    clients c(listener, all_served, connections, at_a_time);
    for (std::uint64_t i = 0; i < connections; ++i) {
        co_await listener.read(to_receive);
        magpie::spawn(serve_once(c, work)).detach();
    }
    co_await all_served.read(to_receive);
}

task<> accept_root(const setting& s, window& w) {
    const std::size_t listeners = magpie::shard_count();
    const std::uint64_t each = 16 * s.workers / listeners;
    auto first = [&s, each](std::size_t) { return accept_on(each, each, s.work); };
    auto rest = [&s, each](std::size_t) { return accept_on(each * s.rounds, each, s.work); };
    co_await on_each_worker(listeners, first);
    w.open();
    co_await on_each_worker(listeners, rest);
    w.close(listeners * each * s.rounds);
}

/// Gives what is shared in a runtime the names by which reports speak of it.
void name_parts(const magpie::runtime& rt) {
    using namespace magpie::detail;
    const runtime_group& group = *group_access::get(rt.handle());
    name(&group, sizeof group, "group");
    struct inside { // of the registry
        std::size_t count;
        const std::byte* parts;
    };
    static_assert(sizeof(registry) == sizeof(inside));
    inside lanes{};
    std::memcpy(static_cast<void*>(&lanes), &group.tasks, sizeof lanes);
    name(lanes.parts, 64 * lanes.count, "registry of tasks");
    for (const auto& s : group.shards) {
        name(s.get(), sizeof *s, "core: driver lock, flags");
        name(&s->idle, sizeof s->idle, "idle set");
        name(&s->injected, sizeof s->injected, "injection queue");
        name(&s->inbox, sizeof s->inbox, "inbox");
        name(&s->mail, sizeof s->mail, "mail");
        for (const auto& w : s->workers) {
            name(w.get(), sizeof *w, "queues of workers");
            name(&w->timers, sizeof w->timers, "timers of workers");
        }
    }
    name_frame_depots();
}

} // namespace

const std::vector<workload>& workloads() {
    static const std::vector<workload> all = {
        {"spawn", "a task that is spawned and awaited", spawn_root, 20, 90 * nanosecond},
        {"skynet", "a leaf of a tree of tasks", skynet_root, 10'000, 100 * nanosecond},
        {"chain", "a task that spawns the next", chain_root, 1'000, 47 * nanosecond},
        {"yield", "a yield", yield_root, 100, 20 * nanosecond},
        {"wake", "a notification of another task", wake_root, 200, 45 * nanosecond},
        {"ping_pong", "a task, two oneshots, an answer", ping_pong_root, 20, 200 * nanosecond},
        {"steal", "a task that is stolen", steal_root, 4, 0},
        {"inject", "a task that is spawned from outside", inject_root, 10, 150 * nanosecond},
        {"timeout", "a limit that is not reached", timeout_root, 200, 75 * nanosecond},
        {"sleep", "a sleep of a millisecond", sleep_root, 10, 400 * nanosecond},
        {"message", "a submit_to another shard, and its answer", message_root, 100, 60 * nanosecond,
         true},
        {"echo", "a request that is read and answered", echo_root, 50, 1'000 * nanosecond},
        {"accept", "a connection: accepted, served, closed", accept_root, 20, 2'000 * nanosecond},
    };
    return all;
}

window run(const workload& load, const setting& s, const costs& c, std::uint64_t seed) {
    begin(c, seed);
    window w;
    const magpie::runtime rt = magpie::runtime::builder()
                                   .layout(load.pinned ? magpie::layout::thread_per_core : s.layout)
                                   .worker_threads(s.workers)
                                   .seed(seed)
                                   .build();
    name_parts(rt);
    rt.block_on(load.root(s, w));
    return w;
}

} // namespace magpie_machine
