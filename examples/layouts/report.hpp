#pragma once

#include "load.hpp"
#include "measure.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace layouts {

/// A middle value, and how far the repetitions lie apart.
struct spread {
    double median = 0;
    double low = 0, high = 0; ///< quartiles of five or more, else the ends

    /// @param values  not empty
    static spread of(std::vector<double> values);
};

/// A service under one layout with one load, over all repetitions.
struct row {
    std::string service;
    std::string layout;
    std::string load; ///< in words
    load_options options;
    double share = 0; ///< of an open loop: the rate over what the best layout can do; 0: a closed loop
    std::vector<run> runs;

    template <class F>
    spread over_runs(F figure) const {
        std::vector<double> values;
        for (const run& r : runs)
            values.push_back(figure(r));
        return spread::of(std::move(values));
    }
    spread requests_per_s() const;
    spread latency_us(double percentile) const;
    example::histogram latencies() const; ///< of all repetitions
    std::uint64_t errors() const;
};

/// The rows of one service with one load: one a layout.
using workload = std::vector<row>;

/// All that was measured, and on what.
struct report {
    std::string machine;
    std::string command;
    std::vector<workload> workloads;
};

std::string describe_machine();

/// A line a row, with a heading.
std::string table(const report& r);

/// Which layout has won, by how much, and whether that is more than the noise.
std::string verdict(const workload& w);

std::string json(const report& r);

/// A page that needs nothing beside itself.
std::string html(const report& r);

/// A chart of that page as a file of its own.
struct drawing {
    std::string name; ///< of the file: the service and the title
    std::string svg;
};
std::vector<drawing> drawings(const report& r);

} // namespace layouts
