#include <magpie/io/tcp_listener.hpp>

#include "system.hpp"

#include <magpie/io/tcp_socket.hpp>

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace magpie::io {

using detail::attempt;

namespace {

/// What only says that the connection has gone before it was taken (accept(2) lists these).
bool broken_before(std::int64_t n) noexcept {
    static constexpr std::array errors{ECONNABORTED, ENETDOWN,     EPROTO,     ENOPROTOOPT, EHOSTDOWN,
                                       ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
    for (const int e : errors)
        if (n == -e)
            return true;
    return false;
}

std::int64_t accept_one(int fd, endpoint& peer) noexcept {
    std::int64_t n;
    do {
        n = detail::uninterrupted([&] {
            socklen_t size = endpoint::native_capacity;
            return ::accept4(fd, static_cast<sockaddr*>(peer.native()), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
        });
    } while (broken_before(n));
    return n;
}

} // namespace

// --- accept ---

accept_operation::~accept_operation() {
    if (connection_ != -1)
        ::close(connection_);
}

attempt accept_operation::perform(int fd) noexcept {
    result_ = accept_one(fd, peer_);
    if (detail::would_block(result_))
        return attempt::would_block;
    if (result_ >= 0)
        connection_ = static_cast<int>(result_);
    return attempt::done;
}

accepted accept_operation::await_resume() {
    static_cast<void>(value("accept"));
    detail::plain_fd fd(std::exchange(connection_, -1));
    return {tcp_stream(detail::register_fd(registration_->where(), std::move(fd), true)), peer_};
}

result<accepted> accept_operation::take_result() {
    if (result_ < 0)
        return {boost::system::in_place_error, error()};
    try {
        return {boost::system::in_place_value, await_resume()};
    } catch (const std::system_error& e) { // there is no memory to register it
        return {boost::system::in_place_error, e.code().value(), boost::system::system_category()};
    }
}

result<accepted> tcp_listener::try_accept() {
    detail::registration& r = socket_.get();
    const auto seen = r.seen(detail::registration::reading); // before the call
    endpoint peer;
    const std::int64_t n = accept_one(r.fd(), peer);
    if (n < 0) {
        if (detail::would_block(n) && detail::registration::is_event(seen))
            r.forget(detail::registration::reading, seen);
        return {boost::system::in_place_error, static_cast<int>(-n), boost::system::system_category()};
    }
    detail::plain_fd fd(static_cast<int>(n));
    return {boost::system::in_place_value,
            tcp_stream(detail::register_fd(r.where(), std::move(fd), true)), peer};
}

// --- listener ---

tcp_listener tcp_listener::bind(const endpoint& at, const listen_options& options,
                                std::source_location where) {
    tcp_socket socket(at.is_v4() ? ip_version::v4 : ip_version::v6);
    socket.set_reuse_address(options.reuse_address());
    socket.set_reuse_port(options.reuse_port());
    if (at.is_v6())
        socket.set_v6_only(options.v6_only());
    socket.bind(at);
    return std::move(socket).listen(options.backlog(), where);
}

result<tcp_listener> named_bind_operation::take_result() {
    const result<std::vector<endpoint>> found = resolve_operation::take_result();
    if (found.has_error())
        return {boost::system::in_place_error, found.error()};
    boost::system::error_code error;
    for (const endpoint& at : *found) {
        try {
            return {boost::system::in_place_value, tcp_listener::bind(at, options_, where_)};
        } catch (const std::system_error& e) {
            error = {e.code().value(), boost::system::system_category()};
        }
    }
    return {boost::system::in_place_error, error};
}

tcp_listener named_bind_operation::await_resume() {
    result<tcp_listener> bound = take_result();
    if (bound.has_error())
        throw std::system_error(bound.error(), "binding a listener by name");
    return std::move(*bound);
}

named_bind_operation tcp_listener::bind(std::string_view host, std::uint16_t port,
                                        const listen_options& options, std::source_location where) {
    static_cast<void>(detail::reactor::current("tcp_listener::bind", where)); // misuse shows here
    return named_bind_operation(resolve(host, port, where), options, where);
}

named_bind_operation tcp_listener::bind(std::string_view host_and_port, const listen_options& options,
                                        std::source_location where) {
    static_cast<void>(detail::reactor::current("tcp_listener::bind", where));
    return named_bind_operation(resolve(host_and_port, where), options, where);
}

endpoint tcp_listener::local_endpoint() const { return detail::local_endpoint_of(socket_.fd()); }

tcp_listener tcp_listener::adopt(int fd, std::source_location where) {
    detail::require_socket(fd, SOCK_STREAM, true, "tcp_listener::adopt");
    return tcp_listener(
        detail::descriptor(detail::reactor::current("tcp_listener::adopt", where).add(fd, false)));
}

} // namespace magpie::io
