// A first program: a task that awaits tasks, spawns one, joins it, sleeps, and gives up on one.
//
// Run it: build/release/examples/hello. It takes a tenth of a second.

#include <magpie/magpie.hpp>

#include <chrono>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

using namespace std::chrono_literals;

namespace {

// A task is a function with co_await or co_return in it. It gets its parameters by value: it may
// run when its caller has gone on.
magpie::task<std::string> greet(std::string whom, std::chrono::milliseconds after) {
    co_await magpie::sleep_for(after); // the worker does something else meanwhile
    co_return "hello, " + whom;
}

// Destroyed with the coroutine it stands in, however that ends.
struct farewell {
    explicit farewell(std::string text) : text_(std::move(text)) {}
    farewell(const farewell&) = delete;
    ~farewell() { std::cout << text_ << '\n'; }

private:
    std::string text_;
};

magpie::task<> wait_for_ever() {
    const farewell at_end("goodbye: the timeout has dropped me");
    co_await magpie::sleep_for(1h);
    std::cout << "never printed\n";
}

magpie::task<> hello() {
    // Awaited, a task is a function call: it runs here and now, as a part of this one.
    const std::string world = co_await greet("world", 10ms);
    std::cout << world << '\n';

    // Spawned, it runs on its own, on any worker. The handle waits for it.
    magpie::join_handle<std::string> reply = magpie::spawn(greet("neighbour", 30ms));
    std::cout << "spawned task " << reply.id() << '\n';
    const std::string neighbour = co_await reply;
    std::cout << neighbour << '\n';

    // What does not end in time is dropped: its destructors run, and nothing of it goes on.
    const bool in_time = co_await magpie::timeout(50ms, wait_for_ever());
    std::cout << (in_time ? "it has ended\n" : "no answer within 50 ms\n");
}

} // namespace

int main() {
    magpie::run(hello()); // a runtime for this one task: a worker a processor
}
