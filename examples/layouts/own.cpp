// Compares layouts for a service of one's own: all that it takes is how it serves a connection, and
// what its clients say.
//
//     own_layouts --quick --connections 20 --html report.html

#include "layouts.hpp"

#include <magpie/magpie.hpp>

#include <array>
#include <cctype>
#include <cstddef>
#include <span>

namespace {

magpie::task<> shout(magpie::io::tcp_stream client) {
    std::array<std::byte, 1024> buffer;
    for (;;) {
        const std::size_t n = co_await client.read(buffer);
        if (n == 0)
            co_return;
        for (std::byte& b : std::span(buffer).first(n))
            b = static_cast<std::byte>(std::toupper(std::to_integer<int>(b)));
        co_await client.write_all(std::span(buffer).first(n));
    }
}

} // namespace

int main(int argc, char** argv) {
    return layouts::compare(argc, argv, {{"shout", [] { return shout; }, layouts::lines("hello\n")}});
}
