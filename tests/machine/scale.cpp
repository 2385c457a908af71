#include "tables.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

namespace magpie_machine {

namespace {

double ns(picoseconds t) { return static_cast<double>(t) / nanosecond; }

double per_operation(const window& w) { return ns(w.took) / static_cast<double>(w.operations); }

double per_thousand(std::uint64_t n, const window& w) {
    return 1000.0 * static_cast<double>(n) / static_cast<double>(w.operations);
}

/// One after the other, each with another seed: what happens first decides much in a run that is short.
window run_several(const workload& load, const request& r, std::size_t workers, picoseconds work) {
    window sum;
    for (std::uint64_t i = 0; i < r.runs; ++i) {
        request one = r;
        one.seed = r.seed + i;
        sum.add(run(load, one, workers, work));
    }
    return sum;
}

/// What a task has to compute so that an operation takes at one worker what it takes in tests/bench: all
/// that is no operation of the seam.
picoseconds work_of(const workload& load, const request& r) {
    const window w = run(load, r, 1, 0);
    const auto bare = w.took / static_cast<picoseconds>(w.operations);
    return std::max<picoseconds>(0, load.at_one_worker - bare);
}

std::string parts_of(const window& w) {
    std::string text;
    for (const hot_line& h : w.hot) {
        const double share = static_cast<double>(h.queueing) / static_cast<double>(w.took);
        if (share < 0.05)
            continue;
        char part[160];
        std::snprintf(part, sizeof part, "%s%s (%.1f cores wait)", text.empty() ? "" : ", ", h.name,
                      share);
        text += part;
    }
    return text;
}

} // namespace

void print_scale(const request& r) {
    const std::vector<std::size_t> workers =
        r.workers.empty() ? std::vector<std::size_t>{1, 2, 4, 8, 16, 32, 64, 128, 256} : r.workers;
    std::printf("%-10s %5s | %9s %9s %6s | %7s %7s | %8s %8s | %s\n", "", "cores", "Mops/s", "speed-up",
                "", "fetches", "plain", "steals/k", "sleeps/k",
                "cores that wait for a line, and of what");
    for (const workload& load : workloads()) {
        if (!is_asked_for(r, load))
            continue;
        const picoseconds work = work_of(load, r);
        std::printf("%s: %s; %.0f ns of work\n", load.name, load.operation, ns(work));
        double alone = 0;
        for (const std::size_t n : workers) {
            const window w = run_several(load, r, n, work);
            const double took = per_operation(w);
            if (n == workers.front())
                alone = took * static_cast<double>(n);
            const double speedup = alone / took;
            std::printf("%-10s %5zu | %9.3f %9.2f %5.0f%% | %7.2f %7.2f | %8.2f %8.2f | %s\n", "", n,
                        1000 / took, speedup, 100 * speedup / static_cast<double>(n),
                        static_cast<double>(w.done.fetches) / static_cast<double>(w.operations),
                        static_cast<double>(w.done.plain_fetches) / static_cast<double>(w.operations),
                        per_thousand(w.steals, w), per_thousand(w.parks, w), parts_of(w).c_str());
            std::fflush(stdout);
        }
    }
}

bool check_scale() {
    bool good = true;
    const auto expect = [&good](bool holds, const char* what) {
        std::printf("%s%s\n", what, holds ? "" : "   <- not so");
        good = good && holds;
    };
    request r;
    r.rounds = 50;
    const workload& spawn = workloads().front();
    constexpr picoseconds work = 1 * microsecond;
    const window one = run(spawn, r, 1, work);
    const window sixteen = run(spawn, r, 16, work);
    const window again = run(spawn, r, 16, work);
    expect(sixteen.took == again.took && sixteen.done.modifies == again.done.modifies &&
               sixteen.steals == again.steals,
           "the same twice");
    expect(per_operation(one) > 8 * per_operation(sixteen), "sixteen cores spawn eight times as fast");
    return good;
}

} // namespace magpie_machine
