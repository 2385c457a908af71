#pragma once

#include <test/eventually.hpp>
#include <test/layouts.hpp>

#include <magpie/magpie.hpp>

#include <io/src/reactor.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>

// What tests of I/O share. None of them waits for a time to pass: a wait that should end and does not
// fails after five minutes.

namespace test {

/// Whether this run of the program is about the portable reactor: ctest runs each suite on both.
inline const bool on_portable_reactor = [] {
    const char* const which = std::getenv("MAGPIE_TEST_REACTOR");
    const bool on = which != nullptr && std::string_view(which) == "portable";
    magpie::io::detail::use_portable_reactor(on);
    return on;
}();

inline magpie::task<> within_five_minutes(magpie::task<> t) {
    const bool in_time = co_await magpie::timeout(std::chrono::minutes(5), std::move(t));
    CHECK(in_time);
}

/// Runs the task that `make` gives on a runtime of each layout.
template <class F>
void run_on_each_layout(F make) {
    on_each_layout([&](magpie::runtime_builder b) {
        const magpie::runtime rt = b.build();
        rt.block_on(within_five_minutes(make()));
    });
}

/// Runs a task on one worker that nobody steals from: what was spawned has run up to its first wait
/// after one yield.
inline void run_on_one_thread(magpie::task<> t) {
    const magpie::runtime rt = current_thread().build();
    rt.block_on(within_five_minutes(std::move(t)));
}

/// Lets everything else that is ready run, so that it waits.
inline magpie::task<> settle() {
    for (int i = 0; i < 10; ++i)
        co_await magpie::yield_now();
}

class stream_pair {
public:
    stream_pair(magpie::io::tcp_stream a, magpie::io::tcp_stream b) noexcept
        : here(std::move(a)), there(std::move(b)) {}

    magpie::io::tcp_stream here;
    magpie::io::tcp_stream there;
};

/// Two ends of one TCP connection.
inline magpie::task<stream_pair> connected(
    magpie::io::endpoint at = magpie::io::endpoint::loopback_v4(0)) {
    auto listener = magpie::io::tcp_listener::bind(at);
    auto here = co_await magpie::io::tcp_stream::connect(listener.local_endpoint());
    auto there = co_await listener.accept();
    co_return stream_pair(std::move(here), std::move(there.stream));
}

/// Two ends of one connection of the system's own: what the one writes is there for the other when the write
/// returns. No TCP promises that, not on loopback either.
inline stream_pair local_pair() {
    std::array<int, 2> both{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both.data()) == 0);
    return {magpie::io::tcp_stream::adopt(both[0]), magpie::io::tcp_stream::adopt(both[1])};
}

inline std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// Reads `n` bytes as text.
template <class Stream>
magpie::task<std::string> read_text(Stream& s, std::size_t n) {
    std::string text(n, ' ');
    co_await s.read_exact(std::as_writable_bytes(std::span(text)));
    co_return text;
}

/// Reads to the end.
template <class Stream>
magpie::task<std::string> read_all(Stream& s) {
    std::string text;
    std::array<char, 4096> part;
    for (;;) {
        const std::size_t n = co_await s.read(std::as_writable_bytes(std::span(part)));
        if (n == 0)
            co_return text;
        text.append(part.data(), n);
    }
}

/// What an operation gives instead of a value.
template <class Operation>
magpie::task<boost::system::error_code> error_of(Operation op) {
    const auto outcome = co_await magpie::as_result(std::move(op));
    co_return outcome.has_error() ? outcome.error() : boost::system::error_code();
}

/// Two connected descriptors, which do not block.
class descriptor_pair {
public:
    descriptor_pair() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both_) == 0); }
    descriptor_pair(const descriptor_pair&) = delete;
    ~descriptor_pair() {
        for (const int fd : both_)
            if (fd != -1)
                ::close(fd);
    }

    int there() const noexcept { return both_[1]; }
    /// Gives one end away.
    int take() noexcept { return std::exchange(both_[0], -1); }
    void close_there() noexcept { ::close(std::exchange(both_[1], -1)); }

private:
    int both_[2];
};

/// A place where nobody listens. It is kept: a port that is given back may be another process's next one.
class silent_place {
public:
    silent_place() { kept_.bind(magpie::io::endpoint::loopback_v4(0)); }
    magpie::io::endpoint at() const { return kept_.local_endpoint(); }

private:
    magpie::io::tcp_socket kept_{magpie::io::ip_version::v4};
};

inline magpie::result<std::size_t> system_result(ssize_t n) {
    if (n < 0)
        return {boost::system::in_place_error, errno, boost::system::system_category()};
    return static_cast<std::size_t>(n);
}

inline magpie::result<std::size_t> read_fd(int fd, std::size_t most = 4096) {
    std::array<char, 4096> buffer;
    return system_result(::read(fd, buffer.data(), most));
}

inline magpie::result<std::size_t> write_fd(int fd, std::string_view text) {
    return system_result(::send(fd, text.data(), text.size(), MSG_NOSIGNAL));
}

/// Writes until no more fits.
inline void fill_fd(int fd) {
    const std::string much(65536, 'x');
    while (write_fd(fd, much)) {}
}

/// How many entries of a directory count: `counts(directory, name)`.
template <class F>
std::size_t entries_of(const char* directory, F counts) {
    std::size_t n = 0;
    DIR* const d = ::opendir(directory);
    while (const dirent* const e = ::readdir(d))
        if (e->d_name[0] != '.' && counts(d, e->d_name))
            ++n;
    ::closedir(d);
    return n;
}
inline std::size_t entries_of(const char* directory) {
    return entries_of(directory, [](DIR*, const char*) { return true; });
}

/// How many descriptors the process has open: one is that of the question.
inline std::size_t open_descriptors() { return entries_of("/proc/self/fd"); }

/// Whether as many are open again. A runtime's reactors go with the last of its threads, which let go of it by
/// themselves when they have told that they end.
inline bool are_open_again(std::size_t descriptors) {
    return eventually([=] { return open_descriptors() == descriptors; });
}

/// How many sockets and pipes the process has open: no reactor has one, so it is the same whichever workers have
/// made theirs, and whether those of the runtime before have gone.
inline std::size_t open_streams() {
    return entries_of("/proc/self/fd", [](DIR* directory, const char* name) {
        std::array<char, 64> target{};
        const ssize_t length = ::readlinkat(::dirfd(directory), name, target.data(), target.size());
        const std::string_view to(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
        return to.starts_with("socket:") || to.starts_with("pipe:");
    });
}

/// How many threads the process has, without those that have ended: though joined, one may stand in /proc for a
/// while longer.
inline std::size_t live_threads() {
    return entries_of("/proc/self/task", [](DIR*, const char* name) {
        constexpr unsigned exits = 4; // PF_EXITING, as the kernel calls it
        unsigned flags = exits;
        std::string before;
        std::ifstream stat("/proc/self/task/" + std::string(name) + "/stat");
        stat.ignore(64, ')'); // the thread's name may have spaces
        for (int field = 3; field < 9; ++field)
            stat >> before;
        stat >> flags; // unchanged if the thread is gone meanwhile
        return (flags & exits) == 0;
    });
}

inline bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

} // namespace test
