#pragma once

#include "explorer.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace magpie_model {

/// Which orders are weakened, and how long somebody may take to notice.
struct weakening {
    std::string_view in;             ///< only in files with this in their names
    unsigned line = 0;               ///< and in this line; 0: in all
    std::uint64_t steps = 2'000'000; ///< in each scenario
};

/// Weakens the orders of the product that these scenarios meet, each by one step, and asks which of them
/// notices. Returns whether each was noticed, or is explained; and, with `all` scenarios, whether what is
/// explained went unnoticed.
bool weaken_all(const std::vector<const scenario*>& scenarios, const weakening& which, bool all);

} // namespace magpie_model
