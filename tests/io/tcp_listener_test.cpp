#include <magpie/io/tcp_listener.hpp>

#include <test/io.hpp>

#include <magpie/io/tcp_socket.hpp>
#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::io::endpoint;
using magpie::io::ip_version;
using magpie::io::listen_options;
using magpie::io::tcp_listener;
using magpie::io::tcp_socket;
using magpie::io::tcp_stream;
using test::bytes;

} // namespace

TEST_SUITE("io.tcp_listener") {
    TEST_CASE("NET-CORE-01 many connections are accepted") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            const endpoint at = listener.local_endpoint();
            std::vector<magpie::join_handle<>> clients;
            for (int i = 0; i < 50; ++i)
                clients.push_back(magpie::spawn([](endpoint e, int n) -> magpie::task<> {
                    auto s = co_await tcp_stream::connect(e);
                    co_await s.write_all(bytes(std::string(static_cast<std::size_t>(n + 1), 'x')));
                }(at, i)));
            std::size_t all = 0;
            for (int i = 0; i < 50; ++i) {
                auto next = co_await listener.accept();
                CHECK(next.peer == next.stream.remote_endpoint());
                const std::string text = co_await test::read_all(next.stream);
                all += text.size();
            }
            CHECK(all == 50 * 51 / 2);
            for (auto& c : clients)
                co_await c;
        });
    }

    TEST_CASE("NET-CORE-01 nobody is resumed without an event") {
        auto builder = test::current_thread();
        builder.paused_clock(true);
        const magpie::runtime rt = builder.build();
        const auto turns = [&rt] { return rt.metrics().workers.at(0).turns; };
        rt.block_on([](auto count) -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto waits = magpie::spawn(
                [](tcp_listener& l) -> magpie::task<> { auto next = co_await l.accept(); }(listener));
            co_await magpie::sleep_for(1h);
            const auto before = count();
            for (int i = 0; i < 100; ++i)
                co_await magpie::sleep_for(1h); // one turn each
            CHECK(count() - before == 100);
            CHECK_FALSE(waits.is_finished());
            auto s = co_await tcp_stream::connect(listener.local_endpoint());
            co_await waits;
        }(turns));
    }

    TEST_CASE("several tasks accept on one listener") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            std::vector<magpie::join_handle<>> servers;
            for (int i = 0; i < 4; ++i)
                servers.push_back(magpie::spawn([](tcp_listener& l) -> magpie::task<> {
                    for (int n = 0; n < 5; ++n) {
                        auto next = co_await l.accept();
                        co_await next.stream.write_all(bytes("x"));
                    }
                }(listener)));
            for (int i = 0; i < 20; ++i) {
                auto s = co_await tcp_stream::connect(listener.local_endpoint());
                const std::string text = co_await test::read_text(s, 1);
                CHECK(text == "x");
            }
            for (auto& s : servers)
                co_await s;
        });
    }

    TEST_CASE("try_accept never waits") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto none = listener.try_accept();
            CHECK(none.error() == magpie::errc::operation_would_block);
            auto s = co_await tcp_stream::connect(listener.local_endpoint());
            // The client may be through before the listener has heard its last word.
            CHECK(test::eventually([&] { return listener.try_accept().has_value(); }));
        }());
    }

    TEST_CASE("an accept that is dropped has taken no connection") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            const auto late = co_await magpie::timeout(1ms, listener.accept());
            CHECK_FALSE(late.has_value());
            auto s = co_await tcp_stream::connect(listener.local_endpoint());
            auto next = co_await listener.accept();
            CHECK(next.peer == s.local_endpoint());
        });
    }

    TEST_CASE(
        "a pending accept may lose and be selected again, and takes one connection after another") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto next = listener.accept();
            for (int i = 0; i < 3; ++i) {
                auto idle = co_await magpie::select(next, magpie::sleep_for(1ms));
                CHECK(idle.index() == 1);
            }
            for (int i = 0; i < 3; ++i) {
                auto s = co_await tcp_stream::connect(listener.local_endpoint());
                auto got = co_await magpie::select(next, magpie::sleep_for(1h));
                CHECK(got.index() == 0);
                if (got.index() == 0)
                    CHECK(got.get<0>().peer == s.local_endpoint());
            }
        });
    }

    TEST_CASE("NET-CORE-08 bind before connect") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const std::array all{endpoint("127.0.0.1:0"), endpoint("[::1]:0")};
            for (const endpoint& at : all) {
                auto listener = tcp_listener::bind(at);
                tcp_socket socket(at.is_v4() ? ip_version::v4 : ip_version::v6);
                socket.bind(at);
                const endpoint from = socket.local_endpoint();
                auto s = co_await std::move(socket).connect(listener.local_endpoint());
                auto next = co_await listener.accept();
                CHECK(next.peer == from);
                CHECK(s.local_endpoint() == from);
                CHECK_THROWS_AS(static_cast<void>(socket.native_handle()), std::logic_error);
            }
        });
    }

    TEST_CASE("NET-CORE-08 a linger of nothing resets the connection") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const std::array all{endpoint("127.0.0.1:0"), endpoint("[::1]:0")};
            for (const endpoint& at : all) {
                auto pair = co_await test::connected(at);
                pair.here.set_linger(0s);
                CHECK(pair.here.linger() == 0s);
                pair.here = tcp_stream();
                std::array<std::byte, 8> buffer;
                const auto error = co_await test::error_of(pair.there.read(buffer));
                CHECK(error == magpie::errc::connection_reset);
            }
        });
    }

    TEST_CASE("a socket is configured, then listens") {
        test::run_on_one_thread([]() -> magpie::task<> {
            tcp_socket first(ip_version::v4);
            first.set_reuse_port(true);
            CHECK(first.reuse_port());
            first.set_reuse_address(true);
            CHECK(first.reuse_address());
            first.bind(endpoint::loopback_v4(0));
            const endpoint at = first.local_endpoint();
            auto listener = std::move(first).listen(16);
            auto second = tcp_listener::bind(at,
                                             listen_options().reuse_port(true)); // the port is shared
            CHECK(second.local_endpoint() == at);
            CHECK_THROWS_AS(tcp_listener::bind(at), std::system_error);
            tcp_socket third(ip_version::v4);
            CHECK_THROWS_AS(std::move(third).listen(0), std::invalid_argument);
            co_return;
        }());
    }

    TEST_CASE("NET-CORE-13 binding outside of a runtime names the line that did it") {
        try {
            static_cast<void>(tcp_listener::bind(endpoint::loopback_v4(0)));
            CHECK(false);
        } catch (const std::logic_error& e) {
            CHECK(std::string(e.what()).find("tcp_listener_test.cpp:") != std::string::npos);
        }
    }

    TEST_CASE("NET-CORE-13 adopting a socket that does not listen is refused") {
        test::run_on_one_thread([]() -> magpie::task<> {
            const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            CHECK_THROWS_AS(tcp_listener::adopt(fd), std::invalid_argument);
            ::close(fd);
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            const endpoint at = listener.local_endpoint();
            CHECK_THROWS_AS(tcp_stream::adopt(listener.native_handle()), std::invalid_argument);
            auto again = tcp_listener::adopt(listener.release());
            CHECK(again.local_endpoint() == at);
            co_return;
        }());
    }

} // TEST_SUITE
