#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace layouts {

/// Draws numbers 0 to n - 1 by Zipf's law: number k with a weight of 1 / (k + 1)^s.
class zipf {
public:
    /// @param n  at least 1  @param s  0: all alike; 1: the k-th is drawn a k-th as often as the first
    zipf(std::size_t n, double s) : sums_(s > 0 ? n : 0), n_(n) {
        double sum = 0;
        for (std::size_t k = 0; k < sums_.size(); ++k)
            sums_[k] = sum += std::pow(static_cast<double>(k + 1), -s);
    }

    template <class Random>
    std::size_t operator()(Random& random) const {
        if (sums_.empty())
            return std::uniform_int_distribution<std::size_t>(0, n_ - 1)(random);
        const double at = std::uniform_real_distribution<double>(0, sums_.back())(random);
        const auto found = std::upper_bound(sums_.begin(), sums_.end(), at);
        return std::min(static_cast<std::size_t>(found - sums_.begin()), n_ - 1);
    }

    bool is_uniform() const noexcept { return sums_.empty(); }

private:
    std::vector<double> sums_; // of the weights up to each
    std::size_t n_;
};

} // namespace layouts
