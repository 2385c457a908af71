#pragma once

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <span>

namespace example {

/// Sends back what a client sends, until it has gone.
inline magpie::task<> echo(magpie::io::tcp_stream client) {
    client.set_nodelay(true);
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const auto n = co_await magpie::as_result(client.read(buffer));
        if (!n || *n == 0)
            co_return; // it has gone, or has sent everything
        const auto sent = co_await magpie::as_result(client.write_all(std::span(buffer).first(*n)));
        if (!sent)
            co_return;
    }
}

} // namespace example
