// Answers every HTTP request with "Hello, world!" and keeps the connection: no HTTP library, for
// benchmarks. What ends in an empty line is a request; those that came together are answered together.
//
//     http_hello [ADDRESS [WORKERS]]     127.0.0.1:8080, a worker a processor; port 0: any that is free
//
// Try it with: curl http://127.0.0.1:8080/, or under load with: wrk -c 50 http://127.0.0.1:8080/
// Ctrl-C ends it.

#include <magpie/magpie.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace {

namespace io = magpie::io;

constexpr std::size_t buffer_size = 4096;

constexpr std::string_view answer = "HTTP/1.1 200 OK\r\n"
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
std::span<const std::byte> answers_to(std::size_t count) {
    static const std::string all = [] {
        std::string text;
        for (std::size_t i = 0; i <= buffer_size / 4; ++i) // no request is shorter than its end
            text += answer;
        return text;
    }();
    return std::as_bytes(std::span(all)).first(count * answer.size());
}

magpie::task<> respond(io::tcp_stream client) {
    client.set_nodelay(true);
    std::array<std::byte, buffer_size> buffer;
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

magpie::task<> serve(io::tcp_listener listener) {
    for (;;) {
        auto next = co_await magpie::as_result(listener.accept());
        if (next) {
            magpie::spawn(respond(std::move(next->stream))).detach();
        } else { // no descriptor is left, say: who wants to connect waits
            std::cerr << "http_hello: accept: " << next.error().message() << std::endl;
            co_await magpie::sleep_for(std::chrono::milliseconds(100));
        }
    }
}

magpie::task<> program(io::endpoint at) {
    auto listener = io::tcp_listener::bind(at);
    auto stop = io::ctrl_c(); // listens from here on
    std::cout << "listening on " << listener.local_endpoint().to_string() << std::endl;
    magpie::spawn(serve(std::move(listener))).detach();
    co_await std::move(stop);
}

} // namespace

int main(int argc, char** argv) try {
    const io::endpoint at(argc > 1 ? argv[1] : "127.0.0.1:8080");
    magpie::runtime::builder builder;
    if (argc > 2)
        builder.worker_threads(std::stoul(argv[2]));
    builder.build().block_on(program(at));
} catch (const std::exception& e) {
    std::cerr << "http_hello: " << e.what() << "\nusage: http_hello [ADDRESS [WORKERS]]\n";
    return EXIT_FAILURE;
}
