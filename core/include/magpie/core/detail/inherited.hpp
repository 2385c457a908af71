#pragma once

#include <cstdint>

namespace magpie::detail {

// A process that is forked from one with a runtime has that runtime's memory, and none of its threads: what
// waits for them waits for ever. So the child may only exec or _exit, and is told so.
//
// Ids of tasks grow from runtime to runtime: those of the parent's are below a number. The handler of the
// fork also lets the calling thread forget its task and its runtime, so that `spawn` in the child asks nothing
// more than elsewhere.

/// Counts a runtime in. @param end  the ids of its tasks, and of all before, are below it
/// @throws std::bad_alloc, the first time
void runtime_begins(std::uint64_t end);
void runtime_ends() noexcept;

/// Whether the task with this id is the parent's.
/// @par Complexity
/// One relaxed load.
bool is_inherited(std::uint64_t task_id) noexcept;

/// Whether the parent had a runtime.
bool has_inherited() noexcept;

/// @throws std::logic_error if the task with this id is the parent's
void require_own(std::uint64_t task_id);

/// What that says.
inline constexpr const char* inherited_runtime =
    "this process was forked from one that has a magpie::runtime, whose threads are there and not "
    "here: "
    "the child may only exec or _exit";

} // namespace magpie::detail
