#pragma once

#include "harness.hpp"

#include <chrono>
#include <cstdint>
#include <vector>

#include <sys/types.h>

/// The load of the echo rows.
namespace load {
struct echo_options {
    std::uint16_t port = 0;
    unsigned connections = 1;
    unsigned shards = 0; ///< How many the server has, if it says which one has a connection; else 0.
    std::chrono::nanoseconds warm_up{};
    std::chrono::nanoseconds window{};
    double rate = 0; ///< Requests a second that are begun; 0: each as soon as its connection is free.
    std::vector<pid_t> server; ///< Whose CPU time is taken over the window.
};

struct echo_result {
    bench::sample sample; ///< CPU is the server's; ops are the requests that were answered.
    std::uint64_t errors = 0;
};

/// Sends messages of 64 bytes, one under way a connection, and measures over the window.
echo_result echo(const echo_options& options);
} // namespace load
