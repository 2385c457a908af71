// What a request carries with it: its id, which every line of the log names, also those of the tasks
// that work for it; a count of what it has cost; and a deadline. None of them is passed as an argument.
//
// Three requests are served at a time. The second one is slow in a way that nobody can speed up, and
// the third one sees that there is no time left to do it well.

#include <magpie/magpie.hpp>

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

// Tasks that are spawned below a value of `request_id` inherit it; `cost` belongs to one task alone,
// so that what it points to may change without a lock.
constinit const magpie::task_local<std::string, magpie::inherit::by_spawn> request_id;
constinit const magpie::task_local<std::unique_ptr<int>> cost;

// A plain function, called from anywhere.
void log(std::string_view text) {
    const std::string* const id = request_id.try_get(); // null outside of a request
    static std::mutex one_line_at_a_time;
    const std::lock_guard guard(one_line_at_a_time);
    std::printf("[%s] %.*s\n", id != nullptr ? id->c_str() : "-", static_cast<int>(text.size()),
                text.data());
}

struct transaction {
    transaction() = default;
    transaction(const transaction&) = delete;
    ~transaction() { log("transaction closed"); } // also when the request is dropped
};

magpie::task<> look_up(std::chrono::milliseconds time) {
    *cost.get() += 1;
    const transaction t;
    co_await magpie::sleep_for(time);
}

magpie::task<> write_audit() {
    co_await magpie::sleep_for(1ms);
    log("audited"); // in a task of its own: it may be later than the reply
}

magpie::task<std::string> handle(std::chrono::milliseconds time) {
    magpie::spawn(write_audit()).detach();
    co_await look_up(1ms);
    const auto until = magpie::this_task::deadline();
    if (until && *until - magpie::clock::now() < 100ms)
        co_return "a quick answer, for there is little time";
    co_await look_up(time);
    co_return "a good answer";
}

magpie::task<> serve(std::string id, std::chrono::milliseconds limit, std::chrono::milliseconds time) {
    // All that is in force in `handle`, from the outside: the id, the deadline, the cost.
    auto counted = cost.with(std::make_unique<int>(0), magpie::deadline(limit, handle(time)));
    auto served = [](auto& request) -> magpie::task<> {
        const std::optional<std::string> reply = co_await request;
        const std::unique_ptr<int> spent = *request.take_value(); // nobody below needs it any more
        log((reply ? *reply : "dropped: too late") + ", after " + std::to_string(*spent) + " look-ups");
    };
    co_await request_id.with(std::move(id), served(counted));
}

magpie::task<> program() {
    const auto closing = magpie::clock::now() + 10s; // a limit for all of them
    std::vector<magpie::task<>> requests;
    requests.push_back(serve("request 1", 5s, 1ms));
    requests.push_back(serve("request 2", 300ms, 1h));
    requests.push_back(serve("request 3", 50ms, 1ms));
    const bool in_time = co_await magpie::deadline_at(closing, magpie::join(std::move(requests)));
    log(in_time ? "all served" : "closed");
}

} // namespace

int main() { magpie::run(program()); }
