// Loads an echo server and prints what it has done: a closed loop, each connection sends again as soon
// as it has been answered, and every answer is compared.
//
//     load [ADDRESS] [--connections C] [--size BYTES] [--pipeline P] [--seconds S] [--patience S]
//          [--workers N] [--quiet]
//
// Try it: examples/echo in one terminal, load in another. Standard output gets two lines, a heading and
// the figures (latencies in us); standard error the rate of each second, and what went wrong. It ends
// with 0 if nothing did.

#include "histogram.hpp"

#include <magpie/magpie.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;
using magpie::task;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

struct options {
    io::endpoint server{"127.0.0.1:7000"};
    std::size_t connections = 50;
    std::size_t size = 64;    // of a message, bytes
    std::size_t pipeline = 1; // messages that are sent before the first answer is awaited
    std::chrono::nanoseconds duration = 3s;
    std::chrono::nanoseconds patience = 5s; // for connections to be made, and for answers after the end
    bool quiet = false;
};

// What may be under way on a connection: it fits into the socket buffers of both directions, so that a
// server which waits for room to answer and a client which waits for room to ask never meet.
constexpr std::size_t most_under_way = 65'536;

/// What one connection has done. Its task alone writes it.
struct alignas(64) tally {
    std::atomic<std::uint64_t> answered{0}; // the progress reads it meanwhile
    example::histogram latencies;           // to be read when the task has ended

    void add(std::size_t answers, std::chrono::nanoseconds latency) {
        latencies.add(latency, answers);
        // relaxed: one writer, and a reader that shows how far it has come
        answered.store(answered.load(std::memory_order_relaxed) + answers, std::memory_order_relaxed);
    }
};

/// Sends `pipeline` messages at once, reads their answers, and again until the time is over.
task<> drive(io::tcp_stream stream, const options& o, steady_clock::time_point end, tally& t) {
    std::vector<std::byte> question(o.size * o.pipeline);
    std::vector<std::byte> answer(question.size());
    std::uint8_t round = 0;
    for (;;) {
        std::fill(question.begin(), question.end(), std::byte(++round)); // not as the one before
        const auto begun = steady_clock::now();
        if (begun >= end)
            co_return;
        co_await stream.write_all(question);
        std::size_t got = 0;
        while (got < answer.size()) {
            const std::size_t n = co_await stream.read(std::span(answer).subspan(got));
            if (n == 0)
                throw std::runtime_error("the server has closed the connection");
            const auto now = steady_clock::now();
            const std::size_t whole = (got + n) / o.size - got / o.size;
            if (now < end && whole > 0)
                t.add(whole, now - begun);
            got += n;
        }
        if (answer != question)
            throw std::runtime_error("an answer is not what was sent");
    }
}

class report {
public:
    void failed(const char* what, std::string_view why) {
        if (errors++ < 5) // thousands may fail alike
            std::cerr << "load: " << what << ": " << why << std::endl;
    }

    example::histogram latencies;
    std::uint64_t errors = 0; // connections that were not made, broke, or were answered wrongly or not
};

task<std::vector<io::tcp_stream>> connect(const options& o, report& r) {
    const auto one = [](io::endpoint server) -> task<io::tcp_stream> {
        auto stream = co_await io::tcp_stream::connect(server);
        stream.set_nodelay(true);
        co_return stream;
    };
    std::vector<magpie::join_handle<io::tcp_stream>> connecting;
    for (std::size_t i = 0; i < o.connections; ++i)
        connecting.push_back(magpie::spawn(one(o.server)));
    const auto deadline = magpie::clock::now() + o.patience;
    std::vector<io::tcp_stream> streams;
    for (auto& handle : connecting) {
        try {
            auto stream = co_await magpie::timeout_at(deadline, handle);
            if (stream)
                streams.push_back(std::move(*stream));
            else
                r.failed("connect", "no answer");
        } catch (const std::exception& e) {
            r.failed("connect", e.what());
        }
    }
    co_return streams;
}

/// Prints a line a second.
task<> show_progress(const std::deque<tally>& tallies) {
    magpie::interval every(magpie::clock::now() + 1s, 1s);
    std::uint64_t before = 0;
    for (unsigned second = 1;; ++second) {
        co_await every.tick();
        std::uint64_t sum = 0;
        for (const tally& t : tallies)
            sum += t.answered.load(std::memory_order_relaxed);
        std::fprintf(stderr, "%5u s %10llu requests/s\n", second,
                     static_cast<unsigned long long>(sum - before));
        before = sum;
    }
}

task<report> measure(const options& o) {
    report r;
    std::vector<io::tcp_stream> streams = co_await connect(o, r);
    std::deque<tally> tallies(streams.size()); // atomics do not move
    std::vector<magpie::join_handle<>> driving;
    const auto end = steady_clock::now() + o.duration;
    for (std::size_t i = 0; i < streams.size(); ++i)
        driving.push_back(magpie::spawn(drive(std::move(streams[i]), o, end, tallies[i])));
    magpie::join_handle<> progress;
    if (!o.quiet)
        progress = magpie::spawn(show_progress(tallies));

    const auto deadline = magpie::clock::now() + o.duration + o.patience;
    for (std::size_t i = 0; i < driving.size(); ++i) {
        try {
            const bool ended = co_await magpie::timeout_at(deadline, driving[i]);
            if (!ended) {
                r.failed("connection", "not answered");
                driving[i].abort(); // before its tally goes
            }
        } catch (const std::exception& e) {
            r.failed("connection", e.what());
        }
    }
    for (auto& handle : driving)
        if (!handle.is_finished())
            static_cast<void>(co_await magpie::as_result(handle));
    progress.abort();
    if (progress)
        static_cast<void>(co_await magpie::as_result(progress));
    for (const tally& t : tallies)
        r.latencies.add(t.latencies);
    co_return r;
}

std::chrono::nanoseconds nanoseconds_of(double seconds) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
}

void print(const options& o, const report& r) {
    using us = std::chrono::duration<double, std::micro>;
    const double seconds = std::chrono::duration<double>(o.duration).count();
    std::printf("connections   size  pipeline  requests/s     p50 us     p99 us   p99.9 us  errors\n");
    std::printf("%11zu %6zu %9zu %11.0f %10.1f %10.1f %10.1f %7llu\n", o.connections, o.size,
                o.pipeline, static_cast<double>(r.latencies.count()) / seconds,
                us(r.latencies.percentile(0.5)).count(), us(r.latencies.percentile(0.99)).count(),
                us(r.latencies.percentile(0.999)).count(), static_cast<unsigned long long>(r.errors));
}

} // namespace

int main(int argc, char** argv) try {
    options o;
    std::string server = o.server.to_string();
    double seconds = 3;
    double patience = 5;
    std::size_t workers = 0;
    CLI::App app("Loads an echo server and prints requests/s and latencies.");
    app.add_option("address", server, "the server's")->capture_default_str();
    app.add_option("-c,--connections", o.connections, "how many, all at once")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    app.add_option("-s,--size", o.size, "of a message, bytes")
        ->check(CLI::Range(std::size_t(1), most_under_way))
        ->capture_default_str();
    app.add_option("-p,--pipeline", o.pipeline, "messages that are sent together, then all awaited")
        ->check(CLI::Range(std::size_t(1), most_under_way))
        ->capture_default_str();
    app.add_option("-t,--seconds", seconds, "how long, in seconds")
        ->check(CLI::Range(0.001, 1e6))
        ->capture_default_str();
    app.add_option("--patience", patience,
                   "seconds for the connections to be made, and for answers after the end")
        ->check(CLI::Range(0.001, 1e6))
        ->capture_default_str();
    app.add_option("-w,--workers", workers, "worker threads; default: a worker a processor")
        ->check(CLI::Range(1, 4096));
    app.add_flag("-q,--quiet", o.quiet, "no rate of each second");
    CLI11_PARSE(app, argc, argv);
    o.server = io::endpoint(server);
    o.duration = nanoseconds_of(seconds);
    o.patience = nanoseconds_of(patience);
    if (o.size * o.pipeline > most_under_way) {
        std::cerr << "load: --size times --pipeline is at most " << most_under_way
                  << " bytes: more does not fit into the socket buffers\n";
        return 2;
    }

    magpie::runtime::builder builder;
    if (workers > 0)
        builder.worker_threads(workers);
    const report r = builder.build().block_on(measure(o));
    print(o, r);
    return r.errors == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& e) {
    std::cerr << "load: " << e.what() << '\n';
    return EXIT_FAILURE;
}
