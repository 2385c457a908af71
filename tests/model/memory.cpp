#include "memory.hpp"

#include "explorer.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <sys/mman.h>
#include <sys/types.h>
#include <utility>

namespace magpie_model::memory {

namespace {

constexpr std::size_t alignment = 64; // of frames; all blocks have it
constexpr unsigned char new_byte = 0xcd;
constexpr unsigned char freed_byte = 0xdd;

struct alignas(alignment) block {
    std::size_t size;
    bool freed;
};

std::byte* region = nullptr;
std::size_t kept = 0;
std::size_t used = 0;
std::size_t stacks = 0;
bool on = false;

std::size_t rounded(std::size_t size) noexcept {
    return (size + alignment - 1) / alignment * alignment;
}

void* take(std::size_t size) {
    if (on) {
        const std::size_t whole = sizeof(block) + rounded(size);
        if (whole > region_bytes - used)
            fail("memory", "the scenario allocates more than the explorer has for it");
        block* const b = ::new (region + used) block{size, false};
        used += whole;
        return std::memset(b + 1, new_byte, size);
    }
    void* const p = std::aligned_alloc(alignment, std::max(rounded(size), alignment));
    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}

void give_back(void* p) noexcept {
    if (offset(p) < 0) {
        std::free(p);
        return;
    }
    block* const b = static_cast<block*>(p) - 1;
    if (std::exchange(b->freed, true))
        fail("memory", "a block is freed twice");
    look_at_store(p, b->size, "freed");
    std::memset(p, freed_byte, b->size);
}

// By a comparison with itself, a byte further on: a library's is much faster than a loop.
bool is_filled(const unsigned char* bytes, std::size_t size, unsigned char with) noexcept {
    return size == 0 || (bytes[0] == with && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

void make_arena() noexcept {
    void* const p = ::mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fail("memory", "there is none for the explorer's region");
    region = static_cast<std::byte*>(p);
}

} // namespace

void begin() noexcept {
    if (region == nullptr)
        make_arena();
    used = kept;
}

void keep() noexcept { kept = used; }

void check_blocks() {
    std::size_t leaks = 0;
    for (std::size_t at = kept; at < used;) {
        const block* const b = reinterpret_cast<const block*>(region + at);
        const auto* const bytes = reinterpret_cast<const unsigned char*>(b + 1);
        if (!b->freed)
            ++leaks;
        else if (!is_filled(bytes, b->size, freed_byte))
            fail("use after free", "a block was written to after it was freed");
        at += sizeof(block) + rounded(b->size);
    }
    if (leaks != 0)
        fail("leak", std::to_string(leaks) + " blocks were not freed");
}

std::byte* take_stack() noexcept {
    if (region == nullptr)
        make_arena();
    std::byte* const stack = region + region_bytes + stacks++ * stack_bytes;
    if (stacks > most_threads || ::mprotect(stack, 4096, PROT_NONE) != 0) {
        std::perror("magpie-model: no memory for a stack");
        std::exit(2);
    }
    return stack;
}

std::ptrdiff_t arena_offset(const void* address) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(address) -
                    reinterpret_cast<std::uintptr_t>(region);
    return at < arena_bytes ? static_cast<std::ptrdiff_t>(at) : -1;
}

bool counts() noexcept { return on; }

std::ptrdiff_t offset(const void* address) noexcept {
    const auto* const p = static_cast<const std::byte*>(address);
    return region != nullptr && p >= region && p < region + region_bytes ? p - region : -1;
}

counting::counting(bool now) noexcept : was_(std::exchange(on, now)) {}
counting::~counting() { on = was_; }

} // namespace magpie_model::memory

void* operator new(std::size_t size) { return magpie_model::memory::take(size); }
// A page, say: what it was taken as stands before it.
void* operator new(std::size_t size, std::align_val_t a) {
    const auto alignment = static_cast<std::size_t>(a);
    if (alignment <= magpie_model::memory::alignment)
        return magpie_model::memory::take(size);
    void* const taken = magpie_model::memory::take(size + alignment);
    const auto after = reinterpret_cast<std::uintptr_t>(taken) + alignment;
    auto* const p = reinterpret_cast<void**>(after / alignment * alignment);
    p[-1] = taken;
    return p;
}
void operator delete(void* p) noexcept { magpie_model::memory::give_back(p); }
void operator delete(void* p, std::size_t) noexcept { magpie_model::memory::give_back(p); }
void operator delete(void* p, std::align_val_t a) noexcept {
    const bool more = static_cast<std::size_t>(a) > magpie_model::memory::alignment;
    magpie_model::memory::give_back(more && p != nullptr ? static_cast<void**>(p)[-1] : p);
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept { operator delete(p, a); }

// The product's own mappings (pages of registrations) are blocks like others. The names are the linker's.
extern "C" {

void* __real_mmap(void* at, std::size_t n, int protection, int flags, int fd, off_t offset);
int __real_munmap(void* p, std::size_t n);

void* __wrap_mmap(void* at, std::size_t n, int protection, int flags, int fd, off_t offset) {
    if (!magpie_model::memory::counts())
        return __real_mmap(at, n, protection, flags, fd, offset);
    return std::memset(::operator new(n, std::align_val_t{4096}), 0, n);
}

int __wrap_munmap(void* p, std::size_t n) {
    if (magpie_model::memory::offset(p) < 0)
        return __real_munmap(p, n);
    ::operator delete(p, std::align_val_t{4096});
    return 0;
}

} // extern "C"
