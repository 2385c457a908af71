// A TCP server that sends back what it gets, one task a connection.
//
//     echo [ADDRESS [WORKERS]]     127.0.0.1:7000, a worker a processor; port 0: any that is free
//
// Try it with: nc 127.0.0.1 7000, or under load with examples/load. Ctrl-C ends it.

#include <magpie/magpie.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>
#include <string>
#include <utility>

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
        auto next = co_await magpie::as_result(listener.accept());
        if (next) {
            magpie::spawn(echo(std::move(next->stream))).detach();
        } else { // no descriptor is left, say: who wants to connect waits
            std::cerr << "echo: accept: " << next.error().message() << std::endl;
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
} // the runtime goes, and drops the tasks that are left: each connection is closed

int main(int argc, char** argv) try {
    const io::endpoint at(argc > 1 ? argv[1] : "127.0.0.1:7000");
    magpie::runtime::builder builder;
    if (argc > 2)
        builder.worker_threads(std::stoul(argv[2]));
    builder.build().block_on(program(at));
} catch (const std::exception& e) {
    std::cerr << "echo: " << e.what() << "\nusage: echo [ADDRESS [WORKERS]]\n";
    return EXIT_FAILURE;
}
