#include <magpie/io/serve.hpp>

#include <magpie/core.hpp>
#include <magpie/io.hpp>
#include <magpie/scheduler.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

using magpie::runtime;
using magpie::task;
using magpie::io::accepting;
using magpie::io::endpoint;
using magpie::io::shard_listener;
using magpie::io::tcp_stream;

namespace {

/// Tells the peer on which shard it is served, a byte for each byte.
task<> tell_shard(tcp_stream s) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    while (co_await s.read(one) > 0) {
        b = static_cast<std::byte>(magpie::this_shard());
        co_await magpie::io::write_all(s, one);
    }
}

task<std::size_t> ask(tcp_stream& s) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    co_await magpie::io::write_all(s, one);
    co_await magpie::io::read_exact(s, one);
    co_return static_cast<std::size_t>(b);
}

/// Connects `n` times, and gives how many are served by each shard.
task<std::vector<std::size_t>> spread(accepting how, std::size_t n) {
    shard_listener listener = co_await shard_listener::bind(endpoint::loopback_v4(0), how);
    magpie::join_handle<> server = magpie::spawn(listener.serve(tell_shard));
    std::vector<std::size_t> of(magpie::shard_count());
    std::vector<tcp_stream> connections;
    for (std::size_t i = 0; i < n; ++i) {
        connections.push_back(co_await tcp_stream::connect(listener.local_endpoint()));
        ++of[co_await ask(connections.back())];
    }
    std::size_t counted = 0;
    for (std::size_t s = 0; s < of.size(); ++s)
        counted += listener.connections(s);
    server.abort();
    const auto ended = co_await magpie::as_result(server);
    static_cast<void>(ended);
    co_return counted == n ? of : std::vector<std::size_t>();
}

} // namespace

TEST_SUITE("io.serve") {
    TEST_CASE("one listener hands connections out in turn") {
        const runtime rt = test::thread_per_core(3).build();
        CHECK(rt.block_on(spread(accepting::round_robin, 9)) == std::vector<std::size_t>{3, 3, 3});
    }

    TEST_CASE("one listener gives connections to the shard that has the fewest") {
        const runtime rt = test::thread_per_core(3).build();
        CHECK(rt.block_on(spread(accepting::least_connections, 9)) ==
              std::vector<std::size_t>{3, 3, 3});
    }

    TEST_CASE(
        "a listener a shard: the kernel spreads, and each connection stays where it was accepted") {
        const runtime rt = test::thread_per_core(2).build();
        const std::vector<std::size_t> of = rt.block_on(spread(accepting::each_shard, 64));
        REQUIRE(of.size() == 2);
        CHECK(of[0] + of[1] == 64);
        CHECK(of[0] > 0); // wrong once in 2^63 runs
        CHECK(of[1] > 0);
    }

    TEST_CASE("each layout can have one") {
        test::on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            for (const accepting how :
                 {accepting::each_shard, accepting::round_robin, accepting::least_connections})
                CHECK(rt.block_on(spread(how, 4)).size() == rt.shards());
        });
    }

    TEST_CASE("an idle connection can be moved to another shard, and goes on there") {
        auto main = []() -> task<bool> {
            auto listener = magpie::io::tcp_listener::bind(endpoint::loopback_v4(0));
            tcp_stream client = co_await tcp_stream::connect(listener.local_endpoint());
            magpie::io::accepted server = co_await listener.accept();
            magpie::join_handle<> h = magpie::io::move_to_shard(1, std::move(server.stream),
                                                                tell_shard);
            const std::size_t there = co_await ask(client);
            client = tcp_stream(co_await tcp_stream::connect(listener.local_endpoint()));
            co_await h; // it has seen the end
            co_return there == 1;
        };
        const runtime rt = test::thread_per_core(2).build();
        CHECK(rt.block_on(main()));
    }

    TEST_CASE("a port in use is an error of the system") {
        auto main = []() -> task<bool> {
            auto listener = magpie::io::tcp_listener::bind(endpoint::loopback_v4(0));
            try {
                static_cast<void>(
                    co_await shard_listener::bind(listener.local_endpoint(), accepting::each_shard));
            } catch (const std::system_error& e) {
                co_return e.code() == std::errc::address_in_use;
            }
            co_return false;
        };
        const runtime rt = test::thread_per_core(2).build();
        CHECK(rt.block_on(main()));
    }
}
