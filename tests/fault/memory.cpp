#include "memory.hpp"

#include <magpie/core/config.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <sys/types.h>

namespace test {

namespace {

// Relaxed: counts, each of which stands for itself; a test looks at them when its threads are at rest.
std::atomic<long> blocks{0};
std::atomic<long> frames{0};
std::atomic<std::size_t> left{0}; // until one is refused; 0: none is
std::atomic<bool> was_refused{false};

bool refused() noexcept {
    std::size_t n = left.load(std::memory_order_relaxed);
    do
        if (n == 0)
            return false;
    while (!left.compare_exchange_weak(n, n - 1, std::memory_order_relaxed, std::memory_order_relaxed));
    if (n > 1)
        return false;
    was_refused.store(true, std::memory_order_relaxed);
    return true;
}

[[maybe_unused]] void refuse_by_throwing() {
    if (refused())
        throw std::bad_alloc();
}

} // namespace

refused_memory::refused_memory(std::size_t n) noexcept {
    was_refused.store(false, std::memory_order_relaxed);
    left.store(n, std::memory_order_relaxed);
}

bool refused_memory::stop() noexcept {
    left.store(0, std::memory_order_relaxed);
    return was_refused.load(std::memory_order_relaxed);
}

used_memory memory_in_use() noexcept {
    return {blocks.load(std::memory_order_relaxed), frames.load(std::memory_order_relaxed)};
}

} // namespace test

// The names are the linker's.
extern "C" {

void* __real_malloc(std::size_t n);
void* __real_calloc(std::size_t n, std::size_t size);
void* __real_realloc(void* p, std::size_t n);
void* __real_aligned_alloc(std::size_t alignment, std::size_t n);
int __real_posix_memalign(void** p, std::size_t alignment, std::size_t n);
void* __real_mmap(void* at, std::size_t n, int protection, int flags, int fd, off_t offset);

void* __wrap_malloc(std::size_t n) {
    if (!test::refused())
        return __real_malloc(n);
    errno = ENOMEM;
    return nullptr;
}
void* __wrap_calloc(std::size_t n, std::size_t size) {
    if (!test::refused())
        return __real_calloc(n, size);
    errno = ENOMEM;
    return nullptr;
}
void* __wrap_realloc(void* p, std::size_t n) {
    if (!test::refused())
        return __real_realloc(p, n);
    errno = ENOMEM;
    return nullptr;
}
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t n) {
    if (!test::refused())
        return __real_aligned_alloc(alignment, n);
    errno = ENOMEM;
    return nullptr;
}
int __wrap_posix_memalign(void** p, std::size_t alignment, std::size_t n) {
    return test::refused() ? ENOMEM : __real_posix_memalign(p, alignment, n);
}
void* __wrap_mmap(void* at, std::size_t n, int protection, int flags, int fd, off_t offset) {
    if (!test::refused())
        return __real_mmap(at, n, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

// magpie::detail::allocate_recycled and deallocate_recycled. Large frames, and all frames without the frame
// allocator, are operator new's.
#if !defined(MAGPIE_NO_FRAME_ALLOCATOR)
void* __real__ZN6magpie6detail17allocate_recycledEm(std::size_t cls);
void __real__ZN6magpie6detail19deallocate_recycledEPvm(void* p, std::size_t cls) noexcept;

void* __wrap__ZN6magpie6detail17allocate_recycledEm(std::size_t cls) {
    test::refuse_by_throwing();
    void* const p = __real__ZN6magpie6detail17allocate_recycledEm(cls);
    test::frames.fetch_add(1, std::memory_order_relaxed);
    return p;
}
void __wrap__ZN6magpie6detail19deallocate_recycledEPvm(void* p, std::size_t cls) noexcept {
    test::frames.fetch_sub(1, std::memory_order_relaxed);
    __real__ZN6magpie6detail19deallocate_recycledEPvm(p, cls);
}
#endif

} // extern "C"

#if defined(MAGPIE_TEST_WRAPS_NEW)

// operator new cannot be replaced, but the linker lets this step in front of it. What the standard library's own code
// asks it for is neither seen nor refused, and gives back by an operator delete that is seen: so blocks are not counted.
extern "C" {

void* __real__Znwm(std::size_t n);
void* __real__Znam(std::size_t n);
void* __real__ZnwmRKSt9nothrow_t(std::size_t n, const std::nothrow_t&) noexcept;
void* __real__ZnwmSt11align_val_t(std::size_t n, std::align_val_t a);
void* __real__ZnamSt11align_val_t(std::size_t n, std::align_val_t a);

void* __wrap__Znwm(std::size_t n) {
    test::refuse_by_throwing();
    return __real__Znwm(n);
}
void* __wrap__Znam(std::size_t n) {
    test::refuse_by_throwing();
    return __real__Znam(n);
}
void* __wrap__ZnwmRKSt9nothrow_t(std::size_t n, const std::nothrow_t& t) noexcept {
    return test::refused() ? nullptr : __real__ZnwmRKSt9nothrow_t(n, t);
}
void* __wrap__ZnwmSt11align_val_t(std::size_t n, std::align_val_t a) {
    test::refuse_by_throwing();
    return __real__ZnwmSt11align_val_t(n, a);
}
void* __wrap__ZnamSt11align_val_t(std::size_t n, std::align_val_t a) {
    test::refuse_by_throwing();
    return __real__ZnamSt11align_val_t(n, a);
}

} // extern "C"

#else

namespace {

void* allocate(std::size_t n, std::size_t alignment) noexcept {
    if (test::refused())
        return nullptr;
    void* const p = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
                        ? __real_malloc(n != 0 ? n : 1)
                        : __real_aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
    if (p != nullptr)
        test::blocks.fetch_add(1, std::memory_order_relaxed);
    return p;
}

void* allocate_or_throw(std::size_t n, std::size_t alignment) {
    void* const p = allocate(n, alignment);
    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}

void deallocate(void* p) noexcept {
    if (p != nullptr)
        test::blocks.fetch_sub(1, std::memory_order_relaxed);
    std::free(p);
}

constexpr std::size_t usual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
std::size_t number(std::align_val_t a) noexcept { return static_cast<std::size_t>(a); }

} // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate_or_throw(n, number(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return allocate_or_throw(n, number(a)); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, number(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, number(a));
}
void operator delete(void* p) noexcept { deallocate(p); }
void operator delete[](void* p) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::size_t) noexcept { deallocate(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { deallocate(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { deallocate(p); }
void operator delete(void* p, std::align_val_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::align_val_t) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { deallocate(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { deallocate(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { deallocate(p); }

#endif
