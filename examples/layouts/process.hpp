#pragma once

#include "layouts.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace layouts {

/// What a service's process has used and done since it began.
struct usage {
    double cpu_seconds = 0;
    std::uint64_t switches = 0; ///< context switches, of either kind
    std::uint64_t steals = 0;
    std::uint64_t messages = 0;       ///< between shards
    std::vector<double> busy_seconds; ///< of each worker
};

/// A service in a process of its own: so its CPU time is the service's alone.
class service_process {
public:
    /// Starts this program again, as `serve`.
    /// @throws std::runtime_error, with what the process has said, if it does not serve
    service_process(const std::string& service, const std::string& layout, std::size_t workers);
    service_process(const service_process&) = delete;
    /// Ends it, by force if it does not end within ten seconds.
    ~service_process();

    std::uint16_t port() const noexcept { return port_; }
    pid_t pid() const noexcept { return pid_; }
    usage used();

private:
    std::string read_line();
    void end() noexcept;

    pid_t pid_ = -1;
    int to_ = -1;   // its standard input: its end ends it
    int from_ = -1; // its standard output
    std::string received_;
    std::uint16_t port_ = 0;
};

/// What runs in that process: serves until standard input ends; answers each line there with its usage.
int serve(const compared& service, const std::string& layout, std::size_t workers);

/// Counts the system calls of a process's threads, if the system allows it: that takes root's rights.
class call_counter {
public:
    explicit call_counter(pid_t process);
    call_counter(const call_counter&) = delete;
    ~call_counter();

    /// How many since it was made; nothing if they cannot be counted.
    std::optional<std::uint64_t> count() const;

private:
    std::vector<int> counters_; // one a thread
};

/// How much each processor of the machine has worked.
class processor_use {
public:
    processor_use() : before_(read()) {}

    /// The share of each since the last call, 0 to 1.
    std::vector<double> since_last();

private:
    struct ticks {
        std::uint64_t busy = 0, all = 0;
    };
    static std::vector<ticks> read();

    std::vector<ticks> before_;
};

} // namespace layouts
