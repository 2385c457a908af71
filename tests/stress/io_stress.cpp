// Sockets under load: connections come and go, tasks are dropped at any time, runtimes end. Each byte
// arrives once and in order, nothing hangs, nothing is left.

#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/limits.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <sys/eventfd.h>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
namespace io = magpie::io;
using test::bytes;

/// The byte at a place of an endless text.
char text_at(std::size_t place) { return static_cast<char>('a' + place * 31 % 26); }

std::string text(std::size_t from, std::size_t n) {
    std::string s(n, ' ');
    for (std::size_t i = 0; i < n; ++i)
        s[i] = text_at(from + i);
    return s;
}

magpie::task<> echo(io::tcp_stream s) {
    std::array<std::byte, 512> buffer;
    for (;;) {
        const auto n = co_await magpie::as_result(s.read(buffer));
        if (!n || *n == 0)
            co_return;
        const auto sent = co_await magpie::as_result(s.write_all(std::span(buffer).first(*n)));
        if (!sent)
            co_return;
    }
}

magpie::task<> serve(io::tcp_listener& l) {
    for (;;) {
        auto next = co_await l.accept();
        magpie::spawn(echo(std::move(next.stream))).detach();
    }
}

/// Sends in pieces of any size, and ends the stream.
magpie::task<> send_pieces(io::owned_write_half out, std::size_t all, unsigned seed) {
    std::minstd_rand random(seed);
    for (std::size_t sent = 0; sent < all;) {
        const std::size_t n = std::min<std::size_t>(random() % 700 + 1, all - sent);
        const std::string piece = text(sent, n);
        co_await out.write_all(bytes(piece));
        sent += n;
        if (random() % 8 == 0)
            co_await magpie::yield_now();
    }
}

/// Reads with timeouts that mostly expire, until the end. How many bytes were right.
magpie::task<std::size_t> receive_pieces(io::owned_read_half in, unsigned seed) {
    std::minstd_rand random(seed);
    std::size_t got = 0;
    std::array<std::byte, 600> buffer;
    for (;;) {
        const std::size_t most = random() % buffer.size() + 1;
        std::optional<std::size_t> n;
        if (random() % 3 == 0)
            n = co_await magpie::timeout(20us * (random() % 5), in.read(std::span(buffer).first(most)));
        else
            n = co_await in.read(std::span(buffer).first(most));
        if (!n)
            continue; // nothing was lost by it
        if (*n == 0)
            co_return got;
        for (std::size_t i = 0; i < *n; ++i)
            if (static_cast<char>(buffer[i]) != text_at(got + i))
                co_return std::size_t{0};
        got += *n;
    }
}

magpie::task<std::size_t> exchange(io::endpoint server, std::size_t all, unsigned seed) {
    auto stream = co_await io::tcp_stream::connect(server);
    io::owned_halves halves = io::into_halves(std::move(stream));
    auto sender = magpie::spawn(send_pieces(std::move(halves.write), all, seed));
    const std::size_t got = co_await receive_pieces(std::move(halves.read), seed + 1);
    co_await sender;
    co_return got;
}

/// Connects, talks a little, and goes, for ever.
magpie::task<> churn(io::endpoint server, unsigned seed) {
    std::minstd_rand random(seed);
    std::array<std::byte, 64> buffer;
    for (;;) {
        auto s = co_await magpie::as_result(io::tcp_stream::connect(server));
        if (!s) {
            co_await magpie::yield_now();
            continue;
        }
        s->set_linger(0s); // a reset, and no TIME_WAIT that uses ports up
        for (unsigned i = static_cast<unsigned>(random() % 4); i > 0; --i) {
            const auto sent = co_await magpie::as_result(s->write_all(bytes("hello")));
            const auto n = co_await magpie::as_result(s->read(buffer));
            if (!sent || !n)
                break;
        }
    }
}

} // namespace

TEST_SUITE("stress.io") {
    TEST_CASE("each byte comes back once and in order, however it is cut and timed out") {
        test::on_each_layout([](magpie::runtime_builder builder) {
            const unsigned seed = 17;
            CAPTURE(seed);
            const magpie::runtime rt = builder.build();
            rt.block_on([](unsigned from) -> magpie::task<> {
                auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
                auto server = magpie::spawn(serve(listener));
                constexpr auto all = static_cast<std::size_t>(test::scaled(500'000));
                std::vector<magpie::join_handle<std::size_t>> clients;
                for (unsigned i = 0; i < 20; ++i)
                    clients.push_back(
                        magpie::spawn(exchange(listener.local_endpoint(), all, from + 100 * i)));
                for (auto& c : clients) {
                    const std::size_t got = co_await c;
                    CHECK(got == all);
                }
                server.abort();
                static_cast<void>(co_await magpie::as_result(server));
            }(seed));
        });
    }

    TEST_CASE("connections come and go while their tasks are aborted, and descriptors are used again") {
        test::on_each_layout([](magpie::runtime_builder builder) {
            const unsigned seed = 23;
            CAPTURE(seed);
            const std::size_t before = test::open_streams();
            {
                const magpie::runtime rt = builder.build();
                rt.block_on([](unsigned from) -> magpie::task<> {
                    auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));
                    auto server = magpie::spawn(serve(listener));
                    std::minstd_rand random(from);
                    std::vector<magpie::join_handle<>> tasks;
                    for (int i = 0; i < test::scaled(5'000); ++i) {
                        tasks.push_back(magpie::spawn(
                            churn(listener.local_endpoint(), static_cast<unsigned>(random()))));
                        if (tasks.size() > 20) {
                            const std::size_t k = random() % tasks.size();
                            tasks[k].abort();
                            static_cast<void>(co_await magpie::as_result(tasks[k]));
                            tasks.erase(tasks.begin() + static_cast<std::ptrdiff_t>(k));
                        }
                        if (random() % 4 == 0)
                            co_await magpie::yield_now();
                    }
                    for (auto& t : tasks) {
                        t.abort();
                        static_cast<void>(co_await magpie::as_result(t));
                    }
                    server.abort();
                    static_cast<void>(co_await magpie::as_result(server));
                }(seed));
            }
            CHECK(test::open_streams() == before);
        });
    }

    TEST_CASE("many tasks wait on one descriptor, and are dropped, while events come") {
        const magpie::runtime rt = test::multi_thread(3).build();
        rt.block_on([]() -> magpie::task<> {
            io::async_fd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
            constexpr int rounds = test::scaled(5'000);
            int woken = 0;
            std::atomic<bool> over{false};
            auto ringer = magpie::spawn([](int d, std::atomic<bool>& stop) -> magpie::task<> {
                const std::uint64_t one = 1;
                while (!stop) {
                    static_cast<void>(!::write(d, &one, sizeof one));
                    co_await magpie::yield_now();
                }
            }(fd.native_handle(), over));
            for (int i = 0; i < rounds; ++i) {
                std::vector<magpie::join_handle<>> waits;
                for (int k = 0; k < 4; ++k)
                    waits.push_back(magpie::spawn([](io::async_fd& f, int how) -> magpie::task<> {
                        auto guard = co_await f.ready(how % 2 == 0 ? io::interest::readable
                                                                   : io::interest::readable |
                                                                         io::interest::priority);
                        guard.clear_ready(io::interest::readable);
                    }(fd, k)));
                if (i % 3 == 0)
                    co_await magpie::yield_now();
                waits[static_cast<std::size_t>(i) % 4].abort();
                for (auto& w : waits) {
                    const auto end = co_await magpie::as_result(w);
                    woken += end.has_value() ? 1 : 0;
                }
            }
            over = true;
            co_await ringer;
            CHECK(woken >= 3 * rounds);
        }());
    }

    TEST_CASE(
        "RT-LIFE-04 a runtime that ends while its sockets are busy leaves nothing, and does not hang") {
        const std::size_t before = test::open_streams();
        for (int i = 0; i < test::scaled(200); ++i) {
            test::on_each_layout([](magpie::runtime_builder builder) {
                const magpie::runtime rt = builder.build();
                rt.block_on([]() -> magpie::task<> {
                    auto listener = std::make_shared<io::tcp_listener>(
                        io::tcp_listener::bind(io::endpoint::loopback_v4(0)));
                    const io::endpoint at = listener->local_endpoint();
                    magpie::spawn([](std::shared_ptr<io::tcp_listener> l) -> magpie::task<> {
                        co_await serve(*l);
                    }(listener))
                        .detach();
                    for (unsigned k = 0; k < 4; ++k)
                        magpie::spawn(churn(at, k + 1)).detach();
                    for (int k = 0; k < 20; ++k)
                        co_await magpie::yield_now();
                }());
            });
        }
        CHECK(test::open_streams() == before);
    }

} // TEST_SUITE
