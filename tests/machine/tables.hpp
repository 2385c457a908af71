#pragma once

#include "workloads.hpp"

#include <string_view>
#include <vector>

namespace magpie_machine {

/// What is asked for on the command line.
struct request {
    std::vector<std::string_view> only; ///< workloads; empty: all that there are
    std::vector<std::size_t> workers;   ///< empty: what is usual
    costs cost;
    std::uint64_t seed = 1;
    std::uint64_t runs = 3;   ///< for a figure of speed
    std::uint64_t rounds = 0; ///< 0: each workload's own
    magpie::layout layout = magpie::layout::multi_thread;
};

bool is_asked_for(const request& r, const workload& w);
window run(const workload& w, const request& r, std::size_t workers, picoseconds work);

/// How many writes, and transfers of lines, an operation takes.
void print_contention(const request& r);
/// How a program's speed grows with the cores.
void print_scale(const request& r);

/// Whether an operation takes on one worker, where nobody contends, what is written down, and no more.
bool check_contention();
/// Whether a small simulation says the same twice, and that work on many cores is done sooner.
bool check_scale();

} // namespace magpie_machine
