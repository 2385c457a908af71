// Connections that are opened, used, and dropped at any moment: no byte and no descriptor is lost.

#include <magpie/magpie.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <random>
#include <span>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::io::endpoint;
using magpie::io::owned_write_half;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;

namespace {

/// What both ends say of a connection, by its number, when they have ended in order.
class ledger {
public:
    /// The client has sent so much, and has read so much up to the end.
    void sent(std::uint32_t connection, std::uint64_t bytes, std::uint64_t back) {
        const std::lock_guard guard(lock_);
        client_[connection] = {bytes, back};
    }
    /// The server has read so much up to the end, and has sent it all back.
    void received(std::uint32_t connection, std::uint64_t bytes) {
        const std::lock_guard guard(lock_);
        server_[connection] = bytes;
    }

    /// Compares what both have said. Gives of how many connections.
    std::size_t check() const {
        const std::lock_guard guard(lock_);
        std::size_t both = 0;
        for (const auto& [connection, amounts] : client_) {
            const auto there = server_.find(connection);
            if (there == server_.end())
                continue; // it was aborted
            ++both;
            const std::uint32_t number = connection;
            CAPTURE(number);
            CHECK(amounts.first == there->second);
            CHECK(amounts.second == there->second);
        }
        return both;
    }

private:
    mutable std::mutex lock_;
    std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> client_; // there, and back
    std::map<std::uint32_t, std::uint64_t> server_;
};

std::span<std::byte> part(std::span<std::byte> all, std::size_t n) { return all.first(n); }

/// The byte at a place of the stream of a connection: one in the wrong place shows.
std::byte expected(std::uint32_t connection, std::uint64_t place) {
    return static_cast<std::byte>(connection * 31 + place % 251);
}

void fill(std::span<std::byte> buffer, std::uint32_t connection, std::uint64_t place) {
    for (std::byte& b : buffer)
        b = expected(connection, place++);
}

/// How many are not what they should be.
std::size_t wrong(std::span<const std::byte> buffer, std::uint32_t connection, std::uint64_t place) {
    std::size_t n = 0;
    for (const std::byte b : buffer)
        if (b != expected(connection, place++))
            ++n;
    return n;
}

/// Sends everything back. Ends quietly when the connection breaks.
task<> serve(tcp_stream peer, ledger& l) {
    peer.set_nodelay(true);
    std::array<std::byte, 4> head{};
    const auto begun = co_await magpie::as_result(peer.read_exact(head));
    if (begun.has_error())
        co_return;
    std::uint32_t connection = 0;
    for (const std::byte b : head)
        connection = connection << 8 | std::to_integer<std::uint32_t>(b);
    std::array<std::byte, 2000> buffer;
    std::uint64_t got = 0;
    for (;;) {
        const auto n = co_await magpie::as_result(peer.read(buffer));
        if (n.has_error())
            co_return;
        if (*n == 0)
            break;
        CHECK(wrong(part(buffer, *n), connection, got) == 0);
        const auto sent = co_await magpie::as_result(peer.write_all(part(buffer, *n)));
        if (sent.has_error())
            co_return;
        got += *n;
    }
    l.received(connection, got);
}

/// Accepts connections, drops some of its waits, and aborts some of the tasks that serve.
task<> accept_all(tcp_listener& listener, ledger& l, unsigned seed) {
    std::minstd_rand random(seed);
    std::vector<join_handle<>> doomed;
    for (;;) {
        const auto patience = 100us * (1 + random() % 50);
        auto a = co_await magpie::timeout(patience, listener.accept());
        if (!a) // that wait has taken no connection
            continue;
        auto h = magpie::spawn(serve(std::move(a->stream), l));
        if (random() % 4 != 0) {
            h.detach();
            continue;
        }
        doomed.push_back(std::move(h));
        if (doomed.size() > 8) {
            doomed.front().abort();
            doomed.erase(doomed.begin());
        }
    }
}

/// Writes `amount` bytes in pieces of any size, and ends the stream. Whether all of it went.
task<bool> send(owned_write_half out, std::uint32_t connection, std::uint64_t amount, unsigned seed) {
    std::minstd_rand random(seed);
    std::array<std::byte, 3000> buffer;
    for (unsigned i = 0; i < 4; ++i)
        buffer[i] = static_cast<std::byte>(connection >> (24 - 8 * i));
    const auto introduced = co_await magpie::as_result(out.write_all(part(buffer, 4)));
    if (introduced.has_error())
        co_return false;
    for (std::uint64_t done = 0; done != amount;) {
        const std::size_t n = std::min<std::uint64_t>(1 + random() % buffer.size(), amount - done);
        fill(part(buffer, n), connection, done);
        const auto sent = co_await magpie::as_result(out.write_all(part(buffer, n)));
        if (sent.has_error())
            co_return false;
        done += n;
        if (random() % 8 == 0)
            co_await magpie::yield_now();
    }
    co_return true; // dropping `out` tells the peer that this was all
}

/// Aborts a task when it goes.
template <class T>
class aborted_at_end {
public:
    explicit aborted_at_end(join_handle<T>& h) noexcept : handle_(h) {}
    aborted_at_end(const aborted_at_end&) = delete;
    ~aborted_at_end() { handle_.abort(); }

private:
    join_handle<T>& handle_;
};

/// One connection: sends, and reads what comes back.
task<> client(endpoint server, std::uint32_t connection, ledger& l, unsigned seed) {
    std::minstd_rand random(seed);
    tcp_stream stream;
    if (random() % 2 == 0)
        stream = co_await tcp_stream::connect(server);
    else
        stream = co_await tcp_stream::connect(server.address(), server.port());
    stream.set_nodelay(true); // or small pieces wait for each other's acknowledgement
    const std::uint64_t amount = random() % 20'000;
    const bool impatient = random() % 8 == 0; // goes in the middle
    auto halves = magpie::io::into_halves(std::move(stream));
    auto sender = magpie::spawn(
        send(std::move(halves.write), connection, amount, static_cast<unsigned>(random())));
    const aborted_at_end end(sender); // it would wait for a reader that is gone
    std::array<std::byte, 1500> buffer;
    std::uint64_t got = 0;
    for (;;) {
        const std::size_t most = 1 + random() % buffer.size();
        const auto n = co_await magpie::as_result(halves.read.read(part(buffer, most)));
        if (n.has_error() || (impatient && got > amount / 2))
            co_return;
        if (*n == 0)
            break;
        CHECK(wrong(part(buffer, *n), connection, got) == 0);
        got += *n;
    }
    const bool all = co_await sender;
    if (all)
        l.sent(connection, amount, got);
}

task<> load(ledger& l, unsigned seed) {
    constexpr auto connections = static_cast<std::uint32_t>(test::scaled(10'000));
    std::minstd_rand random(seed);
    auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
    std::vector<join_handle<>> acceptors(2);
    const auto renew = [&](join_handle<>& h) {
        h = magpie::spawn(accept_all(listener, l, static_cast<unsigned>(random())));
    };
    for (auto& h : acceptors)
        renew(h);
    std::vector<join_handle<>> clients;
    const auto end_of = [](join_handle<>& h) -> task<> {
        const auto ended = co_await magpie::as_result(h);
        if (ended.has_error() && ended.error() != magpie::task_cancelled_ptr())
            CHECK_NOTHROW_MESSAGE(std::rethrow_exception(ended.error()), "a client has failed");
    };
    for (std::uint32_t i = 0; i < connections || !clients.empty(); ++i) {
        if (i < connections)
            clients.push_back(magpie::spawn(
                client(listener.local_endpoint(), i, l, static_cast<unsigned>(random()))));
        if (i >= connections || clients.size() > 48) {
            const std::size_t k = random() % clients.size();
            if (random() % 3 == 0)
                clients[k].abort();
            co_await end_of(clients[k]);
            clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(k));
        }
        if (random() % 64 == 0) { // what waits to be accepted stays with the listener
            join_handle<>& h = acceptors[random() % acceptors.size()];
            h.abort();
            co_await end_of(h);
            renew(h);
        }
    }
    for (auto& h : acceptors) {
        h.abort();
        co_await end_of(h);
    }
}

} // namespace

TEST_SUITE("stress.connections") {
    TEST_CASE("tasks aborted while they connect, accept, read and write lose no byte of the others") {
        test::on_each_layout([](auto builder) {
            const unsigned seed = 41;
            CAPTURE(seed);
            const std::size_t before = test::open_streams();
            ledger l;
            {
                const runtime rt = builder.build();
                rt.block_on(load(l, seed));
            } // tasks that still serve go with it
            const std::size_t compared = l.check();
            CAPTURE(compared);
            CHECK(compared > static_cast<std::size_t>(test::scaled(10'000)) / 4);
            CHECK(test::open_streams() == before);
        });
    }
}
