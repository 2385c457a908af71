// The epoll peer: an echo server with no runtime at all, to see what the kernel alone costs. N threads
// wait in one epoll set, to which a socket is added once, edge-triggered.
//
// It serves the echo rows' load, where a client waits for its answer before it sends again. A client
// that sends on meanwhile could have its data answered by two threads at once, in either order: what
// prevents that (EPOLLONESHOT and a call to re-arm, a mutex a socket) is what runtimes pay for.
//
// `echo_spread` is a thread per core: each has an epoll set and a listener of its own (SO_REUSEPORT), and tells
// a connection by a first byte which of them it has, so that the load can spread its connections evenly.

#include "harness.hpp"
#include "server.hpp"

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gnu/libc-version.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {
int checked(int result, const char* call) {
    if (result < 0)
        throw std::system_error(errno, std::generic_category(), call);
    return result;
}

class descriptor {
public:
    explicit descriptor(int fd) : fd_(fd) {}
    descriptor(const descriptor&) = delete;
    ~descriptor() { ::close(fd_); }
    int get() const { return fd_; }

private:
    int fd_;
};

/// Sends all; false if the client is gone.
bool send_all(int client, const char* data, std::size_t size) {
    while (size > 0) {
        const auto sent = ::send(client, data, size, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            size -= static_cast<std::size_t>(sent);
        } else if (errno == EAGAIN) {
            pollfd writable{.fd = client, .events = POLLOUT, .revents = 0};
            checked(::poll(&writable, 1, -1), "poll");
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

void answer(int client) {
    std::array<char, 4096> buffer;
    for (;;) {
        const auto got = ::recv(client, buffer.data(), buffer.size(), 0);
        if (got > 0) {
            const auto size = static_cast<std::size_t>(got);
            // Less than was asked for: nothing is left, and the next to come is a new edge.
            if (!send_all(client, buffer.data(), size) || size < buffer.size())
                return;
        } else if (got == 0 || errno == ECONNRESET) {
            ::close(client); // and it leaves the set
            return;
        } else if (errno != EINTR) {
            return; // EAGAIN; or EBADF, when the other thread has closed it for an earlier event
        }
    }
}

class echo_server {
public:
    explicit echo_server(unsigned workers) {
        const int on = 1;
        checked(::setsockopt(listener_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        checked(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
        checked(::listen(listener_.get(), 4096), "listen");
        socklen_t size = sizeof address;
        checked(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size),
                "getsockname");
        port_ = ntohs(address.sin_port);
        add(stop_.get(), EPOLLIN); // level-triggered: it wakes every worker
        for (unsigned i = 0; i < workers; ++i)
            workers_.emplace_back([this] { work(); });
        acceptor_ = std::jthread([this] { accept(); });
    }
    echo_server(const echo_server&) = delete;
    ~echo_server() {
        ::eventfd_write(stop_.get(), 1);
        ::shutdown(listener_.get(), SHUT_RDWR); // wakes the acceptor
    }

    std::uint16_t port() const { return port_; }

private:
    void add(int fd, std::uint32_t events) {
        epoll_event event{};
        event.events = events;
        event.data.fd = fd;
        checked(::epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }

    // On a thread of its own, which sleeps while the load is measured. Clients inherit TCP_NODELAY.
    void accept() {
        for (;;) {
            const int client = ::accept4(listener_.get(), nullptr, nullptr,
                                         SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (client < 0 && errno == EINVAL)
                return; // shut down
            add(checked(client, "accept4"), EPOLLIN | EPOLLRDHUP | EPOLLET);
        }
    }

    void work() {
        std::array<epoll_event, 64> events;
        for (;;) {
            const int count = ::epoll_wait(set_.get(), events.data(), static_cast<int>(events.size()),
                                           -1);
            if (count < 0 && errno == EINTR)
                continue;
            checked(count, "epoll_wait");
            for (int i = 0; i < count; ++i) {
                const int fd = events[static_cast<std::size_t>(i)].data.fd;
                if (fd == stop_.get())
                    return;
                answer(fd);
            }
        }
    }

    descriptor set_{checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")};
    descriptor stop_{checked(::eventfd(0, EFD_CLOEXEC), "eventfd")};
    descriptor listener_{checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    std::uint16_t port_ = 0;
    std::vector<std::jthread> workers_;
    std::jthread acceptor_;
};

/// A thread with an epoll set and a listener of its own.
class echo_shard {
public:
    /// @param port  0: any that is free
    echo_shard(unsigned char number, std::uint16_t port) : number_(number) {
        const int on = 1;
        checked(::setsockopt(listener_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
        checked(::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on),
                "SO_REUSEPORT");
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        checked(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
        checked(::listen(listener_.get(), 4096), "listen");
        socklen_t size = sizeof address;
        checked(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size),
                "getsockname");
        port_ = ntohs(address.sin_port);
        add(stop_.get(), EPOLLIN);
        add(listener_.get(), EPOLLIN);
        thread_ = std::jthread([this] { work(); });
    }
    echo_shard(const echo_shard&) = delete;
    ~echo_shard() { ::eventfd_write(stop_.get(), 1); }

    std::uint16_t port() const { return port_; }

private:
    void add(int fd, std::uint32_t events) {
        epoll_event event{};
        event.events = events;
        event.data.fd = fd;
        checked(::epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }

    void accept() {
        const int client = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0 && (errno == EAGAIN || errno == ECONNABORTED))
            return;
        checked(client, "accept4");
        send_all(client, reinterpret_cast<const char*>(&number_), 1);
        add(client, EPOLLIN | EPOLLRDHUP | EPOLLET);
    }

    void work() {
        std::array<epoll_event, 64> events;
        for (;;) {
            const int count = ::epoll_wait(set_.get(), events.data(), static_cast<int>(events.size()),
                                           -1);
            if (count < 0 && errno == EINTR)
                continue;
            checked(count, "epoll_wait");
            for (int i = 0; i < count; ++i) {
                const int fd = events[static_cast<std::size_t>(i)].data.fd;
                if (fd == stop_.get())
                    return;
                if (fd == listener_.get())
                    accept();
                else
                    answer(fd);
            }
        }
    }

    descriptor set_{checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")};
    descriptor stop_{checked(::eventfd(0, EFD_CLOEXEC), "eventfd")};
    descriptor listener_{
        checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket")};
    const unsigned char number_;
    std::uint16_t port_ = 0;
    std::jthread thread_;
};

bench::running_server start_shards(unsigned workers) {
    auto shards = std::make_shared<std::vector<std::unique_ptr<echo_shard>>>();
    std::uint16_t port = 0;
    for (unsigned i = 0; i < workers; ++i) {
        shards->push_back(std::make_unique<echo_shard>(static_cast<unsigned char>(i), port));
        port = shards->back()->port();
    }
    return {.port = port, .runtime = std::move(shards)};
}

bench::running_server start_shared(unsigned workers) {
    auto server = std::make_shared<echo_server>(workers);
    return {.port = server->port(), .runtime = server};
}
} // namespace

std::string bench::peer_name() { return "epoll"; }

std::string bench::peer_version() { return std::string("glibc ") + gnu_get_libc_version(); }

std::vector<bench::workload> bench::workloads() { return {}; }

std::vector<bench::server> bench::servers() {
    return {{"echo", in_one_layout(start_shared)}, {"echo_spread", in_one_layout(start_shards)}};
}
