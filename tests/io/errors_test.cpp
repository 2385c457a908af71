// What each event does to each operation: one test a cell of the table in docs/io.md.

#include <magpie/io.hpp>

#include <test/eventually.hpp>
#include <test/in_child.hpp>
#include <test/io.hpp>
#include <test/limits.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <span>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::errc::make_error_code;
using magpie::io::endpoint;
using magpie::io::shutdown_side;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;
using test::bytes;
using test::connected;
using test::error_of;

/// The process may not open any more descriptors, as long as it lives. (UndefinedBehaviorSanitizer needs
/// some, to see whether an address is readable: so these tests are left out under sanitizers.)
class no_more_descriptors {
public:
    no_more_descriptors() {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        rlimit now = before_;
        now.rlim_cur = 0;
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
    }
    no_more_descriptors(const no_more_descriptors&) = delete;
    ~no_more_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

magpie::task<std::size_t> read_some(tcp_stream& s) {
    std::array<std::byte, 64> buffer;
    co_return co_await s.read(buffer);
}

/// Writes until it fails.
magpie::task<boost::system::error_code> write_on(tcp_stream& s) {
    const std::string much(1 << 16, 'x');
    for (;;) {
        const auto sent = co_await magpie::as_result(s.write_all(bytes(much)));
        if (!sent)
            co_return sent.error();
    }
}

void reset(tcp_stream& s) {
    s.set_linger(0s);
    s = tcp_stream();
}

bool is_broken(const boost::system::error_code& e) {
    return e == magpie::errc::connection_reset || e == magpie::errc::broken_pipe;
}

} // namespace

TEST_SUITE("io.errors") {
    // --- the peer resets the connection ---

    TEST_CASE("reset x read that waits: connection_reset") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<boost::system::error_code> {
                std::array<std::byte, 64> buffer;
                co_return co_await error_of(s.read(buffer));
            }(pair.here));
            co_await test::settle();
            reset(pair.there);
            const auto error = co_await reader;
            CHECK(error == magpie::errc::connection_reset);
            const std::size_t after = co_await read_some(pair.here); // it is told once
            CHECK(after == 0);
        });
    }

    TEST_CASE("reset x read_exact that has a part: connection_reset") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<boost::system::error_code> {
                std::array<std::byte, 64> buffer;
                co_return co_await error_of(s.read_exact(buffer));
            }(pair.here));
            co_await pair.there.write_all(bytes("a part"));
            co_await test::settle();
            reset(pair.there);
            const auto error = co_await reader;
            CHECK(error == magpie::errc::connection_reset);
        });
    }

    TEST_CASE("reset x write that waits: connection_reset or broken_pipe, and no signal") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto writer = magpie::spawn(write_on(pair.here));
            co_await test::settle();
            reset(pair.there);
            const auto error = co_await writer;
            CHECK(is_broken(error));
            const auto again = co_await error_of(pair.here.write(bytes("x")));
            CHECK(again == magpie::errc::broken_pipe);
        });
    }

    TEST_CASE("reset x accept: a connection that broke before it was taken may still be given") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto first = co_await tcp_stream::connect(listener.local_endpoint());
            reset(first);
            auto second = co_await tcp_stream::connect(listener.local_endpoint());
            co_await second.write_all(bytes("x"));
            for (;;) {
                auto next = co_await listener.accept();
                std::array<std::byte, 1> buffer;
                const auto n = co_await magpie::as_result(next.stream.read(buffer));
                if (n && *n == 1)
                    break;
            }
        });
    }

    // --- the peer closes ---

    TEST_CASE("half close x read: 0, for ever") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn(read_some(pair.here));
            co_await test::settle();
            pair.there.shutdown(shutdown_side::write);
            const std::size_t first = co_await reader;
            const std::size_t second = co_await read_some(pair.here);
            CHECK(first + second == 0);
        });
    }

    TEST_CASE("half close x write: goes on") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.there.shutdown(shutdown_side::write);
            const std::size_t end = co_await read_some(pair.here);
            CHECK(end == 0);
            co_await pair.here.write_all(bytes("abc"));
            const std::string text = co_await test::read_text(pair.there, 3);
            CHECK(text == "abc");
        });
    }

    TEST_CASE("data and end in one event x reads: both are seen") {
        test::run_on_each_layout([]() -> magpie::task<> {
            for (int i = 0; i < 100; ++i) {
                auto pair = co_await connected();
                auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<std::size_t> {
                    const std::string all = co_await test::read_all(s);
                    co_return all.size();
                }(pair.here));
                if (i % 2 == 0)
                    co_await test::settle();
                CHECK(pair.there.try_write(bytes("abc")));
                pair.there.shutdown(shutdown_side::write); // nobody has looked in between
                const std::size_t n = co_await reader;
                CHECK(n == 3);
            }
        });
    }

    TEST_CASE("close x read, read_exact: what it has sent, then 0 and unexpected_end") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            co_await pair.there.write_all(bytes("abc"));
            pair.there = tcp_stream();
            const std::string text = co_await test::read_text(pair.here, 3);
            CHECK(text == "abc");
            const std::size_t end = co_await read_some(pair.here);
            CHECK(end == 0);
            std::array<std::byte, 1> one;
            const auto error = co_await error_of(pair.here.read_exact(one));
            CHECK(error == magpie::io::io_error::unexpected_end);
        });
    }

    TEST_CASE("half close x read_exact that waits: unexpected_end") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto reader = magpie::spawn([](tcp_stream& s) -> magpie::task<boost::system::error_code> {
                std::array<std::byte, 64> buffer;
                co_return co_await error_of(s.read_exact(buffer));
            }(pair.here));
            co_await test::settle();
            pair.there.shutdown(shutdown_side::write);
            const auto error = co_await reader;
            CHECK(error == magpie::io::io_error::unexpected_end);
        });
    }

    TEST_CASE("close with data unread x write: connection_reset or broken_pipe") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto writer = magpie::spawn(write_on(pair.here)); // it waits: nobody reads
            co_await test::settle();
            pair.there = tcp_stream();
            const auto error = co_await writer;
            CHECK(is_broken(error));
            const auto again = co_await error_of(pair.here.write(bytes("x")));
            CHECK(again == magpie::errc::broken_pipe);
        });
    }

    TEST_CASE("close with data unread x read: connection_reset") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            co_await pair.here.write_all(bytes("never read"));
            static_cast<void>(co_await pair.there.readable());
            pair.there = tcp_stream();
            std::array<std::byte, 64> buffer;
            const auto error = co_await error_of(pair.here.read(buffer));
            CHECK(error == magpie::errc::connection_reset);
        });
    }

    TEST_CASE("close x write: the first may succeed, later ones fail") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.there = tcp_stream();
            const auto error = co_await write_on(pair.here);
            CHECK(is_broken(error));
        });
    }

    // --- the peer does nothing ---

    TEST_CASE("peer that never reads x write_all: waits; dropped, it has written a part") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            // Or the system gives them megabytes, which a sanitizer on a busy machine takes long to read.
            pair.here.set_send_buffer_size(1 << 16);
            pair.there.set_receive_buffer_size(1 << 16);
            const std::string much(8 << 20, 'x');
            const bool done = co_await magpie::timeout(20ms, pair.here.write_all(bytes(much)));
            CHECK_FALSE(done);
            pair.here.shutdown(shutdown_side::write);
            const std::string part = co_await test::read_all(pair.there);
            CHECK(part.size() > 0);
            CHECK(part.size() < much.size());
        });
    }

    TEST_CASE("peer that never reads x write with a user timeout: timed_out") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            pair.here.set_user_timeout(50ms);
            const auto error = co_await write_on(pair.here);
            CHECK(error == magpie::errc::timed_out);
        });
    }

    TEST_CASE("peer that never reads x read that waits, with a user timeout: timed_out") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const std::string much(1 << 16, 'x');
            while (pair.here.try_write(bytes(much))) {}
            pair.here.set_user_timeout(50ms); // not before, or a write might be told
            std::array<std::byte, 64> buffer;
            const auto error = co_await error_of(pair.here.read(buffer));
            CHECK(error == magpie::errc::timed_out);
            const std::size_t after = co_await read_some(pair.here); // it is told once
            CHECK(after == 0);
        });
    }

    TEST_CASE("peer that is silent x read_exact: waits; dropped, what it has read is lost") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            std::array<std::byte, 8> buffer;
            co_await pair.there.write_all(bytes("abc"));
            static_cast<void>(co_await pair.here.readable());
            const bool done = co_await magpie::timeout(1ms, pair.here.read_exact(buffer));
            CHECK_FALSE(done);
            co_await pair.there.write_all(bytes("def"));
            const std::string text = co_await test::read_text(pair.here, 3);
            CHECK(text == "def");
        });
    }

    TEST_CASE("peer that never reads x write: waits; dropped, it has written nothing") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const std::string much(1 << 16, 'x');
            std::size_t taken = 0;
            for (;;) {
                const auto n = co_await magpie::timeout(20ms, pair.here.write(bytes(much)));
                if (!n)
                    break;
                taken += *n;
            }
            pair.here.shutdown(shutdown_side::write);
            const std::string all = co_await test::read_all(pair.there);
            CHECK(all.size() == taken);
        });
    }

    TEST_CASE("peer that is silent x read: waits; dropped, it has read nothing") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            std::array<std::byte, 8> buffer;
            const auto late = co_await magpie::timeout(1ms, pair.here.read(buffer));
            CHECK_FALSE(late.has_value());
        });
    }

    // --- no descriptors ---

    TEST_CASE("no descriptors x accept: too_many_files_open; the connection waits, the listener works" *
              doctest::skip(test::sanitized)) {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            {
                const no_more_descriptors limit;
                for (int i = 0; i < 3; ++i) {
                    const auto error = co_await error_of(listener.accept());
                    CHECK(error == magpie::errc::too_many_files_open);
                }
            }
            auto next = co_await listener.accept();
            CHECK(next.peer == client.local_endpoint());
            auto another = co_await tcp_stream::connect(listener.local_endpoint());
            auto last = co_await listener.accept();
            CHECK(last.peer == another.local_endpoint());
        });
    }

    TEST_CASE("no descriptors x connect: too_many_files_open" * doctest::skip(test::sanitized)) {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            {
                const no_more_descriptors limit;
                const auto error = co_await error_of(tcp_stream::connect(listener.local_endpoint()));
                CHECK(error == magpie::errc::too_many_files_open);
            }
            auto s = co_await tcp_stream::connect(listener.local_endpoint());
            CHECK(s);
        });
    }

    TEST_CASE(
        "no descriptors x the first I/O object of a runtime: too_many_files_open, later it works" *
        doctest::skip(test::sanitized)) {
        test::run_on_one_thread([]() -> magpie::task<> {
            {
                const no_more_descriptors limit;
                CHECK_THROWS_AS(tcp_listener::bind(endpoint::loopback_v4(0)), std::system_error);
            }
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            CHECK(listener);
            co_return;
        }());
    }

    // --- signals ---

    TEST_CASE("signal x every operation: goes on") {
        struct sigaction action = {};
        struct sigaction before = {};
        action.sa_handler = [](int) {};
        REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0); // without SA_RESTART
        {
            std::atomic<bool> over{false};
            const magpie::runtime rt = test::multi_thread(2).build();
            std::thread pest([&] {
                while (!over) {
                    ::kill(::getpid(), SIGUSR1); // to whichever thread
                    std::this_thread::yield();
                }
            });
            rt.block_on(test::within_five_minutes([]() -> magpie::task<> {
                for (int i = 0; i < 20; ++i) {
                    auto pair = co_await connected();
                    const std::string much(1 << 20, 'x');
                    auto sender = magpie::spawn(
                        [](tcp_stream s, const std::string& t) -> magpie::task<> {
                            co_await s.write_all(bytes(t));
                        }(std::move(pair.here), much));
                    const std::string all = co_await test::read_all(pair.there);
                    CHECK(all.size() == much.size());
                    co_await sender;
                }
            }()));
            over = true;
            pest.join();
        }
        ::sigaction(SIGUSR1, &before, nullptr);
    }

    // --- connecting ---

    TEST_CASE("nobody listens x connect: connection_refused") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const test::silent_place nobody;
            const endpoint at = nobody.at();
            const auto error = co_await error_of(tcp_stream::connect(at));
            CHECK(error == magpie::errc::connection_refused);
            try {
                auto s = co_await tcp_stream::connect(at);
                CHECK(false);
            } catch (const std::system_error& e) {
                CHECK(e.code() == std::errc::connection_refused);
                CHECK(std::string(e.what()).find(at.to_string()) != std::string::npos);
            }
        });
    }

    TEST_CASE("unreachable x connect: network_unreachable") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const auto error = co_await error_of(tcp_stream::connect(endpoint("224.0.0.1:80")));
            CHECK(error == magpie::errc::network_unreachable);
        });
    }

    TEST_CASE("no answer x connect: waits; dropped, its socket is closed") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0),
                                               magpie::io::listen_options().backlog(1));
            std::vector<tcp_stream> taken;
            for (;;) { // until the queue is full, and the kernel answers no more
                const std::size_t before = test::open_descriptors();
                auto s = co_await magpie::timeout(20ms, tcp_stream::connect(listener.local_endpoint()));
                if (!s) {
                    CHECK(test::are_open_again(before));
                    break;
                }
                taken.push_back(std::move(*s));
            }
        }());
    }

    TEST_CASE("no answer x connect: waits, until the system gives up; then timed_out") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0),
                                               magpie::io::listen_options().backlog(1));
            std::vector<tcp_stream> taken;
            for (;;) { // until the queue is full, and the kernel answers no more
                magpie::io::tcp_socket socket(magpie::io::ip_version::v4);
                const int most = 300; // milliseconds, and not minutes
                CHECK(::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &most,
                                   sizeof most) == 0);
                auto s = co_await magpie::as_result(
                    std::move(socket).connect(listener.local_endpoint()));
                if (s.has_error()) {
                    CHECK(s.error() == magpie::errc::timed_out);
                    break;
                }
                taken.push_back(std::move(*s));
            }
        }());
    }

    // --- other tasks ---

    TEST_CASE("abort x each operation that waits: dropped, and the stream goes on") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto writer = magpie::spawn(write_on(pair.here));
            auto reader = magpie::spawn(read_some(pair.here));
            auto server = magpie::spawn(
                [](tcp_listener& l) -> magpie::task<> { auto next = co_await l.accept(); }(listener));
            co_await test::settle();
            writer.abort();
            reader.abort();
            server.abort();
            const auto w = co_await magpie::as_result(writer);
            const auto r = co_await magpie::as_result(reader);
            const auto a = co_await magpie::as_result(server);
            CHECK(w.has_error());
            CHECK(r.has_error());
            CHECK(a.has_error());
            co_await pair.there.write_all(bytes("abc"));
            const std::string text = co_await test::read_text(pair.here, 3);
            CHECK(text == "abc");
        });
    }

    TEST_CASE("shutdown by another task x write that waits: broken_pipe") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto writer = magpie::spawn(write_on(pair.here));
            co_await test::settle();
            pair.here.shutdown(shutdown_side::both);
            const auto error = co_await writer;
            CHECK(error == magpie::errc::broken_pipe);
        });
    }

    TEST_CASE("destroyed by another task x operation that waits: the program ends, with a sentence") {
        const auto destroyed_under = [](auto operation) {
            return test::survives([operation] {
                test::run_on_one_thread([](auto op) -> magpie::task<> {
                    auto pair = co_await connected();
                    auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
                    auto waits = magpie::spawn(op(pair.here, listener));
                    co_await test::settle();
                    pair.here = tcp_stream();
                    listener = tcp_listener();
                    static_cast<void>(co_await magpie::as_result(waits));
                }(operation));
                return true;
            });
        };
        CHECK_FALSE(destroyed_under([](tcp_stream& s, tcp_listener&) -> magpie::task<> {
            static_cast<void>(co_await read_some(s));
        }));
        CHECK_FALSE(destroyed_under([](tcp_stream& s, tcp_listener&) -> magpie::task<> {
            static_cast<void>(co_await write_on(s));
        }));
        CHECK_FALSE(destroyed_under([](tcp_stream&, tcp_listener& l) -> magpie::task<> {
            static_cast<void>(co_await magpie::as_result(l.accept()));
        }));
        CHECK(destroyed_under([](tcp_stream&, tcp_listener&) -> magpie::task<> { co_return; }));
    }

    TEST_CASE("two writers x write: what each call has taken arrives once, and together") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            const auto send = [](tcp_stream& s, char c) -> magpie::task<std::vector<std::size_t>> {
                const std::string block(1000, c);
                std::vector<std::size_t> calls;
                for (int i = 0; i < 2000; ++i) {
                    const std::size_t n = co_await s.write(bytes(block));
                    calls.push_back(n);
                }
                co_return calls;
            };
            auto a = magpie::spawn(send(pair.here, 'a'));
            auto b = magpie::spawn(send(pair.here, 'b'));
            auto reader = magpie::spawn([](tcp_stream s) -> magpie::task<std::string> {
                co_return co_await test::read_all(s);
            }(std::move(pair.there)));
            const std::vector<std::size_t> of_a = co_await a;
            const std::vector<std::size_t> of_b = co_await b;
            pair.here.shutdown(shutdown_side::write);
            const std::string all = co_await reader;
            std::size_t at = 0;
            std::array<std::size_t, 2> next{};
            std::size_t torn = 0;
            while (at < all.size()) {
                const auto& calls = all[at] == 'a' ? of_a : of_b;
                std::size_t& call = next[all[at] == 'a' ? 0 : 1];
                const std::size_t n = call < calls.size() ? calls[call++] : all.size();
                torn += all.compare(at, n, std::string(n, all[at])) == 0 ? 0U : 1U;
                at += n;
            }
            CHECK(torn == 0);
            CHECK(next == std::array{of_a.size(), of_b.size()});
        });
    }

    TEST_CASE("the end of the runtime x operation in another one: operation_canceled") {
        const magpie::runtime other = test::multi_thread(1).build();
        auto gone = std::make_unique<magpie::runtime>(test::multi_thread(1).build());
        tcp_stream here, there;
        gone->block_on([](tcp_stream& h, tcp_stream& t) -> magpie::task<> {
            auto pair = co_await connected();
            h = std::move(pair.here);
            t = std::move(pair.there);
        }(here, there));
        auto reader = other.spawn([](tcp_stream& s) -> magpie::task<boost::system::error_code> {
            std::array<std::byte, 64> buffer;
            co_return co_await error_of(s.read(buffer));
        }(here));
        auto writer = other.spawn(write_on(here));
        gone.reset();
        CHECK(reader.blocking_join() == magpie::errc::operation_canceled);
        CHECK(writer.blocking_join() == magpie::errc::operation_canceled);
    }

    TEST_CASE("RT-LIFE-20 the error of a runtime that is gone is recognisable, and no other is taken "
              "for it") {
        using magpie::io::io_error;
        const boost::system::error_code gone = io_error::runtime_gone;
        CHECK(gone == io_error::runtime_gone);
        CHECK(gone == magpie::errc::operation_canceled); // what it comes nearest to
        CHECK(std::error_code(gone) == std::errc::operation_canceled);
        CHECK(gone.message() == "the runtime of this I/O object is shut down");
        const boost::system::error_code others[] = {
            boost::system::error_code(ECANCELED, boost::system::system_category()),
            make_error_code(magpie::errc::operation_canceled),
            make_error_code(magpie::errc::connection_reset),
            io_error::unexpected_end,
            {}};
        for (const auto& other : others)
            CHECK(other != io_error::runtime_gone);
    }

    TEST_CASE(
        "RT-LIFE-18 a socket that is made after its runtime's shutdown fails, and does not hang") {
        const magpie::runtime other = test::multi_thread(1).build();
        for (const bool used_before : {false, true}) {
            auto gone = std::make_unique<magpie::runtime>(test::multi_thread(1).build());
            const magpie::runtime_handle handle = gone->handle();
            if (used_before)
                gone->block_on([]() -> magpie::task<> { auto pair = co_await connected(); }());
            gone.reset();
            const auto in = handle.enter();
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            auto connect = tcp_stream::connect(listener.local_endpoint());
            const auto accept_error = other.block_on(error_of(listener.accept()));
            CHECK(accept_error == magpie::io::io_error::runtime_gone);
            const auto connect_error = other.block_on(
                [](auto c) -> magpie::task<boost::system::error_code> {
                    auto s = co_await magpie::as_result(std::move(c));
                    if (s.has_error()) // a connection to this host is made at once, sometimes
                        co_return s.error();
                    co_return co_await error_of(s->write(bytes("x")));
                }(std::move(connect)));
            CHECK(connect_error == magpie::io::io_error::runtime_gone);
        }
    }

} // TEST_SUITE
