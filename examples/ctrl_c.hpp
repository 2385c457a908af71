#pragma once

#include <magpie/magpie.hpp>

#include <cerrno>
#include <csignal>
#include <system_error>

#include <sys/eventfd.h>

/// What the servers here end by.
namespace example {

inline volatile std::sig_atomic_t interrupted_fd = -1;

/// Waits for Ctrl-C (SIGINT), which from then on does not end the program by itself. Once a program.
inline magpie::task<> ctrl_c() {
    magpie::io::async_fd interrupted(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    interrupted_fd = interrupted.native_handle();
    if (std::signal(SIGINT, [](int) { ::eventfd_write(interrupted_fd, 1); }) == SIG_ERR)
        throw std::system_error(errno, std::generic_category(), "signal");
    co_await interrupted.readable();
    std::signal(SIGINT, SIG_DFL); // a second one does end it
}

} // namespace example
