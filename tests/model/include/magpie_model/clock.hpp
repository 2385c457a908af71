#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace magpie_model {

inline constexpr std::size_t most_threads = 8;   // of an execution, the body included
inline constexpr std::size_t most_steps = 5'000; // of an execution: a time fits into 16 bits

/// For each thread a time, which is a number of its steps: what happens before something, if that is
/// known for each thread up to a step of it.
class clock {
public:
    using time = std::uint16_t; // 0: nothing of the thread

    time operator[](std::size_t thread) const noexcept { return times_[thread]; }
    void set(std::size_t thread, time t) noexcept { times_[thread] = t; }
    time tick(std::size_t thread) noexcept { return ++times_[thread]; }

    bool covers(std::size_t thread, time t) const noexcept { return times_[thread] >= t; }

    void join(const clock& other) noexcept {
        for (std::size_t i = 0; i < most_threads; ++i)
            times_[i] = times_[i] < other.times_[i] ? other.times_[i] : times_[i];
    }

private:
    std::array<time, most_threads> times_{};
};

/// What an evaluation knows of the others, or hands on to who synchronizes with it.
struct knowledge {
    clock happened; ///< what happens before it
    clock ordered;  ///< of each thread, how many of its seq_cst operations *strongly* happen before

    void join(const knowledge& other) noexcept {
        happened.join(other.happened);
        ordered.join(other.ordered);
    }
};

} // namespace magpie_model
