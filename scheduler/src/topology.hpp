#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace magpie::detail {

/// Where a processor is: which others it shares something with. Equal numbers, the same thing.
struct cpu_place {
    std::size_t cpu = 0;
    std::size_t core = 0;  ///< hardware threads of one core: the lowest cpu of it
    std::size_t cache = 0; ///< the same for the last level of cache
    std::size_t node = 0;  ///< memory
};

/// How far apart: 0 the same core, 1 the same last cache, 2 the same memory, 3 further.
std::size_t distance(const cpu_place& a, const cpu_place& b) noexcept;

/// The places of `cpus`, in their order.
///
/// @param root  where the system's description stands: /sys/devices/system, or a tree that a test has made
///              up. What is not described is taken to be alone on its core, and to share cache and memory
///              with all others.
std::vector<cpu_place> read_places(const std::vector<std::size_t>& cpus,
                                   const std::string& root = "/sys/devices/system");

/// The order in which shards take processors: one of each core, first those of one cache, then of one
/// memory; and only then the second hardware threads of cores.
std::vector<std::size_t> spread(const std::vector<cpu_place>& places);

/// A list as the kernel writes it: "0-3,8,10-11". What makes no sense ends it.
std::vector<std::size_t> parse_cpu_list(const std::string& text);

} // namespace magpie::detail
