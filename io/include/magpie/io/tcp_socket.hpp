#pragma once

#include <magpie/io/tcp_listener.hpp>
#include <magpie/io/tcp_stream.hpp>

#include <source_location>
#include <utility>

namespace magpie::io {

enum class ip_version : unsigned char { v4, v6 };

/// A TCP socket that is neither connected nor listening yet: to be configured, bound, and then turned
/// into one of the two. It needs a runtime only then.
///
/// @par Thread safety
/// Distinct objects: safe. Shared objects: unsafe.
///
/// @par Example
/// @code
/// magpie::io::tcp_socket s(magpie::io::ip_version::v4);
/// s.bind(magpie::io::endpoint("127.0.0.2:0"));
/// auto stream = co_await std::move(s).connect(server);
/// @endcode
class tcp_socket {
public:
    /// @throws std::system_error too_many_files_open, address_family_not_supported, ...
    explicit tcp_socket(ip_version version);
    tcp_socket(tcp_socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    tcp_socket& operator=(tcp_socket&& other) noexcept;
    ~tcp_socket();

    void set_reuse_address(bool on); ///< @see listen_options
    bool reuse_address() const;
    void set_reuse_port(bool on);
    bool reuse_port() const;
    void set_v6_only(bool on); ///< Version 6 only.
    void set_nodelay(bool on);
    void set_receive_buffer_size(std::size_t bytes); ///< Before connect or listen it sets the window.
    void set_send_buffer_size(std::size_t bytes);

    /// @throws std::system_error address_in_use, address_not_available, ...
    void bind(const endpoint& at);
    endpoint local_endpoint() const;

    /// @param backlog  1 to 65535 @throws std::system_error; std::logic_error outside of a runtime;
    ///                 std::invalid_argument
    tcp_listener listen(int backlog = 1024,
                        std::source_location where = std::source_location::current()) &&;
    /// @see tcp_stream::connect
    connect_operation connect(const endpoint& peer,
                              std::source_location where = std::source_location::current()) &&;

    int native_handle() const; ///< @throws std::logic_error if it was turned into something

private:
    int fd_;
};

} // namespace magpie::io
