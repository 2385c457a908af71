#pragma once

#include "cpu_count.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace magpie::detail {

struct runtime_options;

/// Where workers can be placed.
struct machine {
    std::vector<std::size_t> usable;          ///< the processors that the process may use
    std::size_t (*at_a_time)() = usable_cpus; ///< how many of them: a control group may allow fewer
    std::string root =
        "/sys/devices/system"; ///< where they are described; or a tree that a test has made up
};

/// Fills in how many workers there are and, if they are bound, to which processors. Gives what is wrong with
/// the options; nothing, if they are right.
std::vector<std::string> place_workers(runtime_options& o, const machine& m);

} // namespace magpie::detail
