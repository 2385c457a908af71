// read_exact and write_all on streams that have no way of their own.

#include <magpie/io/read.hpp>
#include <magpie/io/write.hpp>

#include <test/io.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using namespace std::chrono_literals;
namespace io = magpie::io;
using test::bytes;
using test::connected;

/// A stream over another one, which moves a few bytes at a time.
class few_at_a_time {
public:
    few_at_a_time(io::tcp_stream& s, std::size_t most) noexcept : stream_(s), most_(most) {}

    io::read_operation read(std::span<std::byte> into) {
        return stream_.read(into.first(std::min(into.size(), most_)));
    }
    io::write_operation write(std::span<const std::byte> from) {
        return stream_.write(from.first(std::min(from.size(), most_)));
    }

private:
    io::tcp_stream& stream_;
    std::size_t most_;
};

/// A stream that refuses to be used.
class broken {
public:
    io::read_operation read(std::span<std::byte>) { throw std::runtime_error("no reading here"); }
    io::write_operation write(std::span<const std::byte>) { throw std::runtime_error("nor writing"); }
};

/// A stream whose reads are coroutines: one byte a time, and two suspensions.
class by_coroutine {
public:
    auto read(std::span<std::byte> into) { return magpie::unconstrained(one(into, test::counted())); }

private:
    static magpie::task<std::size_t> one(std::span<std::byte> into, test::counted) {
        const test::counted local;
        co_await magpie::yield_now();
        into[0] = std::byte('x');
        co_await magpie::yield_now();
        co_return std::size_t{1};
    }
};

static_assert(io::async_stream<io::tcp_stream>);
static_assert(io::async_stream<few_at_a_time>);
static_assert(io::async_read_stream<io::owned_read_half>);
static_assert(!io::async_write_stream<io::owned_read_half>);
static_assert(io::async_write_stream<io::tcp_write_half>);
static_assert(!io::async_read_stream<int>);

template <class Operation>
constexpr bool is_lossy = Operation::safety == magpie::cancel_safety::lossy;
static_assert(is_lossy<decltype(io::read_exact(std::declval<few_at_a_time&>(), {}))>);
static_assert(is_lossy<decltype(io::write_all(std::declval<io::tcp_stream&>(), {}))>);

magpie::task<> write_text(few_at_a_time& s, const std::string& text) {
    co_await io::write_all(s, bytes(text));
}

magpie::task<std::string> read_text(few_at_a_time& s, std::size_t n) {
    std::string text(n, ' ');
    co_await io::read_exact(s, std::as_writable_bytes(std::span(text)));
    co_return text;
}

} // namespace

TEST_SUITE("io.read_write") {
    TEST_CASE("the reads of a stream may be coroutines: their frames go in between, also in a drop") {
        const int before = test::counted::alive;
        auto f = [](std::string& text, int& alive) -> magpie::task<> {
            by_coroutine stream;
            co_await io::read_exact(stream, std::as_writable_bytes(std::span(text)));
            alive = test::counted::alive;
        };
        std::string text(3, ' ');
        int alive = -1;
        for (int turns = 0; turns < 10; ++turns) {
            test::manual_executor ex(1); // each suspension has a turn of its own
            auto t = ex.spawn(f(text, alive));
            for (int i = 0; i < turns; ++i)
                ex.run_one();
            t.abort();
            ex.run_until_idle();
            CHECK(t.is_finished());
            CHECK(test::counted::alive == before);
        }
        test::manual_executor ex;
        test::run(ex, f(text, alive));
        CHECK(text == "xxx");
        CHECK(alive == before);
    }

    TEST_CASE("write_all and read_exact move everything, in as many steps as it takes") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            few_at_a_time out(pair.here, 700), in(pair.there, 900);
            std::string text(1 << 20, ' '); // more than fits in between: both wait now and then
            for (std::size_t i = 0; i < text.size(); ++i)
                text[i] = static_cast<char>('a' + i % 23);
            auto writer = magpie::spawn(write_text(out, text));
            const std::string got = co_await read_text(in, text.size());
            CHECK(got == text);
            co_await writer;
        });
    }

    TEST_CASE("a stream that has a way of its own uses that") {
        using own = decltype(io::write_all(std::declval<io::tcp_stream&>(), {}));
        static_assert(std::is_same_v<own, io::write_all_operation>);
    }

    TEST_CASE("read_exact says when the stream ends before; write_all gives the stream's error") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await connected();
            few_at_a_time here(pair.here, 2), there(pair.there, 2);
            co_await write_text(there, "abc");
            pair.there.shutdown(io::shutdown_side::write);
            std::array<std::byte, 4> four;
            const auto early = co_await test::error_of(io::read_exact(here, four));
            CHECK(early == io::io_error::unexpected_end);
            pair.here.shutdown(io::shutdown_side::write);
            const auto closed = co_await test::error_of(io::write_all(here, bytes("abc")));
            CHECK(closed == magpie::errc::broken_pipe);
            try {
                co_await io::write_all(here, bytes("abc"));
                CHECK(false);
            } catch (const std::system_error& e) {
                CHECK(e.code() == std::errc::broken_pipe);
            }
        });
    }

    TEST_CASE("what the stream throws comes out") {
        test::run_on_one_thread([]() -> magpie::task<> {
            broken s;
            std::array<std::byte, 4> four;
            int thrown = 0;
            try {
                co_await io::read_exact(s, four);
            } catch (const std::runtime_error&) {
                ++thrown;
            }
            try {
                const auto r = co_await magpie::as_result(io::write_all(s, four));
                CHECK_FALSE(r.has_value());
            } catch (const std::runtime_error&) {
                ++thrown;
            }
            CHECK(thrown == 2);
        }());
    }

    TEST_CASE("nothing to move is over at once") {
        test::run_on_one_thread([]() -> magpie::task<> {
            broken s; // it is not even asked
            co_await io::read_exact(s, std::span<std::byte>());
            co_await io::write_all(s, std::span<const std::byte>());
        }());
    }

    TEST_CASE("dropped half-way: by a timeout, by an abort, while a step waits") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = test::local_pair(); // all three are there when the first read begins
            few_at_a_time here(pair.here, 2), there(pair.there, 2);
            co_await write_text(there, "abc");
            std::array<std::byte, 8> eight;
            const bool all = co_await magpie::timeout(5ms, io::read_exact(here, eight));
            CHECK_FALSE(all);
            auto reader = magpie::spawn(read_text(here, 8));
            co_await test::settle();
            reader.abort();
            const auto end = co_await magpie::as_result(reader);
            CHECK(end.has_error());
            co_await write_text(there, "de");
            const std::string rest = co_await read_text(here, 2);
            CHECK(rest == "de"); // the three before went with the first
        });
    }

    TEST_CASE("many steps that succeed at once share the turn's budget") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto pair = co_await connected();
            few_at_a_time out(pair.here, 1);
            bool other_ran = false;
            magpie::spawn([](bool& ran) -> magpie::task<> {
                ran = true;
                co_return;
            }(other_ran))
                .detach();
            co_await io::write_all(out, bytes(std::string(1000, 'x'))); // never waits for the socket
            CHECK(other_ran);
        }());
    }

} // TEST_SUITE
