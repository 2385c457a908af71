// Races on plain memory, and what the compiler calls for each access to it.

#include "engine.hpp"
#include "memory.hpp"

#include <algorithm>
#include <array>
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
    friend bool operator==(const seen&, const seen&) = default;
};

// One for each word of the arena. Where an access was to a part of it, its bytes have their own: `store`
// is `several` then, and `load` the number of these, counted on as well.
constexpr std::size_t word = 8;
using seen_bytes = std::array<seen, word>;

seen* shadow = nullptr;
constexpr std::size_t shadow_bytes = arena_bytes / word * sizeof(seen);
moment before_first = 0; // of this execution's times
moment before_clocks = 0;
std::vector<clock> clocks;
moment before_parts = 0;
std::vector<seen_bytes> parts;
std::uint8_t running = 0;
const clock* happened = nullptr;

moment moment_of(std::uint8_t thread, clock::time t) noexcept {
    return (before_first + t) << thread_bits | thread;
}
moment now() noexcept { return happened == nullptr ? 0 : moment_of(running, (*happened)[running]); }
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

void load(seen& s, const void* address, moment now) noexcept {
    if (s.load == now)
        return;
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

[[gnu::noinline]] void check_all(const seen& s, const void* address, moment now,
                                 const char* what) noexcept {
    if (s.store == now && s.load == 0)
        return;
    check_store(s, address, what);
    check_loads(s, address, what);
}

/// The bytes of a word, if it has any in this execution.
seen_bytes* parts_of(const seen& w) noexcept {
    return w.store == several && w.load >= before_parts ? &parts[w.load - before_parts] : nullptr;
}

seen_bytes& make_parts(seen& w) {
    const counting ours(false);
    seen_bytes& bytes = parts.emplace_back();
    bytes.fill(w.store == several ? seen{0, 0} : w);
    w = {several, static_cast<moment>(before_parts + parts.size() - 1)};
    return bytes;
}

/// For the bytes [at, end) of a word, of which some are not accessed, or have their own.
template <bool Stores, class Visit>
[[gnu::noinline]] void visit_bytes(const char* first, std::size_t at, std::size_t end,
                                   Visit visit) noexcept {
    seen& w = shadow[at / word];
    seen_bytes* bytes = parts_of(w);
    if (bytes == nullptr && end - at == word) {
        w = {0, 0}; // they were of an earlier execution
        visit(w, first + at);
        return;
    }
    if (bytes == nullptr)
        bytes = &make_parts(w);
    for (std::size_t i = at; i < end; ++i)
        visit((*bytes)[i % word], first + i);
    if (Stores && end - at == word)
        w = bytes->front();
}

/// Calls `visit(seen, address)` for each word, or byte of a word, of which an access is. A word that is stored to
/// as a whole has no bytes any more.
template <bool Stores, class Visit>
void visit_all(const void* address, std::size_t size, Visit visit) noexcept {
    const std::ptrdiff_t offset = counts() && happened != nullptr ? arena_offset(address) : -1;
    if (offset < 0)
        return;
    const auto* const first = static_cast<const char*>(address) - offset;
    std::size_t at = static_cast<std::size_t>(offset);
    for (const std::size_t end = at + size; at < end;) {
        for (; at % word == 0 && end - at >= word && shadow[at / word].store != several; at += word)
            visit(shadow[at / word], first + at); // nearly always
        if (at < end) {
            const std::size_t next = std::min(end, at / word * word + word);
            visit_bytes<Stores>(first, at, next, visit);
            at = next;
        }
    }
}

} // namespace

void begin_races() noexcept {
    if (shadow == nullptr) {
        void* const p = ::mmap(nullptr, shadow_bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            fail("memory", "there is none for what was accessed");
        shadow = static_cast<seen*>(p);
    }
    before_first += most_times;
    before_clocks += static_cast<moment>(clocks.size());
    clocks.clear();
    before_parts += static_cast<moment>(parts.size());
    parts.clear();
    if (before_first > last_first || std::max(before_clocks, before_parts) > several / 2) {
        ::madvise(shadow, shadow_bytes, MADV_DONTNEED); // zeros again
        before_first = before_clocks = before_parts = 0;
    }
}

void set_running(std::uint8_t thread, const clock* c) noexcept {
    running = thread;
    happened = c;
}

void look_at_load(const void* address, std::size_t size) noexcept {
    visit_all<false>(address, size, [now = now()](seen& s, const void* a) { load(s, a, now); });
}

void look_at_store(const void* address, std::size_t size, const char* what) noexcept {
    // What belongs together was mostly seen together: a runtime that is set up and freed, say.
    const auto visit = [now = now(), what, checked = seen{0, 0}](seen& s, const void* a) mutable {
        if (s != checked) {
            check_all(s, a, now, what);
            checked = s;
        }
        s = {now, 0};
    };
    visit_all<true>(address, size, visit);
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
