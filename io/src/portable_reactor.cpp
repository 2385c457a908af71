#include "portable_reactor.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>

#include <array>
#include <cerrno>
#include <new>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <utility>

namespace magpie::io::detail {

namespace asio = boost::asio;

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLPRI == EPOLLPRI && POLLERR == EPOLLERR &&
              POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP);

/// One registered descriptor, as Asio has it. Handlers share it.
class portable_reactor::watch : public std::enable_shared_from_this<watch> {
public:
    watch(portable_reactor& r, registration& of) : reactor_(r), of_(of), descriptor_(r.context_) {}

    int assign(int fd) {
        boost::system::error_code error;
        descriptor_.assign(fd, error);
        return error.value();
    }

    /// No handler touches the registration any more once this has returned, but one that is in the
    /// middle of it: that is the driver's turn, which keeps registrations.
    void leave() noexcept {
        const magpie::detail::lock_guard guard(lock_);
        left_ = true;
        descriptor_.release(); // ends the waits
    }

    void start(unsigned char what) {
        const magpie::detail::lock_guard guard(lock_);
        if ((what & waits_for::read) != 0)
            start(0, asio::posix::descriptor_base::wait_read, EPOLLIN);
        if ((what & waits_for::write) != 0)
            start(1, asio::posix::descriptor_base::wait_write, EPOLLOUT);
        if ((what & (waits_for::priority | waits_for::error)) != 0)
            start(2, asio::posix::descriptor_base::wait_error, 0);
    }

private:
    void start(std::size_t which, asio::posix::descriptor_base::wait_type type, std::uint32_t event) {
        if (left_ || std::exchange(started_[which], true))
            return; // one wait serves all who wait for it
        descriptor_.async_wait(
            type, [self = shared_from_this(), which, event](const boost::system::error_code& error) {
                self->ended(which, event, error);
            });
    }

    void ended(std::size_t which, std::uint32_t event, const boost::system::error_code& error) {
        pollfd p{-1, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
        {
            // First the flag, then the event: who finds the flag set, and starts no wait, has put its
            // leaf where the event will find it.
            const magpie::detail::lock_guard guard(lock_);
            started_[which] = false;
            if (left_ || error == asio::error::operation_aborted)
                return;
            p.fd = descriptor_.native_handle();
        }
        ::poll(&p, 1, 0); // Asio does not say what it was
        of_.dispatch(event | static_cast<std::uint32_t>(p.revents & ~POLLNVAL), ++reactor_.tick_);
    }

    portable_reactor& reactor_;
    registration& of_;
    magpie::detail::mutex lock_;
    asio::posix::stream_descriptor descriptor_;
    std::array<bool, 3> started_{};
    bool left_ = false;
};

portable_reactor::portable_reactor() : reactor(false), context_(1), work_(context_.get_executor()) {}

portable_reactor::~portable_reactor() = default;

void portable_reactor::park(time_point deadline) noexcept {
    begin_turn();
    if (!woken_ && deadline == time_point::max())
        context_.run_one();
    else if (!woken_)
        context_.run_one_until(deadline);
    context_.poll();
    woken_ = false; // it has ended this park
}

void portable_reactor::poll() noexcept {
    begin_turn();
    context_.poll();
}

void portable_reactor::wake() noexcept {
    asio::post(context_, [this] { woken_ = true; });
}

std::shared_ptr<portable_reactor::watch> portable_reactor::watch_of(registration& r) noexcept {
    const magpie::detail::lock_guard guard(lock_);
    const auto found = watches_.find(&r);
    return found != watches_.end() ? found->second : nullptr;
}

void portable_reactor::waited_for(registration& r, unsigned char what) noexcept {
    if (const std::shared_ptr<watch> w = watch_of(r))
        w->start(what);
}

int portable_reactor::enter(registration& r) noexcept {
    try {
        struct ::stat of{};
        if (::fstat(r.fd(), &of) == 0 && (S_ISREG(of.st_mode) || S_ISDIR(of.st_mode)))
            return EPERM; // Asio would take it
        auto w = std::make_shared<watch>(*this, r);
        if (const int error = w->assign(r.fd()); error != 0)
            return error;
        const magpie::detail::lock_guard guard(lock_);
        watches_[&r] = std::move(w);
        return 0;
    } catch (const std::bad_alloc&) {
        return ENOMEM;
    } catch (const boost::system::system_error& e) {
        return e.code().value(); // the first descriptor makes Asio's own set
    }
}

void portable_reactor::leave(registration& r) noexcept {
    const std::shared_ptr<watch> w = watch_of(r);
    w->leave();
    const magpie::detail::lock_guard guard(lock_);
    watches_.erase(&r);
}

} // namespace magpie::io::detail
