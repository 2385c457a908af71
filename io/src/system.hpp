#pragma once

#include "reactor.hpp"

#include <magpie/io/detail/descriptor.hpp>
#include <magpie/io/endpoint.hpp>

#include <cstdint>
#include <sys/socket.h>
#include <utility>

// System calls, with errors the way operations keep them (less an errno) or thrown.

namespace magpie::io::detail {

/// A descriptor that no reactor knows yet. Closes it at its end.
class plain_fd {
public:
    explicit plain_fd(int fd = -1) noexcept : fd_(fd) {}
    plain_fd(plain_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    plain_fd& operator=(plain_fd&& other) noexcept {
        plain_fd old(std::exchange(fd_, std::exchange(other.fd_, -1)));
        return *this;
    }
    ~plain_fd();

    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_;
};

[[noreturn]] void throw_errno(int error, const char* what);
inline void check(int outcome, const char* what) {
    if (outcome < 0)
        throw_errno(-outcome, what);
}

/// Less the errno of the last call if it has failed.
std::int64_t outcome(std::int64_t of_call) noexcept;

/// Calls until it is not interrupted any more.
template <class F>
std::int64_t uninterrupted(F&& call) noexcept {
    std::int64_t n;
    do {
        n = outcome(call());
    } while (n == -4); // EINTR
    return n;
}

bool would_block(std::int64_t outcome) noexcept;

plain_fd open_socket(int family, int type, const char* what);

/// Registers a socket of ours. @param writable  it is connected and new
descriptor register_fd(reactor& r, plain_fd fd, bool writable);

endpoint local_endpoint_of(int fd);
endpoint remote_endpoint_of(int fd);

void set_option(int fd, int level, int name, int value, const char* what);
int get_option(int fd, int level, int name, const char* what);

/// A buffer's size as the system takes it. @throws std::invalid_argument if it is too large
int buffer_bytes(std::size_t bytes);

/// @throws std::invalid_argument if it is not a non-blocking socket of that type
void require_socket(int fd, int type, bool listening, const char* what);

} // namespace magpie::io::detail
