#include <magpie/io/serve.hpp>

#include <magpie/core.hpp>
#include <magpie/io.hpp>
#include <magpie/scheduler.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
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

/// A request is a byte; the answer is the shard.
task<bool> tell_shard_once(tcp_stream& s) {
    std::byte b{};
    const std::span<std::byte> one(&b, 1);
    if (co_await s.read(one) == 0)
        co_return false;
    b = static_cast<std::byte>(magpie::this_shard());
    co_await magpie::io::write_all(s, one);
    co_return true;
}

/// Serves requests on `at`, each by `f`, while `main(listener)` runs, and gives what that gives.
template <class F, class Main>
task<std::size_t> while_serving(accepting how, F f, magpie::io::rebalancing when, Main main) {
    shard_listener listener = co_await shard_listener::bind(endpoint::loopback_v4(0), how);
    magpie::join_handle<> server = magpie::spawn(listener.serve_requests(f, when));
    const std::size_t result = co_await main(listener);
    server.abort();
    const auto ended = co_await magpie::as_result(server);
    static_cast<void>(ended);
    co_return result;
}

/// Connects four times, in turn to two shards.
task<std::vector<tcp_stream>> connect_four(endpoint to) {
    std::vector<tcp_stream> all;
    for (std::size_t i = 0; i < 4; ++i) {
        all.push_back(co_await tcp_stream::connect(to));
        const std::size_t shard = co_await ask(all.back());
        CHECK(shard == i % 2);
    }
    co_return all;
}

} // namespace

TEST_SUITE("io.serve") {
    TEST_CASE(
        "a shard that serves too much gives a connection away, by itself, and then there is peace") {
        auto main = [](shard_listener& l) -> task<std::size_t> {
            std::vector<tcp_stream> c = co_await connect_four(l.local_endpoint());
            std::size_t rounds = 0;
            std::size_t first = 0;
            std::size_t second = 0;
            while (first == second && ++rounds < 1000) { // the first and the third: both of shard 0
                first = co_await ask(c[0]);
                second = co_await ask(c[2]);
            }
            CHECK(rounds < 40); // two windows, at the latest
            CHECK(l.moved() == 1);
            for (std::size_t i = 0; i < 500; ++i) { // even now: they stay
                const std::size_t a = co_await ask(c[0]);
                const std::size_t b = co_await ask(c[2]);
                CHECK(a == first);
                CHECK(b == second);
            }
            CHECK(l.connections(0) == 1);
            CHECK(l.connections(1) == 3);
            co_return l.moved();
        };
        const runtime rt = test::thread_per_core(2).build();
        CHECK(rt.block_on(while_serving(accepting::round_robin, tell_shard_once,
                                        magpie::io::rebalancing(0.5, 16), main)) == 1);
    }

    TEST_CASE("what a connection has read of its next request goes with it") {
        // It counts its own requests, and answers with the number.
        struct counts_requests {
            std::size_t n = 0;
            task<bool> operator()(tcp_stream& s) {
                std::byte b{};
                const std::span<std::byte> one(&b, 1);
                if (co_await s.read(one) == 0)
                    co_return false;
                b = static_cast<std::byte>(++n % 100);
                co_await magpie::io::write_all(s, one);
                co_return true;
            }
        };
        auto main = [](shard_listener& l) -> task<std::size_t> {
            std::vector<tcp_stream> c;
            for (int i = 0; i < 4; ++i)
                c.push_back(co_await tcp_stream::connect(l.local_endpoint()));
            for (std::size_t i = 1; i <= 300; ++i) {
                const std::size_t a = co_await ask(c[0]);
                const std::size_t b = co_await ask(c[2]);
                CHECK(a == i % 100);
                CHECK(b == i % 100);
            }
            co_return l.moved();
        };
        const runtime rt = test::thread_per_core(2).build();
        CHECK(rt.block_on(while_serving(accepting::round_robin, counts_requests(),
                                        magpie::io::rebalancing(0.5, 16), main)) == 1);
    }

    TEST_CASE("one connection that makes all the work stays, for elsewhere it would be the same") {
        auto main = [](shard_listener& l) -> task<std::size_t> {
            std::vector<tcp_stream> c = co_await connect_four(l.local_endpoint());
            for (int i = 0; i < 300; ++i) {
                const std::size_t shard = co_await ask(c[2]);
                CHECK(shard == 0);
            }
            co_return l.moved();
        };
        const runtime rt = test::thread_per_core(2).build();
        CHECK(rt.block_on(while_serving(accepting::round_robin, tell_shard_once,
                                        magpie::io::rebalancing(0.5, 16), main)) == 0);
    }

    TEST_CASE("a limit that no imbalance exceeds moves nothing, and each layout serves requests") {
        auto main = [](shard_listener& l) -> task<std::size_t> {
            tcp_stream a = co_await tcp_stream::connect(l.local_endpoint());
            for (int i = 0; i < 100; ++i)
                static_cast<void>(co_await ask(a));
            tcp_stream b = co_await tcp_stream::connect(l.local_endpoint());
            for (int i = 0; i < 100; ++i) {
                static_cast<void>(co_await ask(a));
                static_cast<void>(co_await ask(b));
            }
            co_return l.moved();
        };
        test::on_each_layout([&](auto builder) {
            const runtime rt = builder.build();
            for (const accepting how :
                 {accepting::each_shard, accepting::round_robin, accepting::least_connections})
                CHECK(rt.block_on(while_serving(how, tell_shard_once, magpie::io::rebalancing(1, 16),
                                                main)) == 0);
        });
    }

    TEST_CASE("limits and windows that make no sense are refused") {
        using magpie::io::rebalancing;
        CHECK_THROWS_AS(rebalancing{0}, std::logic_error);
        CHECK_THROWS_AS(rebalancing{-1}, std::logic_error);
        CHECK_THROWS_AS(rebalancing{std::numeric_limits<double>::quiet_NaN()}, std::logic_error);
        CHECK_THROWS_AS((rebalancing{0.5, 15}), std::logic_error);
        CHECK(rebalancing(0.001, 16).limit() == 0.001);
        CHECK(rebalancing().window() == 1024);
    }

    TEST_CASE("how many leave: what brings the shard to the mean, and the other one not beyond") {
        // Four shards; the connections of each serve in turn.
        const auto given = [](std::vector<int> connections, double limit) {
            magpie::io::detail::shard_balance balance(4, limit, 1200);
            int gone = 0;
            std::size_t to = 99;
            std::vector<std::vector<std::uint64_t>> counted;
            for (const int n : connections)
                counted.emplace_back(static_cast<std::size_t>(n), 0U);
            for (int round = 0; round < 2400; ++round) {
                for (std::size_t s = 0; s < 4; ++s) {
                    for (std::uint64_t& c : counted[s]) {
                        if (const auto where = balance.served(s, c)) {
                            if (s != 0) // who sees the same at the same time does the same
                                continue;
                            ++gone;
                            to = *where;
                        }
                    }
                    if (gone > 0 && s == 0) // the rest of that look
                        for (std::uint64_t c = 0; balance.served(0, c).has_value();)
                            ++gone;
                }
                if (gone > 0)
                    break;
            }
            return std::pair(gone, to);
        };
        CHECK(given({8, 0, 8, 8}, 0.2) == std::pair(2, std::size_t{1})); // of 24, 6 is the mean
        CHECK(given({12, 4, 4, 4}, 0.5) == std::pair(2, std::size_t{1}));
        CHECK(given({24, 8, 12, 20}, 0.4) == std::pair(7, std::size_t{1}));
        CHECK(given({24, 8, 12, 20}, 0.6).first == 0);
        CHECK(given({1, 0, 0, 0}, 0.1).first == 0);
        CHECK(given({5, 5, 5, 5}, 0.1).first == 0);
    }

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
