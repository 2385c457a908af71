#pragma once

#include <magpie/core/operation.hpp>

namespace magpie {

/// Lets everything else that is ready run first: the task goes to the tail of the run queue.
///
/// @par Cancellation
/// Cancel-safe.
class [[nodiscard("co_await it")]] yield_now : public operation<yield_now> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    yield_now() noexcept = default;

    // Only asked when the budget was spent: then waiting for the next turn was the yield.
    bool try_complete() noexcept { return true; }
    bool await_ready() const noexcept { return false; } // a yield asks for no budget
    bool publish() noexcept {
        defer();
        return true;
    }
    void await_resume() const noexcept {}

private:
    cancel_answer cancel() noexcept override { return cancel_answer::coming; }
};

/// Takes one unit of the turn's budget, and yields when none is left: for loops that compute.
///
/// @par Cancellation
/// Cancel-safe.
class [[nodiscard("co_await it")]] consume_budget : public operation<consume_budget> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    consume_budget() noexcept = default;

    bool try_complete() noexcept { return true; }
    bool publish() noexcept { return false; }
    void await_resume() const noexcept {}

private:
    cancel_answer cancel() noexcept override { return cancel_answer::coming; }
};

} // namespace magpie
