// A TCP server that sends back what it gets, one task a connection.
//
//     echo                 talks to itself once, and ends
//     echo 127.0.0.1:7000  serves; try it with: nc 127.0.0.1 7000

#include <magpie/magpie.hpp>

#include <array>
#include <cstddef>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

namespace io = magpie::io;

magpie::task<> echo(io::tcp_stream peer) {
    peer.set_nodelay(true);
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const auto n = co_await magpie::as_result(peer.read(buffer));
        if (!n || *n == 0)
            co_return; // the peer has gone, or has sent everything
        const auto sent = co_await magpie::as_result(peer.write_all(std::span(buffer).first(*n)));
        if (!sent)
            co_return;
    }
}

magpie::task<> serve(io::tcp_listener listener) {
    for (;;) {
        io::accepted next = co_await listener.accept();
        magpie::spawn(echo(std::move(next.stream))).detach();
    }
}

magpie::task<> ask(io::endpoint server, std::string_view question) {
    io::tcp_stream stream = co_await io::tcp_stream::connect(server);
    co_await stream.write_all(std::as_bytes(std::span(question)));
    std::string answer(question.size(), ' ');
    co_await stream.read_exact(std::as_writable_bytes(std::span(answer)));
    std::cout << answer << '\n';
}

magpie::task<> program(io::endpoint at, bool alone) {
    auto listener = io::tcp_listener::bind(at);
    const io::endpoint bound = listener.local_endpoint();
    std::cout << "listening on " << bound.to_string() << std::endl;
    auto server = magpie::spawn(serve(std::move(listener)));
    if (alone)
        co_await ask(bound, "hello");
    else
        co_await server;
    server.abort();
}

int main(int argc, char** argv) {
    magpie::run(program(io::endpoint(argc > 1 ? argv[1] : "127.0.0.1:0"), argc <= 1));
}
