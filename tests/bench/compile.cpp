// What the row `compile` measures: a small program of a user, kept current with the library.

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace {
magpie::task<std::size_t> ask(magpie::io::endpoint server, std::string_view question) {
    auto stream = co_await magpie::io::tcp_stream::connect(server);
    co_await stream.write_all(std::as_bytes(std::span(question)));
    std::array<std::byte, 512> answer;
    const std::size_t n = co_await stream.read(answer);
    co_return n;
}
} // namespace

int main() {
    const std::size_t n = magpie::run(ask(magpie::io::endpoint("127.0.0.1:7000"), "hello"));
    return n > 0 ? 0 : 1;
}
