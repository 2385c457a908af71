#pragma once

#include "machine.hpp"

#include <magpie/core/task.hpp>
#include <magpie/scheduler/builder.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

// What runs on the simulated machine: programs like those of tests/bench, on the product's own runtime.

namespace magpie_machine {

struct setting {
    std::size_t workers = 1;
    std::uint64_t rounds = 10;
    picoseconds work = 0; ///< that a task computes for each operation
    magpie::layout layout = magpie::layout::multi_thread;
};

/// What is measured: from `open`, behind a first round by which everything is in place, to `close`.
class window {
public:
    void open();
    void close(std::uint64_t operations);
    /// Takes another run of the same in.
    void add(const window& other);

    std::uint64_t operations = 0;
    picoseconds took = 0;
    counts done;
    std::array<hot_line, 4> hot;
    std::uint64_t steals = 0;
    std::uint64_t stolen = 0;
    std::uint64_t parks = 0;

private:
    picoseconds begin_ = 0;
    counts before_;
};

struct workload {
    const char* name;
    const char* operation; ///< what one is
    magpie::task<> (*root)(const setting& s, window& w);
    std::uint64_t rounds;          ///< that are usual
    picoseconds at_one_worker = 0; ///< what an operation takes in tests/bench at one worker
    bool pinned = false;           ///< it is for thread_per_core alone
};

const std::vector<workload>& workloads();

window run(const workload& w, const setting& s, const costs& c, std::uint64_t seed);

} // namespace magpie_machine
