#pragma once

#include "registration_pool.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/driver.hpp>

#include <cstddef>
#include <source_location>

namespace boost::asio {
class io_context;
}

namespace magpie::io::detail {

/// The driver of a runtime with I/O: what tells registrations of events. Whoever sleeps in it sleeps
/// in an Asio context.
///
/// It is shared by the runtime and by each registered descriptor, and frees itself with the last.
class reactor : public magpie::detail::driver {
public:
    /// The reactor of the runtime of the calling task, or of the one entered on this thread.
    /// @throws std::logic_error if there is none; std::system_error if it cannot be made
    static reactor& current(const char* what, std::source_location where);

    // --- descriptors, from any thread ---

    /// Takes a descriptor in; it is not blocking. @param writable  it is known to take data.
    /// @throws std::system_error; the descriptor is the caller's still
    registration& add(int fd, bool writable);
    /// Lets it go, without closing it. Nobody waits.
    void remove(registration& r) noexcept;

    /// Somebody waits since a moment ago: for a reactor that does not tell of each event by itself.
    /// @param r     may have been removed since then
    /// @param what  bits of waits_for
    virtual void waited_for([[maybe_unused]] registration& r,
                            [[maybe_unused]] unsigned char what) noexcept {}

    /// One more user of the reactor itself; release() ends it. The caller knows one.
    void retain() noexcept {
        users_.fetch_add(1, std::memory_order_relaxed); // the caller's keeps it alive
    }

    /// The Asio context, for operations of Asio's own: from now on their handlers are run, too.
    virtual boost::asio::io_context& context() noexcept = 0;

    // --- driver ---

    void shut_down() noexcept final;
    void release() noexcept final {
        if (users_.fetch_sub(1, std::memory_order_acq_rel) ==
            1) // pairs with itself: the last one frees
            delete this;
    }

protected:
    /// @param tells_by_itself  of each event: waited_for is not called
    explicit reactor(bool tells_by_itself) noexcept : tells_by_itself_(tells_by_itself) {}

    /// Begins and ends the watching of a descriptor. `enter` gives an errno, or 0.
    virtual int enter(registration& r) noexcept = 0;
    virtual void leave(registration& r) noexcept = 0;

    /// For the driver's turns, before it asks for events.
    void begin_turn() noexcept { registrations_.reclaim(); }

private:
    const bool tells_by_itself_;
    registration_pool registrations_{this};
    magpie::detail::atomic<bool> shut_down_{false};
    magpie::detail::atomic<std::size_t> users_{1}; // the runtime, and each registration
};

/// Which reactor the runtimes of this process get from now on: for tests of the portable one.
void use_portable_reactor(bool on) noexcept;

} // namespace magpie::io::detail
