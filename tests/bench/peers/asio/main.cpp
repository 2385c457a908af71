#include "common.hpp"

#include <boost/version.hpp>

std::string bench::peer_name() { return "asio"; }

std::string bench::peer_version() {
    return std::to_string(BOOST_VERSION / 100000) + '.' + std::to_string(BOOST_VERSION / 100 % 1000);
}

std::vector<bench::workload> bench::workloads() {
    return concat({spawning_workloads(), waking_workloads(), timing_workloads(), memory_workloads()});
}
