#include <magpie/io/tcp_halves.hpp>

#include <test/both.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

namespace io = magpie::io;
using test::bytes;
using test::connected;

magpie::task<> send_and_drop(io::owned_write_half out, std::string text) {
    co_await out.write_all(bytes(text));
}

magpie::task<std::string> receive_all(io::owned_read_half in) { co_return co_await test::read_all(in); }

magpie::task<> send_with(io::tcp_write_half out) {
    co_await out.write_all(bytes("ping"));
    out.shutdown();
}

magpie::task<> receive_with(io::tcp_read_half in, std::string& text) {
    text = co_await test::read_all(in);
}

} // namespace

TEST_SUITE("io.tcp_halves") {
    TEST_CASE("a stream is split between two branches of one task") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            auto echo = magpie::spawn([](io::tcp_stream s) -> magpie::task<> {
                const std::string text = co_await test::read_all(s);
                co_await s.write_all(bytes(text));
            }(std::move(pair.there)));
            auto halves = io::split(pair.here);
            std::string answer;
            co_await test::both(send_with(halves.write), receive_with(halves.read, answer));
            CHECK(answer == "ping");
            co_await echo;
        });
    }

    TEST_CASE(
        "NET-CORE-05 owned halves work on two tasks; dropping the writing one ends the peer's read") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            io::owned_halves here = io::into_halves(std::move(pair.here));
            auto sender = magpie::spawn(send_and_drop(std::move(here.write), "hello"));
            auto receiver = magpie::spawn(receive_all(std::move(here.read)));
            const std::string request = co_await test::read_all(pair.there); // until the end
            CHECK(request == "hello");
            co_await pair.there.write_all(bytes("goodbye"));
            pair.there = io::tcp_stream();
            const std::string answer = co_await receiver;
            CHECK(answer == "goodbye");
            co_await sender;
        });
    }

    TEST_CASE("NET-CORE-05 halves of one stream are reunited, others are refused") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            io::owned_halves a = io::into_halves(std::move(pair.here));
            io::owned_halves b = io::into_halves(std::move(pair.there));
            CHECK_THROWS_AS(io::reunite(std::move(a.read), io::owned_write_half()),
                            std::invalid_argument);
            io::tcp_stream whole = io::reunite(std::move(b.read), std::move(b.write));
            co_await a.write.write_all(bytes("x"));
            const std::string text = co_await test::read_text(whole, 1);
            CHECK(text == "x");
            CHECK(test::is_open(whole.native_handle()));
            const int fd = whole.release(); // nobody else has a share in it
            ::close(fd);
        });
    }

    TEST_CASE("NET-CORE-05 a forgotten writing half tells the peer nothing") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto pair = co_await connected();
            io::owned_halves here = io::into_halves(std::move(pair.here));
            here.write.forget();
            std::array<std::byte, 1> buffer;
            co_await pair.there.write_all(bytes("x"));
            const std::size_t n = co_await here.read.read(buffer); // and time for a FIN to come
            CHECK(n == 1);
            CHECK(pair.there.try_read(buffer).error() == magpie::errc::operation_would_block);
        }());
    }

} // TEST_SUITE
