// Every lock, gate and meeting place of magpie::sync, each in the smallest use that is one. What it prints
// is checked by the program itself.
//
//     build/release/examples/locks

#include <magpie/magpie.hpp>

#include <chrono>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::barrier;
using magpie::sync::condition_variable;
using magpie::sync::guarded;
using magpie::sync::guarded_shared;
using magpie::sync::latch;
using magpie::sync::lazy;
using magpie::sync::mutex;
using magpie::sync::named;
using magpie::sync::named_objects;
using magpie::sync::notify;
using magpie::sync::once_cell;
using magpie::sync::scoped_lock;
using magpie::sync::semaphore;
using magpie::sync::set_once;

namespace {

void expect(bool holds, std::string_view what) {
    std::cout << (holds ? "  " : "! ") << what << '\n';
    if (!holds)
        throw std::runtime_error(std::string(what));
}

// --- a value behind its lock ---

task<> visit(guarded<std::map<std::string, int>>& hits, std::string page) {
    auto table = co_await hits.lock();
    ++(*table)[page];
}

task<> guarded_value() {
    guarded<std::map<std::string, int>> hits;
    std::vector<magpie::join_handle<>> visits;
    for (int i = 0; i < 100; ++i)
        visits.push_back(magpie::spawn(visit(hits, i % 2 == 0 ? "/even" : "/odd")));
    for (auto& v : visits)
        co_await v;
    auto table = co_await hits.lock();
    auto even = std::move(table).map([](auto& all) -> int& { return all["/even"]; });
    expect(*even == 50, "guarded: no visit is lost; a guard may go on with a part of the value");
    even.unlock();
    expect(!hits.is_locked() && hits.try_lock().has_value(), "guarded: unlocked early, it is free");
}

// --- a lock by itself, held over a wait, and one that keeps its mutex alive ---

task<> say_two_words(std::shared_ptr<mutex> m, std::string& out) {
    auto guard = co_await mutex::lock_owned(std::move(m));
    out += "two";
    co_await magpie::yield_now(); // others run; nobody gets in between
    out += "words ";
}

task<> locked_over_a_wait() {
    std::string out; // before those who write to it
    auto m = std::make_shared<mutex>();
    auto first = magpie::spawn(say_two_words(m, out));
    auto second = magpie::spawn(say_two_words(m, out));
    co_await first;
    co_await second;
    expect(out == "twowords twowords ", "mutex: a lock is held over a co_await");
}

// --- several locks at once ---

task<> transfer(guarded<int>& from, guarded<int>& to, int amount) {
    auto both = co_await scoped_lock(from, to);
    *both.get<0>() -= amount;
    *both.get<1>() += amount;
}

task<> several_locks() {
    guarded<int> a(100);
    guarded<int> b(100);
    std::vector<magpie::join_handle<>> transfers;
    for (int i = 0; i < 50; ++i) {
        transfers.push_back(magpie::spawn(transfer(a, b, 3)));
        transfers.push_back(magpie::spawn(transfer(b, a, 1))); // the other way round: no deadlock
    }
    for (auto& t : transfers)
        co_await t;
    auto both = co_await scoped_lock(a, b);
    expect(*both.get<0>() == 0 && *both.get<1>() == 200,
           "scoped_lock: in any order, without a deadlock");
}

// --- readers and writers ---

task<> refresh(guarded_shared<std::string>& text) {
    auto reads = co_await text.lock_upgradable(); // plain readers read on
    if (!reads->empty())
        co_return;
    co_await magpie::sleep_for(1ms); // fetches it
    auto writes = co_await std::move(reads).upgrade();
    *writes += "fresh";
    auto reads_on = std::move(writes).downgrade(); // nobody writes in between
    expect(*reads_on == "fresh", "guarded_shared: upgraded to write, downgraded to read on");
}

task<> readers_and_writers() {
    guarded_shared<std::string> text;
    co_await magpie::join(refresh(text), refresh(text)); // the second finds it done
    auto one = co_await text.lock_shared();
    auto two = co_await text.lock_shared();
    expect(*one == *two && !text.try_lock(), "guarded_shared: readers share, and keep writers out");
}

// --- so many at a time ---

task<> fetch(std::shared_ptr<semaphore> limit, int& now, int& most) {
    auto permit = co_await semaphore::acquire_owned(std::move(limit));
    most = std::max(most, ++now);
    co_await magpie::yield_now();
    --now;
}

task<> limited() {
    auto limit = std::make_shared<semaphore>(3);
    int now = 0;
    int most = 0;
    std::vector<task<>> all;
    for (int i = 0; i < 20; ++i)
        all.push_back(fetch(limit, now, most));
    co_await magpie::join(std::move(all));
    expect(most == 3, "semaphore: three at a time");
    auto two = co_await limit->acquire_many(2);
    auto one = two->split(1);
    expect(limit->available_permits() == 1, "semaphore: permits are taken together, and split");
    limit->close();
    auto none = co_await limit->acquire();
    expect(!none, "semaphore: closed, it gives nothing");
}

// --- told that something has happened ---

task<> consume(std::deque<int>& queue, notify& more, int count, int& sum) {
    while (count > 0) {
        while (!queue.empty()) {
            sum += queue.front();
            queue.pop_front();
            --count;
        }
        if (count > 0)
            co_await more.notified(); // a push since the last look is not missed
    }
}

task<> produce(std::deque<int>& queue, notify& more, int count) {
    for (int i = 1; i <= count; ++i) {
        queue.push_back(i);
        more.notify_one();
        co_await magpie::yield_now();
    }
}

task<> told() {
    std::deque<int> queue; // of two branches of one task: no lock
    notify more;
    int sum = 0;
    co_await magpie::join(consume(queue, more, 10, sum), produce(queue, more, 10));
    expect(sum == 55, "notify: what is told while nobody waits is kept, once");

    auto wait = more.notified();
    wait.enable(); // from now on it is told
    more.notify_waiters();
    co_await wait;
    expect(true, "notify: one that is enabled is told without being awaited");
}

// --- told that what a lock guards has changed ---

task<int> next(guarded<std::deque<int>>& jobs, condition_variable& changed) {
    auto queue = co_await jobs.lock();
    const std::deque<int>& content = *queue;
    auto is_there = [&] { return !content.empty(); };
    co_await changed.wait(queue, is_there);
    const int job = queue->front();
    queue->pop_front();
    co_return job;
}

task<> guarded_changes() {
    guarded<std::deque<int>> jobs;
    condition_variable changed;
    auto worker = magpie::spawn(next(jobs, changed));
    co_await magpie::yield_now();
    {
        auto queue = co_await jobs.lock();
        queue->push_back(42);
    }
    changed.notify_one();
    const int job = co_await worker;
    expect(job == 42, "condition_variable: waits for what it guards to change");
}

// --- meeting ---

task<> meet(barrier& step, std::vector<int>& cells, std::size_t mine, int& led) {
    for (int round = 0; round < 3; ++round) {
        ++cells[mine];
        const bool leads = co_await step.wait();
        led += leads ? 1 : 0;
        for (const int c : cells)
            expect(c == round + 1, "barrier: all have come");
        co_await step.wait();
    }
}

task<> meetings() {
    barrier step(2);
    std::vector<int> cells(2);
    int led = 0;
    co_await magpie::join(meet(step, cells, 0, led), meet(step, cells, 1, led));
    expect(led == 3, "barrier: one leads each round");

    latch ready(2); // may go as soon as the wait is over
    auto warm_up = [](latch& l) -> task<> {
        l.count_down();
        co_return;
    };
    magpie::spawn(warm_up(ready)).detach();
    magpie::spawn(warm_up(ready)).detach();
    co_await ready.wait();
    expect(ready.try_wait(), "latch: goes on when all have counted down");
}

// --- made once ---

task<std::string> connect(int& calls) {
    ++calls;
    co_await magpie::sleep_for(1ms);
    co_return "connected";
}

task<> use_connection(once_cell<std::string>& cell, int& calls) {
    auto make = [&] { return connect(calls); };
    const std::string& s = co_await cell.get_or_init(make);
    expect(s == "connected", "once_cell: the first makes it, the others wait");
}

task<> made_once() {
    once_cell<std::string> cell;
    int calls = 0;
    co_await magpie::join(use_connection(cell, calls), use_connection(cell, calls));
    expect(calls == 1 && cell.get() != nullptr, "once_cell: made once");

    lazy settings([] { return std::string("from a file"); });
    const std::string& s = co_await settings.get();
    expect(s == "from a file", "lazy: knows how it is made");

    auto port = std::make_shared<set_once<int>>();
    auto listen = [](std::shared_ptr<set_once<int>> p) -> task<> {
        p->set(8080);
        co_return;
    };
    magpie::spawn(listen(port)).detach();
    const int& bound = co_await port->wait();
    expect(bound == 8080 && !port->set(1), "set_once: waited for, and set once");
}

// --- found by name ---

task<> names() {
    const named<semaphore> slots("upload slots", 10U);
    {
        const named<mutex> log_file("log file");
        expect(named_objects().size() == 2, "named: what has a name is listed");
    }
    const auto left = named_objects();
    expect(left.size() == 1 && left.front().name == std::string_view(slots.name()),
           "named: until it goes");
    co_return;
}

task<> program() {
    co_await guarded_value();
    co_await locked_over_a_wait();
    co_await several_locks();
    co_await readers_and_writers();
    co_await limited();
    co_await told();
    co_await guarded_changes();
    co_await meetings();
    co_await made_once();
    co_await names();
}

} // namespace

int main() { magpie::run(program()); }
