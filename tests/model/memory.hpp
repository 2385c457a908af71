#pragma once

#include <magpie_model/clock.hpp>

#include <cstddef>
#include <cstdint>

// All that a scenario allocates comes from one region that is forgotten after each execution. A
// block that was freed is not used again in the same execution but overwritten: who reads it late meets
// garbage, a dead atomic is noticed at once and a late write at the end. What was not freed is a leak.
//
// The compiler reports each access of the product's code and the scenarios' (-fsanitize=thread, of which
// nothing is linked: races.cpp has what is called). For each byte it is known who wrote it last, and who
// has read it since; two accesses of which one stores and neither happens before the other are a race.

namespace magpie_model::memory {

/// Forgets all blocks of the last execution.
void begin() noexcept;

/// Never forgets what is there now, and does not look at it again.
void keep() noexcept;

/// Fails if a block was not freed, or was written to afterwards.
void check_blocks();

/// A stack beside the region: accesses to what is there are looked at as well. What overflows it crashes.
std::byte* take_stack() noexcept;
inline constexpr std::size_t stack_bytes = 256 * 1024;

// --- races (races.cpp) ---

/// Forgets the accesses of the last execution.
void begin_races() noexcept;

/// Whose accesses they are from here on, and what happens before them. Null: nobody's.
void set_running(std::uint8_t thread, const clock* happened) noexcept;

/// An access to plain memory. An operation of an atomic is a load of its first byte: the atomic has to
/// be made before, and destroyed after.
void look_at_load(const void* address, std::size_t size) noexcept;
void look_at_store(const void* address, std::size_t size, const char* what = "stored to") noexcept;

// --- for these ---

inline constexpr std::size_t region_bytes = 16 * 1024 * 1024;
inline constexpr std::size_t arena_bytes = region_bytes + most_threads * stack_bytes;

/// How far into the arena an address is: the region, then the stacks. -1 if it is not in there.
std::ptrdiff_t arena_offset(const void* address) noexcept;

/// Whether the scenario runs, not the explorer.
bool counts() noexcept;

/// How far into the region an address is; -1 if it is not in there.
std::ptrdiff_t offset(const void* address) noexcept;

/// Says for as long as it lives who allocates: the scenario, from the region, or the explorer.
class counting {
public:
    explicit counting(bool on) noexcept;
    ~counting();
    counting(const counting&) = delete;
    counting& operator=(const counting&) = delete;

private:
    bool was_;
};

} // namespace magpie_model::memory
