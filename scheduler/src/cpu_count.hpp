#pragma once

#include <cstddef>

namespace magpie::detail {

/// How many processors the process may use: its affinity mask, limited by its cgroup's quota
/// (rounded up). At least 1.
std::size_t usable_cpus() noexcept;

} // namespace magpie::detail
