#include "harness.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>

#include <sys/prctl.h>
#include <unistd.h>

namespace bench {
std::chrono::nanoseconds stopwatch::process_cpu() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

sample stopwatch::stop(std::uint64_t ops) const {
    const std::chrono::duration<double> wall = clock::now() - wall_;
    const std::chrono::duration<double> cpu = process_cpu() - cpu_;
    return {.ops = ops, .seconds = wall.count(), .cpu_seconds = cpu.count(), .extra = {}};
}

void sample::add_percentiles(std::vector<std::chrono::nanoseconds> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double q) {
        const auto i = static_cast<std::size_t>(
            std::llround(q * static_cast<double>(values.size() - 1)));
        return std::chrono::duration<double, std::micro>(values[i]).count();
    };
    add("p50_us", at(0.5));
    add("p99_us", at(0.99));
    add("p999_us", at(0.999));
}

void check(std::string_view what, std::uint64_t got, std::uint64_t wanted) {
    if (got == wanted)
        return;
    std::cerr << "wrong result: " << what << " is " << got << ", not " << wanted << std::endl;
    std::_Exit(1); // tasks still run: no destructor could end them in order
}

rusage usage() {
    rusage result{};
    getrusage(RUSAGE_SELF, &result);
    return result;
}

std::int64_t resident_bytes() {
    std::int64_t size = 0;
    std::int64_t resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

std::int64_t peak_rss_kb() {
    std::ifstream status("/proc/self/status");
    for (std::string key; status >> key;) {
        std::int64_t kb = 0;
        if (key == "VmHWM:" && status >> kb)
            return kb;
    }
    throw std::runtime_error("/proc/self/status has no VmHWM");
}

void set_finest_timer_slack() {
    if (prctl(PR_SET_TIMERSLACK, 1UL) != 0)
        throw std::system_error(errno, std::generic_category(), "PR_SET_TIMERSLACK");
}

std::uint64_t random::next() {
    auto z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

std::uint64_t full_tree_leaves(std::uint64_t n) {
    std::uint64_t leaves = 1;
    while (leaves * 10 <= n)
        leaves *= 10;
    return leaves;
}

fib_size largest_fib(std::uint64_t n) {
    unsigned k = 1;
    std::uint64_t now = 1;  // fib(k)
    std::uint64_t next = 1; // fib(k + 1); fib(k) spawns one task less
    while (now + next - 1 <= n) {
        now = std::exchange(next, now + next);
        ++k;
    }
    return {.k = k, .result = now, .spawns = next - 1};
}

std::vector<workload> concat(std::initializer_list<std::vector<workload>> lists) {
    std::vector<workload> all;
    for (const auto& list : lists)
        all.insert(all.end(), list.begin(), list.end());
    return all;
}
} // namespace bench
