#pragma once

#include <chrono>

namespace magpie::detail {

/// What a worker sleeps in: the seam between the scheduler and a reactor. One thread at a time
/// parks or polls; whoever has become ready is woken through its strand.
class driver {
public:
    using time_point = std::chrono::steady_clock::time_point;

    driver() noexcept = default;
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
    virtual ~driver() = default;

    /// Sleeps until `deadline`, an event, or `wake`; may return early.
    virtual void park(time_point deadline) noexcept = 0;

    /// Looks for events without sleeping.
    virtual void poll() noexcept = 0;

    /// Ends a park under way, or the next one. From any thread.
    virtual void wake() noexcept = 0;
};

} // namespace magpie::detail
