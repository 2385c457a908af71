// A server on shards some of whose clients are much busier than the others. Connections stay where they were
// accepted, until one shard has too much to do: then some of its connections move to another one, between two
// requests, and the clients notice nothing.
//
//     balance             six clients, two of them busy

#include <magpie/magpie.hpp>

#include <cstddef>
#include <iostream>
#include <span>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;

/// A request is a byte, the answer is the number of the shard that has served it.
magpie::task<bool> serve_one(io::tcp_stream& client) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    if (co_await client.read(one) == 0)
        co_return false;
    b = static_cast<std::byte>(magpie::this_shard());
    co_await io::write_all(client, one);
    co_return true;
}

/// The same for as long as there are requests: what serves a connection that was moved by hand.
magpie::task<> serve_all(io::tcp_stream client) {
    for (bool more = true; more;)
        more = co_await serve_one(client);
}

magpie::task<std::size_t> ask(io::tcp_stream& server) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    co_await io::write_all(server, one);
    co_await io::read_exact(server, one);
    co_return static_cast<std::size_t>(b);
}

void print(const io::shard_listener& listener) {
    for (std::size_t s = 0; s < magpie::shard_count(); ++s)
        std::cout << "  shard " << s << ": " << listener.connections(s) << " connections\n";
}

magpie::task<int> program() {
    auto listener = co_await io::shard_listener::bind(io::endpoint::loopback_v4(0),
                                                      io::accepting::round_robin);
    // Above 1.25 times the mean is too much; each shard looks after 64 of its own requests.
    magpie::join_handle<> server = magpie::spawn(
        listener.serve_requests(serve_one, io::rebalancing(0.25, 64)));

    const std::size_t shards = magpie::shard_count();
    std::vector<io::tcp_stream> clients;
    for (std::size_t i = 0; i < 3 * shards; ++i) {
        clients.push_back(co_await io::tcp_stream::connect(listener.local_endpoint()));
        static_cast<void>(co_await ask(clients.back()));
    }
    std::cout << "accepted in turn:\n";
    print(listener);

    // Two of the connections of shard 0 are busy.
    std::size_t first = 0;
    std::size_t second = 0;
    for (int i = 0; i < 500; ++i) {
        first = co_await ask(clients[0]);
        second = co_await ask(clients[shards]);
    }
    std::cout << "the busy clients are served by " << (first != second ? "two shards" : "one shard")
              << ", " << listener.moved() << " moved:\n";
    print(listener);
    // Turns since the start, of whatever kind: 0 is even, and the number of shards less 1 the worst.
    std::cout << "imbalance: " << magpie::runtime_handle::current().metrics().imbalance() << '\n';

    // A connection can also be moved by hand, as long as nobody waits for it.
    auto listening = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
    io::tcp_stream client = co_await io::tcp_stream::connect(listening.local_endpoint());
    io::accepted there = co_await listening.accept();
    const std::size_t last = shards - 1;
    magpie::join_handle<> moved = io::move_to_shard(last, std::move(there.stream), serve_all);
    const std::size_t served_by = co_await ask(client);
    client = io::tcp_stream(); // closed: that is the end of it
    co_await moved;

    server.abort();
    static_cast<void>(co_await magpie::as_result(server)); // it refers to the listener
    co_return served_by == last && (shards == 1 || first != second) ? 0 : 1;
}

} // namespace

int main() {
    const magpie::runtime rt =
        magpie::runtime::builder().layout(magpie::layout::thread_per_core).build();
    return magpie::spawn_on(rt.handle(), 0, program()).blocking_join();
}
