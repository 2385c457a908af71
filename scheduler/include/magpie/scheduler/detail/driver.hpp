#pragma once

#include <chrono>
#include <source_location>

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

    /// Everything on the runtime has ended: fails whoever still waits here, and every later wait.
    /// Idempotent, from any thread, also while somebody parks.
    virtual void shut_down() noexcept {}

    /// The runtime is gone: frees the driver, as soon as nobody else needs it.
    virtual void release() noexcept { delete this; }
};

/// Makes a driver; throws std::system_error.
using driver_factory = driver* (*)();

/// The I/O driver of the runtime of the calling task, or of the one entered on this thread. The first
/// call for a runtime puts it in the place of the futex.
/// @param what  for the message: "tcp_listener::bind"
/// @throws std::logic_error outside of a runtime, and on one that was built with io(false);
///         what `make` throws
driver& io_driver(driver_factory make, const char* what, std::source_location where);

} // namespace magpie::detail
