#pragma once

#include <chrono>

// The program is linked with --wrap for the steady clock, and for the calls by which magpie sleeps until a
// point of it. So the clock may jump, as the kernel's does when a machine was asleep, moved or restored.

namespace test {

/// Moves the clock forward. Timers go off as they would, and a sleep in a futex ends within some milliseconds, if
/// a jumping_clock was there when it began.
void jump(std::chrono::nanoseconds forward);

/// For as long as it lives the clock may jump; it is put right again at its end.
class jumping_clock {
public:
    jumping_clock() noexcept;
    jumping_clock(const jumping_clock&) = delete;
    ~jumping_clock();
};

} // namespace test
