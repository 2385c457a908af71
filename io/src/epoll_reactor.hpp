#pragma once

#include "reactor.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <cstdint>

namespace magpie::io::detail {

/// The reactor for Linux: our own descriptors stand in an epoll set below Asio's.
///
/// Who sleeps, sleeps in `io_context::run_one`. Our descriptors are in an epoll set of their own,
/// edge-triggered, each for its life; the set is one descriptor of Asio's reactor, edge-triggered as
/// well. So no descriptor is armed again for a wait, and a request costs a read, a write, and a share
/// of one sleep. Asio returns from `run_one` when a descriptor has an event, also if nobody waits for
/// it (a test pins that); then the own set is asked what there is.
class epoll_reactor final : public reactor {
public:
    /// @throws std::system_error if there are no descriptors left
    epoll_reactor();

    void park(time_point deadline) noexcept override;
    void poll() noexcept override;
    void wake() noexcept override;
    boost::asio::io_context& context() noexcept override;

private:
    ~epoll_reactor() override;

    int enter(registration& r) noexcept override;
    void leave(registration& r) noexcept override;
    bool look() noexcept; ///< Dispatches what there is; whether there was anything.
    void arm(time_point deadline) noexcept;

    boost::asio::io_context context_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    boost::asio::posix::stream_descriptor nested_; // owns set_
    int set_ = -1;
    int event_ = -1;                             // an eventfd that is never read: each write is an edge
    int timer_ = -1;                             // a timerfd, never read either
    magpie::detail::atomic<bool> guests_{false}; // somebody has asked for the context

    // Who parks or polls, which is one thread at a time.
    std::uint64_t tick_ = 0;
    time_point armed_ = time_point::max(); // when the timer goes off; max: it does not
    bool woken_ = false;                   // a poll has seen a wake: it is for the next park
    bool several_ = false;                 // the last look found more than one event
    bool more_ = false;                    // the set was not emptied: nobody sleeps on it
};

} // namespace magpie::io::detail
