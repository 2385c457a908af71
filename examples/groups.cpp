// Groups of tasks: sets, maps and queues of them, a tracker, and tokens that say when to stop and why.

#include <magpie/magpie.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

constexpr std::array words{"pica", "magpie", "corvid", "jay", "raven", "nutcracker"};

magpie::task<std::size_t> measure(std::string word) {
    if (word == "raven")
        throw std::runtime_error("a raven does not hold still");
    co_await magpie::sleep_for(word.size() * 1ms);
    co_return word.size();
}

magpie::task<std::size_t> watch() {
    co_await magpie::sleep_for(24h);
    co_return std::size_t{0};
}

void require(bool holds, const char* what) {
    if (!holds)
        throw std::runtime_error(what);
}

// At most two at a time, however many there are: one branch spawns, the other joins.
magpie::task<> spawn_all(magpie::join_set<std::size_t>& set) {
    for (const char* const word : words)
        co_await set.spawn_when_free(measure(word));
}

magpie::task<std::size_t> sum_of(magpie::join_set<std::size_t>& set, std::size_t count) {
    std::size_t sum = 0;
    while (count > 0) {
        auto next = co_await magpie::as_result(set.join_next());
        if (!next) { // for a moment, all that were spawned have been joined
            co_await magpie::yield_now();
            continue;
        }
        --count;
        if (next->has_value())
            sum += **next;
        else
            std::cout << "set: " << magpie::describe(next->error()) << '\n';
    }
    co_return sum;
}

magpie::task<> sets() {
    magpie::join_set<std::size_t> set(2);
    auto both = co_await magpie::join(spawn_all(set), sum_of(set, words.size()));
    std::cout << "set: " << std::get<1>(both) << " letters\n";
    require(set.empty() && !set.full(), "all are joined");

    set.spawn("its name", watch());
    set.spawn([] { return watch(); });
    require(set.size() == 2 && set.full(), "the set has two places");
    co_await set.shutdown(); // aborted, and ended
    require(set.empty(), "shutdown waits");
}

// One task a name: who comes again takes the place of who was there.
magpie::task<> maps() {
    magpie::join_map<std::string, std::size_t> map;
    for (const char* const word : words)
        map.spawn(word, measure(word));
    map.spawn("jay", measure("jaybird")); // the other jay is aborted, and nobody hears of it
    require(map.contains("jay") && map.size() == words.size(), "one task a key");
    map.abort("pica");
    map.abort_matching([](const std::string& key) { return key.size() > 8; });
    std::vector<std::string> keys;
    for (const std::string& key : map.keys())
        keys.push_back(key);
    std::ranges::sort(keys);
    std::cout << "map: " << keys.front() << " .. " << keys.back() << '\n';
    for (;;) {
        auto ended = co_await map.join_next();
        if (!ended)
            break;
        if (ended->result.has_value())
            std::cout << "map: " << ended->key << " gave " << *ended->result << '\n';
    }
    require(map.empty() && !map.try_join_next(), "all are joined");

    map.spawn("named", "its name", measure("jay"));
    map.spawn("called", [] { return measure("jay"); });
    map.abort_all();
    co_await map.shutdown();
    map.spawn("detached", measure("jay"));
    map.detach_all(); // it runs on without the map
    require(map.empty(), "detached");
}

// In the order in which they were spawned.
magpie::task<> queues() {
    magpie::join_queue<std::size_t> queue;
    for (const char* const word : {"nutcracker", "jay", "magpie"})
        queue.spawn(measure(word));
    require(queue.size() == 3, "three were spawned");
    std::cout << "queue:";
    for (;;) {
        const std::optional<std::size_t> next = co_await queue.join_next();
        if (!next)
            break;
        std::cout << ' ' << *next;
    }
    std::cout << '\n';
    require(queue.empty() && !queue.try_join_next(), "all are joined");

    queue.spawn("its name", measure("jay"));
    queue.spawn([] { return measure("jay"); });
    queue.abort_all();
    co_await queue.shutdown();
    queue.spawn(measure("jay"));
    queue.detach_all();
    require(queue.empty(), "detached");
}

magpie::task<> session(magpie::cancellation_token stop) {
    const bool ended = co_await stop.run_until_cancelled(magpie::sleep_for(1h));
    if (!ended)
        co_await magpie::yield_now(); // finishes what it has begun
}

// A shutdown in good order: told why, and waited for.
magpie::task<> trackers() {
    const magpie::cancellation_token stop;
    const magpie::task_tracker sessions;
    for (int i = 0; i < 3; ++i)
        sessions.spawn(session(stop.child_token())).detach();
    sessions.spawn("its name", session(stop)).detach();
    sessions.spawn([stop] { return session(stop); }).detach();
    magpie::tracker_token token = sessions.token(); // what is no task is counted by a token
    require(sessions.size() == 6 && !sessions.empty(), "five tasks and a token");

    stop.cancel({std::make_error_code(std::errc::timed_out), "it is late"});
    require(stop.is_cancelled(), "it is cancelled");
    std::cout << "tracker: " << stop.reason()->message() << '\n';
    token.reset();
    require(sessions.close() && sessions.is_closed(), "it was open");
    co_await sessions.wait();
    require(sessions.empty(), "all have ended");
    require(sessions.reopen(), "it was closed");
}

// Code that knows std::stop_token alone, on either side.
magpie::task<> stop_tokens() {
    const magpie::cancellation_token ours;
    const std::stop_token theirs = ours.stop_token();
    ours.cancel();
    require(theirs.stop_requested(), "from ours to theirs");

    const magpie::cancellation_token linked;
    std::stop_source source;
    const magpie::sync::cancel_on_stop link(source.get_token(), linked);
    source.request_stop();
    co_await linked.cancelled();
    std::cout << "stop tokens: both ways\n";
}

magpie::task<> signals() {
    const magpie::cancellation_token stop;
    magpie::spawn(magpie::io::cancel_on(magpie::io::signals{SIGINT, SIGTERM}, stop)).detach();
    ::raise(SIGTERM);
    co_await stop.cancelled();
    std::cout << "signals: " << stop.reason()->text() << '\n';
}

magpie::task<> program() {
    co_await sets();
    co_await maps();
    co_await queues();
    co_await trackers();
    co_await stop_tokens();
    co_await signals();
}

// Of all these, plain threads have the blocking forms.
void on_a_plain_thread() {
    const magpie::runtime rt;
    const auto in = rt.enter();
    magpie::join_queue<std::size_t> queue;
    queue.spawn(measure("jay"));
    require(queue.blocking_join_next() == 3U, "the queue");
    magpie::join_map<int, std::size_t> map;
    map.spawn(1, measure("jay"));
    require(map.blocking_join_next()->key == 1, "the map");
    const magpie::task_tracker tracker;
    tracker.spawn(measure("jay")).detach();
    tracker.close();
    tracker.blocking_wait();
}

} // namespace

int main() {
    magpie::run(program());
    on_a_plain_thread();
}
