#pragma once

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

} // namespace magpie::this_task
