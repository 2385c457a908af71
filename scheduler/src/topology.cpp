#include "topology.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace magpie::detail {

namespace {

std::string first_line(const std::string& path) {
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
}

/// The lowest processor of a list in a file, or `otherwise`.
std::size_t lowest(const std::string& path, std::size_t otherwise) {
    const std::vector<std::size_t> all = parse_cpu_list(first_line(path));
    return all.empty() ? otherwise : *std::min_element(all.begin(), all.end());
}

/// The lowest processor that shares the largest cache; 0 if none is described.
std::size_t last_cache_of(const std::string& cpu) {
    std::size_t level = 0;
    std::size_t found = 0;
    for (int i = 0; i < 16; ++i) {
        const std::string dir = cpu + "/cache/index" + std::to_string(i);
        std::istringstream text(first_line(dir + "/level"));
        std::size_t n = 0;
        if (!(text >> n))
            break;
        if (n >= level) {
            level = n;
            found = lowest(dir + "/shared_cpu_list", found);
        }
    }
    return found;
}

} // namespace

std::vector<std::size_t> parse_cpu_list(const std::string& text) {
    std::vector<std::size_t> cpus;
    std::istringstream in(text);
    std::size_t first = 0;
    while (in >> first) {
        std::size_t last = first;
        if (in.peek() == '-' && !(in.ignore() >> last))
            break;
        if (last < first || last - first > 65536)
            break;
        for (std::size_t cpu = first; cpu <= last; ++cpu)
            cpus.push_back(cpu);
        if (in.peek() == ',')
            in.ignore();
    }
    return cpus;
}

std::size_t distance(const cpu_place& a, const cpu_place& b) noexcept {
    return a.core == b.core ? 0 : a.cache == b.cache ? 1 : a.node == b.node ? 2 : 3;
}

std::vector<cpu_place> read_places(const std::vector<std::size_t>& cpus, const std::string& root) {
    std::map<std::size_t, std::size_t> node_of;
    for (const std::size_t node : parse_cpu_list(first_line(root + "/node/online")))
        for (const std::size_t cpu :
             parse_cpu_list(first_line(root + "/node/node" + std::to_string(node) + "/cpulist")))
            node_of[cpu] = node;
    std::vector<cpu_place> places;
    for (const std::size_t cpu : cpus) {
        const std::string dir = root + "/cpu/cpu" + std::to_string(cpu);
        cpu_place p;
        p.cpu = cpu;
        p.core = lowest(dir + "/topology/thread_siblings_list", cpu);
        p.cache = last_cache_of(dir);
        const auto node = node_of.find(cpu);
        p.node = node != node_of.end() ? node->second : 0;
        places.push_back(p);
    }
    return places;
}

std::vector<std::size_t> spread(const std::vector<cpu_place>& places) {
    // How many threads of its core came before; where it is; the order in which they are named; its number.
    std::vector<std::array<std::size_t, 5>> all;
    std::map<std::size_t, std::size_t> seen;
    for (std::size_t i = 0; i < places.size(); ++i)
        all.push_back({seen[places[i].core]++, places[i].node, places[i].cache, i, places[i].cpu});
    std::sort(all.begin(), all.end());
    std::vector<std::size_t> cpus;
    for (const auto& entry : all)
        cpus.push_back(entry.back());
    return cpus;
}

} // namespace magpie::detail
