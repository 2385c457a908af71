#pragma once

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

// HTTP without an HTTP library, for benchmarks: what ends in an empty line is a request, and all are
// answered alike.

namespace example {

inline constexpr std::size_t http_buffer_size = 4096;

inline constexpr std::string_view http_answer = "HTTP/1.1 200 OK\r\n"
                                                "Content-Type: text/plain\r\n"
                                                "Content-Length: 13\r\n"
                                                "\r\n"
                                                "Hello, world!";

/// Counts the empty lines of a stream, which may come in any pieces.
class request_counter {
public:
    std::size_t count(std::span<const std::byte> piece) noexcept {
        std::size_t ended = 0;
        for (const std::byte b : piece) {
            const char c = static_cast<char>(b);
            if (c == end[matched_])
                ++matched_;
            else
                matched_ = c == end[0] ? 1 : 0; // CR CR LF: the second begins anew
            if (matched_ == end.size()) {
                matched_ = 0;
                ++ended;
            }
        }
        return ended;
    }

private:
    static constexpr std::string_view end = "\r\n\r\n";
    std::size_t matched_ = 0;
};

/// The answers to `count` requests that ended in one buffer: they stand ready, one after the other.
inline std::span<const std::byte> answers_to(std::size_t count) {
    static const std::string all = [] {
        std::string text;
        for (std::size_t i = 0; i <= http_buffer_size / 4; ++i) // no request is shorter than its end
            text += http_answer;
        return text;
    }();
    return std::as_bytes(std::span(all)).first(count * http_answer.size());
}

/// Answers a connection until it ends. Requests that came together are answered together.
inline magpie::task<> http_hello(magpie::io::tcp_stream client) {
    client.set_nodelay(true);
    std::array<std::byte, http_buffer_size> buffer;
    request_counter requests;
    for (;;) {
        const auto n = co_await magpie::as_result(client.read(buffer));
        if (!n || *n == 0)
            co_return; // the client has gone
        const std::size_t ended = requests.count(std::span(buffer).first(*n));
        if (ended == 0)
            continue;
        const auto sent = co_await magpie::as_result(client.write_all(answers_to(ended)));
        if (!sent)
            co_return;
    }
}

} // namespace example
