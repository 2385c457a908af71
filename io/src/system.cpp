#include "system.hpp"

#include <magpie/core/config.hpp>

#include <cerrno>
#include <fcntl.h>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>
#include <unistd.h>

namespace magpie::io::detail {

plain_fd::~plain_fd() {
    if (fd_ != -1)
        ::close(fd_);
}

void throw_errno(int error, const char* what) {
    throw std::system_error(error, std::system_category(), what);
}

std::int64_t outcome(std::int64_t of_call) noexcept { return of_call < 0 ? -errno : of_call; }

static_assert(EINTR == 4 && EWOULDBLOCK == EAGAIN);

bool would_block(std::int64_t outcome) noexcept { return outcome == -EAGAIN; }

plain_fd open_socket(int family, int type, const char* what) {
    plain_fd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd.get() == -1)
        throw_errno(errno, what);
    return fd;
}

descriptor register_fd(reactor& r, plain_fd fd, bool writable) {
    descriptor d(r.add(fd.get(), writable));
    fd.release();
    return d;
}

endpoint local_endpoint_of(int fd) {
    endpoint e;
    socklen_t size = endpoint::native_capacity;
    if (::getsockname(fd, static_cast<sockaddr*>(e.native()), &size) != 0)
        throw_errno(errno, "local_endpoint");
    return e;
}

endpoint remote_endpoint_of(int fd) {
    endpoint e;
    socklen_t size = endpoint::native_capacity;
    if (::getpeername(fd, static_cast<sockaddr*>(e.native()), &size) != 0)
        throw_errno(errno, "remote_endpoint");
    return e;
}

void set_option(int fd, int level, int name, int value, const char* what) {
    if (::setsockopt(fd, level, name, &value, sizeof value) != 0)
        throw_errno(errno, what);
}

int get_option(int fd, int level, int name, const char* what) {
    int value = 0;
    socklen_t size = sizeof value;
    if (::getsockopt(fd, level, name, &value, &size) != 0)
        throw_errno(errno, what);
    return value;
}

int buffer_bytes(std::size_t bytes) {
    if (bytes > static_cast<std::size_t>(std::numeric_limits<int>::max()) / 2)
        throw std::invalid_argument("a socket's buffer: at most 1 GiB");
    return static_cast<int>(bytes);
}

void require_socket(int fd, int type, bool listening, const char* what) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags == -1)
        throw std::invalid_argument(std::string(what) + ": this is not an open descriptor");
    if ((flags & O_NONBLOCK) == 0)
        throw std::invalid_argument(std::string(what) +
                                    ": this descriptor blocks, and would block the worker: set "
                                    "O_NONBLOCK first (fcntl F_SETFL, or SOCK_NONBLOCK)");
    int is = 0;
    socklen_t size = sizeof is;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &size) != 0 || is != type)
        throw std::invalid_argument(std::string(what) + ": this is not a socket of that kind");
    if (listening != (get_option(fd, SOL_SOCKET, SO_ACCEPTCONN, what) != 0))
        throw std::invalid_argument(std::string(what) + (listening ? ": this socket does not listen"
                                                                   : ": this socket listens"));
}

// --- descriptor ---

descriptor::descriptor(registration& r) noexcept : number_(registration_directory::number_of(r)) {}

registration& descriptor::get() const {
    if (number_ == none) [[unlikely]]
        magpie::detail::throw_usage_error("this I/O object is empty: it was moved from or released");
    return registration_directory::at(number_);
}

int descriptor::fd() const { return get().fd(); }

descriptor descriptor::share() const {
    get().retain();
    return descriptor(number_);
}

void descriptor::close() noexcept {
    registration& r = registration_directory::at(number_);
    if (!r.release())
        return;
    if (r.is_waited_for())
        magpie::detail::fatal("an I/O object was destroyed while an operation waited on it: end the "
                              "operation first (drop it, abort its task, or shutdown the stream)",
                              __FILE__, __LINE__);
    const int fd = r.fd();
    r.where().remove(r);
    ::close(fd);
}

int descriptor::release() {
    registration& r = get();
    if (!r.release()) {
        r.retain();
        magpie::detail::throw_usage_error("this descriptor is shared by another half: reunite them "
                                          "first");
    }
    if (r.is_waited_for())
        magpie::detail::throw_usage_error("an operation still waits on this descriptor: end it first");
    const int fd = r.fd();
    number_ = none;
    r.where().remove(r);
    return fd;
}

} // namespace magpie::io::detail
