#include "tables.hpp"

#include <array>
#include <cmath>
#include <cstdio>

namespace magpie_machine {

namespace {

double each(std::uint64_t n, const window& w) {
    return static_cast<double>(n) / static_cast<double>(w.operations);
}

/// What an operation takes when nobody contends: one worker, so each line stays where it is.
struct pinned_counts {
    const char* workload;
    std::uint64_t rounds; ///< so many that the beginning does not count
    double modifies;
    double locks;
};

constexpr std::array pinned = {
    pinned_counts{"spawn", 200, 2.17, 0},    pinned_counts{"yield", 1000, 0, 0},
    pinned_counts{"wake", 2000, 4.00, 0},    pinned_counts{"timeout", 2000, 2.12, 0},
    pinned_counts{"sleep", 100, 3.50, 0.06}, pinned_counts{"message", 1000, 0, 0},
};

} // namespace

void print_contention(const request& r) {
    const std::vector<std::size_t> workers = r.workers.empty()
                                                 ? std::vector<std::size_t>{1, 2, 4, 16, 64}
                                                 : r.workers;
    std::printf("%-10s %7s | %8s %8s %8s | %9s %8s %8s\n", "", "workers", "RMW", "stores", "locks",
                "transfers", "fetches", "plain");
    for (const workload& load : workloads()) {
        if (!is_asked_for(r, load))
            continue;
        std::printf("%s: %s\n", load.name, load.operation);
        for (const std::size_t n : workers) {
            const window w = run(load, r, n, 0);
            std::printf("%-10s %7zu | %8.2f %8.2f %8.3f | %9.3f %8.3f %8.3f\n", "", n,
                        each(w.done.modifies, w), each(w.done.stores, w), each(w.done.locks, w),
                        each(w.done.transfers, w), each(w.done.fetches, w),
                        each(w.done.plain_fetches, w));
            std::fflush(stdout);
        }
    }
}

bool check_contention() {
    bool good = true;
    for (const pinned_counts& p : pinned) {
        request r;
        r.rounds = p.rounds;
        for (const workload& load : workloads()) {
            if (load.name != std::string_view(p.workload))
                continue;
            const window w = run(load, r, 1, 0);
            const double modifies = each(w.done.modifies, w);
            const double locks = each(w.done.locks, w);
            const double transfers = each(w.done.transfers, w);
            const bool same = std::abs(modifies - p.modifies) < 0.02 &&
                              std::abs(locks - p.locks) < 0.02 && transfers < 0.01;
            std::printf(
                "%-10s %.3f read-modify-writes (%.2f are written down), %.3f locks (%.2f), %.3f "
                "transfers (0)%s\n",
                p.workload, modifies, p.modifies, locks, p.locks, transfers,
                same ? "" : "   <- not as written down");
            good = good && same;
        }
    }
    return good;
}

} // namespace magpie_machine
