#pragma once

#include <magpie/core/operation.hpp>
#include <magpie/core/timer.hpp>

namespace magpie {

// The paused clock, for tests: time stands still while anything runs. When everything sleeps it
// moves by itself to the next deadline, as long as no blocking call runs; `advance` moves it on
// purpose. The same on each layout. It is the clock of the caller's runtime.

/// Stops the clock of the calling task's runtime (or of the entered one).
/// @throws std::logic_error if it is paused, or outside of a runtime
void pause_clock();

/// Lets it go on from where it stands. @throws std::logic_error if it is not paused
void resume_clock();

/// Moves a paused clock. @see advance
class [[nodiscard("co_await it")]] advance_operation : public operation<advance_operation> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit advance_operation(clock::duration d) noexcept : duration_(d) {}

    bool try_complete() noexcept;
    bool publish() noexcept;
    void await_resume();

private:
    cancel_answer cancel() noexcept override;

    clock::duration duration_;
    const char* misuse_ = nullptr;
};

/// Moves the paused clock by `d`. What is due by then fires in order, each at its own time, and
/// runs until everything sleeps; then this returns.
///
/// @throws std::logic_error if the clock is not paused, or somebody else advances it
/// @par Cancellation
/// Cancel-safe; the clock stays where it has got to.
inline advance_operation advance(clock::duration d) noexcept { return advance_operation(d); }

} // namespace magpie
