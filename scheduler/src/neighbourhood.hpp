#pragma once

#include "topology.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace magpie::detail {

/// In which order the workers of a shard look at each other for work: first those at the same cache, then those
/// at the same memory, then the others; and among equals in a circle that begins anywhere.
///
/// What comes from near is mostly in a cache that the thief shares. Workers that are not bound to a processor
/// may be anywhere: all are equally near then. Made once, and never changed.
class neighbourhood {
public:
    /// Nobody is bound.
    explicit neighbourhood(std::size_t workers);
    /// @param places  of each worker's processor
    explicit neighbourhood(const std::vector<cpu_place>& places);

    /// Calls `f(worker)` for each but `me` until it gives something other than null, and gives that.
    /// @param start  any number; evenly spread over all that there are, so is who comes first
    template <class F>
    auto ask(std::size_t me, std::uint32_t start, F f) const -> decltype(f(std::size_t{})) {
        const spot& s = spots_[me];
        zone asked{s.position, s.position + 1};
        for (const zone z : {s.cache, s.memory, zone{0, static_cast<std::uint32_t>(order_.size())}}) {
            const std::uint32_t below = asked.begin - z.begin;
            const std::uint32_t gap = asked.end - asked.begin;
            const std::uint32_t n = z.end - z.begin - gap;
            const auto first = static_cast<std::uint32_t>((std::uint64_t{start} * n) >> 32);
            for (std::uint32_t i = 0; i < n; ++i) {
                const std::uint32_t k = first + i < n ? first + i : first + i - n;
                if (const auto found = f(std::size_t{order_[z.begin + k + (k < below ? 0 : gap)]}))
                    return found;
            }
            asked = z;
        }
        return nullptr;
    }

private:
    /// Neighbours in `order_`.
    struct zone {
        std::uint32_t begin;
        std::uint32_t end;
    };
    /// A worker there, and who is near. Each zone has the one before it in it.
    struct spot {
        std::uint32_t position = 0;
        zone cache{};
        zone memory{};
    };

    std::vector<std::uint32_t> order_; // the workers, those that are near beside each other
    std::vector<spot> spots_;          // of each worker
};

} // namespace magpie::detail
