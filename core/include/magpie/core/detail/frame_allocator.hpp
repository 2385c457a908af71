#pragma once

#include <magpie/core/config.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace magpie::detail {

inline constexpr std::size_t frame_alignment = 64;
inline constexpr std::size_t largest_recycled = 1024;
inline constexpr std::size_t frame_cache_limit = 800 * 1024;

#if defined(MAGPIE_NO_FRAME_ALLOCATOR)
void* allocate_frame(std::size_t size, std::size_t alignment = frame_alignment);
void deallocate_frame(void* block, std::size_t size, std::size_t alignment = frame_alignment) noexcept;
inline void* allocate_cell(std::size_t size, std::size_t = 32) { return allocate_frame(size); }
inline void deallocate_cell(void* block, std::size_t size, std::size_t = 32) noexcept {
    deallocate_frame(block, size);
}
#else
// The size classes: steps of 8 bytes up to 256, then of 64. A block is aligned to what its size is a
// multiple of, 64 at most; so what wants 64 gets a multiple of that.
inline constexpr std::size_t fine_step = 8;
inline constexpr std::size_t smallest_block = 16; // what the lists of free blocks need
inline constexpr std::size_t finely_up_to = 256;
inline constexpr std::size_t fine_classes = finely_up_to / fine_step;
inline constexpr std::size_t frame_classes = fine_classes +
                                             (largest_recycled - finely_up_to) / frame_alignment;
// Behind them, classes of their own for cells, in steps of 32 from 96 to 256. A cell lives longer than its
// frame: in one list the two would be shuffled, and what is used together lie further apart with every task.
// Aborting 100,000 parked tasks took 1.7 times as long.
inline constexpr std::size_t cell_step = 32;
inline constexpr std::size_t smallest_cell = 96;
inline constexpr std::size_t largest_cell = 256;
inline constexpr std::size_t recycled_classes = frame_classes + 1 +
                                                (largest_cell - smallest_cell) / cell_step;

constexpr std::size_t bytes_of_class(std::size_t c) noexcept {
    if (c >= frame_classes)
        return smallest_cell + (c - frame_classes) * cell_step;
    return c < fine_classes ? (c + 1) * fine_step
                            : finely_up_to + (c + 1 - fine_classes) * frame_alignment;
}
/// Of at most `largest_cell` bytes.
constexpr std::size_t cell_class_of(std::size_t size, std::size_t alignment) noexcept {
    const std::size_t step = alignment <= cell_step ? cell_step : frame_alignment;
    const std::size_t bytes = std::max((size + step - 1) / step * step, smallest_cell);
    return frame_classes + (bytes - smallest_cell) / cell_step;
}
constexpr std::size_t frame_class_of(std::size_t size, std::size_t alignment) noexcept {
    const std::size_t step = std::clamp(alignment, fine_step, frame_alignment);
    const std::size_t bytes = (std::max(size, smallest_block) + step - 1) / step * step;
    return bytes <= finely_up_to
               ? bytes / fine_step - 1
               : fine_classes + (bytes - finely_up_to + frame_alignment - 1) / frame_alignment - 1;
}

// Not inlined: they look at thread-locals (R41).
void* allocate_recycled(std::size_t frame_class);
void deallocate_recycled(void* block, std::size_t frame_class) noexcept;
void* allocate_large(std::size_t size);
void deallocate_large(void* block, std::size_t size) noexcept;

/// Memory for coroutine frames and cells: recycled by size class (up to 1 KiB) on each thread, larger
/// blocks from the system. A block may be freed on another thread than it was taken on. Inline, for the
/// class of a frame is known where it is made.
///
/// @param alignment  that the block has to have, a power of two, 64 at most; who needs less may get a smaller
///                   block
/// @throws std::bad_alloc
inline void* allocate_frame(std::size_t size, std::size_t alignment = frame_alignment) {
    if (size > largest_recycled) [[unlikely]]
        return allocate_large(size);
    return allocate_recycled(frame_class_of(size, alignment));
}

/// Gives back a block of `allocate_frame(size, alignment)`.
inline void deallocate_frame(void* block, std::size_t size,
                             std::size_t alignment = frame_alignment) noexcept {
    if (size > largest_recycled) [[unlikely]]
        deallocate_large(block, size);
    else
        deallocate_recycled(block, frame_class_of(size, alignment));
}

/// The same for cells: aligned to 32, or to 64 if that is asked for.
inline void* allocate_cell(std::size_t size, std::size_t alignment = cell_step) {
    return size > largest_cell ? allocate_frame(size)
                               : allocate_recycled(cell_class_of(size, alignment));
}
inline void deallocate_cell(void* block, std::size_t size, std::size_t alignment = cell_step) noexcept {
    if (size > largest_cell)
        deallocate_frame(block, size);
    else
        deallocate_recycled(block, cell_class_of(size, alignment));
}
#endif

#if defined(MAGPIE_LOCK_TRACE)
// How far a frame goes is what tells whose a lock is. Only its allocation knows, and the promise is made next.
// Not inlined: they look at thread-locals (R41).
void note_new_frame(const void* block, std::size_t size) noexcept;
/// The end of the frame that was allocated last on this thread, if `promise` stands in it. Else null: the
/// frame is part of another one.
const void* end_of_new_frame(const void* promise) noexcept;
#else
inline void note_new_frame(const void*, std::size_t) noexcept {}
#endif

/// The memory of a coroutine's frame: a base of its promise.
struct in_frame_memory {
    static void* operator new(std::size_t size) {
        void* const block = allocate_frame(size);
        note_new_frame(block, size);
        return block;
    }
    static void operator delete(void* block, std::size_t size) noexcept {
        deallocate_frame(block, size);
    }
    // clang with -fcoro-aligned-allocation, which the build exports, says how a frame has to be aligned: one
    // that needs no 64 may stand in a smaller block.
    static void* operator new(std::size_t size, std::align_val_t alignment) {
        void* const block = allocate_frame(size, static_cast<std::size_t>(alignment));
        note_new_frame(block, size);
        return block;
    }
    static void operator delete(void* block, std::size_t size, std::align_val_t alignment) noexcept {
        deallocate_frame(block, size, static_cast<std::size_t>(alignment));
    }
};

/// Gives the calling thread's free blocks to the other threads, and what is empty to the system.
void trim_frames() noexcept;

/// Bytes that lie free in the lists of the calling thread: at most `frame_cache_limit`.
std::size_t cached_frame_bytes() noexcept;

/// Bytes taken from the system and not given back, over all threads (large blocks aside).
std::size_t reserved_frame_bytes() noexcept;

/// The same memory for a container that lives no longer than a frame.
template <class T>
class recycling_allocator {
    static_assert(alignof(T) <= frame_alignment);

public:
    using value_type = T;

    recycling_allocator() noexcept = default;
    template <class U>
    explicit recycling_allocator(const recycling_allocator<U>&) noexcept {}

    T* allocate(std::size_t n) {
        if (is_small(n))
            return static_cast<T*>(allocate_frame(n * sizeof(T)));
        return std::allocator<T>().allocate(n); // needs no alignment to 64, which would be dearer
    }
    void deallocate(T* p, std::size_t n) noexcept {
        if (is_small(n))
            deallocate_frame(p, n * sizeof(T));
        else
            std::allocator<T>().deallocate(p, n);
    }

    friend bool operator==(recycling_allocator, recycling_allocator) noexcept { return true; }

private:
    static bool is_small(std::size_t n) noexcept { return n <= largest_recycled / sizeof(T); }
};

} // namespace magpie::detail
