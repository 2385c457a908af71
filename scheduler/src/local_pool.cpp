#include <magpie/scheduler/local_pool.hpp>

#include <magpie/core/config.hpp>

#include <algorithm>

namespace magpie::detail {

std::size_t pool_loads::add_to_least() noexcept {
    const lock_guard guard(lock_);
    const auto least = std::min_element(loads_.begin(), loads_.end());
    ++*least;
    return static_cast<std::size_t>(least - loads_.begin());
}

void pool_loads::add_to(std::size_t worker) noexcept {
    const lock_guard guard(lock_);
    ++loads_[worker];
}

void pool_loads::remove_from(std::size_t worker) noexcept {
    const lock_guard guard(lock_);
    MAGPIE_ASSERT(loads_[worker] > 0);
    --loads_[worker];
}

std::vector<std::size_t> pool_loads::all() const {
    const lock_guard guard(lock_);
    return loads_;
}

} // namespace magpie::detail
