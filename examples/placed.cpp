// A pool that steals, placed by hand: some processors are left to others, the workers are bound to the rest, and
// each has a reactor and a listener of its own. Tasks still go to whoever is free.
//
//     placed              on all processors, bound to none
//     placed 0 1          all but these

#include <magpie/magpie.hpp>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sched.h>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;

magpie::task<> echo(io::tcp_stream client) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    while (co_await client.read(one) > 0)
        co_await io::write_all(client, one);
}

/// Accepts on one worker, so the connections are in that worker's reactor; who serves them is open.
magpie::task<> accept_all(io::tcp_listener listener) {
    const auto pool = magpie::runtime_handle::current();
    for (;;) {
        io::accepted next = co_await listener.accept();
        pool.spawn(echo(std::move(next.stream))).detach();
    }
}

/// Makes the listener where it is going to accept. Gives where it listens.
magpie::task<io::endpoint> listen(io::endpoint at) {
    auto listener = io::tcp_listener::bind(at, io::listen_options().reuse_port(true));
    const io::endpoint bound = listener.local_endpoint();
    magpie::spawn(accept_all(std::move(listener)))
        .detach(); // stays on this worker, as its spawner does
    co_return bound;
}

magpie::task<int> processor() { co_return sched_getcpu(); }

magpie::task<int> program() {
    const std::size_t workers = magpie::runtime_handle::current().worker_threads();
    io::endpoint at = io::endpoint::loopback_v4(0);
    for (std::size_t w = 0; w < workers; ++w) {
        at = co_await magpie::spawn_on_worker(w, listen(at));
        const int cpu = co_await magpie::spawn_on_worker(w, processor());
        std::cout << "worker " << w << " runs on processor " << cpu << '\n';
    }
    int answers = 0;
    for (int i = 0; i < 20; ++i) {
        io::tcp_stream client = co_await io::tcp_stream::connect(at);
        std::byte b{7};
        const std::span<std::byte> one(&b, 1);
        co_await io::write_all(client, one);
        co_await io::read_exact(client, one);
        answers += b == std::byte{7};
    }
    std::cout << answers << " connections were served\n";
    co_return answers == 20 ? EXIT_SUCCESS : EXIT_FAILURE;
}

} // namespace

int main(int argc, char** argv) try {
    std::vector<std::size_t> skip;
    for (int i = 1; i < argc; ++i)
        skip.push_back(std::stoul(argv[i]));
    magpie::runtime_builder builder;
    builder.reactor_per_worker(true);
    if (!skip.empty())
        builder.skip_cpus(skip); // if none is left, the error says so
    return builder.build().block_on(program());
} catch (const std::exception& e) {
    std::cerr << "placed: " << e.what() << '\n';
    return EXIT_FAILURE;
}
