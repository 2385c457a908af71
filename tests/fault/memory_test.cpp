// Each request for memory in turn finds none: the error reaches who can do something about it, nothing is
// lost, leaked or left hanging, and the same runtime, channel or set goes on.

#include "memory.hpp"

#include <scheduler/src/strand_queue.hpp>

#include <test/bare_strand.hpp>
#include <test/counting.hpp>
#include <test/eventually.hpp>
#include <test/in_child.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using test::counting;
using test::memory_in_use;
using test::refused_memory;

namespace ms = magpie::sync;
namespace io = magpie::io;

namespace {

struct broken_promise : std::exception {
    explicit broken_promise(const char* text) noexcept : text_(text) {}
    const char* what() const noexcept override { return text_; }

private:
    const char* text_;
};

/// As REQUIRE, in a task, without memory.
void require(bool holds, const char* what) {
    if (!holds)
        throw broken_promise(what);
}

/// Whether an exception says that there was no memory.
bool is_lack_of_memory(const std::exception_ptr& e) {
    try {
        std::rethrow_exception(e);
    } catch (const std::bad_alloc&) {
        return true;
    } catch (const std::system_error& s) {
        return s.code() == std::errc::not_enough_memory;
    } catch (const magpie::scope_error& s) {
        for (const magpie::task_failure& f : s.failures())
            if (!is_lack_of_memory(f.error))
                return false;
        return true;
    } catch (...) {
        return false;
    }
}

using scenario = task<> (*)();

/// Counts what is logged, as long as it lives: without memory.
class counted_log {
public:
    counted_log() : before_(magpie::set_log_function(&count)) {}
    counted_log(const counted_log&) = delete;
    ~counted_log() { magpie::set_log_function(before_); }

    void restart() const noexcept { lines_.store(0, std::memory_order_relaxed); }
    int lines() const noexcept { return lines_.load(std::memory_order_relaxed); }

private:
    static void count(magpie::log_level, std::string_view) noexcept {
        lines_.fetch_add(1, std::memory_order_relaxed);
    }

    static inline std::atomic<int> lines_{0};
    magpie::log_function before_;
};

std::atomic<int> unhandled{0}; // exceptions for want of memory that nobody could receive

magpie::runtime build(magpie::runtime_builder b) {
    b.on_unhandled_exception([](const magpie::unhandled_exception& x) {
        if (is_lack_of_memory(x.error)) // else a failure that is meant
            unhandled.fetch_add(1, std::memory_order_relaxed);
    });
    return b.build();
}

/// Whether no more memory is in use than before. A runtime's threads let go of it by themselves when they have
/// told that they end.
bool is_again(const decltype(memory_in_use())& before) {
    return test::eventually([&] { return memory_in_use() == before; });
}

/// Makes the table of failures that are attached to others, which stays. Scenarios make it only if two of
/// their tasks fail at once.
task<> attach_failure() {
    auto fails = []() -> task<> {
        throw std::system_error(std::make_error_code(std::errc::io_error));
        co_return;
    };
    try {
        co_await magpie::join(fails(), fails());
    } catch (const std::system_error&) {}
}

/// Runs it on a runtime of its own for each n, whose nth request for memory is refused, until none is.
/// Gives how often the error came out.
int refuse_each(const magpie::runtime_builder& b, scenario run) {
    const counted_log
        quiet; // a task whose thread got no core for long is reported, and spdlog's first line stays
    build(b).block_on(attach_failure());
    build(b).block_on(run()); // what is made once for the process
    int seen = 0;
    for (std::size_t n = 1;; ++n) {
        CAPTURE(n);
        const auto before = memory_in_use();
        bool refused = false;
        {
            const magpie::runtime rt = build(b);
            unhandled = 0;
            std::exception_ptr error;
            // On a thread that ends: it keeps what is attached to the last exception that has reached it.
            std::thread caller([&] {
                refused_memory at(n);
                try {
                    rt.block_on(run());
                } catch (...) {
                    error = std::current_exception();
                }
                refused = at.stop();
            });
            caller.join();
            if (error) {
                INFO(magpie::describe(error));
                REQUIRE(is_lack_of_memory(error));
                REQUIRE(refused);
            }
            seen += error != nullptr || unhandled > 0 ? 1 : 0;
            rt.block_on(run()); // throws, if it does not go on
        }
        REQUIRE(counting::alive() == 0);
        REQUIRE(is_again(before));
        if (!refused)
            return seen;
    }
}

void refuse_each_everywhere(scenario run, bool fails = true) {
    test::on_each_layout([&](const magpie::runtime_builder& b) {
        const int seen = refuse_each(b, run);
        CHECK((seen > 0) == fails);
    });
}

task<int> number(int n) {
    const counting here(n);
    co_await magpie::yield_now();
    co_return n;
}

task<int> later(int n) {
    const counting here(n);
    co_await magpie::sleep_for(10us);
    co_return n;
}

// --- tasks ---

task<> spawns() {
    auto a = magpie::spawn(number(1));
    auto b = magpie::spawn("b name that is too long for the string itself", number(2));
    auto with = [held = std::make_unique<counting>(3)](counting c) -> task<int> {
        co_await magpie::yield_now();
        co_return held->value() + c.value();
    };
    auto c = magpie::spawn(std::move(with), counting(1));
    const magpie::abort_handle also_c = c.abort_handle();
    magpie::spawn(number(5)).detach();
    int sum = co_await a;
    sum += co_await b;
    sum += co_await c;
    require(sum == 7 && also_c.is_finished(), "the tasks that were spawned give their values");
    auto never = [](counting) -> task<> { co_await magpie::sleep_for(1h); };
    auto d = magpie::spawn(never(counting(4)));
    co_await magpie::yield_now();
    d.abort();
    const auto end = co_await magpie::as_result(d);
    require(end.has_error(), "an aborted task has no value");
    bool cancelled = false;
    try {
        std::rethrow_exception(end.error());
    } catch (const magpie::task_cancelled&) {
        cancelled = true;
    }
    require(cancelled, "an aborted task says that it was");
}

task<> inherits() {
    static constinit const magpie::task_local<std::string, magpie::inherit::by_spawn> name;
    auto child = []() -> task<std::size_t> {
        co_await magpie::yield_now();
        co_return name.get().size();
    };
    auto body = [&]() -> task<std::size_t> {
        auto h = magpie::spawn(child());
        const std::size_t inner = co_await name.with("another one, which is too long for the string",
                                                     child());
        const std::size_t outer = co_await h;
        co_return inner - outer;
    };
    const std::size_t more = co_await name.with("one that is too long for the string", body());
    require(more == 10, "each has what was in force where it was spawned");
}

task<> blocks() {
    auto add = [c = counting(1)](std::stop_token) { return c.value() + 1; };
    auto h = magpie::spawn_blocking(std::move(add));
    const int two = co_await h;
    std::vector<magpie::join_handle<int>> all;
    for (int i = 0; i < 3; ++i)
        all.push_back(magpie::spawn_blocking([i] { return i; }));
    int sum = 0;
    for (auto& one : all)
        sum += co_await one;
    require(two == 2 && sum == 3, "blocking calls give their values");
}

task<> blocks_in_place() {
    const int n = magpie::block_in_place([] { return 4; });
    co_await magpie::yield_now();
    require(n == 4, "it gives the value");
}

// --- groups ---

task<> sets() {
    magpie::join_set<int> set(2);
    const magpie::abort_handle first = set.spawn(number(1));
    set.spawn("a name that is too long for the string", number(2));
    int sum = 0;
    for (;;) {
        const auto next = co_await set.join_next();
        if (!next)
            break;
        sum += *next;
    }
    require(sum == 3 && first.is_finished(), "a set gives each value");
    co_await set.spawn_when_free(number(3));
    const std::vector<int> rest = co_await set.join_all();
    require(rest == std::vector{3}, "a set gives all that is left");
    set.spawn(later(3));
    co_await set.shutdown();
    require(set.empty(), "a set that was shut down is empty");
}

task<> maps_and_queues() {
    magpie::join_map<std::string, int> map;
    map.spawn("a key that is too long for the string", number(1));
    map.spawn("a key that is too long for the string", number(2)); // replaces it
    map.spawn("another one, which is too long, too", number(3));
    int sum = 0;
    for (;;) {
        const auto next = co_await map.join_next();
        if (!next)
            break;
        if (next->result.has_value())
            sum += *next->result;
        else
            require(false, "no task of the map fails");
    }
    require(sum == 5, "a map gives what is not replaced");
    magpie::join_queue<int> queue;
    for (int i = 0; i < 3; ++i)
        queue.spawn(number(i));
    for (int i = 0; i < 3; ++i) {
        const auto next = co_await queue.join_next();
        require(next == i, "a queue gives them in order");
    }
}

task<> trackers() {
    magpie::task_tracker all;
    all.spawn(number(1)).detach();
    all.spawn("a name that is too long for the string", number(1)).detach();
    all.close();
    co_await all.wait();
    require(all.empty(), "all have ended");
}

task<> scopes() {
    std::atomic<int> sum{0}; // added to on several workers
    auto add = [](std::atomic<int>& to, int n) -> task<> {
        const int got = co_await number(n);
        to.fetch_add(got, std::memory_order_relaxed); // the scope's end orders it before the look below
    };
    auto body = [&](magpie::task_scope& s) -> task<> {
        s.spawn(add(sum, 1));
        s.spawn("a name that is too long for the string", add(sum, 2));
        auto h = s.spawn(number(3));
        const int of_handle = co_await h;
        sum.fetch_add(of_handle, std::memory_order_relaxed);
    };
    co_await magpie::scope(body);
    require(sum == 6, "a scope ends after its tasks");
    co_await magpie::scope(magpie::collect_all.limit(2), body);
    require(sum == 12, "a scope ends after its tasks");
}

/// What fails in a scope is the failure that was meant, or the lack of memory.
task<> scopes_that_fail() {
    auto fails = [](counting) -> task<> {
        co_await magpie::yield_now();
        throw std::system_error(std::make_error_code(std::errc::io_error));
    };
    auto body = [&](magpie::task_scope& s) -> task<> {
        s.spawn(fails(counting(1)));
        s.spawn(fails(counting(2)));
        co_await magpie::yield_now();
    };
    for (const bool first : {true, false}) {
        std::exception_ptr error;
        try {
            if (first)
                co_await magpie::scope(body);
            else
                co_await magpie::scope(magpie::collect_all, body);
        } catch (...) {
            error = std::current_exception();
        }
        require(error != nullptr, "a scope whose tasks fail, fails");
        bool memory = false;
        try {
            std::rethrow_exception(error);
        } catch (const std::bad_alloc&) {
            memory = true;
        } catch (const std::system_error&) {
            require(first, "the first failure keeps its type");
        } catch (const magpie::scope_error& e) {
            require(!first && e.failures().size() <= 3, "all failures are collected");
        }
        if (memory)
            std::rethrow_exception(error);
    }
}

task<> supervises() {
    int runs = 0;
    auto run = [&]() -> task<int> {
        co_await magpie::yield_now();
        if (++runs % 3 != 0)
            throw std::system_error(std::make_error_code(std::errc::io_error));
        co_return runs;
    };
    const auto policy = magpie::restart_policy()
                            .back_off(1us, 1.0, 1us)
                            .without_limit(1h)
                            .on_failure([](const magpie::failed_run&) {});
    const int n = co_await magpie::supervise(run, policy);
    require(n % 3 == 0, "it runs until it succeeds");
}

// --- composites ---

task<> composes() {
    auto both = co_await magpie::join(number(1), later(2));
    require(std::get<0>(both) + std::get<1>(both) == 3, "join");
    auto tried = co_await magpie::try_join(number(1), number(2));
    require(std::get<0>(tried) + std::get<1>(tried) == 3, "try_join");
    ms::event never;
    auto won = co_await magpie::select(number(1), never.wait(), magpie::sleep_for(1h));
    require(won.index() == 0, "select");
    const auto in_time = co_await magpie::timeout(1h, number(1));
    require(in_time == 1, "timeout");
    const auto too_late = co_await magpie::deadline(10us, never.wait());
    require(!too_late, "deadline");
    const int kept = co_await magpie::shield(number(4));
    require(kept == 4, "shield");
    auto body = [](counting& c) -> task<int> { co_return co_await number(c.value()); };
    auto teardown = [](counting&) -> task<> { co_await magpie::yield_now(); };
    const int of_body = co_await magpie::with(counting(5), body, teardown);
    require(of_body == 5, "with");
}

task<> composes_ranges() {
    const std::array<int, 5> numbers{1, 2, 3, 4, 5};
    const std::vector<int> same = co_await magpie::map_concurrent(numbers, 2, number);
    require(std::accumulate(same.begin(), same.end(), 0) == 15, "map_concurrent");
    auto visit = [](int n) -> task<> { static_cast<void>(co_await number(n)); };
    co_await magpie::for_each_concurrent(numbers, 2, visit);
    std::vector<task<int>> tasks;
    for (const int n : numbers)
        tasks.push_back(number(n));
    const std::vector<int> joined = co_await magpie::join(std::move(tasks));
    require(joined.size() == 5, "join of a range");
}

task<int> tree(int depth) {
    const counting here(depth);
    if (depth == 0)
        co_return 1;
    auto both = co_await magpie::fork_join(tree(depth - 1), tree(depth - 1));
    co_return std::get<0>(both) + std::get<1>(both);
}

task<> forks() {
    const int leaves = co_await tree(4);
    require(leaves == 16, "fork_join");
    std::vector<task<int>> many; // more than the deque has room for
    many.reserve(300);
    for (int i = 0; i < 300; ++i)
        many.push_back(number(1));
    const std::vector<int> ones = co_await magpie::fork_join(std::move(many));
    require(std::accumulate(ones.begin(), ones.end(), 0) == 300, "fork_join of a range");
}

task<> loops() {
    std::vector<std::atomic<int>> seen(100);
    auto mark = [&](int i) {
        seen[static_cast<std::size_t>(i)].fetch_add(1, std::memory_order_relaxed);
    };
    co_await magpie::parallel_for(0, 100, mark);
    for (const auto& s : seen)
        require(s.load(std::memory_order_relaxed) == 1, "parallel_for visits each once");
    auto self = [](int i) { return i; };
    const int sum = co_await magpie::parallel_reduce(0, 100, 0, std::plus<>(), self);
    require(sum == 4950, "parallel_reduce");
}

// --- time ---

task<> waits_for_time() {
    magpie::interval every(20us);
    for (int i = 0; i < 3; ++i)
        co_await every.tick();
    co_await magpie::sleep_for(10us);
    co_await magpie::sleep_for(150ms / 1000);
    ms::event never;
    for (const auto d : {magpie::clock::duration(10us), magpie::clock::duration(1h)}) {
        const auto in_time = co_await magpie::timeout(d, magpie::yield_now());
        require(in_time || d < 1ms, "what is ready is in time");
    }
}

// --- what waits ---

task<> wait_in_turn(ms::mutex& m, ms::semaphore& permits, ms::event& open, ms::notify& ring,
                    ms::latch& done, int& count) {
    co_await open.wait();
    auto permit = co_await permits.acquire();
    auto held = co_await m.lock();
    co_await magpie::yield_now();
    ++count;
    ring.notify_one();
    done.count_down();
}

task<> waits() {
    ms::mutex m;
    ms::semaphore permits(1);
    ms::event open;
    ms::notify ring;
    ms::latch done(4);
    int count = 0;
    magpie::join_set<> all;
    std::exception_ptr error;
    try {
        for (int i = 0; i < 4; ++i)
            all.spawn(wait_in_turn(m, permits, open, ring, done, count));
    } catch (const std::bad_alloc&) {
        error = std::current_exception();
    }
    if (error) {
        co_await all.shutdown(); // they use what is here
        std::rethrow_exception(error);
    }
    co_await magpie::yield_now();
    open.set();
    co_await ring.notified();
    co_await done.wait();
    for (int i = 0; i < 4; ++i)
        co_await all.join_next();
    require(count == 4 && all.empty(), "each waits in turn");
}

task<> cancels() {
    const magpie::cancellation_token root;
    std::vector<magpie::cancellation_token> children;
    for (int i = 0; i < 4; ++i)
        children.push_back(i % 2 == 0 ? root.child_token() : children.back().child_token());
    auto until = [](magpie::cancellation_token t) -> task<bool> {
        ms::event never;
        const auto came = co_await t.run_until_cancelled(never.wait());
        co_return !came;
    };
    magpie::join_set<bool> all;
    for (const auto& c : children)
        all.spawn(until(c));
    co_await magpie::yield_now();
    std::exception_ptr error;
    try {
        root.cancel("a reason that is too long for the string itself");
    } catch (const std::bad_alloc&) {
        error = std::current_exception();
    }
    if (error) {
        for (const auto& c : children)
            require(!c.is_cancelled(), "a cancel that fails cancels nobody");
        root.cancel(); // needs no memory
    }
    int ended = 0;
    for (;;) {
        const auto next = co_await all.join_next();
        if (!next)
            break;
        ended += *next ? 1 : 0;
    }
    require(ended == 4, "all that waited were cancelled");
    if (error)
        std::rethrow_exception(error);
}

// --- channels: a send that fails has sent nothing; the channel goes on ---

/// Sends 0, 1, ..., those that find no memory aside, and then takes what has arrived.
template <class Send, class Receiver>
void send_and_receive(int n, Send send, Receiver& rx, const char* what) {
    std::vector<int> sent;
    sent.reserve(static_cast<std::size_t>(n));
    std::exception_ptr error;
    for (int i = 0; i < n; ++i) {
        try {
            if (send(i))
                sent.push_back(i);
        } catch (const std::bad_alloc&) {
            error = std::current_exception();
        }
    }
    for (const int i : sent) {
        auto next = rx.try_recv();
        require(next && next->value() == i, what);
    }
    auto none = rx.try_recv();
    require(!none, what);
    if (error)
        std::rethrow_exception(error);
}

task<> fills_channels() {
    {
        auto [tx, rx] = ms::mpsc::channel<counting>(300);
        auto& to = tx;
        auto send = [&](int i) { return bool(to.try_send(counting(i))); };
        send_and_receive(200, send, rx, "mpsc");
    }
    {
        auto [tx, rx] = ms::mpsc::unbounded_channel<counting>();
        auto& to = tx;
        auto send = [&](int i) { return bool(to.send(counting(i))); };
        send_and_receive(200, send, rx, "mpsc, unbounded");
    }
    {
        auto [tx, rx] = ms::mpmc::channel<counting>(300);
        auto& to = tx;
        auto send = [&](int i) { return bool(to.try_send(counting(i))); };
        send_and_receive(200, send, rx, "mpmc");
    }
    co_return;
}

/// Two tasks and a channel that is shorter than what goes through it.
task<> streams() {
    auto [tx, rx] = ms::mpsc::channel<counting>(40);
    auto produce = [](ms::mpsc::sender<counting> to) -> task<int> {
        int sent = 0;
        std::exception_ptr error;
        for (int i = 0; i < 200; ++i) {
            try {
                const ms::send_result r = co_await to.send(counting(i));
                sent += r ? 1 : 0;
            } catch (const std::bad_alloc&) {
                error = std::current_exception();
            }
        }
        {
            auto permit = co_await to.reserve();
            require(bool(permit), "there is a place");
            try {
                sent += std::move(*permit).send(counting(200)) ? 1 : 0;
            } catch (const std::bad_alloc&) {
                error = std::current_exception();
            }
        }
        if (error)
            co_return -sent;
        co_return sent;
    };
    auto h = magpie::spawn(produce(std::move(tx)));
    int received = 0;
    for (;;) {
        const auto next = co_await rx.recv();
        if (!next)
            break;
        ++received;
    }
    const int sent = co_await h;
    require(std::abs(sent) == received, "what was sent arrives, and nothing else");
    if (sent < 0)
        throw std::bad_alloc();
}

task<> passes_single_values() {
    auto [once, answer] = ms::oneshot::channel<counting>();
    require(bool(once.send(counting(1))), "a oneshot takes a value");
    auto got = co_await answer.recv();
    require(got && got->value() == 1, "oneshot");

    auto [said, heard] = ms::broadcast::channel<int>(4);
    auto another = said.subscribe();
    require(bool(said.try_send(2)), "a broadcast takes a value");
    const auto first = co_await heard.recv();
    const auto second = co_await another.recv();
    require(*first == 2 && *second == 2, "broadcast");

    auto [set, seen] = ms::watch::channel(std::string("a value that is too long for the string"));
    auto also = set.subscribe();
    require(bool(set.send("another one, which is too long, too")), "a watch takes a value");
    const auto changed = co_await seen.changed();
    require(bool(changed) && also.borrow()->starts_with("another"), "watch");

    auto [hand, taker] = ms::rendezvous::channel<counting>();
    auto give = [](ms::rendezvous::sender<counting> to) -> task<bool> {
        const ms::send_result r = co_await to.send(counting(3));
        co_return bool(r);
    };
    auto h = magpie::spawn(give(std::move(hand)));
    auto taken = co_await taker.recv();
    const bool given = co_await h;
    require(given && taken && taken->value() == 3, "rendezvous");
}

task<> makes_once() {
    ms::once_cell<std::string> cell;
    auto make = []() -> task<std::string> {
        co_await magpie::yield_now();
        co_return "made once, and too long for the string";
    };
    std::string& made = co_await cell.get_or_init(make);
    ms::lazy lazily(make);
    const std::string& also = co_await lazily.get();
    require(made == also, "both are made");
}

// --- io ---

task<> connects() {
    auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
    auto here = co_await io::tcp_stream::connect(listener.local_endpoint());
    auto there = co_await listener.accept();
    co_await here.write_all(test::bytes("hello"));
    std::array<std::byte, 5> five;
    co_await there.stream.read_exact(five);
    co_await there.stream.write_all(test::bytes("world"));
    co_await here.read_exact(five);
    std::vector<io::async_fd> many; // more registrations than the first page has
    for (int i = 0; i < 140; ++i) {
        test::descriptor_pair p;
        many.emplace_back(p.take());
    }
}

task<> listens_to_signals() {
    io::signals s{SIGUSR2};
    std::raise(SIGUSR2);
    const int which = co_await s.next();
    require(which == SIGUSR2, "the signal comes");
}

task<> resolves() {
    const auto found = co_await io::resolve("127.0.0.1:80");
    require(!found.empty(), "an address is found");
}

} // namespace

TEST_SUITE("fault.memory") {
    TEST_CASE("no memory x spawn, join, abort") { refuse_each_everywhere(&spawns); }
    TEST_CASE("no memory x what tasks inherit") { refuse_each_everywhere(&inherits); }
    TEST_CASE("no memory x spawn_blocking") { refuse_each_everywhere(&blocks); }
    TEST_CASE("no memory x block_in_place") {
        CHECK(refuse_each(test::multi_thread(2), &blocks_in_place) > 0);
    }
    TEST_CASE("no memory x join_set") { refuse_each_everywhere(&sets); }
    TEST_CASE("no memory x join_map, join_queue") { refuse_each_everywhere(&maps_and_queues); }
    TEST_CASE("no memory x task_tracker") { refuse_each_everywhere(&trackers); }
    TEST_CASE("no memory x scope") { refuse_each_everywhere(&scopes); }
    TEST_CASE("no memory x scope whose tasks fail") { refuse_each_everywhere(&scopes_that_fail); }
    TEST_CASE("no memory x supervise") { refuse_each_everywhere(&supervises); }
    TEST_CASE("no memory x join, select, timeout, shield, with") { refuse_each_everywhere(&composes); }
    TEST_CASE("no memory x join, map_concurrent, for_each_concurrent of ranges") {
        refuse_each_everywhere(&composes_ranges);
    }
    TEST_CASE("no memory x fork_join") { refuse_each_everywhere(&forks); }
    TEST_CASE("no memory x parallel_for, parallel_reduce") { refuse_each_everywhere(&loops); }
    TEST_CASE("no memory x timers") { refuse_each_everywhere(&waits_for_time); }
    TEST_CASE("no memory x locks, semaphores, events") { refuse_each_everywhere(&waits); }
    TEST_CASE("no memory x cancellation") { refuse_each_everywhere(&cancels); }
    TEST_CASE("no memory x channels that grow") { refuse_each_everywhere(&fills_channels); }
    TEST_CASE("no memory x channels between tasks") { refuse_each_everywhere(&streams); }
    TEST_CASE("no memory x oneshot, broadcast, watch, rendezvous") {
        refuse_each_everywhere(&passes_single_values);
    }
    TEST_CASE("no memory x once_cell, lazy") { refuse_each_everywhere(&makes_once); }
    TEST_CASE("no memory x sockets") { refuse_each_everywhere(&connects); }
    TEST_CASE("no memory x signals") { refuse_each_everywhere(&listens_to_signals); }
    TEST_CASE("no memory x resolve") { refuse_each_everywhere(&resolves); }

    TEST_CASE("no memory x a runtime that is built: the error, and nothing is left") {
        test::on_each_layout([](magpie::runtime_builder b) {
            b.name("a name that is too long for the string").max_blocking_threads(2);
            b.thread_stack_size(256 * 1024);
            const counted_log quiet; // as in refuse_each
            auto one = []() -> task<int> { co_return co_await number(1); };
            CHECK(b.build().block_on(one()) == 1);
            const std::size_t descriptors = test::open_descriptors();
            for (std::size_t n = 1;; ++n) {
                CAPTURE(n);
                const auto before = memory_in_use();
                refused_memory at(n);
                int value = 0;
                std::exception_ptr error;
                try {
                    const magpie::runtime rt = b.build();
                    value = rt.block_on(one());
                } catch (const std::bad_alloc&) {
                    error = std::current_exception();
                }
                const bool refused = at.stop();
                REQUIRE((value == 1) == (error == nullptr));
                error = nullptr;
                REQUIRE(is_again(before));
                REQUIRE(test::open_descriptors() == descriptors);
                if (!refused)
                    break;
            }
        });
    }

    TEST_CASE("no memory x the first runtime of a process: the error, or it runs") {
        for (std::size_t n = 1;; ++n) {
            CAPTURE(n);
            bool reached = true;
            for (const magpie::runtime_builder& b :
                 {test::multi_thread(2), test::current_thread(), test::thread_per_core(2)}) {
                const auto builds = [&] {
                    refused_memory at(n);
                    bool well = false;
                    try {
                        const magpie::runtime rt = b.build();
                        well = rt.block_on(number(7)) == 7;
                    } catch (const std::bad_alloc&) {
                        well = true;
                    }
                    if (!at.stop())
                        _exit(well ? 7 : 1);
                    return well;
                };
                const int status = test::status_of(builds);
                REQUIRE((status == 0 || status == 7));
                reached = reached && status == 0;
            }
            if (!reached)
                break;
        }
    }

    TEST_CASE("no memory x shutdown under load: every task ends, nothing is left") {
        const counted_log
            log; // of failures that nobody receives: the first line that spdlog writes stays
        test::on_each_layout([](const magpie::runtime_builder& b) {
            for (std::size_t n = 1;; ++n) {
                CAPTURE(n);
                const auto before = memory_in_use();
                std::optional<magpie::runtime> rt(build(b));
                auto waits = [](counting) -> task<> { co_await magpie::sleep_for(1h); };
                auto calls = [](counting) -> task<> { co_await magpie::spawn_blocking([] {}); };
                std::vector<magpie::join_handle<>> all;
                for (int i = 0; i < 10; ++i) {
                    all.push_back(rt->spawn(waits(counting(i))));
                    all.push_back(
                        rt->spawn("a name that is too long for the string", calls(counting(i))));
                }
                rt->block_on(number(1));
                refused_memory at(n);
                rt.reset();
                const bool refused = at.stop();
                for (const auto& h : all)
                    REQUIRE(h.is_finished());
                all.clear();
                REQUIRE(counting::alive() == 0);
                all.shrink_to_fit();
                REQUIRE(is_again(before));
                if (!refused)
                    break;
            }
        });
    }

    TEST_CASE("what is attached to an exception that has reached a thread goes with the thread") {
        const counted_log log; // two failures are reported
        auto fails = []() -> task<> {
            co_await magpie::yield_now();
            throw std::system_error(std::make_error_code(std::errc::io_error));
        };
        auto both = [&]() -> task<> { co_await magpie::join(fails(), fails()); };
        std::size_t attached = 0;
        const auto run = [&] {
            const magpie::runtime rt = test::current_thread().build();
            std::exception_ptr error;
            try {
                rt.block_on(both());
            } catch (...) {
                error = std::current_exception();
            }
            attached = magpie::attached_failures(error).size();
        };
        std::thread(run).join(); // what is made once for the process
        const auto before = memory_in_use();
        std::thread(run).join();
        CHECK(attached == 1);
        CHECK(is_again(before));
    }

    TEST_CASE("no memory x what is logged: it is said in fewer words") {
        const counted_log log;
        std::thread([] {}).join(); // with its first thread ThreadSanitizer starts one of its own
        const std::size_t threads = test::live_threads();
        auto fails = []() -> task<> {
            throw std::system_error(std::make_error_code(std::errc::io_error));
            co_return;
        };
        for (std::size_t n = 1;; ++n) {
            CAPTURE(n);
            const auto before = memory_in_use();
            bool refused = false;
            {
                std::atomic<bool> open{false};
                std::atomic<bool> begun{false};
                magpie::runtime rt = test::multi_thread(2).stuck_limit(2ms).build();
                log.restart();
                // A failure that nobody receives; a task that keeps its worker until that was said.
                auto keeps = [&]() -> task<bool> {
                    refused_memory at(n);
                    try {
                        magpie::spawn(fails()).detach();
                    } catch (const std::bad_alloc&) {}
                    const bool said = test::eventually([&] { return log.lines() >= 1; });
                    at.stop();
                    co_return said;
                };
                auto h = rt.spawn("a name that is too long for the string", keeps());
                REQUIRE(h.blocking_join());
                // A call that does not end before the limit.
                auto stuck = [&] {
                    begun.store(true, std::memory_order_relaxed); // a hint
                    open.wait(false, std::memory_order_acquire);  // pairs with the store below
                };
                magpie::join_handle<> call;
                {
                    const auto in = rt.enter();
                    call = magpie::spawn_blocking(stuck);
                }
                REQUIRE(test::eventually([&] { return begun.load(std::memory_order_relaxed); }));
                log.restart();
                refused_memory at(n);
                const bool all_ended = rt.shutdown_timeout(0s);
                refused = at.stop(); // a check needs memory when it fails
                CHECK(!all_ended);
                CHECK(log.lines() >= 1);
                open.store(true, std::memory_order_release);
                open.notify_all();
                call.blocking_join();
            }
            REQUIRE(is_again(before));
            // The shutdown has let go of its threads; no child of ThreadSanitizer's has any if one is left.
            REQUIRE(test::eventually([&] { return test::live_threads() == threads; }));
            if (!refused)
                break;
        }
    }

    TEST_CASE("no memory x a foreign_ptr that has to go home: the program ends, with a sentence") {
        const auto without_memory = [](std::size_t n) {
            return test::status_of([n] {
                magpie::set_log_function([](magpie::log_level, std::string_view text) noexcept {
                    if (text.find("take it home before") != std::string_view::npos)
                        _exit(0);
                });
                // No report of who gets no core: the memory that is refused would be that.
                const magpie::runtime rt = test::thread_per_core(2).stuck_limit(1h).build();
                auto main = [](std::size_t nth) -> task<bool> {
                    auto make = [] { return magpie::foreign_ptr<int>(std::make_unique<int>(1)); };
                    magpie::foreign_ptr<int> p = co_await magpie::submit_to(1, make);
                    refused_memory at(nth);
                    p.reset();
                    co_return at.stop();
                };
                const bool refused = magpie::spawn_on(rt.handle(), 0, main(n)).blocking_join();
                _exit(refused ? 2 : 3); // it went home in spite of that; there was nothing to refuse
                return false;
            });
        };
        CHECK(without_memory(1) == 0); // its frame
        CHECK(without_memory(2) == 0); // its cell
        CHECK(without_memory(100) == 3);
    }

    TEST_CASE(
        "strands for which there is no memory are queued all the same, behind those before them") {
        constexpr std::size_t count = 400;
        for (std::size_t n = 1; n <= 4; ++n) {
            CAPTURE(n);
            test::bare_strands s(count);
            magpie::detail::strand_queue q;
            std::size_t in = 0;
            std::size_t out = 0;
            bool in_order = true;
            const auto take = [&](std::size_t most) {
                std::array<magpie::strand*, 50> some{};
                const std::size_t taken = q.pop(std::span(some).first(most));
                for (const magpie::strand* const one : std::span(some).first(taken))
                    in_order = in_order && test::bare_strand::number_of(*one) == out++;
                return taken;
            };
            refused_memory at(n);
            for (; in < 300; ++in) {
                q.push(s[in]);
                if (in % 3 == 2)
                    take(1);
            }
            REQUIRE(at.stop() == (n < 4)); // three pieces
            REQUIRE(take(50) == 50);
            REQUIRE(take(50) == 50);
            for (; in < count; ++in)
                q.push(s[in]);
            while (take(50) > 0) {}
            REQUIRE(in_order);
            REQUIRE(out == count);
            q.push(s[0]);
            REQUIRE(q.pop() == &s[0]);
            REQUIRE(q.pop() == nullptr);
        }
    }

    TEST_CASE("no memory for a queue of what comes from other threads x spawn, wake: nothing is lost") {
        // One after the other, so that each of the queue's pieces is refused in turn.
        for (std::size_t n = 1;; ++n) {
            CAPTURE(n);
            const auto before = memory_in_use();
            bool refused = false;
            {
                const magpie::runtime rt = build(test::current_thread());
                std::vector<magpie::join_handle<int>> all;
                all.reserve(300);
                int lost = 0;
                refused_memory at(n);
                for (int i = 0; i < 300; ++i) {
                    try {
                        all.push_back(rt.spawn(number(i)));
                    } catch (const std::bad_alloc&) {
                        ++lost;
                    }
                }
                auto join_all = [](std::vector<magpie::join_handle<int>>& tasks) -> task<int> {
                    int count = 0;
                    for (auto& t : tasks) {
                        static_cast<void>(co_await t);
                        ++count;
                    }
                    co_return count;
                };
                refused = at.stop();
                const int ran = rt.block_on(join_all(all));
                REQUIRE(ran + lost == 300);
                REQUIRE(lost <= 1);
            }
            REQUIRE(counting::alive() == 0);
            REQUIRE(is_again(before));
            if (!refused)
                break;
        }
    }
}
