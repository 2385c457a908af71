// Leaving in good order. Cancelling drops what a task waits for, and destructors cannot wait; so what
// has to be waited for on the way out is said where it is needed:
//
//   with      a session says goodbye to its client, whatever ends it
//   shield    an entry in the journal is written whole, or not at all
//   pinned    a line is read on and on, while a heartbeat goes out beside it
//   timeout   nobody waits longer for any of that than he wants to
//
// The program runs a server and two clients of its own, aborts their sessions, and prints what the
// clients and the journal have got.

#include <magpie/magpie.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace io = magpie::io;
using magpie::task;
using namespace std::chrono_literals;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

/// Where each line is entered: in two steps, of which nobody wants only the first.
struct journal {
    std::vector<std::string> entries;
    bool writing = false;
};

task<> enter(journal& book, std::string line) {
    book.writing = true;
    book.entries.push_back(line + " (begun");
    co_await magpie::sleep_for(30ms); // a slow disk
    book.entries.back() += ", and ended)";
}

/// Dropped half-way it has read a part, and says so: `select` does not take it by value.
magpie::lossy_task<std::string> read_line(io::tcp_stream& client) {
    std::string line;
    std::array<std::byte, 64> buffer;
    while (!line.ends_with('\n')) {
        const std::size_t n = co_await client.read(buffer);
        if (n == 0)
            break;
        line.append(reinterpret_cast<const char*>(buffer.data()), n);
    }
    co_return line.substr(0, line.find('\n'));
}

/// The next line, with a heartbeat until it is there.
task<std::string> line_with_heartbeat(io::tcp_stream& client) {
    auto body = [&client](magpie::pinned_task<std::string>& line) -> task<std::string> {
        magpie::interval every(20ms);
        co_await every.tick(); // the first is at once
        for (;;) {
            auto won = co_await magpie::select(line, every.tick());
            if (won.index() == 0)
                co_return std::move(won).get<0>();
            co_await client.write_all(bytes("...\n")); // the line is read on meanwhile
        }
    };
    co_return co_await magpie::pinned(read_line(client), std::move(body));
}

task<> talk(io::tcp_stream& client, journal& book) {
    for (;;) {
        const std::string line = co_await line_with_heartbeat(client);
        if (line.empty())
            co_return;
        co_await magpie::shield(1s, enter(book, line)); // an abort waits for it, a second at most
    }
}

task<> say_goodbye(io::tcp_stream& client) {
    co_await magpie::timeout(1s, client.write_all(bytes("goodbye\n")));
}

task<> serve(io::tcp_stream client, journal& book) {
    auto body = [&book](io::tcp_stream& c) { return talk(c, book); };
    co_await magpie::with(std::move(client), std::move(body), say_goodbye);
}

/// Adds what comes to `text`. All it has got is in there: dropped while it waits, it has read nothing.
magpie::safe_task<bool> read_more(io::tcp_stream& stream, std::string& text) {
    std::array<std::byte, 64> buffer;
    const std::size_t n = co_await stream.read(buffer);
    text.append(reinterpret_cast<const char*>(buffer.data()), n);
    co_return n != 0;
}

/// All that a client gets before the connection ends.
task<std::string> read_all(io::tcp_stream& stream) {
    std::string text;
    magpie::timer patience(30s);
    for (;;) {
        auto won = co_await magpie::select(read_more(stream, text), patience);
        if (won.index() == 1 || !won.get<0>())
            co_return text;
    }
}

task<bool> program() {
    journal book;
    auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0));

    // A client that never ends its line. Its session is aborted in the middle of reading.
    auto slow = co_await io::tcp_stream::connect(listener.local_endpoint());
    io::accepted first = co_await listener.accept();
    auto session = magpie::spawn(serve(std::move(first.stream), book));
    co_await slow.write_all(bytes("an unfinished"));
    std::string got;
    for (bool goes_on = true; goes_on && got.size() < 8;) // two heartbeats
        goes_on = co_await read_more(slow, got);
    session.abort();
    got += co_await read_all(slow);
    std::cout << "the slow client got:\n" << got;

    // One whose line is just being entered when its session is aborted.
    auto quick = co_await io::tcp_stream::connect(listener.local_endpoint());
    io::accepted second = co_await listener.accept();
    auto other = magpie::spawn(serve(std::move(second.stream), book));
    co_await quick.write_all(bytes("an entry\n"));
    while (!book.writing)
        co_await magpie::sleep_for(1ms);
    other.abort();
    const std::string rest = co_await read_all(quick);
    std::cout << "the journal has:\n";
    for (const std::string& entry : book.entries)
        std::cout << entry << '\n';

    co_return got.starts_with("...\n") && got.ends_with("goodbye\n") && rest.ends_with("goodbye\n") &&
        book.entries == std::vector<std::string>{"an entry (begun, and ended)"};
}

} // namespace

int main() {
    magpie::runtime rt = magpie::runtime_builder().layout(magpie::layout::current_thread).build();
    return rt.block_on(program()) ? 0 : 1;
}
