#pragma once

#include "harness.hpp"

#include <magpie/magpie.hpp>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

inline magpie::runtime make_runtime(const bench::options& options) {
    return magpie::runtime::builder().worker_threads(options.workers).build();
}

/// For `bench::workload::prepare`: all repetitions on one runtime, `body` on a plain thread.
inline auto on_runtime(std::function<bench::sample(magpie::runtime&, const bench::options&)> body) {
    return [body = std::move(body)](const bench::options& options) -> bench::repetition {
        auto rt = std::make_shared<magpie::runtime>(make_runtime(options));
        return [=] { return body(*rt, options); };
    };
}

/// The same with `body` as a task, which `block_on` runs on a worker.
inline auto on_worker(std::function<magpie::task<bench::sample>(bench::options)> body) {
    return on_runtime([body = std::move(body)](magpie::runtime& rt, const bench::options& options) {
        return rt.block_on(body(options));
    });
}

// One list a file; registry.cpp joins them.
std::vector<bench::workload> spawning_workloads();
std::vector<bench::workload> forking_workloads();
std::vector<bench::workload> waking_workloads();
std::vector<bench::workload> grouping_workloads();
std::vector<bench::workload> locking_workloads();
std::vector<bench::workload> timing_workloads();
std::vector<bench::workload> composing_workloads();
std::vector<bench::workload> memory_workloads();
std::vector<bench::workload> channel_workloads();
std::vector<bench::workload> sharding_workloads();
