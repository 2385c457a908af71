#pragma once

#include "explorer.hpp"
#include "trace.hpp"
#include "weak_memory.hpp"

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

// Between the explorer's own parts.

namespace magpie_model {

// --- for main.cpp ---

struct failure {
    const char* kind;
    std::string_view text;
    std::uint64_t executions;
    std::string schedule;
};

/// Receives the first failure; must end the process.
void on_failure(void (*handler)(const failure&) noexcept) noexcept;

/// How far a search goes.
struct extent {
    unsigned first = 0;                           ///< preemptions of the first round
    unsigned last = 0;                            ///< ... and of the last one
    std::uint64_t most = ~std::uint64_t{0};       ///< executions
    std::uint64_t most_steps = ~std::uint64_t{0}; ///< ... and steps, in all
};

/// What came of it.
struct explored {
    std::uint64_t executions; ///< of the last round
    bool whole;               ///< the search has come to its end
};

/// Runs the body in every interleaving with so many preemptions, fewer first.
explored explore(void (*body)(), const spoiled& how, const scenario::bounds& limits, extent e);

/// Runs it in interleavings at random, always the same ones, until so many steps were made.
void explore_at_random(void (*body)(), const scenario::bounds& limits, unsigned preemptions,
                       std::uint64_t steps);

/// The order that was weakened was met in the execution at hand.
void note_weakened() noexcept;

/// Runs it in one. Returns false if the text is no schedule.
bool replay(void (*body)(), const spoiled& how, std::string_view schedule,
            const scenario::bounds& limits);

/// What came of the executions, other than what is listed; empty if that is the same.
std::string other_outcomes(const char* listed);

/// The steps of the execution at hand.
void print_trace(std::FILE* to);

/// In all executions.
std::uint64_t steps_made() noexcept;

/// Whether the operation to be spoiled was met at all.
bool met_spoiled() noexcept;

// --- for system.cpp ---

/// Adds a thread as a scenario does. Returns its number; 0 is the body's own.
unsigned begin_thread(std::string_view name, std::function<void()> body);

/// Who makes the present step.
unsigned current_thread() noexcept;

/// Whether it has come to its end, in the execution at hand.
bool has_ended(unsigned thread) noexcept;

// --- for operations.cpp and system.cpp ---

using condition = bool (*)(const void*);

/// Returns when it is the calling thread's turn to make this step. With a limit it may time out
/// before its condition holds, and then returns false.
bool await_turn(const operation& o, condition ready = nullptr, const void* argument = nullptr,
                time_limit limit = time_limit::never);

/// The same, but not before another thread has made a step, if one can.
void await_others(const operation& o);

/// Lets others go before the plain code behind a step that handed something over, which that code
/// must not touch any more. There is no choice before the next step, then.
void others_may_go();

/// The step that await_turn has just ended did nothing yet: there is no choice before the next one.
void nothing_done() noexcept;

/// A step of the scenario's own begins: it is ordered with all others of the kind, and lasts to the
/// thread's next step if it is not ended before.
void begin_own_step();
void end_own_step();

/// The scenario is told what all threads have done.
void know_all() noexcept;

/// All threads are told what all threads have done.
void tell_all() noexcept;

/// Which execution is under way; 0: none.
std::uint32_t execution() noexcept;

/// What is known of the atomics in it.
weak_memory& atomics() noexcept;

/// What the thread that makes the present step knows.
knowledge& now() noexcept;

/// What one knew at its end.
const knowledge& at_end_of(unsigned thread) noexcept;

/// Chooses one of the places for an operation; all but the first have the price of a preemption.
std::size_t choose_place(std::size_t count);

/// For texts: the step that a thread made before a time of its own, and what is at an address.
std::string step_of(unsigned thread, clock::time t);
std::string place_of(const void* address);

/// How many steps there are so far, the present one included.
std::size_t steps_in_execution() noexcept;

/// For what a step read and wrote.
trace_line& last_step() noexcept;

/// Whether the operation is to be spoiled in this way.
bool is_spoiled(const operation& o, spoiled::how effect) noexcept;

} // namespace magpie_model
