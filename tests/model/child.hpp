#pragma once

#include "engine.hpp"

// What each scenario's process of its own has in common.

namespace magpie_model {

/// Ends the process, with all that it has printed.
[[noreturn]] void leave(int code) noexcept;

/// Has crashes, failed assertions and threads that run on without a step reported as failures.
void begin_child(void (*report)(const failure&) noexcept);

} // namespace magpie_model
