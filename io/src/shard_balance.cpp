#include <magpie/io/detail/shard_balance.hpp>

#include <algorithm>

namespace magpie::io::detail {

std::size_t connection_counts::least() const noexcept {
    const auto found = std::min_element(
        counts_.begin(), counts_.end(), [](const auto& a, const auto& b) {
            return a.load(std::memory_order_relaxed) < b.load(std::memory_order_relaxed); // hints
        });
    return static_cast<std::size_t>(found - counts_.begin());
}

shard_balance::shard_balance(std::size_t shards, double limit, std::size_t window)
    : limit_(limit), window_(window), shards_(shards) {
    for (local& s : shards_)
        s.seen.resize(shards);
}

void shard_balance::look(std::size_t shard) noexcept {
    local& me = shards_[shard];
    std::uint64_t all = 0;
    std::uint64_t mine = 0;
    std::uint64_t least = ~std::uint64_t{0};
    for (std::size_t s = 0; s < shards_.size(); ++s) {
        const std::uint64_t now = shards_[s].served.load(std::memory_order_relaxed); // see served()
        const std::uint64_t n = now - me.seen[s];
        me.seen[s] = now;
        all += n;
        if (s == shard) {
            mine = n;
        } else if (n < least) {
            least = n;
            me.to = s;
        }
    }
    const double mean = static_cast<double>(all) / static_cast<double>(shards_.size());
    const auto served = static_cast<double>(mine); // not 0: a window
    me.to_give = 0;
    if (served / mean - 1 > limit_) {
        const double too_much = std::min(served - mean, mean - static_cast<double>(least));
        me.to_give = static_cast<std::uint64_t>(too_much * static_cast<double>(me.active) / served);
    }
    ++me.window;
    me.active = 0;
}

} // namespace magpie::io::detail
