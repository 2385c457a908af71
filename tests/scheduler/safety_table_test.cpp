// The table of docs/cancellation.md, made from the types' own words. A new operation gets a row here;
// with MAGPIE_WRITE_DOCS=1 in the environment the test writes the table, and passes.

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using magpie::cancel_safety;
using magpie::safety_of;
using magpie::task;

namespace io = magpie::io;
namespace sync = magpie::sync;
using std::declval;

std::string word(cancel_safety s) {
    switch (s) {
    case cancel_safety::safe: return "`safe`";
    case cancel_safety::lossy: return "`lossy`";
    case cancel_safety::unknown: return "`unknown`";
    }
    return "?";
}

using row = std::pair<std::string, std::string>;

/// An operation by itself.
template <class Operation>
row one(std::string name) {
    return {std::move(name), word(safety_of<Operation>)};
}

/// What is as safe as what is in it, or not: `f(x)` for an x of each kind.
template <class F>
row around(std::string name, F) {
    constexpr cancel_safety safe = safety_of<std::invoke_result_t<F, magpie::timer>>;
    constexpr cancel_safety lossy = safety_of<std::invoke_result_t<F, magpie::lossy_task<>>>;
    constexpr cancel_safety unknown = safety_of<std::invoke_result_t<F, task<>>>;
    if (lossy == unknown && safe == unknown)
        return {std::move(name), word(unknown)};
    std::string text = safe == cancel_safety::safe && unknown == cancel_safety::unknown
                           ? "as `x`"
                           : word(unknown) + ", or `lossy` with `x`";
    CHECK(lossy == cancel_safety::lossy);
    return {std::move(name), std::move(text)};
}

std::vector<row> rows() {
    using bytes = std::span<std::byte>;
    using const_bytes = std::span<const std::byte>;
    using duration = magpie::clock::duration;
    using body = task<> (*)(int&);
    using beside = task<> (*)(magpie::pinned_task<int>&);
    using scope_body = task<> (*)(magpie::task_scope&);
    using mutex_guard = decltype(declval<sync::mutex&>().blocking_lock());
    using number_maker = task<int> (*)();
    using number_test = bool (*)(const int&);
    return {
        one<decltype(magpie::sleep_for(duration()))>("`sleep_for(d)`, `sleep_until(t)`, a `timer`"),
        one<decltype(declval<magpie::interval&>().tick())>("`interval::tick()`"),
        one<decltype(magpie::yield_now())>("`yield_now()`"),
        one<decltype(magpie::consume_budget())>("`consume_budget()`"),
        one<decltype(magpie::advance(duration()))>("`advance(d)`"),
        one<magpie::join_handle<int>&>("a `join_handle<T>&`"),
        one<magpie::pinned_task<int>&>("a `pinned_task<T>&`"),
        one<decltype(declval<magpie::join_set<int>&>().join_next())>(
            "`join_next()` of a `join_set`, `join_queue`, `join_map`"),
        one<decltype(declval<magpie::join_set<int>&>().spawn_when_free(task<int>()))>(
            "`spawn_when_free(task)`, also of a scope"),
        one<decltype(declval<magpie::join_set<int>&>().shutdown())>("`shutdown()` of a set"),
        one<decltype(declval<magpie::join_set<int>&>().join_all())>("`join_set::join_all()`"),
        one<decltype(declval<magpie::task_tracker&>().wait())>("`task_tracker::wait()`"),
        one<decltype(declval<magpie::sync::event&>().wait())>("`event::wait()`"),
        one<decltype(declval<magpie::cancellation_token&>().cancelled())>(
            "`cancellation_token::cancelled()`"),
        one<decltype(declval<sync::mutex&>().lock())>("`mutex::lock()`, of `guarded`, too"),
        one<decltype(declval<sync::shared_mutex&>().lock())>(
            "`lock()`, `lock_shared()`, `lock_upgradable()` of a `shared_mutex`"),
        one<decltype(sync::scoped_lock(declval<sync::mutex&>(), declval<sync::mutex&>()))>(
            "`scoped_lock(a, b, ...)`"),
        one<decltype(declval<sync::condition_variable&>().wait(declval<mutex_guard&>()))>(
            "`condition_variable::wait(guard)`"),
        one<decltype(declval<sync::semaphore&>().acquire())>("`semaphore::acquire()`"),
        one<decltype(declval<sync::notify&>().notified())>("`notify::notified()`"),
        one<decltype(declval<sync::latch&>().wait())>("`latch::wait()`"),
        one<decltype(declval<sync::barrier&>().wait())>("`barrier::wait()`"),
        one<decltype(declval<sync::set_once<int>&>().wait())>("`set_once::wait()`"),
        one<decltype(declval<sync::once_cell<int>&>().get_or_init(declval<number_maker>()))>(
            "`once_cell::get_or_init(f)`"),
        one<decltype(declval<sync::mpsc::sender<int>&>().send(1))>(
            "`send(v)` into an `mpsc`, `mpmc`, `rendezvous`"),
        one<decltype(declval<sync::mpsc::sender<int>&>().send_timeout(1, duration()))>(
            "`send_timeout(v, d)`"),
        one<decltype(declval<sync::mpsc::sender<int>&>().reserve())>("`reserve()`, `reserve_many(n)`"),
        one<decltype(declval<sync::mpsc::receiver<int>&>().recv())>(
            "`recv()` of an `mpsc`, `mpmc`, `rendezvous`"),
        one<decltype(declval<sync::mpsc::receiver<int>&>().recv_many(declval<std::vector<int>&>(),
                                                                     1U))>("`recv_many(values, n)`"),
        one<decltype(declval<sync::oneshot::receiver<int>&>().recv())>("`recv()` of a `oneshot`"),
        one<decltype(declval<sync::broadcast::sender<int>&>().send(1))>("`send(v)` into a `broadcast`"),
        one<decltype(declval<sync::broadcast::receiver<int>&>().recv())>("`recv()` of a `broadcast`"),
        one<decltype(declval<sync::watch::receiver<int>&>().changed())>("`changed()` of a `watch`"),
        one<decltype(declval<sync::watch::receiver<int>&>().wait_for(declval<number_test>()))>(
            "`wait_for(predicate)` of a `watch`"),
        one<decltype(declval<io::tcp_listener&>().accept())>("`io::tcp_listener::accept()`"),
        one<decltype(io::tcp_listener::bind("name"))>("`io::tcp_listener::bind(name)`"),
        one<decltype(io::tcp_stream::connect(declval<io::endpoint&>()))>(
            "`io::tcp_stream::connect(endpoint)`"),
        one<decltype(io::tcp_stream::connect("name"))>("`io::tcp_stream::connect(name)`"),
        one<decltype(declval<io::tcp_stream&>().read(bytes()))>(
            "`read(buffer)`, `read(buffers)`, `peek(buffer)` of a stream"),
        one<decltype(declval<io::tcp_stream&>().write(const_bytes()))>(
            "`write(buffer)`, `write(buffers)` of a stream"),
        one<decltype(declval<io::tcp_stream&>().read_exact(bytes()))>("`read_exact(buffer)`"),
        one<decltype(declval<io::tcp_stream&>().write_all(const_bytes()))>("`write_all(buffer)`"),
        one<decltype(declval<io::tcp_stream&>().readable())>(
            "`readable()`, `writable()`, `ready(interest)`"),
        one<decltype(declval<io::async_fd&>().readable())>("`io::async_fd::ready(interest)`"),
        one<decltype(io::resolve("name"))>("`io::resolve(name)`"),
        one<decltype(declval<io::signals&>().next())>("`io::signals::next()`"),
        one<decltype(io::ctrl_c())>("`io::ctrl_c()`"),
        one<task<int>>("a `task<T>`"),
        one<magpie::safe_task<int>>("a `safe_task<T>`"),
        one<magpie::lossy_task<int>>("a `lossy_task<T>`"),
        one<std::suspend_always>("an awaitable that is not magpie's"),
        one<decltype(magpie::may_lose(declval<magpie::lossy_task<int>>()))>("`may_lose(x)`"),
        around("`timeout(d, x)`, `timeout_at(t, x)`",
               []<class X>(X x) { return magpie::timeout(duration(), std::move(x)); }),
        around("`deadline(d, x)`, `deadline_at(t, x)`",
               []<class X>(X x) { return magpie::deadline(duration(), std::move(x)); }),
        around("`task_local::with(value, x)`",
               []<class X>(X x) { return magpie::task_local<int>().with(1, std::move(x)); }),
        around("`cancellation_token::run_until_cancelled(x)`",
               []<class X>(X x) {
                   return magpie::cancellation_token().run_until_cancelled(std::move(x));
               }),
        around("`unconstrained(x)`", []<class X>(X x) { return magpie::unconstrained(std::move(x)); }),
        around("`shield(x)`, `shield(limit, x)`",
               []<class X>(X x) { return magpie::shield(std::move(x)); }),
        around("`join(x, ...)`, of the least safe `x`",
               []<class X>(X x) { return magpie::join(std::move(x), magpie::yield_now()); }),
        around("`try_join(x, ...)`",
               []<class X>(X x) { return magpie::try_join(std::move(x), magpie::yield_now()); }),
        one<decltype(magpie::select(magpie::yield_now(), magpie::yield_now()))>(
            "`select(x, ...)`, if each `x` is `safe`"),
        one<decltype(magpie::select(task<>(), magpie::yield_now()))>(
            "`select(x, ...)`, else; `lossy` is refused"),
        one<decltype(magpie::with(declval<int&>(), body(), body()))>(
            "`with(resource, body, teardown)`"),
        one<decltype(magpie::pinned(task<int>(), beside()))>("`pinned(task, body)`"),
        one<decltype(magpie::scope(scope_body()))>("`scope(body)`"),
        one<decltype(magpie::fork_join(task<int>(), task<int>()))>("`fork_join(x, ...)`"),
    };
}

std::string table() {
    std::string text = "| operation | `safety` |\n|---|---|\n";
    for (const row& r : rows())
        text += "| " + r.first + " | " + r.second + " |\n";
    return text;
}

} // namespace

TEST_SUITE("scheduler.safety_table") {
    TEST_CASE("the table of what is lost by cancelling is what the types say") {
        const std::string begin = "<!-- safety table -->\n";
        const std::string end = "<!-- end of the table -->\n";
        const std::string path = MAGPIE_DOCS "/cancellation.md";
        std::ifstream in(path);
        const std::string doc{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
        const std::size_t from = doc.find(begin);
        const std::size_t to = doc.find(end);
        REQUIRE(from != std::string::npos);
        REQUIRE(to != std::string::npos);
        const std::size_t first = from + begin.size();
        const bool fresh = doc.substr(first, to - first) == table();
        if (!fresh && std::getenv("MAGPIE_WRITE_DOCS") != nullptr) {
            std::ofstream(path) << doc.substr(0, first) << table() << doc.substr(to);
            return;
        }
        INFO(
            "docs/cancellation.md is stale: run this test with MAGPIE_WRITE_DOCS=1 in the environment");
        CHECK(fresh);
    }
}
