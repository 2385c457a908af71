#include "epoll_reactor.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <system_error>
#include <unistd.h>

namespace magpie::io::detail {

namespace {

constexpr int batch = 256;

[[noreturn]] void throw_errno(int error, const char* what) {
    throw std::system_error(error, std::system_category(), what);
}

} // namespace

epoll_reactor::epoll_reactor()
    : reactor(true), context_(1), work_(context_.get_executor()), nested_(context_) {
    set_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (set_ == -1)
        throw_errno(errno, "epoll set of a runtime's reactor");
    try {
        nested_.assign(set_); // from here on it is closed with nested_
    } catch (...) {
        ::close(set_);
        throw;
    }
    event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    timer_ = event_ == -1 ? -1 : ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    epoll_event of_event{EPOLLIN | EPOLLET, {.ptr = &event_}};
    epoll_event of_timer{EPOLLIN | EPOLLET, {.ptr = &timer_}};
    if (event_ == -1 || timer_ == -1 || ::epoll_ctl(set_, EPOLL_CTL_ADD, event_, &of_event) != 0 ||
        ::epoll_ctl(set_, EPOLL_CTL_ADD, timer_, &of_timer) != 0) {
        const int error = errno;
        for (const int fd : {event_, timer_})
            if (fd != -1)
                ::close(fd);
        throw_errno(error, "eventfd and timerfd of a runtime's reactor");
    }
}

epoll_reactor::~epoll_reactor() {
    ::close(event_);
    ::close(timer_);
}

boost::asio::io_context& epoll_reactor::context() noexcept {
    guests_.store(true, std::memory_order_relaxed);
    wake(); // who sleeps looks after them from now on
    return context_;
}

// --- descriptors ---

int epoll_reactor::enter(registration& r) noexcept {
    epoll_event e{EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET, {.ptr = &r}};
    return ::epoll_ctl(set_, EPOLL_CTL_ADD, r.fd(), &e) == 0 ? 0 : errno;
}

void epoll_reactor::leave(registration& r) noexcept {
    epoll_event unused{};
    // It fails if the user has closed the descriptor already: then it has left the set by itself.
    ::epoll_ctl(set_, EPOLL_CTL_DEL, r.fd(), &unused);
}

// --- driver ---

void epoll_reactor::park(time_point deadline) noexcept {
    begin_turn();
    // Where the last look found several there are mostly more by now: then the sleep would be a system
    // call in vain.
    const bool awake = woken_ || more_;
    const bool found = !awake && several_ && look();
    if (!awake && !found) {
        arm(deadline);
        context_.run_one();
    }
    if (guests_.load(std::memory_order_relaxed)) // context() wakes who sleeps
        context_.poll();                         // run_one runs one handler only
    if (!found)
        look();
    woken_ = false; // it has ended this park
}

void epoll_reactor::poll() noexcept {
    begin_turn();
    if (guests_.load(std::memory_order_relaxed)) // later will do
        context_.poll();
    look();
}

bool epoll_reactor::look() noexcept {
    std::array<epoll_event, batch> events;
    int all = 0;
    for (int round = 0; round < 4; ++round) { // others want to run, too
        const int n = ::epoll_wait(set_, events.data(), batch, 0);
        for (int i = 0; i < n; ++i) {
            const epoll_event& e = events[static_cast<std::size_t>(i)];
            if (e.data.ptr == &event_)
                woken_ = true;
            else if (e.data.ptr == &timer_)
                armed_ = time_point::max();
            else
                static_cast<registration*>(e.data.ptr)->dispatch(e.events, ++tick_);
        }
        all += std::max(n, 0);
        more_ = n == batch;
        if (!more_)
            break;
    }
    several_ = all > 1;
    return all > 0;
}

void epoll_reactor::arm(time_point deadline) noexcept {
    if (deadline >= armed_) // it goes off in time, if perhaps too early
        return;
    armed_ = deadline;
    const auto ns = std::max<std::chrono::nanoseconds>(deadline.time_since_epoch(),
                                                       std::chrono::nanoseconds(1)); // 0 disarms
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(ns.count() / 1'000'000'000);
    when.it_value.tv_nsec = static_cast<long>(ns.count() % 1'000'000'000);
    ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void epoll_reactor::wake() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_, &one, sizeof one));
}

} // namespace magpie::io::detail
