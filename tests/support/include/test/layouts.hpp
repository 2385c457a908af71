#pragma once

#include <magpie/scheduler.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <sched.h>
#include <utility>
#include <vector>

namespace test {

/// The processors that the process may use.
inline std::vector<std::size_t> usable_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    std::vector<std::size_t> cpus;
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set))
            cpus.push_back(cpu);
    return cpus;
}

inline magpie::runtime_builder multi_thread(std::size_t workers = 2) {
    magpie::runtime_builder b;
    b.worker_threads(workers);
    return b;
}

/// multi_thread with a reactor for each worker.
inline magpie::runtime_builder with_reactors(std::size_t workers = 2) {
    magpie::runtime_builder b = multi_thread(workers);
    b.reactor_per_worker(true);
    return b;
}

inline magpie::runtime_builder current_thread() {
    magpie::runtime_builder b;
    b.layout(magpie::layout::current_thread);
    return b;
}

/// With as many shards on any machine: there may be several on one core.
inline magpie::runtime_builder thread_per_core(std::size_t shards = 2) {
    const std::vector<std::size_t> usable = usable_cpus();
    std::vector<std::size_t> cpus;
    for (std::size_t i = 0; i < shards; ++i)
        cpus.push_back(usable[i % usable.size()]);
    magpie::runtime_builder b;
    b.layout(magpie::layout::thread_per_core).affinity(std::move(cpus));
    return b;
}

/// Calls `f(builder)` for each layout.
template <class F>
void on_each_layout(F f) {
    {
        INFO("multi_thread, 2 workers");
        f(multi_thread(2));
    }
    {
        INFO("multi_thread, 1 worker");
        f(multi_thread(1));
    }
    {
        INFO("multi_thread, 2 workers with a reactor each");
        f(with_reactors());
    }
    {
        INFO("current_thread");
        f(current_thread());
    }
    {
        INFO("thread_per_core, 2 shards");
        f(thread_per_core());
    }
}

} // namespace test
