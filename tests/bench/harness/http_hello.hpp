#pragma once

#include <cassert>
#include <cstddef>
#include <string>
#include <string_view>

/// The http_hello server's idea of HTTP: what ends in CR LF CR LF is a request, and all are answered alike.
namespace bench {
inline constexpr std::size_t http_buffer_size = 4096;

/// Finds the ends of requests, also where a request comes in several pieces.
class request_counter {
public:
    /// How many requests end in the next `piece` of the stream.
    std::size_t count(std::string_view piece) noexcept {
        std::size_t ends = 0;
        for (const char c : piece) {
            switch (c) {
            case '\r': matched_ = matched_ == 2 ? 3 : 1; break;
            case '\n':
                ends += matched_ == 3 ? 1 : 0;
                matched_ = matched_ == 1 ? 2 : 0;
                break;
            default: matched_ = 0;
            }
        }
        return ends;
    }

private:
    unsigned matched_ = 0; // of CR LF CR LF
};

/// The answers to `count` requests that ended in one piece of at most `http_buffer_size` bytes.
inline std::string_view hello_answers(std::size_t count) {
    static constexpr std::string_view answer = "HTTP/1.1 200 OK\r\n"
                                               "Content-Type: text/plain\r\n"
                                               "Content-Length: 13\r\n"
                                               "\r\n"
                                               "Hello, world!";
    // A request ends in no fewer than 4 bytes, and at most 3 of these came before the piece.
    static constexpr std::size_t most = (http_buffer_size + 3) / 4;
    static const std::string answers = [] {
        std::string all;
        for (std::size_t i = 0; i < most; ++i)
            all += answer;
        return all;
    }();
    assert(count <= most);
    return std::string_view(answers).substr(0, count * answer.size());
}
} // namespace bench
