#pragma once

#include <magpie/io/resolve.hpp>
#include <magpie/io/tcp_stream.hpp>

#include <source_location>
#include <string_view>
#include <utility>

namespace magpie::io {

/// How a listener is set up.
class listen_options {
public:
    listen_options() noexcept = default;

    /// Connections that wait to be accepted, 1 to 65535; the system has a limit as well
    /// (net.core.somaxconn). Default 1024.
    listen_options& backlog(int n) noexcept { return backlog_ = n, *this; }
    /// Whether an address may be bound that has connections in TIME_WAIT. Default on.
    listen_options& reuse_address(bool on) noexcept { return reuse_address_ = on, *this; }
    /// Whether several listeners may be bound to the address; the kernel spreads connections. Off.
    listen_options& reuse_port(bool on) noexcept { return reuse_port_ = on, *this; }
    /// Whether one bound to `::` leaves version 4 alone. Default off.
    listen_options& v6_only(bool on) noexcept { return v6_only_ = on, *this; }

    int backlog() const noexcept { return backlog_; }
    bool reuse_address() const noexcept { return reuse_address_; }
    bool reuse_port() const noexcept { return reuse_port_; }
    bool v6_only() const noexcept { return v6_only_; }

private:
    int backlog_ = 1024;
    bool reuse_address_ = true;
    bool reuse_port_ = false;
    bool v6_only_ = false;
};

namespace detail {
class accepted_from {
public:
    explicit accepted_from(const endpoint& p) noexcept : peer(p) {}

    endpoint peer; ///< who has connected
};
} // namespace detail

/// What `accept` gives: `stream` and `peer`. (Two classes, so that `auto [stream, peer] = co_await ...`
/// does not compile: some compilers then skip a destructor.)
class accepted : public detail::accepted_from {
public:
    accepted(tcp_stream s, const endpoint& p) noexcept : accepted_from(p), stream(std::move(s)) {}

    tcp_stream stream; ///< the connection
};

/// The taking of a connection. @see tcp_listener::accept
class [[nodiscard("co_await it")]] accept_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;
    static constexpr bool reusable = true; ///< composites take it as an lvalue: for the next one, too

    explicit accept_operation(detail::registration& r) noexcept
        : io_operation(&r, detail::waits_for::read) {}
    accept_operation(accept_operation&& other) noexcept
        : io_operation(static_cast<io_operation&&>(other)) {} // it has not been awaited
    ~accept_operation();

    accepted await_resume();
    result<accepted> take_result();

private:
    detail::attempt perform(int fd) noexcept override;

    int connection_ = -1;
    endpoint peer_;
};

class tcp_listener;

/// The binding to a host's address by its name. @see tcp_listener::bind
class [[nodiscard("co_await it")]] named_bind_operation : public resolve_operation {
public:
    named_bind_operation(resolve_operation lookup, const listen_options& options,
                         std::source_location where) noexcept
        : resolve_operation(std::move(lookup)), options_(options), where_(where) {}

    tcp_listener await_resume();
    result<tcp_listener> take_result();

private:
    listen_options options_;
    std::source_location where_;
};

/// A socket that takes TCP connections.
///
/// @par Thread safety
/// As tcp_stream: several tasks may accept at once; each connection goes to one of them.
class tcp_listener {
public:
    tcp_listener() noexcept = default; ///< An empty one, to be assigned to.

    /// Binds to an address and listens. Port 0: the system chooses one, see `local_endpoint`.
    /// @throws std::system_error address_in_use, permission_denied, ...; std::invalid_argument for
    ///         a bad option; std::logic_error outside of a runtime
    static tcp_listener bind(const endpoint& at, const listen_options& options = listen_options(),
                             std::source_location where = std::source_location::current());

    /// Binds to the first of a host's addresses that can be bound ("localhost", "::"), and listens.
    ///
    /// @param host_and_port  "localhost:8080"; the port may be a service by name
    /// @throws what `resolve` throws, and for the last address that was tried what `bind` throws
    /// @par Cancellation
    /// Cancel-safe: a dropped call has bound nothing.
    static named_bind_operation bind(std::string_view host, std::uint16_t port,
                                     const listen_options& options = listen_options(),
                                     std::source_location where = std::source_location::current());
    static named_bind_operation bind(std::string_view host_and_port,
                                     const listen_options& options = listen_options(),
                                     std::source_location where = std::source_location::current());

    /// Takes the next connection.
    ///
    /// @throws std::system_error. After too_many_files_open, too_many_files_open_in_system,
    ///         no_buffer_space and not_enough_memory the listener goes on working, and the connection
    ///         waits: a server then lets some time pass. Connections that have broken before they
    ///         were taken are passed over.
    /// @par Cancellation
    /// Cancel-safe: a dropped call has taken no connection.
    accept_operation accept() { return accept_operation(socket_.get()); }

    /// The same at once; `operation_would_block` if nobody is there. Never waits.
    result<accepted> try_accept();

    endpoint local_endpoint() const;

    /// Takes a listening, non-blocking socket over. @throws std::invalid_argument for anything else
    static tcp_listener adopt(int fd, std::source_location where = std::source_location::current());
    int release() { return socket_.release(); } ///< @see tcp_stream::release
    int native_handle() const { return socket_.fd(); }

    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

private:
    friend class tcp_socket;
    explicit tcp_listener(detail::descriptor socket) noexcept : socket_(std::move(socket)) {}

    detail::descriptor socket_;
};

} // namespace magpie::io
