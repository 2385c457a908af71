// What io/ makes of errors of the system that no test can bring about: they are made up here.

#include "system_calls.hpp"

#include <magpie/io.hpp>

#include <test/in_child.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <net/route.h>
#include <netinet/in.h>
#include <optional>
#include <sched.h>
#include <span>
#include <string>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

namespace {

using magpie::io::endpoint;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;
using test::bytes;
using test::connected;
using test::error_of;
using test::failing;
using test::system_call;

boost::system::error_code code(int error) { return {error, boost::system::system_category()}; }

/// What the child has to say about networks that do not lead anywhere.
enum class unreachable { as_expected = 0, otherwise = 1, not_permitted = 2 };

unreachable connects_nowhere() {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return unreachable::not_permitted;
    const endpoint somewhere("192.0.2.1:80"); // reserved for documentation
    const auto connecting = [&] {
        const magpie::runtime rt = test::current_thread().build();
        return rt.block_on([](endpoint to) -> magpie::task<boost::system::error_code> {
            co_return co_await error_of(tcp_stream::connect(to));
        }(somewhere));
    };
    if (connecting() != magpie::errc::network_unreachable)
        return unreachable::otherwise;
    rtentry route{};
    sockaddr_in any{};
    any.sin_family = AF_INET;
    std::copy_n(reinterpret_cast<const char*>(&any), sizeof any,
                reinterpret_cast<char*>(&route.rt_dst));
    std::copy_n(reinterpret_cast<const char*>(&any), sizeof any,
                reinterpret_cast<char*>(&route.rt_genmask));
    route.rt_flags = RTF_UP | RTF_REJECT;
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool refused = ::ioctl(fd, SIOCADDRT, &route) != 0;
    ::close(fd);
    if (refused)
        return unreachable::not_permitted;
    return connecting() == magpie::errc::host_unreachable ? unreachable::as_expected
                                                          : unreachable::otherwise;
}

} // namespace

TEST_SUITE("fault.io") {
    // --- no descriptors: of this process (EMFILE), or at all (ENFILE) ---

    TEST_CASE("no descriptors x accept: it says so; the connection waits, the listener works") {
        for (const int error : {EMFILE, ENFILE}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                auto client = co_await tcp_stream::connect(listener.local_endpoint());
                {
                    const failing lack(system_call::accept, error);
                    for (int i = 0; i < 3; ++i) {
                        const auto said = co_await error_of(listener.accept());
                        CHECK(said == code(error));
                    }
                    const auto at_once = listener.try_accept();
                    CHECK(at_once.error() == code(error));
                }
                auto next = co_await listener.accept(); // there was no new event
                CHECK(next.peer == client.local_endpoint());
                auto another = co_await tcp_stream::connect(listener.local_endpoint());
                auto last = co_await listener.accept();
                CHECK(last.peer == another.local_endpoint());
            });
        }
    }

    TEST_CASE("no descriptors x accept that waits: it says so, and the listener works") {
        for (const int error : {EMFILE, ENFILE}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                auto waits = magpie::spawn(
                    [](tcp_listener& l) -> magpie::task<boost::system::error_code> {
                        co_return co_await error_of(l.accept());
                    }(listener));
                co_await test::settle();
                tcp_stream client;
                {
                    const failing lack(system_call::accept, error);
                    client = co_await tcp_stream::connect(listener.local_endpoint());
                    const auto said = co_await waits;
                    CHECK(said == code(error));
                }
                auto next = co_await listener.accept();
                CHECK(next.peer == client.local_endpoint());
            });
        }
    }

    TEST_CASE("no descriptors x connect, bind: they say so, later they work") {
        for (const int error : {EMFILE, ENFILE}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                {
                    const failing lack(system_call::socket, error);
                    const auto said = co_await error_of(tcp_stream::connect(listener.local_endpoint()));
                    CHECK(said == code(error));
                    try {
                        auto l = tcp_listener::bind(endpoint::loopback_v4(0));
                        CHECK(false);
                    } catch (const std::system_error& e) {
                        CHECK(e.code() == std::error_code(code(error)));
                    }
                }
                auto s = co_await tcp_stream::connect(listener.local_endpoint());
                CHECK(s);
            });
        }
    }

    TEST_CASE("no descriptors x the first I/O object of a runtime: it says so, later it works") {
        for (const int error : {EMFILE, ENFILE}) {
            for (const int times : {1, failing::always}) {
                CAPTURE(error);
                CAPTURE(times);
                test::run_on_one_thread([](int e, int n) -> magpie::task<> {
                    const std::size_t before = test::open_descriptors();
                    {
                        const failing lack(system_call::open_set, e, n);
                        try {
                            auto l = tcp_listener::bind(endpoint::loopback_v4(0));
                            CHECK(false);
                        } catch (const std::system_error& said) {
                            CHECK(said.code() == std::error_code(code(e)));
                        }
                    }
                    CHECK(test::are_open_again(before));
                    auto pair = co_await connected();
                    CHECK(pair.here);
                }(error, times));
            }
        }
    }

    TEST_CASE(
        "no descriptors x each of those of a runtime and of its reactor: the error, nothing is left") {
        for (const int error : {EMFILE, ENFILE, ENOMEM})
            for (const system_call call :
                 {system_call::open_event, system_call::open_timer, system_call::open_set}) {
                CAPTURE(error);
                CAPTURE(static_cast<int>(call));
                const std::size_t before = test::open_descriptors();
                int refused = 0;
                for (int late = 0;; ++late) { // the first, the second, ...
                    CAPTURE(late);
                    std::error_code said;
                    bool failed = false;
                    {
                        const failing lack(call, error, 1, late);
                        try {
                            const magpie::runtime rt = test::multi_thread(2).build();
                            rt.block_on([]() -> magpie::task<> {
                                const auto pair = co_await connected();
                                CHECK(pair.here);
                            }());
                        } catch (const std::system_error& e) {
                            said = e.code();
                        }
                        failed = lack.failed() == 1;
                    }
                    CHECK(test::are_open_again(before));
                    if (!failed)
                        break;
                    if (said) // Asio does without those of its own
                        CHECK(said == std::error_code(code(error)));
                    refused += said ? 1 : 0;
                }
                CHECK((refused > 0 || test::on_portable_reactor));
            }
    }

    TEST_CASE("no more descriptors may be watched (ENOSPC) x accept, connect, bind: nothing is left") {
        const auto run = []() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            const std::size_t before = test::open_streams();
            {
                const failing lack(system_call::watch, ENOSPC);
                const auto of_accept = co_await error_of(listener.accept());
                CHECK(of_accept == code(ENOSPC));
                const auto of_connect = co_await error_of(
                    tcp_stream::connect(listener.local_endpoint()));
                CHECK(of_connect == code(ENOSPC));
                CHECK_THROWS_AS(tcp_listener::bind(endpoint::loopback_v4(0)), std::system_error);
            }
            CHECK(test::open_streams() == before);
            std::array<std::byte, 1> buffer;
            const std::size_t end = co_await client.read(buffer); // it was taken, and closed
            CHECK(end == 0);
            auto another = co_await tcp_stream::connect(listener.local_endpoint());
            for (;;) { // the one that connect gave up is there, too
                auto next = co_await listener.accept();
                if (next.peer == another.local_endpoint())
                    break;
            }
        };
        // Not with a reactor for each worker: one that is made late would want to watch descriptors of its own.
        for (const magpie::runtime_builder& b : {test::multi_thread(2), test::multi_thread(1),
                                                 test::current_thread(), test::thread_per_core(2)}) {
            const magpie::runtime rt = magpie::runtime_builder(b).build();
            rt.block_on(test::within_five_minutes(run()));
        }
    }

    // --- signals ---

    TEST_CASE("EINTR, many times x every operation: goes on") {
        static constexpr int storm = 50;
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            std::optional<tcp_stream> here;
            {
                const failing once(system_call::connect, EINTR, 1);
                here.emplace(co_await tcp_stream::connect(listener.local_endpoint()));
                CHECK(once.failed() == 1);
            }
            std::optional<tcp_stream> there;
            {
                const failing often(system_call::accept, EINTR, storm);
                auto next = co_await listener.accept();
                there.emplace(std::move(next.stream));
                CHECK(often.failed() == storm);
            }
            std::array<std::byte, 2> two;
            std::array<std::span<const std::byte>, 2> out{bytes("a"), bytes("b")};
            std::array<std::span<std::byte>, 2> in{std::span(two).first(1), std::span(two).last(1)};
            for (int how = 0; how < 3; ++how) {
                {
                    const failing often(system_call::send, EINTR, storm);
                    if (how == 0) {
                        const std::size_t n = co_await here->write(bytes("ab"));
                        CHECK(n == 2);
                    } else if (how == 1) {
                        co_await here->write_all(bytes("ab"));
                    } else {
                        const std::size_t n = co_await here->write(std::span(out));
                        CHECK(n == 2);
                    }
                    CHECK(often.failed() == storm);
                }
                two = {};
                const failing often(system_call::receive, EINTR, storm);
                if (how == 0) {
                    const std::size_t n = co_await there->read(two);
                    CHECK(n == 2);
                } else if (how == 1) {
                    co_await there->read_exact(two);
                } else {
                    const std::size_t n = co_await there->read(std::span(in));
                    CHECK(n == 2);
                }
                CHECK(often.failed() == storm);
                CHECK(two == std::array{std::byte{'a'}, std::byte{'b'}});
            }
        });
    }

    // --- no route, no answer ---

    TEST_CASE("unreachable, or no answer x connect: the error, with the address") {
        for (const int error : {EHOSTUNREACH, ENETUNREACH, ETIMEDOUT}) {
            for (const bool later : {false, true}) { // at once, or by an event
                CAPTURE(error);
                CAPTURE(later);
                test::run_on_each_layout([error, later]() -> magpie::task<> {
                    auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                    const endpoint at = listener.local_endpoint();
                    const std::size_t before = test::open_streams();
                    {
                        const failing call(system_call::connect, later ? EINPROGRESS : error);
                        const failing event(system_call::socket_error, error, later ? -1 : 0);
                        const auto said = co_await error_of(tcp_stream::connect(at));
                        CHECK(said == code(error));
                        try {
                            auto s = co_await tcp_stream::connect(at);
                            CHECK(false);
                        } catch (const std::system_error& e) {
                            CHECK(e.code() == std::error_code(code(error)));
                            CHECK(std::string(e.what()).find(at.to_string()) != std::string::npos);
                        }
                    }
                    CHECK(test::open_streams() == before);
                    auto s = co_await tcp_stream::connect(at);
                    CHECK(s);
                });
            }
        }
    }

    TEST_CASE("a network without a route, and one with a route to nowhere x connect") {
        const auto ends_with = [](unreachable how) {
            return test::survives([how] { return connects_nowhere() == how; });
        };
        if (ends_with(unreachable::not_permitted)) {
            MESSAGE("left out: a network of its own (unshare, SIOCADDRT) is not permitted here");
            return;
        }
        CHECK(ends_with(unreachable::as_expected));
    }

    // --- accept ---

    TEST_CASE("a connection that broke before it was taken x accept: passed over") {
        for (const int error : {ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, ENETUNREACH}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                auto client = co_await tcp_stream::connect(listener.local_endpoint());
                const failing broken(system_call::accept, error, 3);
                auto next = co_await listener.accept();
                CHECK(next.peer == client.local_endpoint());
                CHECK(broken.failed() == 3);
            });
        }
    }

    TEST_CASE("no memory, or a firewall x accept: the error; the listener works") {
        for (const int error : {ENOBUFS, ENOMEM, EPERM}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                auto client = co_await tcp_stream::connect(listener.local_endpoint());
                {
                    const failing lack(system_call::accept, error, 1);
                    const auto said = co_await error_of(listener.accept());
                    CHECK(said == code(error));
                }
                auto next = co_await listener.accept();
                CHECK(next.peer == client.local_endpoint());
            });
        }
    }

    // --- an established connection ---

    TEST_CASE("any error x read, read_exact, write, write_all: the error, and the stream may go on") {
        for (const int error : {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENOBUFS, ENOMEM}) {
            CAPTURE(error);
            test::run_on_each_layout([error]() -> magpie::task<> {
                auto pair = co_await connected();
                co_await pair.there.write_all(bytes("abc"));
                static_cast<void>(co_await pair.here.readable());
                std::array<std::byte, 3> three;
                std::array<std::span<std::byte>, 1> in{three};
                std::array<std::span<const std::byte>, 1> out{bytes("x")};
                {
                    const failing broken(system_call::receive, error);
                    const auto of_read = co_await error_of(pair.here.read(three));
                    const auto of_peek = co_await error_of(pair.here.peek(three));
                    const auto of_exact = co_await error_of(pair.here.read_exact(three));
                    const auto of_several = co_await error_of(pair.here.read(std::span(in)));
                    CHECK(of_read == code(error));
                    CHECK(of_peek == code(error));
                    CHECK(of_exact == code(error));
                    CHECK(of_several == code(error));
                    CHECK(pair.here.try_read(three).error() == code(error));
                }
                {
                    const failing broken(system_call::send, error);
                    const auto of_write = co_await error_of(pair.here.write(bytes("x")));
                    const auto of_all = co_await error_of(pair.here.write_all(bytes("x")));
                    const auto of_several = co_await error_of(pair.here.write(std::span(out)));
                    CHECK(of_write == code(error));
                    CHECK(of_all == code(error));
                    CHECK(of_several == code(error));
                    CHECK(pair.here.try_write(bytes("x")).error() == code(error));
                }
                const std::string text = co_await test::read_text(pair.here, 3);
                CHECK(text == "abc");
                co_await pair.here.write_all(bytes("y"));
                const std::string answer = co_await test::read_text(pair.there, 1);
                CHECK(answer == "y"); // nothing was sent by what failed
            });
        }
    }

    TEST_CASE("ENOBUFS x write in the middle of a stream: what the caller repeats arrives once") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::string> {
                co_return co_await test::read_text(s, 1000);
            }(pair.there));
            std::string all;
            for (int i = 0; i < 500; ++i) {
                const std::string two = std::to_string(10 + i % 90);
                all += two;
                const failing lack(system_call::send, ENOBUFS, i % 3);
                for (;;) {
                    const auto sent = co_await magpie::as_result(pair.here.write_all(bytes(two)));
                    if (sent)
                        break;
                    CHECK(sent.error() == code(ENOBUFS));
                }
            }
            const std::string came = co_await reader;
            CHECK(came == all);
        });
    }

    TEST_CASE("EAGAIN, many times in a row x reads and writes: each byte arrives once, in order") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            // Each of these lies costs an event, so data has to follow, a byte at a time: more than they are,
            // and less than would fill the buffers.
            const failing reads(system_call::receive, EAGAIN, 30);
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::string> {
                std::string text;
                std::array<char, 7> part;
                while (text.size() < 50) {
                    const std::size_t n = co_await s.read(std::as_writable_bytes(std::span(part)));
                    text.append(part.data(), n);
                }
                co_return text;
            }(pair.there));
            std::string all;
            while (!reader.is_finished()) {
                const std::string one(1, static_cast<char>('a' + all.size() % 26));
                const std::size_t n = co_await pair.here.write(bytes(one));
                CHECK(n == 1);
                all += one;
                co_await magpie::sleep_for(std::chrono::microseconds(20));
            }
            const std::string came = co_await reader;
            CHECK(came.size() >= 50);
            CHECK(all.starts_with(came));
            CHECK(reads.failed() == 30);
        });
    }

    TEST_CASE("short reads and writes x read_exact, write_all: through buffers that are much smaller") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.here.set_send_buffer_size(1); // as little as the system allows
            pair.here.set_nodelay(true);
            std::string text(1 << 20, ' ');
            for (std::size_t i = 0; i < text.size(); ++i)
                text[i] = static_cast<char>('a' + i % 26 + i / 26 % 5);
            auto writer = magpie::spawn([](tcp_stream& s, const std::string& all) -> magpie::task<> {
                co_await s.write_all(bytes(all));
            }(pair.here, text));
            const std::string came = co_await test::read_text(pair.there, text.size());
            co_await writer;
            CHECK(came == text);
        });
    }

    TEST_CASE("reset x every state of a stream: each wait ends, and each later call") {
        test::run_on_each_layout([]() -> magpie::task<> {
            enum state { idle, unread, full, shut_down, reads, peeks, writes, looks, both };
            for (const state in : {idle, unread, full, shut_down, reads, peeks, writes, looks, both}) {
                auto pair = co_await connected();
                auto read = [](tcp_stream& s, bool peek) -> magpie::task<bool> {
                    std::array<std::byte, 64> buffer;
                    if (peek) {
                        const auto r = co_await magpie::as_result(s.peek(buffer));
                        co_return r.has_error();
                    }
                    const auto r = co_await magpie::as_result(s.read(buffer));
                    co_return r.has_error();
                };
                auto write = [](tcp_stream& s) -> magpie::task<bool> {
                    const std::string much(1 << 16, 'x');
                    for (;;) {
                        const auto r = co_await magpie::as_result(s.write_all(bytes(much)));
                        if (r.has_error())
                            co_return true;
                    }
                };
                auto look = [](tcp_stream& s) -> magpie::task<bool> {
                    static_cast<void>(co_await s.readable());
                    co_return true;
                };
                magpie::join_set<bool> waits;
                if (in == unread)
                    co_await pair.there.write_all(bytes("unread"));
                if (in == full)
                    while (pair.here.try_write(bytes(std::string(1 << 16, 'x')))) {}
                if (in == shut_down)
                    pair.here.shutdown(magpie::io::shutdown_side::write);
                if (in == reads || in == both)
                    waits.spawn(read(pair.here, false));
                if (in == peeks)
                    waits.spawn(read(pair.here, true));
                if (in == writes || in == both)
                    waits.spawn(write(pair.here));
                if (in == looks)
                    waits.spawn(look(pair.here));
                co_await test::settle();
                pair.there.set_linger(std::chrono::seconds(0));
                pair.there = tcp_stream();
                // The system tells of the reset once: of two who wait one may find the end instead.
                bool failed = waits.empty();
                while (!waits.empty()) {
                    const auto one = co_await waits.join_next();
                    failed = failed || (one && *one);
                }
                CHECK(failed);
                std::array<std::byte, 64> buffer;
                for (int i = 0; i < 3; ++i) { // the error once, or what had come; then the end
                    const auto r = co_await magpie::as_result(pair.here.read(buffer));
                    CHECK((r.has_error() || i < 2 || *r == 0));
                }
                const auto w = co_await error_of(pair.here.write(bytes("x")));
                CHECK((w == magpie::errc::broken_pipe || w == magpie::errc::connection_reset));
            }
        });
    }

    TEST_CASE("an event without what it tells of x read: waits for the next one") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const failing nothing_there(system_call::receive, EAGAIN, 1);
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::string> {
                co_return co_await test::read_text(s, 2);
            }(pair.here));
            co_await pair.there.write_all(bytes("a"));
            while (nothing_there.failed() == 0)
                co_await magpie::yield_now();
            co_await pair.there.write_all(bytes("b"));
            const std::string both = co_await reader;
            CHECK(both == "ab");
        });
    }
}
