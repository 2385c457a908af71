#include "neighbourhood.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace magpie::detail {

neighbourhood::neighbourhood(std::size_t workers)
    : neighbourhood(std::vector<cpu_place>(workers)) {} // all at one place

neighbourhood::neighbourhood(const std::vector<cpu_place>& places)
    : order_(places.size()), spots_(places.size()) {
    const auto at = [&](std::uint32_t worker) {
        return std::tuple(places[worker].node, places[worker].cache);
    };
    std::iota(order_.begin(), order_.end(), 0U);
    std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
        return std::tuple(at(a), a) < std::tuple(at(b), b);
    });
    /// Sets a zone of each worker: those beside it for which `same` holds.
    const auto divide = [&](zone spot::* which, auto same) {
        const auto n = static_cast<std::uint32_t>(order_.size());
        for (std::uint32_t begin = 0, end; begin < n; begin = end) {
            for (end = begin + 1; end < n && same(order_[begin], order_[end]);)
                ++end;
            for (std::uint32_t i = begin; i < end; ++i)
                spots_[order_[i]].*which = {begin, end};
        }
    };
    divide(&spot::cache, [&](std::uint32_t a, std::uint32_t b) { return at(a) == at(b); });
    divide(&spot::memory,
           [&](std::uint32_t a, std::uint32_t b) { return places[a].node == places[b].node; });
    for (std::uint32_t i = 0; i < order_.size(); ++i)
        spots_[order_[i]].position = i;
}

} // namespace magpie::detail
