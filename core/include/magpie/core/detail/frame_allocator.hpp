#pragma once

#include <cstddef>

namespace magpie::detail {

/// Memory for coroutine frames and cells: aligned to 64 bytes, recycled by size class (steps of 64
/// bytes up to 1 KiB) on each thread, larger blocks from the system. A block may be freed on
/// another thread than it was taken on.
///
/// @throws std::bad_alloc
void* allocate_frame(std::size_t size);

/// Gives back a block of `allocate_frame(size)`.
void deallocate_frame(void* block, std::size_t size) noexcept;

/// Gives the calling thread's free blocks to the other threads, and what is empty to the system.
void trim_frames() noexcept;

/// Bytes that lie free in the lists of the calling thread: at most `frame_cache_limit`.
std::size_t cached_frame_bytes() noexcept;

/// Bytes taken from the system and not given back, over all threads (large blocks aside).
std::size_t reserved_frame_bytes() noexcept;

inline constexpr std::size_t frame_alignment = 64;
inline constexpr std::size_t frame_cache_limit = 256 * 1024;

} // namespace magpie::detail
