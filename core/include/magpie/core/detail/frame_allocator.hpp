#pragma once

#include <magpie/core/config.hpp>

#include <cstddef>
#include <memory>

namespace magpie::detail {

inline constexpr std::size_t frame_alignment = 64;
inline constexpr std::size_t largest_recycled = 1024;
inline constexpr std::size_t frame_cache_limit = 256 * 1024;

#if defined(MAGPIE_NO_FRAME_ALLOCATOR)
void* allocate_frame(std::size_t size);
void deallocate_frame(void* block, std::size_t size) noexcept;
#else
constexpr std::size_t frame_class_of(std::size_t size) noexcept {
    return (size + frame_alignment - 1) / frame_alignment - 1;
}

// Not inlined: they look at thread-locals (R41).
void* allocate_recycled(std::size_t frame_class);
void deallocate_recycled(void* block, std::size_t frame_class) noexcept;
void* allocate_large(std::size_t size);
void deallocate_large(void* block, std::size_t size) noexcept;

/// Memory for coroutine frames and cells: aligned to 64 bytes, recycled by size class (steps of 64
/// bytes up to 1 KiB) on each thread, larger blocks from the system. A block may be freed on
/// another thread than it was taken on. Inline, for the class of a frame is known where it is made.
///
/// @throws std::bad_alloc
inline void* allocate_frame(std::size_t size) {
    if (size > largest_recycled) [[unlikely]]
        return allocate_large(size);
    return allocate_recycled(frame_class_of(size));
}

/// Gives back a block of `allocate_frame(size)`.
inline void deallocate_frame(void* block, std::size_t size) noexcept {
    if (size > largest_recycled) [[unlikely]]
        deallocate_large(block, size);
    else
        deallocate_recycled(block, frame_class_of(size));
}
#endif

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
