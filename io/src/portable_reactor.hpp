#pragma once

#include "reactor.hpp"

#include <magpie/core/detail/atomic.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <cstdint>
#include <map>
#include <memory>

namespace magpie::io::detail {

/// The reactor that uses nothing but what Asio documents: one `async_wait` for each wait of a task.
/// It costs a system call and an allocation more each time, and learns nothing while nobody has to wait.
/// It is there to tell mistakes of ours from those of `epoll_reactor`: the same tests run on both.
class portable_reactor final : public reactor {
public:
    portable_reactor();

    void park(time_point deadline) noexcept override;
    void poll() noexcept override;
    void wake() noexcept override;
    void waited_for(registration& r, unsigned char what) noexcept override;
    boost::asio::io_context& context() noexcept override { return context_; }

private:
    class watch;

    ~portable_reactor() override;

    int enter(registration& r) noexcept override;
    void leave(registration& r) noexcept override;
    std::shared_ptr<watch> watch_of(registration& r) noexcept;

    boost::asio::io_context context_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    magpie::detail::mutex lock_;
    std::map<registration*, std::shared_ptr<watch>> watches_; // guarded by lock_
    std::uint64_t tick_ = 0;                                  // who parks or polls, as the next
    bool woken_ = false;                                      // the next park ends at once
};

} // namespace magpie::io::detail
