#pragma once

#include "../histogram.hpp"
#include "layouts.hpp"
#include "load.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace layouts {

/// One run of a service under one layout with one load.
struct run {
    double requests_per_s = 0;
    double cpu_s_per_million = 0;
    double switches_per_request = 0;
    std::optional<double> calls_per_request; ///< system calls; nothing where they cannot be counted
    double steals_per_request = 0;
    double messages_per_request = 0; ///< between shards
    double imbalance = 0;            ///< the busiest worker's busy time over the mean; 1: all alike
    example::histogram latencies;
    std::uint64_t errors = 0;
    std::uint64_t unanswered = 0;
    std::string first_error;

    struct use {
        double at; ///< seconds since the load began
        std::vector<double> processors;
    };
    std::vector<use> uses; ///< of the machine's processors over time, by service and load together
};

/// @throws std::runtime_error if the service does not run
run measure(const compared& service, const std::string& layout, std::size_t workers,
            const load_options& options, std::uint64_t seed);

} // namespace layouts
