#include "system_calls.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

namespace test {

namespace {

struct plan {
    std::atomic<int> error{0};
    std::atomic<int> left{0}; // below 0: all
    std::atomic<int> before{0};
    std::atomic<int> failed{0};
};
std::array<plan, system_calls> plans;

plan& of(system_call which) noexcept { return plans[static_cast<std::size_t>(which)]; }

/// The error that this call has to fail with, 0 for none.
int planned(system_call which) noexcept {
    plan& p = of(which);
    int left = p.left.load(std::memory_order_acquire); // pairs with failing()'s store
    if (left != 0 && p.before.load(std::memory_order_relaxed) > 0 &&
        p.before.fetch_sub(1, std::memory_order_relaxed) > 0) // a count
        return 0;
    do {
        if (left == 0)
            return 0;
    } while (left > 0 && !p.left.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                                       std::memory_order_acquire)); // the same pair
    p.failed.fetch_add(1, std::memory_order_relaxed); // a count
    return p.error.load(std::memory_order_relaxed);   // written before `left`
}

bool fails(system_call which) noexcept {
    const int error = planned(which);
    if (error != 0)
        errno = error;
    return error != 0;
}

} // namespace

failing::failing(system_call which, int error, int times, int after) noexcept : which_(which) {
    plan& p = of(which);
    p.before.store(after, std::memory_order_relaxed);
    p.error.store(error, std::memory_order_relaxed);
    p.failed.store(0, std::memory_order_relaxed);
    p.left.store(times, std::memory_order_release); // pairs with planned()
}

failing::~failing() { of(which_).left.store(0, std::memory_order_release); }

int failing::failed() const noexcept { return of(which_).failed.load(std::memory_order_relaxed); }

} // namespace test

using test::fails;
using test::system_call;

// The names are the linker's.
extern "C" {

int __real_socket(int family, int type, int protocol);
int __real_connect(int fd, const sockaddr* to, socklen_t size);
int __real_accept4(int fd, sockaddr* from, socklen_t* size, int flags);
ssize_t __real_recv(int fd, void* into, std::size_t n, int flags);
ssize_t __real_recvmsg(int fd, msghdr* into, int flags);
ssize_t __real_send(int fd, const void* from, std::size_t n, int flags);
ssize_t __real_sendmsg(int fd, const msghdr* from, int flags);
int __real_getsockopt(int fd, int level, int name, void* value, socklen_t* size);
int __real_epoll_ctl(int set, int what, int fd, epoll_event* event);
int __real_epoll_create1(int flags);
int __real_epoll_wait(int set, epoll_event* events, int most, int timeout);
int __real_ppoll(pollfd* of, nfds_t n, const timespec* timeout, const sigset_t* mask);
int __real_eventfd(unsigned value, int flags);
int __real_timerfd_create(clockid_t clock, int flags);

int __wrap_socket(int family, int type, int protocol) {
    return fails(system_call::socket) ? -1 : __real_socket(family, type, protocol);
}

int __wrap_connect(int fd, const sockaddr* to, socklen_t size) {
    const int error = test::planned(system_call::connect);
    if (error == 0)
        return __real_connect(fd, to, size);
    if (error == EINTR)
        static_cast<void>(__real_connect(fd, to, size));
    errno = error;
    return -1;
}

int __wrap_accept4(int fd, sockaddr* from, socklen_t* size, int flags) {
    return fails(system_call::accept) ? -1 : __real_accept4(fd, from, size, flags);
}

ssize_t __wrap_recv(int fd, void* into, std::size_t n, int flags) {
    return fails(system_call::receive) ? -1 : __real_recv(fd, into, n, flags);
}
ssize_t __wrap_recvmsg(int fd, msghdr* into, int flags) {
    return fails(system_call::receive) ? -1 : __real_recvmsg(fd, into, flags);
}

ssize_t __wrap_send(int fd, const void* from, std::size_t n, int flags) {
    return fails(system_call::send) ? -1 : __real_send(fd, from, n, flags);
}
ssize_t __wrap_sendmsg(int fd, const msghdr* from, int flags) {
    return fails(system_call::send) ? -1 : __real_sendmsg(fd, from, flags);
}

int __wrap_getsockopt(int fd, int level, int name, void* value, socklen_t* size) {
    const bool of_error = level == SOL_SOCKET && name == SO_ERROR;
    if (const int error = of_error ? test::planned(system_call::socket_error) : 0; error != 0) {
        *static_cast<int*>(value) = error;
        return 0;
    }
    return __real_getsockopt(fd, level, name, value, size);
}

int __wrap_epoll_ctl(int set, int what, int fd, epoll_event* event) {
    return what == EPOLL_CTL_ADD && fails(system_call::watch) ? -1
                                                              : __real_epoll_ctl(set, what, fd, event);
}
int __wrap_epoll_create1(int flags) {
    return fails(system_call::open_set) ? -1 : __real_epoll_create1(flags);
}
int __wrap_epoll_wait(int set, epoll_event* events, int most, int timeout) {
    return fails(system_call::wait) ? -1 : __real_epoll_wait(set, events, most, timeout);
}
int __wrap_ppoll(pollfd* of, nfds_t n, const timespec* timeout, const sigset_t* mask) {
    return fails(system_call::wait) ? -1 : __real_ppoll(of, n, timeout, mask);
}
int __wrap_eventfd(unsigned value, int flags) {
    return fails(system_call::open_event) ? -1 : __real_eventfd(value, flags);
}
int __wrap_timerfd_create(clockid_t clock, int flags) {
    return fails(system_call::open_timer) ? -1 : __real_timerfd_create(clock, flags);
}

} // extern "C"
