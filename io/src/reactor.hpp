#pragma once

#include "registration_pool.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/driver.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace magpie::io::detail {

/// The driver of a runtime with I/O: an Asio context, and our own descriptors below it.
///
/// Who sleeps, sleeps in `io_context::run_one`. Our descriptors are in an epoll set of their own,
/// edge-triggered, each for its life; the set is one descriptor of Asio's reactor, edge-triggered as
/// well. So no descriptor is armed again for a wait, and a request costs a read, a write, and a share
/// of one sleep. Asio returns from `run_one` when a descriptor has an event, also if nobody waits for
/// it (a test pins that); then the own set is asked what there is.
///
/// It is shared by the runtime and by each registered descriptor, and frees itself with the last.
class reactor final : public magpie::detail::driver {
public:
    /// @throws std::system_error if there are no descriptors left
    reactor();

    static driver* make() { return new reactor; }

    /// The reactor of the runtime of the calling task, or of the one entered on this thread.
    /// @throws std::logic_error if there is none; std::system_error if it cannot be made
    static reactor& current(const char* what, std::source_location where);

    // --- descriptors, from any thread ---

    /// Takes a descriptor in; it is not blocking. @param writable  it is known to take data.
    /// @throws std::system_error; the descriptor is the caller's still
    registration& add(int fd, bool writable);
    /// Lets it go, without closing it. Nobody waits.
    void remove(registration& r) noexcept;

    /// One more user of the reactor itself; release() ends it.
    void retain() noexcept { users_.fetch_add(1, std::memory_order_relaxed); } // the caller knows one

    // --- driver ---

    void park(time_point deadline) noexcept override;
    void poll() noexcept override;
    void wake() noexcept override;
    void shut_down() noexcept override;
    void release() noexcept override;

private:
    ~reactor() override;

    bool look() noexcept;
    void arm(time_point deadline) noexcept;

    boost::asio::io_context context_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    boost::asio::posix::stream_descriptor nested_; // owns set_
    int set_ = -1;
    int event_ = -1; // an eventfd that is never read: each write is an edge
    int timer_ = -1; // a timerfd, never read either

    // Who parks or polls, which is one thread at a time.
    std::uint64_t tick_ = 0;
    time_point armed_ = time_point::max(); // when the timer goes off; max: it does not
    bool woken_ = false;                   // a poll has seen a wake: it is for the next park
    bool several_ = false;                 // the last look found more than one event
    bool more_ = false;                    // the set was not emptied: nobody sleeps on it

    registration_pool registrations_;
    magpie::detail::atomic<bool> shut_down_{false};
    magpie::detail::atomic<std::size_t> users_{1}; // the runtime, and each registration
};

} // namespace magpie::io::detail
