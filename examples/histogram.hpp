#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace example {

/// Counts durations, to a 32nd of their size: percentiles of any number of them in 9 KiB.
class histogram {
public:
    void add(std::chrono::nanoseconds d, std::uint64_t times = 1) noexcept {
        const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(d.count(), 0));
        counts_[std::min(place(ns), counts_.size() - 1)] += times;
        count_ += times;
        max_ = std::max(max_, ns);
    }
    void add(const histogram& other) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i)
            counts_[i] += other.counts_[i];
        count_ += other.count_;
        max_ = std::max(max_, other.max_);
    }

    std::uint64_t count() const noexcept { return count_; }
    std::chrono::nanoseconds max() const noexcept { return nanoseconds(max_); }

    /// What the share `p` of all is at most, 0 if there are none. @param p  0 to 1
    std::chrono::nanoseconds percentile(double p) const noexcept {
        const double wanted = p * static_cast<double>(count_);
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            sum += counts_[i];
            if (sum > 0 && static_cast<double>(sum) >= wanted)
                return nanoseconds(std::min(upper_end(i), max_));
        }
        return max();
    }

private:
    // Durations below 32 ns have a place each; from there on each power of two has 32.
    static constexpr unsigned bits = 5;
    static constexpr std::uint64_t parts = 1 << bits;

    static std::size_t place(std::uint64_t ns) noexcept {
        if (ns < parts)
            return ns;
        const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - bits;
        return (shift + 1) * parts + ((ns >> shift) - parts);
    }
    static std::uint64_t upper_end(std::size_t place) noexcept {
        if (place < parts)
            return place;
        const std::uint64_t shift = place / parts - 1;
        return ((place % parts + parts + 1) << shift) - 1;
    }
    static std::chrono::nanoseconds nanoseconds(std::uint64_t n) noexcept {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(n));
    }

    std::array<std::uint64_t, 36 * parts> counts_{}; // to 2^40 ns, a quarter of an hour
    std::uint64_t count_ = 0;
    std::uint64_t max_ = 0;
};

} // namespace example
