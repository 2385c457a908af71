#include <magpie/io/tcp_stream.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <netinet/in.h>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::io::endpoint;
using magpie::io::shutdown_side;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;
using test::bytes;
using test::connected;

magpie::task<> echo(tcp_stream peer) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const std::size_t n = co_await peer.read(buffer);
        if (n == 0)
            co_return;
        co_await peer.write_all(std::span(buffer).first(n));
    }
}

magpie::task<> send_all(tcp_stream& s, const std::string& text) {
    co_await s.write_all(bytes(text));
    s.shutdown(shutdown_side::write);
}

} // namespace

TEST_SUITE("io.tcp_stream") {
    TEST_CASE("NET-CORE-02 connect, version 4 and version 6") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const std::array all{endpoint("127.0.0.1:0"), endpoint("127.0.0.1", 0),
                                 endpoint("[::1]:0")};
            for (const endpoint& at : all) {
                auto pair = co_await connected(at);
                CHECK(pair.here.remote_endpoint() == pair.there.local_endpoint());
                CHECK(pair.there.remote_endpoint() == pair.here.local_endpoint());
                co_await pair.here.write_all(bytes("hello"));
                const std::string text = co_await test::read_text(pair.there, 5);
                CHECK(text == "hello");
            }
        });
    }

    TEST_CASE("NET-CORE-03 a hang-up is reported as readiness") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.there.set_linger(0s);
            pair.there = tcp_stream(); // a reset
            for (;;) {
                const auto ready = co_await pair.here.readable();
                if (ready.is_read_closed() && ready.is_write_closed())
                    break;
                static_cast<void>(pair.here.try_read({}));
            }
            std::array<std::byte, 8> buffer;
            const auto error = co_await test::error_of(pair.here.read(buffer));
            CHECK(error == magpie::errc::connection_reset);
        });
    }

    TEST_CASE("NET-CORE-04 echo of a large payload") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto server = magpie::spawn(echo(std::move(pair.there)));
            std::string payload(4 << 20, ' ');
            for (std::size_t i = 0; i < payload.size(); ++i)
                payload[i] = static_cast<char>('a' + i * 7 % 26);
            auto sender = magpie::spawn(send_all(pair.here, payload));
            const std::string back = co_await test::read_all(pair.here);
            CHECK(back == payload);
            co_await sender;
            co_await server;
        });
    }

    TEST_CASE("NET-CORE-06 shutting writing down ends the peer's read") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            co_await pair.here.write_all(bytes("last words"));
            pair.here.shutdown(shutdown_side::write);
            const std::string all = co_await test::read_all(pair.there);
            CHECK(all == "last words");
            std::array<std::byte, 8> buffer;
            const std::size_t again = co_await pair.there.read(buffer); // the end stays
            CHECK(again == 0);
            co_await pair.there.write_all(bytes("answer")); // the other direction goes on
            const std::string answer = co_await test::read_text(pair.here, 6);
            CHECK(answer == "answer");
            const auto error = co_await test::error_of(pair.here.write(bytes("x")));
            CHECK(error == magpie::errc::broken_pipe);
        });
    }

    TEST_CASE("NET-CORE-06 a repeated shutdown does nothing; after a reset it says not_connected") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.here.shutdown(shutdown_side::write);
            pair.here.shutdown(shutdown_side::write);
            pair.here.shutdown(shutdown_side::both);
            auto other = co_await connected();
            other.there.set_linger(0s);
            other.there = tcp_stream();
            std::array<std::byte, 8> buffer;
            const auto error = co_await test::error_of(other.here.read(buffer));
            CHECK(error == magpie::errc::connection_reset);
            CHECK_THROWS_AS(other.here.shutdown(shutdown_side::write), std::system_error);
        });
    }

    TEST_CASE("shutdown ends a read that waits in another task") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::size_t> {
                std::array<std::byte, 8> buffer;
                co_return co_await s.read(buffer);
            }(pair.here));
            co_await test::settle();
            pair.here.shutdown(shutdown_side::both);
            const std::size_t n = co_await reader;
            CHECK(n == 0);
        });
    }

    TEST_CASE("NET-CORE-07 peek does not consume") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            co_await pair.here.write_all(bytes("abc"));
            std::array<std::byte, 2> two;
            std::size_t n = co_await pair.there.peek(two);
            CHECK(n == 2);
            std::array<std::byte, 8> buffer;
            n = co_await pair.there.peek(buffer); // more than there is
            CHECK(n == 3);
            const std::string text = co_await test::read_text(pair.there, 3);
            CHECK(text == "abc");
        });
    }

    TEST_CASE("NET-CORE-09 try_read and try_write never wait, and clear readiness when they would") {
        test::run_on_one_thread([]() -> magpie::task<> {
            // Not TCP, which may take more when it seemed to be full: then what was sent moves on to the peer.
            auto pair = test::local_pair();
            std::array<std::byte, 8> buffer;
            auto nothing = pair.there.try_read(buffer);
            CHECK(nothing.error() == magpie::errc::operation_would_block);
            co_await pair.here.write_all(bytes("abc"));
            static_cast<void>(co_await pair.there.readable());
            const auto three = pair.there.try_read(buffer);
            CHECK(*three == 3);
            nothing = pair.there.try_read(buffer);
            CHECK(nothing.error() == magpie::errc::operation_would_block);

            auto waits = magpie::spawn([](tcp_stream& s) -> magpie::task<> {
                static_cast<void>(co_await s.readable());
            }(pair.there));
            co_await test::settle();
            CHECK_FALSE(waits.is_finished());

            const std::string much(1 << 20, 'x');
            magpie::result<std::size_t> sent = 0;
            while ((sent = pair.there.try_write(bytes(much)))) {}
            CHECK(sent.error() == magpie::errc::operation_would_block);
            auto writable = magpie::spawn([](tcp_stream& s) -> magpie::task<> {
                static_cast<void>(co_await s.writable());
            }(pair.there));
            co_await test::settle();
            CHECK_FALSE(writable.is_finished());
            std::vector<std::byte> sink(1 << 20);
            while (!writable.is_finished()) { // once all has been read nothing more comes here
                static_cast<void>(pair.here.try_read(sink));
                co_await magpie::yield_now();
            }
            co_await writable;
            CHECK(pair.there.try_write(bytes("x")));
            pair.here.shutdown(shutdown_side::write);
            co_await waits;
        }());
    }

    TEST_CASE("NET-CORE-10 readiness reports closed sides correctly") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.there.shutdown(shutdown_side::write);
            auto ready = co_await pair.here.readable();
            CHECK(ready.is_read_closed());
            CHECK_FALSE(ready.is_write_closed());
            if (test::on_portable_reactor)
                co_return;                            // it asks for nothing while nobody has to wait
            pair.here.shutdown(shutdown_side::write); // now both directions have ended
            do {
                ready = co_await pair.here.ready(magpie::io::interest::readable |
                                                 magpie::io::interest::writable);
                co_await magpie::yield_now();
            } while (!ready.is_write_closed());
            CHECK(ready.is_read_closed());
        });
    }

    TEST_CASE(
        "NET-CORE-11 an operation does not contain its buffer, and no coroutine frame is made for it") {
        static_assert(sizeof(magpie::io::read_operation) == 48);
        static_assert(sizeof(magpie::io::write_all_operation) <= 64);
        static_assert(sizeof(tcp_stream) == 4);
        using magpie::cancel_safety;
        static_assert(magpie::io::read_operation::safety == cancel_safety::safe);
        static_assert(magpie::io::write_operation::safety == cancel_safety::safe);
        static_assert(magpie::io::accept_operation::safety == cancel_safety::safe);
        static_assert(magpie::io::connect_operation::safety == cancel_safety::safe);
        static_assert(magpie::io::read_exact_operation::safety == cancel_safety::lossy);
        static_assert(magpie::io::write_all_operation::safety == cancel_safety::lossy);
    }

    TEST_CASE("NET-CORE-13 adopting a socket that blocks, or is none, is refused") {
        test::run_on_one_thread([]() -> magpie::task<> {
            int both[2];
            CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, both) == 0);
            CHECK_THROWS_AS(tcp_stream::adopt(both[0]), std::invalid_argument);
            CHECK(test::is_open(both[0]));
            ::close(both[0]);
            ::close(both[1]);
            int ends[2];
            CHECK(::pipe2(ends, O_NONBLOCK) == 0);
            CHECK_THROWS_AS(tcp_stream::adopt(ends[0]), std::invalid_argument);
            ::close(ends[0]);
            ::close(ends[1]);
            CHECK_THROWS_AS(tcp_stream::adopt(-1), std::invalid_argument);
            co_return;
        }());
    }

    TEST_CASE("NET-CORE-13 connecting outside of a runtime names the line that did it") {
        try {
            static_cast<void>(tcp_stream::connect(endpoint::loopback_v4(1)));
            CHECK(false);
        } catch (const std::logic_error& e) {
            CHECK(std::string(e.what()).find("tcp_stream_test.cpp:") != std::string::npos);
            CHECK(std::string(e.what()).find("outside of a runtime") != std::string::npos);
        }
    }

    TEST_CASE("a socket is released and adopted again, by another runtime as well") {
        int fd = -1;
        tcp_stream peer;
        {
            const magpie::runtime first = test::multi_thread(1).build();
            first.block_on([](int& released, tcp_stream& p) -> magpie::task<> {
                auto pair = co_await connected();
                co_await pair.here.write_all(bytes("before"));
                released = pair.here.release();
                CHECK_FALSE(pair.here);
                p = std::move(pair.there);
            }(fd, peer));
        }
        const magpie::runtime second = test::current_thread().build();
        second.block_on([](int released, tcp_stream& p) -> magpie::task<> {
            auto here = tcp_stream::adopt(released);
            auto there = tcp_stream::adopt(p.release());
            const std::string text = co_await test::read_text(there, 6);
            CHECK(text == "before");
            co_await there.write_all(bytes("after"));
            const std::string answer = co_await test::read_text(here, 5);
            CHECK(answer == "after");
        }(fd, peer));
    }

    TEST_CASE("reads and writes of several buffers") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const std::array parts{bytes("ab"), bytes(""), bytes("cde")};
            const std::size_t sent = co_await pair.here.write(std::span(parts));
            CHECK(sent == 5);
            std::string first(2, ' '), second(10, ' ');
            const std::array into{std::as_writable_bytes(std::span(first)),
                                  std::as_writable_bytes(std::span(second))};
            std::size_t n = co_await pair.there.read(std::span(into));
            CHECK(n == 5);
            CHECK(first == "ab");
            CHECK(second.substr(0, 3) == "cde");
            const auto none = co_await magpie::as_result(pair.there.write(std::span(parts).first(0)));
            CHECK(*none == 0);
        });
    }

    TEST_CASE("an empty buffer reads and writes nothing, at once") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const std::size_t n = co_await pair.here.read(std::span<std::byte>());
            const std::size_t m = co_await pair.here.write(std::span<const std::byte>());
            co_await pair.here.write_all({});
            co_await pair.here.read_exact({});
            CHECK(n + m == 0);
        });
    }

    TEST_CASE("read_exact fails when the stream ends before") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            co_await pair.there.write_all(bytes("abc"));
            pair.there.shutdown(shutdown_side::write);
            std::array<std::byte, 4> four;
            const auto error = co_await test::error_of(pair.here.read_exact(four));
            CHECK(error == magpie::io::io_error::unexpected_end);
        });
    }

    TEST_CASE("a read that is dropped has read nothing") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            std::array<std::byte, 8> buffer;
            for (int i = 0; i < 5; ++i) {
                const auto late = co_await magpie::timeout(1ms, pair.there.read(buffer));
                CHECK_FALSE(late.has_value());
            }
            co_await pair.here.write_all(bytes("abc"));
            const std::string text = co_await test::read_text(pair.there, 3);
            CHECK(text == "abc");
        });
    }

    TEST_CASE("a task that reads is aborted while it waits, or while its wake is coming") {
        const magpie::runtime rt = test::multi_thread(2).build();
        const auto round = [](int delay) -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::size_t> {
                std::array<std::byte, 8> buffer;
                co_return co_await s.read(buffer);
            }(pair.there));
            co_await test::settle();
            auto writer = magpie::spawn(
                [](tcp_stream& s) -> magpie::task<> { co_await s.write_all(bytes("abc")); }(pair.here));
            for (int i = 0; i < delay; ++i)
                co_await magpie::yield_now();
            reader.abort();
            const auto end = co_await magpie::as_result(reader);
            co_await writer;
            if (end.has_error()) { // then all of it is still there
                const std::string text = co_await test::read_text(pair.there, 3);
                CHECK(text == "abc");
            } else {
                CHECK(*end == 3);
            }
        };
        for (int i = 0; i < 200; ++i)
            rt.block_on(test::within_five_minutes(round(i % 20)));
    }

    TEST_CASE("two tasks may read from one stream: each byte goes to one of them") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const auto count = [](tcp_stream& s) -> magpie::task<std::size_t> {
                std::size_t all = 0;
                std::array<std::byte, 7> buffer;
                for (;;) {
                    const std::size_t n = co_await s.read(buffer);
                    if (n == 0)
                        co_return all;
                    all += n;
                }
            };
            auto first = magpie::spawn(count(pair.there));
            auto second = magpie::spawn(count(pair.there));
            auto third = magpie::spawn(count(pair.there));
            std::size_t sent = 0;
            for (int i = 0; i < 200; ++i) {
                const std::string text(static_cast<std::size_t>(i % 50 + 1), 'x');
                co_await pair.here.write_all(bytes(text));
                sent += text.size();
                if (i % 3 == 0)
                    co_await magpie::yield_now();
            }
            pair.here.shutdown(shutdown_side::write);
            const std::size_t got = co_await first + co_await second + co_await third;
            CHECK(got == sent);
        });
    }

    TEST_CASE("socket options are set and read") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto pair = co_await connected();
            tcp_stream& s = pair.here;
            CHECK_FALSE(s.nodelay());
            s.set_nodelay(true);
            CHECK(s.nodelay());
            CHECK_FALSE(s.keepalive().has_value());
            s.set_keepalive(magpie::io::keepalive(30s, 5s, 3));
            const auto k = s.keepalive();
            CHECK(k->idle == 30s);
            CHECK(k->interval == 5s);
            CHECK(k->count == 3);
            s.set_keepalive(std::nullopt);
            CHECK_FALSE(s.keepalive().has_value());
            CHECK_THROWS_AS(s.set_keepalive(magpie::io::keepalive(0s)), std::invalid_argument);
            s.set_user_timeout(1500ms);
            CHECK(s.user_timeout() == 1500ms);
            CHECK_THROWS_AS(s.set_user_timeout(-1ms), std::invalid_argument);
            s.set_send_buffer_size(16384);
            CHECK(s.send_buffer_size() >= 16384);
            s.set_receive_buffer_size(16384);
            CHECK(s.receive_buffer_size() >= 16384);
            CHECK_THROWS_AS(s.set_send_buffer_size(std::size_t{1} << 40), std::invalid_argument);
            CHECK_FALSE(s.linger().has_value());
            s.set_linger(3s);
            CHECK(s.linger() == 3s);
            s.set_linger(std::nullopt);
            CHECK_FALSE(s.linger().has_value());
            CHECK_THROWS_AS(s.set_linger(-1s), std::invalid_argument);
            s.set_time_to_live(77);
            CHECK(s.time_to_live() == 77);
            CHECK_THROWS_AS(s.set_time_to_live(0), std::invalid_argument);
            CHECK_FALSE(s.take_error());
        }());
    }

    TEST_CASE("an empty stream says so") {
        tcp_stream s;
        std::array<std::byte, 1> b;
        CHECK_THROWS_AS(static_cast<void>(s.read(b)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(s.local_endpoint()), std::logic_error);
        CHECK_FALSE(s);
    }

} // TEST_SUITE
