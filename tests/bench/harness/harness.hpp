#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/resource.h>

/// What the benchmark drivers in C++ share: clocks, repetitions, the JSON line, the command line.
///
/// A driver defines `peer_name()`, `peer_version()`, `workloads()`, and `servers()` of server.hpp; `main`
/// stands in main.cpp.
namespace bench {
using clock = std::chrono::steady_clock;

/// What the command line asks of a workload.
struct options {
    unsigned workers = 2;
    std::uint64_t n = 0;
    unsigned reps = 5;
    double seconds = 0; ///< How long a row lasts that is bounded by time.
};

/// One repetition: its operations, what they took, and what else the row measures.
struct sample {
    std::uint64_t ops = 0;
    double seconds = 0;
    double cpu_seconds = 0;
    std::vector<std::pair<std::string, double>> extra;

    void add(std::string field, double value) { extra.emplace_back(std::move(field), value); }
    /// Adds the p50, p99 and p99.9 of `values` as `p50_us`, `p99_us`, `p999_us`.
    void add_percentiles(std::vector<std::chrono::nanoseconds> values);
};

/// The field that a row is judged by, lower is better.
struct figure {
    std::string field = "cpu_ns_per_op";
    std::string unit = "CPU ns/op";
};

/// Runs the workload once.
using repetition = std::function<sample()>;

struct workload {
    std::string name;
    std::uint64_t n;
    /// Makes what all repetitions share, a runtime above all; they go when the result goes.
    std::function<repetition(const options&)> prepare;
    bench::figure figure = {};
    double seconds = 0;
    bool once = false; ///< A single repetition, without a warm-up.
};

/// Measures wall time, and CPU time of the whole process, from its construction on.
class stopwatch {
public:
    [[nodiscard]] sample stop(std::uint64_t ops) const;

private:
    static std::chrono::nanoseconds process_cpu();

    std::chrono::nanoseconds cpu_ = process_cpu();
    clock::time_point wall_ = clock::now();
};

/// Ends the program with a message if `got` is not `wanted`.
void check(std::string_view what, std::uint64_t got, std::uint64_t wanted);

[[nodiscard]] rusage usage();
[[nodiscard]] std::int64_t resident_bytes();
/// The most that was ever resident. (`ru_maxrss` would count what ran before exec, too.)
[[nodiscard]] std::int64_t peak_rss_kb();
/// Lets the calling thread sleep as exactly as the kernel can.
void set_finest_timer_slack();

/// splitmix64: the same numbers in every driver.
class random {
public:
    explicit random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next();

private:
    std::uint64_t state_;
};

/// 0 + 1 + … + (n - 1), what `n` tasks that return their numbers add up to.
[[nodiscard]] constexpr std::uint64_t sum_below(std::uint64_t n) { return n * (n - 1) / 2; }

/// The leaves of the largest full 10-ary tree that has at most `n`.
[[nodiscard]] std::uint64_t full_tree_leaves(std::uint64_t n);

/// fib(k) spawns `spawns` tasks; the largest k for which these are at most `n`.
struct fib_size {
    unsigned k;
    std::uint64_t result;
    std::uint64_t spawns;
};
[[nodiscard]] fib_size largest_fib(std::uint64_t n);

// What a driver defines.
std::string peer_name();
std::string peer_version();
std::vector<workload> workloads();

/// Joins the lists of the files that define workloads.
std::vector<workload> concat(std::initializer_list<std::vector<workload>> lists);
} // namespace bench
