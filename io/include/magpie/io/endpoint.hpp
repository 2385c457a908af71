#pragma once

#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace magpie::io {

/// An IP address, version 4 or 6, and a port: where a socket is bound, or whom it talks to.
///
/// A plain value. The default is 0.0.0.0 and port 0: any address, any port.
///
/// @par Example
/// @code
/// magpie::io::endpoint here("127.0.0.1:8080");
/// magpie::io::endpoint there("[::1]", 8080);
/// @endcode
class endpoint {
public:
    endpoint() noexcept;

    /// @param text  "1.2.3.4:80" or "[::1]:80"; a scope as in "[fe80::1%2]:80" is a number or the name
    ///              of an interface. Names of hosts are the resolver's.
    /// @throws std::invalid_argument if it is anything else
    explicit endpoint(std::string_view text);

    /// @param address  "1.2.3.4", "::1" or "[::1]"
    /// @throws std::invalid_argument if it is anything else
    endpoint(std::string_view address, std::uint16_t port);

    static endpoint any_v4(std::uint16_t port) noexcept;      ///< 0.0.0.0
    static endpoint any_v6(std::uint16_t port) noexcept;      ///< ::
    static endpoint loopback_v4(std::uint16_t port) noexcept; ///< 127.0.0.1
    static endpoint loopback_v6(std::uint16_t port) noexcept; ///< ::1

    /// As the constructor, without an exception.
    static std::optional<endpoint> parse(std::string_view text) noexcept;
    static std::optional<endpoint> parse(std::string_view address, std::uint16_t port) noexcept;

    bool is_v4() const noexcept;
    bool is_v6() const noexcept { return !is_v4(); }
    bool is_loopback() const noexcept;
    bool is_unspecified() const noexcept; ///< 0.0.0.0 or ::

    std::uint16_t port() const noexcept;
    endpoint with_port(std::uint16_t port) const noexcept; ///< The same address, another port.

    std::string address() const;   ///< "1.2.3.4", "::1", "fe80::1%2"
    std::string to_string() const; ///< "1.2.3.4:80", "[::1]:80"; the constructor takes it back

    /// By address and port (and scope); those of version 4 come first.
    friend std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept;
    friend bool operator==(const endpoint& a, const endpoint& b) noexcept;

    // The system's form: a sockaddr_in or sockaddr_in6.
    static constexpr unsigned native_capacity = 28;
    const void* native() const noexcept { return storage_; }
    void* native() noexcept { return storage_; }
    unsigned native_size() const noexcept;

private:
    alignas(4) unsigned char storage_[native_capacity] = {};
};

} // namespace magpie::io
