#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace magpie::this_task {

/// The id of the task that runs on this thread, also in its destructors; nothing outside of one.
std::optional<std::uint64_t> id() noexcept;

/// The name given when it was spawned; empty without one and outside of a task.
std::string_view name() noexcept;

/// Whether this thread runs a task now.
inline bool exists() noexcept { return id().has_value(); }

/// Operations that the task may still complete before its turn is split; nothing outside of one.
std::optional<std::uint32_t> budget() noexcept;

/// When whatever awaits this code drops it at the latest: the nearest of the `deadline` scopes around
/// it. Nothing without one, and outside of a task. A task that was spawned below a scope does not see
/// its deadline, for it goes on behind it; who waits for its children in a structured way shows it to
/// them. What cancelling does not touch, in a `shield` or a teardown, does not see one outside of it.
std::optional<std::chrono::steady_clock::time_point> deadline() noexcept;

} // namespace magpie::this_task
