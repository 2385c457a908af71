#include <magpie/io/tcp_socket.hpp>

#include "system.hpp"

#include <cerrno>
#include <limits>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

namespace magpie::io {

using detail::get_option;
using detail::set_option;

tcp_socket::tcp_socket(ip_version version)
    : fd_(detail::open_socket(version == ip_version::v4 ? AF_INET : AF_INET6, SOCK_STREAM, "tcp_socket")
              .release()) {}

tcp_socket& tcp_socket::operator=(tcp_socket&& other) noexcept {
    const tcp_socket old(std::move(*this));
    fd_ = std::exchange(other.fd_, -1);
    return *this;
}

tcp_socket::~tcp_socket() {
    if (fd_ != -1)
        ::close(fd_);
}

void tcp_socket::set_reuse_address(bool on) {
    set_option(native_handle(), SOL_SOCKET, SO_REUSEADDR, on ? 1 : 0, "set_reuse_address");
}
bool tcp_socket::reuse_address() const {
    return get_option(native_handle(), SOL_SOCKET, SO_REUSEADDR, "reuse_address") != 0;
}
void tcp_socket::set_reuse_port(bool on) {
    set_option(native_handle(), SOL_SOCKET, SO_REUSEPORT, on ? 1 : 0, "set_reuse_port");
}
bool tcp_socket::reuse_port() const {
    return get_option(native_handle(), SOL_SOCKET, SO_REUSEPORT, "reuse_port") != 0;
}
void tcp_socket::set_v6_only(bool on) {
    set_option(native_handle(), IPPROTO_IPV6, IPV6_V6ONLY, on ? 1 : 0, "set_v6_only");
}
void tcp_socket::set_nodelay(bool on) {
    set_option(native_handle(), IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0, "set_nodelay");
}
void tcp_socket::set_receive_buffer_size(std::size_t bytes) {
    set_option(native_handle(), SOL_SOCKET, SO_RCVBUF, detail::buffer_bytes(bytes),
               "set_receive_buffer_size");
}
void tcp_socket::set_send_buffer_size(std::size_t bytes) {
    set_option(native_handle(), SOL_SOCKET, SO_SNDBUF, detail::buffer_bytes(bytes),
               "set_send_buffer_size");
}

void tcp_socket::bind(const endpoint& at) {
    if (::bind(native_handle(), static_cast<const sockaddr*>(at.native()), at.native_size()) != 0) {
        const int error = errno;
        detail::throw_errno(error, ("binding to " + at.to_string()).c_str());
    }
}

endpoint tcp_socket::local_endpoint() const { return detail::local_endpoint_of(native_handle()); }

tcp_listener tcp_socket::listen(int backlog, std::source_location where) && {
    if (backlog < 1 || backlog > 65535)
        throw std::invalid_argument("a listener's backlog: 1 to 65535");
    detail::reactor& r = detail::reactor::current("a tcp_listener", where);
    if (::listen(native_handle(), backlog) != 0)
        detail::throw_errno(errno, "listen");
    return tcp_listener(detail::register_fd(r, detail::plain_fd(std::exchange(fd_, -1)), false));
}

connect_operation tcp_socket::connect(const endpoint& peer, std::source_location where) && {
    detail::reactor& r = detail::reactor::current("tcp_socket::connect", where);
    static_cast<void>(native_handle()); // it is one
    return {r, std::exchange(fd_, -1), peer};
}

int tcp_socket::native_handle() const {
    if (fd_ == -1)
        magpie::detail::throw_usage_error("this tcp_socket is empty: it was moved from, or turned "
                                          "into a stream or a listener");
    return fd_;
}

} // namespace magpie::io
