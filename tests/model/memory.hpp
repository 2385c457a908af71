#pragma once

#include <cstddef>

// All that a scenario allocates comes from one region that is forgotten after each execution. A
// block that was freed is not used again in the same execution but overwritten: who reads it late meets
// garbage, a dead atomic is noticed at once and a late write at the end. What was not freed is a leak.

namespace magpie_model::memory {

/// Forgets all blocks of the last execution.
void begin() noexcept;

/// Never forgets what is there now, and does not look at it again.
void keep() noexcept;

/// Fails if a block was not freed, or was written to afterwards.
void check_blocks();

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
