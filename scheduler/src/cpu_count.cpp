#include "cpu_count.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

namespace magpie::detail {

namespace {

/// The processors of the thread's affinity mask; empty if it cannot be read.
std::vector<std::size_t> by_affinity() {
    // The mask may be longer than cpu_set_t on large machines: grown until it fits.
    for (std::size_t cpus = CPU_SETSIZE; cpus <= (std::size_t{1} << 20); cpus *= 2) {
        std::vector<std::size_t> list;
        list.reserve(cpus); // nothing throws while the set is ours
        cpu_set_t* const set = CPU_ALLOC(cpus);
        if (set == nullptr)
            break;
        const std::size_t bytes = CPU_ALLOC_SIZE(cpus);
        const bool fits = ::sched_getaffinity(0, bytes, set) == 0;
        for (std::size_t cpu = 0; fits && cpu < cpus; ++cpu)
            if (CPU_ISSET_S(cpu, bytes, set))
                list.push_back(cpu);
        CPU_FREE(set);
        if (!list.empty())
            return list;
    }
    return {};
}

/// Quota over period of one control group directory, or 0 if it sets none.
double quota_of(const std::string& dir) {
    double quota = 0;
    double period = 0;
    if (std::ifstream v2(dir + "/cpu.max"); v2 >> quota >> period) // "max 100000" does not parse
        return period > 0 ? quota / period : 0;
    std::ifstream q(dir + "/cpu.cfs_quota_us");
    std::ifstream p(dir + "/cpu.cfs_period_us");
    return q >> quota && p >> period && quota > 0 && period > 0 ? quota / period : 0;
}

/// The tightest quota from the process's own group up to the root.
double by_cgroup() {
    double least = 0;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) { // "0::/path", or "4:cpu,cpuacct:/path"
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string::npos)
            continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (!controllers.empty() && controllers.find("cpu") == std::string::npos)
            continue;
        const std::string root = controllers.empty() ? "/sys/fs/cgroup"
                                                     : "/sys/fs/cgroup/" + controllers;
        for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
            const double quota = quota_of(root + path);
            if (quota > 0 && (least <= 0 || quota < least))
                least = quota;
            if (path.empty() || path.find('/') == std::string::npos)
                break;
        }
    }
    return least;
}

} // namespace

std::vector<std::size_t> usable_cpu_list() {
    std::vector<std::size_t> list = by_affinity();
    if (list.empty()) {
        list.resize(std::max(1U, std::thread::hardware_concurrency()));
        std::iota(list.begin(), list.end(), std::size_t{0});
    }
    return list;
}

std::size_t usable_cpus() noexcept {
    try {
        const std::size_t cpus = usable_cpu_list().size();
        const double quota = by_cgroup();
        return quota > 0 ? std::min(cpus, static_cast<std::size_t>(std::max(1.0, std::ceil(quota))))
                         : cpus;
    } catch (...) { // no memory to read a file with: one worker then
        return 1;
    }
}

} // namespace magpie::detail
