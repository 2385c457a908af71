#pragma once

#include "harness.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

// What the fork rows compute, the same in every driver: the queens' rules, and matrices.

namespace bench {

inline constexpr unsigned most_queens = 12;

/// The columns of the queens in the first `rows` rows of a board.
struct board {
    std::array<std::uint8_t, most_queens> columns{};
    unsigned size = 0;
    unsigned rows = 0;

    bool may_place(unsigned column) const noexcept {
        for (unsigned row = 0; row < rows; ++row) {
            const unsigned away = rows - row;
            const unsigned other = columns[row];
            if (other == column || other + away == column || column + away == other)
                return false;
        }
        return true;
    }
    board with(unsigned column) const noexcept {
        board b = *this;
        b.columns[b.rows++] = static_cast<std::uint8_t>(column);
        return b;
    }
};

/// Where the next queen of a board may stand.
class legal_columns {
public:
    [[gnu::noinline]] explicit legal_columns(const board& b) noexcept {
        for (unsigned column = 0; column < b.size; ++column)
            if (b.may_place(column))
                columns_[count_++] = column;
    }
    const unsigned* begin() const noexcept { return columns_.data(); }
    const unsigned* end() const noexcept { return columns_.data() + count_; }
    std::size_t size() const noexcept { return count_; }

private:
    std::array<unsigned, most_queens> columns_{};
    std::size_t count_ = 0;
};

/// The number of ways to place `size` queens.
[[nodiscard]] inline std::uint64_t queens_solutions(unsigned size) {
    constexpr std::array<std::uint64_t, most_queens + 1> known{1,  1,  0,   0,   2,    10,   4,
                                                               40, 92, 352, 724, 2680, 14200};
    return known.at(size);
}

/// A square part of a matrix of 32-bit integers that wrap around.
struct part {
    std::uint32_t* at;
    std::size_t stride;
    std::size_t size;

    part quarter(std::size_t row, std::size_t column) const noexcept {
        const std::size_t half = size / 2;
        return {at + row * half * stride + column * half, stride, half};
    }
};

inline constexpr std::size_t smallest_part = 32;

/// c += a * b, for the smallest parts. A function of its own, so that it is the same code everywhere.
[[gnu::noinline]] inline void multiply_small(const part& a, const part& b, const part& c) noexcept {
    for (std::size_t i = 0; i < a.size; ++i)
        for (std::size_t k = 0; k < a.size; ++k) {
            const std::uint32_t factor = a.at[i * a.stride + k];
            for (std::size_t j = 0; j < a.size; ++j)
                c.at[i * c.stride + j] += factor * b.at[k * b.stride + j];
        }
}

/// Two matrices and the place for their product.
class product {
public:
    /// @param n  the size is the largest power of two that is not above it, and at least one part
    explicit product(std::uint64_t n) {
        while (size_ * 2 <= n)
            size_ *= 2;
        random numbers(42);
        for (auto* m : {&a_, &b_, &c_})
            m->resize(size_ * size_);
        for (auto* m : {&a_, &b_})
            std::generate(m->begin(), m->end(),
                          [&] { return static_cast<std::uint32_t>(numbers.next()); });
    }

    part a() noexcept { return {a_.data(), size_, size_}; }
    part b() noexcept { return {b_.data(), size_, size_}; }
    part c() noexcept { return {c_.data(), size_, size_}; }
    std::uint64_t operations() const noexcept { return size_ * size_ * size_; }

    /// Whether c x = a (b x) for some x, which is as good as c = a b.
    void check() const {
        std::vector<std::uint32_t> x(size_);
        random numbers(43);
        std::generate(x.begin(), x.end(), [&] { return static_cast<std::uint32_t>(numbers.next()); });
        bench::check("rows of the product that are right",
                     times(c_, x) == times(a_, times(b_, x)) ? 1 : 0, 1);
    }

private:
    std::vector<std::uint32_t> times(const std::vector<std::uint32_t>& m,
                                     const std::vector<std::uint32_t>& x) const {
        std::vector<std::uint32_t> y(size_);
        for (std::size_t i = 0; i < size_; ++i)
            for (std::size_t j = 0; j < size_; ++j)
                y[i] += m[i * size_ + j] * x[j];
        return y;
    }

    std::size_t size_ = smallest_part;
    std::vector<std::uint32_t> a_, b_, c_;
};

} // namespace bench
