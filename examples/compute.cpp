// Parallel computing beside I/O, on the same workers: how long does a client wait for its answer?
// An echo server is asked once a millisecond, first alone, then beside one task a worker that computes
// without end. Such a task has to suspend now and then: every piece of work ends in a yield_now(), and
// who waits for a worker waits for one piece. Then the same work as blocking calls, which have threads
// of their own, and suspend never.
//
//     compute [SECONDS]     of each of the three, 1 if it is not given

#include "histogram.hpp"

#include <magpie/magpie.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;
using magpie::task;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

// ---- the I/O -----------------------------------------------------------------------------------------

task<> echo(io::tcp_listener listener) {
    io::accepted client = co_await listener.accept();
    client.stream.set_nodelay(true);
    std::array<std::byte, 64> buffer;
    for (;;) {
        const std::size_t n = co_await client.stream.read(buffer);
        if (n == 0)
            co_return;
        co_await client.stream.write_all(std::span(buffer).first(n));
    }
}

/// Asks once a millisecond, and counts how long each answer takes.
task<example::histogram> ask(steady_clock::duration how_long) {
    auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
    const io::endpoint server = listener.local_endpoint();
    auto serving = magpie::spawn(echo(std::move(listener)));
    auto stream = co_await io::tcp_stream::connect(server);
    stream.set_nodelay(true);
    std::array<std::byte, 64> message{};
    example::histogram latencies;
    const auto begin = steady_clock::now();
    magpie::interval every(1ms);
    while (steady_clock::now() - begin < how_long) {
        co_await every.tick();
        const auto asked = steady_clock::now();
        co_await stream.write_all(message);
        co_await stream.read_exact(message);
        latencies.add(steady_clock::now() - asked);
    }
    stream.shutdown(io::shutdown_side::write);
    co_await serving;
    co_return latencies;
}

// ---- the work ----------------------------------------------------------------------------------------

/// Some 100 us of work: the steps of the Collatz sequences that begin in a range.
std::uint64_t compute(std::uint64_t first) {
    std::uint64_t steps = 0;
    for (std::uint64_t start = first; start < first + 300; ++start)
        for (std::uint64_t n = start; n > 1; ++steps)
            n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    return steps;
}

/// What the tasks that compute share.
struct work {
    std::atomic<bool> stop{false};          // relaxed: nothing hangs on when it is seen
    std::atomic<std::uint64_t> pieces{0};   // relaxed: who takes which does not matter
    std::atomic<std::uint64_t> checksum{0}; // relaxed: so that nothing is optimized away

    void do_piece() {
        const std::uint64_t piece = pieces.fetch_add(1, std::memory_order_relaxed);
        checksum.fetch_add(compute(1'000'000 + 300 * piece), std::memory_order_relaxed);
    }
    bool goes_on() const { return !stop.load(std::memory_order_relaxed); }
};

task<> compute_in_pieces(work& w) {
    while (w.goes_on()) {
        w.do_piece();
        co_await magpie::yield_now(); // whoever is ready goes first
    }
}

// ---- both --------------------------------------------------------------------------------------------

enum class beside { nothing, tasks, blocking_calls };

task<> measure(const char* title, beside what, steady_clock::duration how_long) {
    work w;
    const std::size_t parallel = magpie::runtime_handle::current().worker_threads();
    std::vector<magpie::join_handle<>> computing;
    for (std::size_t i = 0; i < parallel; ++i) {
        if (what == beside::tasks)
            computing.push_back(magpie::spawn(compute_in_pieces(w)));
        else if (what == beside::blocking_calls)
            computing.push_back(magpie::spawn_blocking([&w] {
                while (w.goes_on())
                    w.do_piece();
            }));
    }
    const auto begin = steady_clock::now();
    const example::histogram latencies = co_await ask(how_long);
    const double seconds = std::chrono::duration<double>(steady_clock::now() - begin).count();
    w.stop.store(true, std::memory_order_relaxed);
    for (auto& handle : computing)
        co_await handle; // w goes with this frame

    using us = std::chrono::duration<double, std::micro>;
    std::printf("%-24s %9llu %10.0f %10.0f %10.0f %10.0f\n", title,
                static_cast<unsigned long long>(latencies.count()),
                us(latencies.percentile(0.5)).count(), us(latencies.percentile(0.99)).count(),
                us(latencies.max()).count(), static_cast<double>(w.pieces.load()) / seconds);
    std::fflush(stdout);
}

task<> program(steady_clock::duration how_long) {
    std::printf("beside                   questions     p50 us     p99 us     max us   pieces/s\n");
    co_await measure("nothing", beside::nothing, how_long);
    co_await measure("a task a worker", beside::tasks, how_long);
    co_await measure("a blocking call a worker", beside::blocking_calls, how_long);
}

} // namespace

int main(int argc, char** argv) try {
    const double seconds = argc > 1 ? std::stod(argv[1]) : 1;
    magpie::run(program(
        std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(seconds))));
} catch (const std::exception& e) {
    std::fprintf(stderr, "compute: %s\nusage: compute [SECONDS]\n", e.what());
    return EXIT_FAILURE;
}
