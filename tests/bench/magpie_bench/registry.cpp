#include "common.hpp"

std::string bench::peer_name() { return "magpie"; }

std::string bench::peer_version() {
    return std::to_string(MAGPIE_VERSION_MAJOR) + '.' + std::to_string(MAGPIE_VERSION_MINOR) + '.' +
           std::to_string(MAGPIE_VERSION_PATCH);
}

std::vector<bench::workload> bench::workloads() {
    return concat({
        spawning_workloads(),
        forking_workloads(),
        waking_workloads(),
        locking_workloads(),
        grouping_workloads(),
        timing_workloads(),
        composing_workloads(),
        memory_workloads(),
        channel_workloads(),
        sharding_workloads(),
    });
}
