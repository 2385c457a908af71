// Races on plain memory, and what the compiler calls for each access to it.

#include "engine.hpp"
#include "memory.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

namespace magpie_model::memory {

namespace {

// A moment is a thread and its time, counted on through all executions: those of earlier ones are
// smaller than any of this one, and nothing has to be cleared in between.
using moment = std::uint32_t;
constexpr unsigned thread_bits = 3;
static_assert(most_threads == 1U << thread_bits);

// Instead of a moment, where several threads have loaded that do not know of each other: the number of a
// clock, counted on as well.
constexpr moment several = 1U << 31;

constexpr moment most_times = 2 * most_steps; // of one execution
constexpr moment last_first = (several >> thread_bits) - 2 * most_times;

struct seen {
    moment store;
    moment load;
};

seen* shadow = nullptr;  // one for each byte of the arena
moment before_first = 0; // of this execution's times
moment before_clocks = 0;
std::vector<clock> clocks;
std::uint8_t running = 0;
const clock* happened = nullptr;

moment moment_of(std::uint8_t thread, clock::time t) noexcept {
    return (before_first + t) << thread_bits | thread;
}
unsigned thread_of(moment m) noexcept { return m & (most_threads - 1); }
clock::time time_of(moment m) noexcept {
    return static_cast<clock::time>((m >> thread_bits) - before_first);
}
bool is_over(moment m) noexcept { return m >> thread_bits <= before_first; }

bool is_known(moment m) noexcept { return is_over(m) || happened->covers(thread_of(m), time_of(m)); }

[[noreturn, gnu::noinline]] void report(const void* address, const char* now, const char* before,
                                        unsigned thread, clock::time t) noexcept {
    const counting ours(false);
    fail("data race", place_of(address) + " is " + now + " after " +
                          step_of(running, (*happened)[running]) + " and " + before + " after " +
                          step_of(thread, t) + ", neither of which happens before the other");
}

void check_store(const seen& s, const void* address, const char* now) noexcept {
    if (!is_known(s.store))
        report(address, now, "stored to", thread_of(s.store), time_of(s.store));
}

void check_loads(const seen& s, const void* address, const char* now) noexcept {
    if ((s.load & several) == 0) {
        if (!is_known(s.load))
            report(address, now, "loaded", thread_of(s.load), time_of(s.load));
    } else if (const moment number = s.load & ~several; number >= before_clocks) {
        const clock& c = clocks[number - before_clocks];
        for (unsigned t = 0; t < most_threads; ++t)
            if (!happened->covers(t, c[t]))
                report(address, now, "loaded", t, c[t]);
    }
}

void load_byte(seen& s, const void* address, moment now) noexcept {
    check_store(s, address, "loaded");
    if ((s.load & several) == 0) {
        if (is_known(s.load)) {
            s.load = now;
            return;
        }
        const counting ours(false);
        clocks.emplace_back().set(thread_of(s.load), time_of(s.load));
        s.load = several | static_cast<moment>(before_clocks + clocks.size() - 1);
    }
    const moment number = s.load & ~several;
    if (number < before_clocks)
        s.load = now;
    else
        clocks[number - before_clocks].set(running, (*happened)[running]);
}

seen* seen_at(const void* address) noexcept {
    const std::ptrdiff_t at = counts() && happened != nullptr ? arena_offset(address) : -1;
    return at < 0 ? nullptr : shadow + at;
}

} // namespace

void begin_races() noexcept {
    if (shadow == nullptr) {
        void* const p = ::mmap(nullptr, arena_bytes * sizeof(seen), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            fail("memory", "there is none for what was accessed");
        shadow = static_cast<seen*>(p);
    }
    before_first += most_times;
    before_clocks += static_cast<moment>(clocks.size());
    clocks.clear();
    if (before_first > last_first || before_clocks > several / 2) {
        ::madvise(shadow, arena_bytes * sizeof(seen), MADV_DONTNEED); // zeros again
        before_first = before_clocks = 0;
    }
}

void set_running(std::uint8_t thread, const clock* c) noexcept {
    running = thread;
    happened = c;
}

void look_at_load(const void* address, std::size_t size) noexcept {
    seen* const s = seen_at(address);
    if (s == nullptr)
        return;
    const moment now = moment_of(running, (*happened)[running]);
    for (std::size_t i = 0; i < size; ++i)
        if (s[i].load != now)
            load_byte(s[i], static_cast<const char*>(address) + i, now);
}

void look_at_store(const void* address, std::size_t size, const char* what) noexcept {
    seen* const s = seen_at(address);
    if (s == nullptr)
        return;
    const seen now{moment_of(running, (*happened)[running]), 0};
    for (std::size_t i = 0; i < size; ++i) {
        if (s[i].store == now.store && s[i].load == 0)
            continue;
        const void* const byte = static_cast<const char*>(address) + i;
        check_store(s[i], byte, what);
        check_loads(s[i], byte, what);
        s[i] = now;
    }
}

} // namespace magpie_model::memory

namespace magpie_model {

void look_at_load(const void* address, std::size_t size) noexcept {
    memory::look_at_load(address, size);
}
void look_at_store(const void* address, std::size_t size) noexcept {
    memory::look_at_store(address, size);
}

} // namespace magpie_model

// --- what the compiler calls ---

using magpie_model::memory::look_at_load;
using magpie_model::memory::look_at_store;

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define MAGPIE_MODEL_SIZE(n)                                                                           \
    void __tsan_read##n(const void* p) { look_at_load(p, n); }                                         \
    void __tsan_write##n(const void* p) { look_at_store(p, n); }                                       \
    void __tsan_unaligned_read##n(const void* p) { look_at_load(p, n); }                               \
    void __tsan_unaligned_write##n(const void* p) { look_at_store(p, n); }

extern "C" {

MAGPIE_MODEL_SIZE(1)
MAGPIE_MODEL_SIZE(2)
MAGPIE_MODEL_SIZE(4)
MAGPIE_MODEL_SIZE(8)
MAGPIE_MODEL_SIZE(16)

void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(const void* p) { look_at_load(p, sizeof(void*)); }
void __tsan_vptr_update(const void* p, const void*) { look_at_store(p, sizeof(void*)); }
void __tsan_read_range(const void* p, std::size_t size) { look_at_load(p, size); }
void __tsan_write_range(const void* p, std::size_t size) { look_at_store(p, size); }
void* __tsan_memcpy(void* to, const void* from, std::size_t size) {
    look_at_load(from, size);
    look_at_store(to, size);
    return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, std::size_t size) {
    look_at_load(from, size);
    look_at_store(to, size);
    return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int byte, std::size_t size) {
    look_at_store(to, size);
    return std::memset(to, byte, size);
}

} // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
