#pragma once

#include <chrono>
#include <cstdint>

// What the seam asks of the simulated machine. Each operation belongs to the core that runs, takes time
// there, and happens when no other core is behind in time.

namespace magpie_machine {

enum class access : unsigned char { load, store, modify };

/// Gets the line of an address, and returns when the operation may happen.
void reach(const void* address, access a) noexcept;

void lock(std::uint32_t& word) noexcept;
bool try_lock(std::uint32_t& word) noexcept;
void unlock(std::uint32_t& word) noexcept;

/// Returns false when the deadline has passed.
bool futex_wait(const std::uint32_t& word, std::uint32_t expected,
                std::chrono::steady_clock::time_point deadline) noexcept;
void futex_wake(const void* address, int count) noexcept;

/// Has each core pass a barrier.
void interrupt_all() noexcept;

} // namespace magpie_machine
