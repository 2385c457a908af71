// Plain accesses: what the compiler calls for each (-fsanitize=thread, of which nothing is linked).

#include "machine.hpp"

#include <cstring>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define MAGPIE_MACHINE_SIZE(n)                                                                         \
    void __tsan_read##n(const void* p) { touch(p, n, false); }                                         \
    void __tsan_write##n(const void* p) { touch(p, n, true); }                                         \
    void __tsan_unaligned_read##n(const void* p) { touch(p, n, false); }                               \
    void __tsan_unaligned_write##n(const void* p) { touch(p, n, true); }

extern "C" {

using magpie_machine::touch;

MAGPIE_MACHINE_SIZE(1)
MAGPIE_MACHINE_SIZE(2)
MAGPIE_MACHINE_SIZE(4)
MAGPIE_MACHINE_SIZE(8)
MAGPIE_MACHINE_SIZE(16)

void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(const void* p) { touch(p, sizeof(void*), false); }
void __tsan_vptr_update(const void* p, const void*) { touch(p, sizeof(void*), true); }
void __tsan_read_range(const void* p, std::size_t size) { touch(p, size, false); }
void __tsan_write_range(const void* p, std::size_t size) { touch(p, size, true); }
void* __tsan_memcpy(void* to, const void* from, std::size_t size) {
    touch(from, size, false);
    touch(to, size, true);
    return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, std::size_t size) {
    touch(from, size, false);
    touch(to, size, true);
    return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int byte, std::size_t size) {
    touch(to, size, true);
    return std::memset(to, byte, size);
}

} // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
