#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace test {

/// The fuzzer's bytes as a script: what to do next, and with what. Beyond its end all is 0.
class script {
public:
    script(const std::uint8_t* data, std::size_t size) noexcept : at_(data), end_(data + size) {}

    bool over() const noexcept { return at_ == end_; }

    std::uint8_t byte() noexcept { return over() ? std::uint8_t{0} : *at_++; }

    /// A number below `n`, which is at most 256.
    std::size_t below(std::size_t n) noexcept { return byte() % n; }

    /// A number of any size: its first byte says how many follow.
    std::uint64_t number() noexcept {
        std::uint64_t n = 0;
        for (std::size_t i = byte() % 9; i > 0; --i)
            n = n << 8 | byte();
        return n;
    }

private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

/// The fuzzer stops at what does not hold.
inline void require(bool holds, const char* what) {
    if (holds)
        return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

} // namespace test
