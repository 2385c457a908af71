#include <magpie/io/endpoint.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstring>
#include <net/if.h>
#include <netinet/in.h>
#include <stdexcept>

namespace magpie::io {

namespace {

static_assert(sizeof(sockaddr_in6) <= endpoint::native_capacity);

template <class Native>
Native native_of(const endpoint& e) noexcept {
    Native n;
    std::memcpy(&n, e.native(), sizeof n);
    return n;
}

template <class Native>
endpoint from_native(const Native& n) noexcept {
    endpoint e;
    std::memcpy(e.native(), &n, sizeof n);
    return e;
}

endpoint v4(std::uint32_t address, std::uint16_t port) noexcept {
    sockaddr_in n{};
    n.sin_family = AF_INET;
    n.sin_port = htons(port);
    n.sin_addr.s_addr = htonl(address);
    return from_native(n);
}

endpoint v6(const in6_addr& address, std::uint16_t port, std::uint32_t scope) noexcept {
    sockaddr_in6 n{};
    n.sin6_family = AF_INET6;
    n.sin6_port = htons(port);
    n.sin6_addr = address;
    n.sin6_scope_id = scope;
    return from_native(n);
}

template <class Number>
std::optional<Number> number(std::string_view text) noexcept {
    Number n{};
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, n);
    if (text.empty() || error != std::errc() || stop != end)
        return std::nullopt;
    return n;
}

std::optional<std::uint32_t> scope(std::string_view text) noexcept {
    if (const auto n = number<std::uint32_t>(text))
        return n;
    char name[IF_NAMESIZE] = {};
    if (text.empty() || text.size() >= sizeof name)
        return std::nullopt;
    std::copy(text.begin(), text.end(), name);
    const unsigned index = ::if_nametoindex(name);
    return index != 0 ? std::optional<std::uint32_t>(index) : std::nullopt;
}

} // namespace

endpoint::endpoint() noexcept {
    sockaddr_in n{};
    n.sin_family = AF_INET;
    std::memcpy(storage_, &n, sizeof n);
}

endpoint::endpoint(std::string_view text) {
    const auto parsed = parse(text);
    if (!parsed)
        throw std::invalid_argument("\"" + std::string(text) +
                                    "\" is no address and port: write 1.2.3.4:80 or [::1]:80");
    *this = *parsed;
}

endpoint::endpoint(std::string_view address, std::uint16_t port) {
    const auto parsed = parse(address, port);
    if (!parsed)
        throw std::invalid_argument("\"" + std::string(address) +
                                    "\" is no IP address: write 1.2.3.4 or ::1, or resolve the name");
    *this = *parsed;
}

endpoint endpoint::any_v4(std::uint16_t port) noexcept { return v4(INADDR_ANY, port); }
endpoint endpoint::any_v6(std::uint16_t port) noexcept { return v6(in6addr_any, port, 0); }
endpoint endpoint::loopback_v4(std::uint16_t port) noexcept { return v4(INADDR_LOOPBACK, port); }
endpoint endpoint::loopback_v6(std::uint16_t port) noexcept { return v6(in6addr_loopback, port, 0); }

std::optional<endpoint> endpoint::parse(std::string_view text) noexcept {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    const auto port = number<std::uint16_t>(text.substr(colon + 1));
    const std::string_view address = text.substr(0, colon);
    const bool bracketed = !address.empty() && address.front() == '[';
    if (!port || (!bracketed && address.find(':') != std::string_view::npos))
        return std::nullopt; // "::1:80" could be either
    return parse(address, *port);
}

std::optional<endpoint> endpoint::parse(std::string_view address, std::uint16_t port) noexcept {
    std::uint32_t zone = 0;
    if (!address.empty() && address.front() == '[') {
        if (address.back() != ']')
            return std::nullopt;
        address = address.substr(1, address.size() - 2);
        if (address.find(':') == std::string_view::npos) // brackets are version 6's
            return std::nullopt;
    }
    if (const std::size_t percent = address.find('%'); percent != std::string_view::npos) {
        const auto parsed = scope(address.substr(percent + 1));
        if (!parsed || address.find(':') == std::string_view::npos)
            return std::nullopt;
        zone = *parsed;
        address = address.substr(0, percent);
    }
    char text[INET6_ADDRSTRLEN] = {};
    if (address.size() >= sizeof text || address.find('\0') != std::string_view::npos)
        return std::nullopt;
    std::copy(address.begin(), address.end(), text);
    if (in_addr four; ::inet_pton(AF_INET, text, &four) == 1)
        return v4(ntohl(four.s_addr), port);
    if (in6_addr six; ::inet_pton(AF_INET6, text, &six) == 1)
        return v6(six, port, zone);
    return std::nullopt;
}

bool endpoint::is_v4() const noexcept { return native_of<sockaddr_in>(*this).sin_family != AF_INET6; }

bool endpoint::is_loopback() const noexcept {
    if (is_v4())
        return ntohl(native_of<sockaddr_in>(*this).sin_addr.s_addr) >> 24 == 127;
    const auto six = native_of<sockaddr_in6>(*this).sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&six);
}

bool endpoint::is_unspecified() const noexcept {
    if (is_v4())
        return native_of<sockaddr_in>(*this).sin_addr.s_addr == 0;
    const auto six = native_of<sockaddr_in6>(*this).sin6_addr;
    return IN6_IS_ADDR_UNSPECIFIED(&six);
}

std::uint16_t endpoint::port() const noexcept {
    return ntohs(native_of<sockaddr_in>(*this).sin_port); // at the same place in both
}

endpoint endpoint::with_port(std::uint16_t port) const noexcept {
    if (is_v4()) {
        auto n = native_of<sockaddr_in>(*this);
        n.sin_port = htons(port);
        return from_native(n);
    }
    auto n = native_of<sockaddr_in6>(*this);
    n.sin6_port = htons(port);
    return from_native(n);
}

unsigned endpoint::native_size() const noexcept {
    return is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::string endpoint::address() const {
    char text[INET6_ADDRSTRLEN] = {};
    if (is_v4()) {
        const auto four = native_of<sockaddr_in>(*this).sin_addr;
        ::inet_ntop(AF_INET, &four, text, sizeof text);
        return text;
    }
    const auto n = native_of<sockaddr_in6>(*this);
    ::inet_ntop(AF_INET6, &n.sin6_addr, text, sizeof text);
    return n.sin6_scope_id == 0 ? text : std::string(text) + "%" + std::to_string(n.sin6_scope_id);
}

std::string endpoint::to_string() const {
    const std::string a = address();
    return (is_v4() ? a : "[" + a + "]") + ":" + std::to_string(port());
}

std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept {
    if (a.is_v4() != b.is_v4())
        return a.is_v4() ? std::strong_ordering::less : std::strong_ordering::greater;
    if (a.is_v4()) {
        const auto left = ntohl(native_of<sockaddr_in>(a).sin_addr.s_addr);
        const auto right = ntohl(native_of<sockaddr_in>(b).sin_addr.s_addr);
        if (left != right)
            return left <=> right;
    } else {
        const auto left = native_of<sockaddr_in6>(a);
        const auto right = native_of<sockaddr_in6>(b);
        if (const int c = std::memcmp(&left.sin6_addr, &right.sin6_addr, sizeof left.sin6_addr); c != 0)
            return c <=> 0;
        if (left.sin6_scope_id != right.sin6_scope_id)
            return left.sin6_scope_id <=> right.sin6_scope_id;
    }
    return a.port() <=> b.port();
}

bool operator==(const endpoint& a, const endpoint& b) noexcept {
    return (a <=> b) == std::strong_ordering::equal;
}

} // namespace magpie::io
