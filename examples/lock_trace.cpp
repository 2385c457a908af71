// Who has a lock, who waits for it, and a deadlock that is reported as it comes about: what a build with
// MAGPIE_LOCK_TRACE says of two clerks who take two accounts in different orders. In any other build the
// names of the locks are accepted, and nothing is said.
//
//     cmake -B build/traced -DMAGPIE_LOCK_TRACE=ON && cmake --build build/traced --target lock_trace
//     build/traced/examples/lock_trace

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>

using namespace std::chrono_literals;
using magpie::task;
using magpie::sync::barrier;
using magpie::sync::guarded;
using magpie::sync::lock_owners;
using magpie::sync::lock_report;
using magpie::sync::lock_trace_is_on;
using magpie::sync::lock_use;
using magpie::sync::lock_waiters;
using magpie::sync::mutex;
using magpie::sync::object_name;
using magpie::sync::scoped_lock;

namespace {

using account = guarded<int>;

struct bank {
    account savings{object_name("savings"), 100};
    account current{object_name("current"), 100};
    mutex log_file{"log file"};
};

/// One lock after the other, in whatever order the caller has them. Who has no patience lets the other one go on.
task<bool> careless(account& from, account& to, barrier& both_have_one, std::chrono::seconds patience) {
    auto first = co_await from.lock();
    co_await both_have_one.wait();
    auto second = co_await magpie::timeout(patience, to.lock());
    if (!second)
        co_return false;
    --*first;
    ++**second;
    co_return true;
}

/// Both together: no order is wrong.
task<bool> careful(account& from, account& to) {
    auto both = co_await scoped_lock(from, to);
    --*both.get<0>();
    ++*both.get<1>();
    co_return true;
}

void show_locks() {
    if constexpr (lock_trace_is_on)
        for (const lock_use& use : lock_report())
            std::cout << "  " << use << '\n';
}

task<> clerks(bank& b) {
    std::cout << "two clerks, one lock after the other:\n";
    barrier both_have_one(2);
    auto alice = magpie::spawn("alice", careless(b.savings, b.current, both_have_one, 1s));
    auto bob = magpie::spawn("bob", careless(b.current, b.savings, both_have_one, 60s));
    co_await magpie::sleep_for(50ms);
    show_locks();
    const bool alice_has = co_await alice;
    const bool bob_has = co_await bob;
    std::cout << "  " << alice_has + bob_has << " of 2 transfers\n";

    std::cout << "both locks together:\n";
    alice = magpie::spawn("alice", careful(b.savings, b.current));
    bob = magpie::spawn("bob", careful(b.current, b.savings));
    const bool alice_is_done = co_await alice;
    const bool bob_is_done = co_await bob;
    std::cout << "  " << alice_is_done + bob_is_done << " of 2 transfers\n";
}

task<> locked_twice(bank& b) {
    auto guard = co_await b.log_file.lock();
    if constexpr (lock_trace_is_on) {
        std::cout << "has the log file: " << lock_owners(b.log_file).front().who << ", and "
                  << lock_waiters(b.log_file).size() << " wait\n";
        try {
            auto again = co_await b.log_file.lock();
        } catch (const std::logic_error& e) {
            std::cout << e.what() << '\n';
        }
    }
}

} // namespace

int main() {
    bank b;
    // One worker: so each waits for the other before alice's second is over, however seldom the program gets a core.
    const magpie::runtime rt = magpie::runtime_builder().worker_threads(1).build();
    rt.block_on(clerks(b));
    rt.block_on(locked_twice(b));
    if (!lock_trace_is_on)
        std::cout << "built without MAGPIE_LOCK_TRACE: nobody has looked at the locks\n";
}
