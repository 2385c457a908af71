#pragma once

#include <cstddef>
#include <span>

// The frame allocator's lists, of which each thread has its own. All cores run on one thread, so what is
// there is changed whenever the core changes.

namespace magpie_machine {

/// The running core's. All zeroes: a thread that has not begun with it.
std::span<std::byte> frame_lists() noexcept;
/// A thread's end.
void end_frames() noexcept;
/// For reports.
void name_frame_depots();

} // namespace magpie_machine
