#pragma once

#include <chrono>

// The program is linked with --wrap for the steady clock, and for the calls by which magpie sleeps until a
// point of it. So the clock may jump, as the kernel's does when a machine was asleep, moved or restored.

namespace test {

/// Moves the clock forward. Timers go off as they would; but a thread that sleeps in a futex until a point of
/// the clock does not notice, so some event has to come.
void jump(std::chrono::nanoseconds forward);

/// Puts the clock right again at its end.
class jumping_clock {
public:
    jumping_clock() noexcept = default;
    jumping_clock(const jumping_clock&) = delete;
    ~jumping_clock();
};

} // namespace test
