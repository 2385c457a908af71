#pragma once

#include "../histogram.hpp"
#include "traffic.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace layouts {

/// A load, as it is the same for each layout.
struct load_options {
    std::size_t connections = 50;
    std::size_t pipeline = 1;   ///< requests that are sent together
    double key_skew = 0;        ///< exponent of Zipf's law over the keys; 0: all alike
    double connection_skew = 0; ///< the same over the connections; 0: they take turns
    std::size_t per_connection =
        0; ///< requests after which one is closed and made anew; 0: it lives on
    std::chrono::nanoseconds work{}; ///< that a request asks the service to compute
    double rate = 0; ///< requests a second that are begun; 0: each when an earlier one is answered
    std::size_t threads = 1;                                           ///< that make the load
    std::chrono::nanoseconds warm_up = std::chrono::milliseconds(300); ///< before the window
    std::chrono::nanoseconds window = std::chrono::seconds(1);         ///< that is measured
};

/// What may be under way on a connection, bytes: it fits into the socket buffers of both directions, so
/// that a service which waits for room to answer and a client which waits for room to ask never meet.
inline constexpr std::size_t most_under_way = 65'536;

struct load_result {
    example::histogram latencies; ///< of what was answered in the window; in an open loop: begun in it
    std::uint64_t errors =
        0; ///< connections that were not made, broke, or were answered wrongly or not
    std::string first_error;
    std::uint64_t unanswered =
        0; ///< of an open loop: requests that had no answer two seconds after its end
};

/// Makes a load: one thread in epoll, which costs the machine as little as a load can.
///
/// In a closed loop (no rate) as many requests are under way as there are connections, times
/// `pipeline`; a new one begins when one is answered. In an open loop request i begins at i / rate,
/// whatever has become of the others, and its latency counts from then: a service that is slow does
/// not get fewer requests to be slow with, nor is the waiting in front of it hidden.
class load {
public:
    using clock = std::chrono::steady_clock;

    /// @param begin  when the load begins; it goes on until `end_window`
    load(std::uint16_t port, const traffic& what, const load_options& options, clock::time_point begin,
         std::uint64_t seed) noexcept
        : port_(port), traffic_(what), options_(options), begin_(begin), seed_(seed) {}

    /// What is answered from now on counts (in an open loop: what begins from now on).
    void begin_window() noexcept { window_begin_.store(now(), std::memory_order_relaxed); }
    /// The window ends, and with it the load.
    void end_window() noexcept { window_end_.store(now(), std::memory_order_relaxed); }

    /// To be called on a thread of its own. @throws std::system_error if it cannot connect
    load_result run();

    /// How many requests were answered so far; for other threads.
    std::uint64_t answered() const noexcept { return answered_.load(std::memory_order_relaxed); }
    /// Whether there will be a latency of the window; for other threads.
    bool has_measured() const noexcept { return measured_.load(std::memory_order_relaxed); }

private:
    class engine;
    using ticks = clock::rep;
    static ticks now() noexcept { return clock::now().time_since_epoch().count(); }

    std::uint16_t port_;
    const traffic& traffic_;
    load_options options_;
    clock::time_point begin_;
    std::uint64_t seed_;
    // All relaxed: they are counters and times, and nothing is read on account of them.
    std::atomic<std::uint64_t> answered_{0};
    std::atomic<bool> measured_{false};
    std::atomic<ticks> window_begin_{std::numeric_limits<ticks>::max()};
    std::atomic<ticks> window_end_{std::numeric_limits<ticks>::max()};
};

} // namespace layouts
