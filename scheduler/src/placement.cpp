#include "placement.hpp"

#include "topology.hpp"

#include <magpie/scheduler/builder.hpp>

#include <algorithm>
#include <set>

namespace magpie::detail {

namespace {

bool contains(const std::vector<std::size_t>& list, std::size_t cpu) {
    return std::find(list.begin(), list.end(), cpu) != list.end();
}

/// Takes the `n` cores of the lowest numbers out, with all their hardware threads.
void leave_out_cores(std::vector<cpu_place>& places, std::size_t n) {
    std::set<std::size_t> cores;
    for (const cpu_place& p : places)
        cores.insert(p.core);
    const auto end = std::next(cores.begin(), static_cast<std::ptrdiff_t>(std::min(n, cores.size())));
    const std::set<std::size_t> out(cores.begin(), end);
    std::erase_if(places, [&](const cpu_place& p) { return out.contains(p.core); });
}

/// What is wrong with the lists themselves.
std::vector<std::string> check_lists(const runtime_options& o, const machine& m) {
    std::vector<std::string> wrong;
    if (o.has_affinity && o.affinity.empty())
        wrong.emplace_back("affinity: a list with no processor in it");
    if (o.has_skip_cpus && o.skip_cpus.empty())
        wrong.emplace_back("skip_cpus: a list with no processor in it");
    for (const std::size_t cpu : o.affinity) {
        if (!contains(m.usable, cpu))
            wrong.push_back("affinity: the process may not use processor " + std::to_string(cpu));
        if (contains(o.skip_cpus, cpu))
            wrong.push_back("affinity: processor " + std::to_string(cpu) +
                            " is in skip_cpus as well: take it out of one of the two");
    }
    if (o.has_affinity && o.reserve_cores > 0)
        wrong.emplace_back("reserve_cores: affinity names each processor that is used, so the others "
                           "are free already: leave one of the two out");
    return wrong;
}

} // namespace

std::vector<std::string> place_workers(runtime_options& o, const machine& m) {
    std::vector<std::string> wrong = check_lists(o, m);
    const bool shards = o.layout == layout::thread_per_core;
    if (o.has_affinity) {
        if (o.worker_threads == 0)
            o.worker_threads = shards ? o.affinity.size() : m.at_a_time();
        if (shards && o.worker_threads != o.affinity.size())
            wrong.push_back("worker_threads: thread_per_core has a shard for each processor that "
                            "affinity names, which are " +
                            std::to_string(o.affinity.size()));
        return wrong;
    }
    const bool fewer = o.has_skip_cpus || o.reserve_cores > 0;
    if (!shards && !fewer) { // wherever the system puts them
        if (o.worker_threads == 0)
            o.worker_threads = m.at_a_time();
        return wrong;
    }
    std::vector<std::size_t> cpus = m.usable;
    std::erase_if(cpus, [&](std::size_t cpu) { return contains(o.skip_cpus, cpu); });
    std::vector<cpu_place> places = read_places(cpus, m.root);
    leave_out_cores(places, o.reserve_cores);
    if (places.empty()) {
        wrong.push_back("skip_cpus, reserve_cores: no processor is left of the " +
                        std::to_string(m.usable.size()) + " that the process may use");
        return wrong;
    }
    if (o.worker_threads == 0)
        o.worker_threads = std::min(m.at_a_time(), places.size());
    if (shards && o.worker_threads > places.size())
        wrong.push_back(
            "worker_threads: thread_per_core has a shard a core, and the process may use " +
            std::to_string(m.usable.size()) +
            (fewer ? ", of which skip_cpus and reserve_cores leave " + std::to_string(places.size())
                   : std::string()) +
            "; to put several on one, name it as often in affinity");
    o.affinity = spread(places);
    o.affinity.resize(std::min(o.worker_threads, o.affinity.size()));
    return wrong;
}

} // namespace magpie::detail
