#pragma once

#include <cstddef>
#include <vector>

namespace magpie::detail {

/// How many processors the process may use: its affinity mask, limited by its cgroup's quota
/// (rounded up). At least 1.
std::size_t usable_cpus() noexcept;

/// Which ones its affinity mask allows, in order. At least one. @throws std::bad_alloc
std::vector<std::size_t> usable_cpu_list();

} // namespace magpie::detail
