// The parsing of endpoints: what is taken comes back as it was written, and agrees with the system's own; what
// the system would write is taken.

#include "script.hpp"

#include <magpie/io/endpoint.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <string_view>

namespace {

using magpie::io::endpoint;
using test::require;

/// An address as the system sees it.
bool agrees(const endpoint& e, const std::string& address) {
    if (e.is_v4()) {
        in_addr a{};
        sockaddr_in native{};
        std::memcpy(&native, e.native(), sizeof native);
        return ::inet_pton(AF_INET, address.c_str(), &a) == 1 &&
               std::memcmp(&a, &native.sin_addr, sizeof a) == 0 && ntohs(native.sin_port) == e.port();
    }
    in6_addr a{};
    sockaddr_in6 native{};
    std::memcpy(&native, e.native(), sizeof native);
    const std::string plain = address.substr(0, address.find('%'));
    return ::inet_pton(AF_INET6, plain.c_str(), &a) == 1 &&
           std::memcmp(&a, &native.sin6_addr, sizeof a) == 0 && ntohs(native.sin6_port) == e.port();
}

void check(const endpoint& e) {
    const std::string text = e.to_string();
    const auto again = endpoint::parse(text);
    require(again && *again == e, "what is written is read again, as the same");
    require(again->to_string() == text, "and written the same");
    require(agrees(e, e.address()), "the system reads the same address");
    const auto apart = endpoint::parse(e.address(), e.port());
    require(apart && *apart == e, "address and port apart are the same");
    require(e.with_port(e.port()) == e, "with_port keeps the address");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::string_view text(reinterpret_cast<const char*>(data + 1),
                                std::min<std::size_t>(size - 1, 512));
    if (const auto e = endpoint::parse(text))
        check(*e);
    if (const auto e = endpoint::parse(text, static_cast<std::uint16_t>(data[0] * 257))) {
        require(e->port() == data[0] * 257, "the port is the one that was given");
        check(*e);
    }
    // Any address, in the system's form.
    std::array<char, INET6_ADDRSTRLEN> buffer{};
    if (text.size() >= 4) {
        in_addr a{};
        std::memcpy(&a, text.data(), sizeof a);
        const std::string written = ::inet_ntop(AF_INET, &a, buffer.data(), buffer.size());
        const auto e = endpoint::parse(written + ":" + std::to_string(data[0]));
        require(e && e->is_v4() && agrees(*e, written) && e->port() == data[0],
                "any v4 address is taken");
        check(*e);
    }
    if (text.size() >= 16) {
        in6_addr a{};
        std::memcpy(&a, text.data(), sizeof a);
        const std::string written = ::inet_ntop(AF_INET6, &a, buffer.data(), buffer.size());
        const auto e = endpoint::parse("[" + written + "]:" + std::to_string(data[0]));
        require(e && e->is_v6() && agrees(*e, written), "any v6 address is taken");
        check(*e);
    }
    return 0;
}
