#pragma once

#include <cstddef>

// The program is linked with --wrap for the function of the standard library in which std::thread makes a
// thread: magpie makes all of its own so.

namespace test {

/// While it lives, the `n`th thread that is made from now on (1: the next), and `times - 1` after it, cannot be.
class refused_thread {
public:
    explicit refused_thread(std::size_t n, std::size_t times = 1) noexcept;
    refused_thread(const refused_thread&) = delete;
    ~refused_thread() { stop(); }

    /// Refuses nothing any more. Returns how many were refused.
    std::size_t stop() noexcept;
};

} // namespace test
