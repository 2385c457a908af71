#include <magpie/io/tcp_stream.hpp>

#include "system.hpp"

#include <cerrno>
#include <limits>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <new>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

namespace magpie::io {

using detail::attempt;
using detail::check;
using detail::get_option;
using detail::set_option;

// --- connect ---

connect_operation::connect_operation(detail::reactor& r, const endpoint& peer) noexcept
    : io_operation(nullptr, detail::waits_for::write), reactor_(&r), peer_(peer) {
    reactor_->retain();
}

connect_operation::connect_operation(detail::reactor& r, int socket, const endpoint& peer) noexcept
    : connect_operation(r, peer) {
    socket_ = socket;
}

connect_operation::connect_operation(connect_operation&& other) noexcept
    : io_operation(std::move(other)), reactor_(std::exchange(other.reactor_, nullptr)),
      socket_(std::exchange(other.socket_, -1)), peer_(other.peer_),
      connection_(std::move(other.connection_)) {}

connect_operation::~connect_operation() {
    if (socket_ != -1)
        ::close(socket_);
    connection_ = detail::descriptor();
    if (reactor_ != nullptr)
        reactor_->release();
}

bool connect_operation::begin() noexcept {
    try {
        detail::plain_fd fd(std::exchange(socket_, -1));
        if (fd.get() == -1)
            fd = detail::open_socket(peer_.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM, "socket");
        result_ = detail::outcome(
            ::connect(fd.get(), static_cast<const sockaddr*>(peer_.native()), peer_.native_size()));
        const bool connected = result_ == 0;
        if (!connected && result_ != -EINPROGRESS && result_ != -EINTR)
            return true;
        // After the call: before it, a socket counts as hung up.
        connection_ = detail::register_fd(*reactor_, std::move(fd), connected);
        registration_ = &connection_.get();
        return connected;
    } catch (const std::system_error& e) {
        result_ = -e.code().value();
    } catch (const std::bad_alloc&) {
        result_ = -ENOMEM;
    }
    return true;
}

attempt connect_operation::perform(int fd) noexcept {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0) {
        endpoint peer;
        size = endpoint::native_capacity;
        if (::getpeername(fd, static_cast<sockaddr*>(peer.native()), &size) != 0)
            return attempt::would_block;
    }
    result_ = -error;
    return attempt::done;
}

tcp_stream connect_operation::await_resume() {
    if (result_ < 0)
        throw std::system_error(error(), "connecting to " + peer_.to_string());
    return tcp_stream(std::move(connection_));
}

result<tcp_stream> connect_operation::take_result() {
    if (result_ < 0)
        return {boost::system::in_place_error, error()};
    return {boost::system::in_place_value, tcp_stream(std::move(connection_))};
}

connect_operation tcp_stream::connect(const endpoint& peer, std::source_location where) {
    return {detail::reactor::current("tcp_stream::connect", where), peer};
}

// --- at once or not at all ---

namespace {

result<std::size_t> at_once(detail::registration& r, std::size_t direction,
                            detail::registration::word seen, std::int64_t n, std::size_t wanted) {
    using detail::registration;
    const bool blocked = detail::would_block(n);
    if (blocked ||
        (n > 0 && static_cast<std::size_t>(n) < wanted && (r.flags() & registration::urgent) == 0)) {
        if (registration::is_event(seen))
            r.forget(direction, seen);
    }
    if (n < 0)
        return {boost::system::in_place_error, static_cast<int>(-n), boost::system::system_category()};
    return static_cast<std::size_t>(n);
}

} // namespace

result<std::size_t> tcp_stream::try_read(std::span<std::byte> into) {
    detail::registration& r = socket_.get();
    const auto seen = r.seen(detail::registration::reading); // before the call
    return at_once(r, detail::registration::reading, seen,
                   detail::receive_some(r.fd(), into, detail::receive), into.size());
}

result<std::size_t> tcp_stream::try_write(std::span<const std::byte> from) {
    detail::registration& r = socket_.get();
    const auto seen = r.seen(detail::registration::writing);
    return at_once(r, detail::registration::writing, seen,
                   detail::send_some(r.fd(), from, detail::send_socket), from.size());
}

// --- the rest ---

void tcp_stream::shutdown(shutdown_side side) {
    if (::shutdown(socket_.fd(), static_cast<int>(side)) != 0)
        detail::throw_errno(errno, "shutdown");
}

endpoint tcp_stream::local_endpoint() const { return detail::local_endpoint_of(socket_.fd()); }
endpoint tcp_stream::remote_endpoint() const { return detail::remote_endpoint_of(socket_.fd()); }

bool tcp_stream::nodelay() const {
    return get_option(socket_.fd(), IPPROTO_TCP, TCP_NODELAY, "nodelay") != 0;
}
void tcp_stream::set_nodelay(bool on) {
    set_option(socket_.fd(), IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0, "set_nodelay");
}

std::optional<std::chrono::seconds> tcp_stream::linger() const {
    ::linger value{};
    socklen_t size = sizeof value;
    if (::getsockopt(socket_.fd(), SOL_SOCKET, SO_LINGER, &value, &size) != 0)
        detail::throw_errno(errno, "linger");
    if (value.l_onoff == 0)
        return std::nullopt;
    return std::chrono::seconds(value.l_linger);
}
void tcp_stream::set_linger(std::optional<std::chrono::seconds> how_long) {
    if (how_long && (how_long->count() < 0 || how_long->count() > std::numeric_limits<int>::max()))
        throw std::invalid_argument("set_linger: 0 to 2147483647 seconds");
    ::linger value{};
    value.l_onoff = how_long ? 1 : 0;
    value.l_linger = how_long ? static_cast<int>(how_long->count()) : 0;
    if (::setsockopt(socket_.fd(), SOL_SOCKET, SO_LINGER, &value, sizeof value) != 0)
        detail::throw_errno(errno, "set_linger");
}

std::optional<keepalive> tcp_stream::keepalive() const {
    const int fd = socket_.fd();
    if (get_option(fd, SOL_SOCKET, SO_KEEPALIVE, "keepalive") == 0)
        return std::nullopt;
    return magpie::io::keepalive(
        std::chrono::seconds(get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, "keepalive")),
        std::chrono::seconds(get_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, "keepalive")),
        get_option(fd, IPPROTO_TCP, TCP_KEEPCNT, "keepalive"));
}
void tcp_stream::set_keepalive(std::optional<magpie::io::keepalive> k) {
    const int fd = socket_.fd();
    if (k) {
        const auto good = [](std::chrono::seconds s) { return s.count() >= 1 && s.count() <= 32767; };
        if (!good(k->idle) || !good(k->interval) || k->count < 1 || k->count > 127)
            throw std::invalid_argument(
                "set_keepalive: idle and interval 1 to 32767 s, count 1 to 127");
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(k->idle.count()), "set_keepalive");
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(k->interval.count()),
                   "set_keepalive");
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, k->count, "set_keepalive");
    }
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, k ? 1 : 0, "set_keepalive");
}

std::chrono::milliseconds tcp_stream::user_timeout() const {
    return std::chrono::milliseconds(
        get_option(socket_.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, "user_timeout"));
}
void tcp_stream::set_user_timeout(std::chrono::milliseconds t) {
    if (t.count() < 0 || t.count() > std::numeric_limits<int>::max())
        throw std::invalid_argument("set_user_timeout: 0 to 2147483647 ms");
    set_option(socket_.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(t.count()),
               "set_user_timeout");
}

std::size_t tcp_stream::receive_buffer_size() const {
    return static_cast<std::size_t>(
        get_option(socket_.fd(), SOL_SOCKET, SO_RCVBUF, "receive_buffer_size"));
}
void tcp_stream::set_receive_buffer_size(std::size_t bytes) {
    set_option(socket_.fd(), SOL_SOCKET, SO_RCVBUF, detail::buffer_bytes(bytes),
               "set_receive_buffer_size");
}
std::size_t tcp_stream::send_buffer_size() const {
    return static_cast<std::size_t>(
        get_option(socket_.fd(), SOL_SOCKET, SO_SNDBUF, "send_buffer_size"));
}
void tcp_stream::set_send_buffer_size(std::size_t bytes) {
    set_option(socket_.fd(), SOL_SOCKET, SO_SNDBUF, detail::buffer_bytes(bytes),
               "set_send_buffer_size");
}

unsigned tcp_stream::time_to_live() const {
    const bool v4 = local_endpoint().is_v4();
    return static_cast<unsigned>(get_option(socket_.fd(), v4 ? IPPROTO_IP : IPPROTO_IPV6,
                                            v4 ? IP_TTL : IPV6_UNICAST_HOPS, "time_to_live"));
}
void tcp_stream::set_time_to_live(unsigned hops) {
    if (hops < 1 || hops > 255)
        throw std::invalid_argument("set_time_to_live: 1 to 255 hops");
    const bool v4 = local_endpoint().is_v4();
    set_option(socket_.fd(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS,
               static_cast<int>(hops), "set_time_to_live");
}

boost::system::error_code tcp_stream::take_error() {
    return {get_option(socket_.fd(), SOL_SOCKET, SO_ERROR, "take_error"),
            boost::system::system_category()};
}

tcp_stream tcp_stream::adopt(int fd, std::source_location where) {
    detail::require_socket(fd, SOCK_STREAM, false, "tcp_stream::adopt");
    return tcp_stream(
        detail::descriptor(detail::reactor::current("tcp_stream::adopt", where).add(fd, false)));
}

} // namespace magpie::io
