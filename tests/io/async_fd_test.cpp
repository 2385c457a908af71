#include <magpie/io/async_fd.hpp>

#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::io::async_fd;
using magpie::io::interest;
using test::read_fd;
using test::write_fd;

/// Waits for readability and reads once.
magpie::task<std::size_t> read_once(async_fd& fd) {
    for (;;) {
        auto guard = co_await fd.readable();
        const auto n = guard.try_io([&] { return read_fd(fd.native_handle()); });
        if (n)
            co_return *n;
    }
}

magpie::task<> wait_readable(async_fd& fd, int& woken) {
    static_cast<void>(co_await fd.readable());
    ++woken;
}

} // namespace

TEST_SUITE("io.async_fd") {
    TEST_CASE("a task waits for data, and reads it by itself") {
        test::run_on_each_layout([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            auto reader = magpie::spawn(read_once(fd));
            co_await test::settle();
            CHECK(write_fd(p.there(), "hello"));
            const std::size_t n = co_await reader;
            CHECK(n == 5);
        });
    }

    TEST_CASE("IO-FD-01 a new descriptor is writable at once; readable only when data comes") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            auto writable = co_await fd.writable();
            CHECK(writable.ready().is_writable());
            CHECK_FALSE(writable.ready().is_readable());

            int woken = 0;
            auto reader = magpie::spawn(wait_readable(fd, woken));
            co_await test::settle();
            CHECK(woken == 0);
            CHECK(write_fd(p.there(), "x"));
            co_await reader;
            CHECK(woken == 1);
        }());
    }

    TEST_CASE(
        "IO-FD-02 readiness is cached until it is cleared; then the next wait waits for an event") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            CHECK(write_fd(p.there(), "x"));
            const auto first = co_await fd.readable();
            CHECK(first.ready().is_readable());
            CHECK(read_fd(fd.native_handle()));
            auto second = co_await fd.readable(); // nothing was cleared, though nothing is there
            CHECK(second.ready().is_readable());
            second.clear_ready();

            int woken = 0;
            auto reader = magpie::spawn(wait_readable(fd, woken));
            co_await test::settle();
            CHECK(woken == 0);
            CHECK(write_fd(p.there(), "x"));
            co_await reader;
            CHECK(woken == 1);
        }());
    }

    TEST_CASE("IO-FD-02 the same for writing") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            auto guard = co_await fd.writable();
            test::fill_fd(fd.native_handle());
            const auto full = guard.try_io([&] { return write_fd(fd.native_handle(), "x"); });
            CHECK(full.error() == magpie::errc::operation_would_block);
            auto writer = magpie::spawn(
                [](async_fd& f) -> magpie::task<> { static_cast<void>(co_await f.writable()); }(fd));
            co_await test::settle();
            CHECK_FALSE(writer.is_finished());
            while (read_fd(p.there())) {} // room again
            co_await writer;
        }());
    }

    TEST_CASE("clearing does not lose an event that came after the guard") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            CHECK(write_fd(p.there(), "x"));
            auto old = co_await fd.readable();
            CHECK(read_fd(fd.native_handle()));
            CHECK(write_fd(p.there(), "y")); // a new event
            // Let the reactor see it: another descriptor's event comes behind it.
            test::descriptor_pair other;
            async_fd probe(other.take());
            CHECK(write_fd(other.there(), "z"));
            static_cast<void>(co_await probe.readable());
            old.clear_ready();
            static_cast<void>(co_await fd.readable());
            CHECK(read_fd(fd.native_handle()));
        }());
    }

    TEST_CASE("IO-FD-03 destroying closes the descriptor") {
        test::run_on_each_layout([]() -> magpie::task<> {
            test::descriptor_pair p;
            {
                async_fd fd(p.take());
                CHECK(write_fd(fd.native_handle(), "x"));
            }
            const auto left = read_fd(p.there());
            CHECK(*left == 1);
            const auto end = read_fd(p.there());
            CHECK(*end == 0);
            co_return;
        });
    }

    TEST_CASE("IO-FD-03 into_inner gives the descriptor back, and it can be registered again") {
        test::run_on_each_layout([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd first(p.take());
            static_cast<void>(co_await first.writable());
            const int fd = first.into_inner();
            CHECK(test::is_open(fd));
            CHECK_FALSE(first);
            CHECK_THROWS_AS(static_cast<void>(first.readable()), std::logic_error);
            async_fd second(fd);
            CHECK(write_fd(p.there(), "x"));
            const std::size_t n = co_await read_once(second);
            CHECK(n == 1);
        });
    }

    TEST_CASE("IO-FD-04 try_io clears readiness only when the call would block") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            const auto nothing = fd.try_io(interest::readable,
                                           [&] { return read_fd(fd.native_handle()); });
            CHECK(nothing.error() == magpie::errc::operation_would_block);

            CHECK(write_fd(p.there(), "xy"));
            auto guard = co_await fd.readable();
            const auto one = guard.try_io([&] { return read_fd(fd.native_handle(), 1); });
            CHECK(*one == 1);
            const auto failed = guard.try_io([]() -> magpie::result<int> {
                return magpie::errc::make_error_code(magpie::errc::io_error);
            });
            CHECK(failed.has_error());
            CHECK(fd.seen().ready().is_readable());
            const auto two = fd.try_io(interest::readable,
                                       [&] { return read_fd(fd.native_handle(), 1); });
            CHECK(*two == 1);
            auto last = fd.seen();
            const auto empty = last.try_io([&] { return read_fd(fd.native_handle()); });
            CHECK(empty.error() == magpie::errc::operation_would_block);
            CHECK_FALSE(fd.seen().ready().is_readable());
        }());
    }

    TEST_CASE("IO-FD-05 many tasks that wait on one descriptor are all woken") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            int woken = 0;
            std::vector<magpie::join_handle<>> readers;
            for (int i = 0; i < 20; ++i)
                readers.push_back(magpie::spawn(wait_readable(fd, woken)));
            co_await test::settle();
            CHECK(woken == 0);
            CHECK(write_fd(p.there(), "x"));
            for (auto& r : readers)
                co_await r;
            CHECK(woken == 20);
        }());
    }

    TEST_CASE("of many tasks that wait, any may be dropped") {
        test::run_on_one_thread([]() -> magpie::task<> {
            for (int dropped = 0; dropped < 4; ++dropped) {
                test::descriptor_pair p;
                async_fd fd(p.take());
                int woken = 0;
                std::vector<magpie::join_handle<>> readers;
                for (int i = 0; i < 4; ++i)
                    readers.push_back(magpie::spawn(wait_readable(fd, woken)));
                co_await test::settle();
                readers[static_cast<std::size_t>(dropped)].abort();
                co_await test::settle();
                CHECK(write_fd(p.there(), "x"));
                int cancelled = 0;
                for (auto& r : readers) {
                    const auto end = co_await magpie::as_result(r);
                    cancelled += end.has_error() ? 1 : 0;
                }
                CHECK(cancelled == 1);
                CHECK(woken == 3);
            }
        }());
    }

    TEST_CASE("tasks may wait for different conditions of one descriptor") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            auto guard = co_await fd.writable();
            test::fill_fd(fd.native_handle());
            guard.clear_ready();
            const auto wait = [](async_fd& f, interest what) -> magpie::task<> {
                static_cast<void>(co_await f.ready(what));
            };
            auto reader = magpie::spawn(wait(fd, interest::readable));
            auto writer = magpie::spawn(wait(fd, interest::writable));
            auto either = magpie::spawn(wait(fd, interest::readable | interest::writable));
            auto urgent = magpie::spawn(wait(fd, interest::priority));
            co_await test::settle();
            CHECK_FALSE(either.is_finished());
            CHECK(write_fd(p.there(), "x"));
            co_await reader;
            co_await either;
            CHECK_FALSE(writer.is_finished());
            while (read_fd(p.there())) {}
            co_await writer;
            CHECK_FALSE(urgent.is_finished());
            urgent.abort();
            static_cast<void>(co_await magpie::as_result(urgent));
        }());
    }

    TEST_CASE("IO-FD-06 shutting the runtime down fails pending and future waits") {
        test::descriptor_pair p;
        const magpie::runtime other = test::multi_thread(1).build();
        async_fd fd;
        {
            magpie::runtime gone = test::multi_thread(1).build();
            const auto in = gone.enter();
            fd = async_fd(p.take());
            const auto wait = [](async_fd& f) -> magpie::task<boost::system::error_code> {
                co_return co_await test::error_of(f.readable());
            };
            auto pending = other.spawn(wait(fd));
            auto several = other.spawn([](async_fd& f) -> magpie::task<boost::system::error_code> {
                co_return co_await test::error_of(f.ready(interest::readable | interest::priority));
            }(fd));
            gone.shutdown_timeout(30s);
            CHECK(pending.blocking_join() == magpie::errc::operation_canceled);
            CHECK(several.blocking_join() == magpie::errc::operation_canceled);
            auto future = other.spawn(wait(fd));
            CHECK(future.blocking_join() == magpie::errc::operation_canceled);
        }
        const auto thrown = [](async_fd& f) -> magpie::task<> {
            static_cast<void>(co_await f.writable());
        };
        CHECK_THROWS_AS(other.block_on(thrown(fd)), std::system_error);
    }

    TEST_CASE("IO-FD-06 waits that race with the shutdown end, too") {
        const magpie::runtime other = test::multi_thread(1).build();
        for (int i = 0; i < 200; ++i) {
            test::descriptor_pair p;
            async_fd fd;
            {
                const magpie::runtime gone = test::current_thread().build();
                const auto in = gone.enter();
                fd = async_fd(p.take());
            }
            test::descriptor_pair q;
            auto gone = std::make_unique<magpie::runtime>(test::current_thread().build());
            async_fd raced;
            {
                const auto in = gone->enter();
                raced = async_fd(q.take());
            }
            auto wait = other.spawn([](async_fd& f) -> magpie::task<boost::system::error_code> {
                co_return co_await test::error_of(f.readable());
            }(raced));
            gone.reset();
            REQUIRE(test::ends(wait));
            CHECK(wait.blocking_join() == magpie::errc::operation_canceled);
        }
    }

    TEST_CASE("IO-FD-07 clearing readiness after the shutdown is harmless") {
        test::descriptor_pair p;
        async_fd fd;
        {
            const magpie::runtime gone = test::current_thread().build();
            const auto in = gone.enter();
            fd = async_fd(p.take());
        }
        auto guard = fd.seen();
        guard.clear_ready();
        const magpie::runtime other = test::current_thread().build();
        const auto error = other.block_on(test::error_of(fd.readable()));
        CHECK(error == magpie::errc::operation_canceled);
    }

    TEST_CASE("IO-FD-08 out-of-band data raises priority readiness") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await test::connected();
            auto urgent = magpie::spawn([](magpie::io::tcp_stream& s) -> magpie::task<bool> {
                const auto ready = co_await s.ready(interest::priority);
                co_return ready.is_priority();
            }(pair.there));
            CHECK(::send(pair.here.native_handle(), "!", 1, MSG_OOB) == 1);
            const bool priority = co_await urgent;
            CHECK(priority);
        });
    }

    TEST_CASE("urgent data in between does not hide what comes behind it") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto pair = co_await test::connected();
            const int fd = pair.here.native_handle();
            CHECK(::send(fd, "abc", 3, 0) == 3);
            CHECK(::send(fd, "!", 1, MSG_OOB) == 1);
            CHECK(::send(fd, "def", 3, 0) == 3);
            const std::string all = co_await test::read_text(pair.there, 6);
            CHECK(all == "abcdef");
        });
    }

    TEST_CASE("IO-FD-09 selective clearing clears only what it names") {
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            CHECK(write_fd(p.there(), "x"));
            static_cast<void>(co_await fd.readable());
            auto guard = fd.seen();
            CHECK(guard.ready().is_readable());
            CHECK(guard.ready().is_writable());
            guard.clear_ready(interest::readable);
            CHECK_FALSE(fd.seen().ready().is_readable());
            CHECK(fd.seen().ready().is_writable());
        }());
    }

    TEST_CASE("IO-FD-10 error readiness is reported: a pipe that nobody reads") {
        test::run_on_each_layout([]() -> magpie::task<> {
            int both[2];
            CHECK(::pipe2(both, O_NONBLOCK | O_CLOEXEC) == 0);
            async_fd writer(both[1]);
            auto wait = magpie::spawn([](async_fd& f) -> magpie::task<bool> {
                auto guard = co_await f.ready(interest::error);
                const auto ready = guard.ready();
                guard.clear_ready();
                co_return ready.is_error() && ready.is_write_closed() && !f.seen().ready().is_error();
            }(writer));
            co_await test::settle();
            ::close(both[0]);
            const bool good = co_await wait;
            CHECK(good);
        });
    }

    TEST_CASE("IO-FD-10 error readiness is reported: what the network says of a datagram") {
        test::run_on_each_layout([]() -> magpie::task<> {
            const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            async_fd socket(fd);
            sockaddr_in nobody{};
            nobody.sin_family = AF_INET;
            nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            nobody.sin_port = htons(1);
            CHECK(::connect(fd, reinterpret_cast<const sockaddr*>(&nobody), sizeof nobody) == 0);
            CHECK(::send(fd, "x", 1, 0) == 1);
            const auto guard = co_await socket.ready(interest::error);
            CHECK(guard.ready().is_error());
        });
    }

    TEST_CASE("IO-FD-11 a failed registration leaves the object with the caller") {
        test::run_on_one_thread([]() -> magpie::task<> {
            char name[] = "/tmp/magpie_async_fd_XXXXXX";
            const int file = ::mkstemp(name);
            ::unlink(name);
            CHECK(::fcntl(file, F_SETFL, O_NONBLOCK) == 0);
            CHECK_THROWS_AS(async_fd{file}, std::system_error); // a file cannot be polled
            CHECK(test::is_open(file));
            ::close(file);

            test::descriptor_pair p;
            async_fd first(p.take());
            CHECK_THROWS_AS(async_fd{first.native_handle()},
                            std::system_error); // it is registered already
            CHECK(test::is_open(first.native_handle()));
            CHECK_THROWS_AS(async_fd{-1}, std::invalid_argument);

            int blocking[2];
            CHECK(::pipe(blocking) == 0);
            CHECK_THROWS_AS(async_fd{blocking[0]}, std::invalid_argument);
            ::close(blocking[0]);
            ::close(blocking[1]);
            co_return;
        }());
    }

    TEST_CASE("IO-FD-12 closing the descriptor before the object goes leaks nothing") {
        test::run_on_one_thread([]() -> magpie::task<> {
            const async_fd first(
                ::eventfd(0, EFD_NONBLOCK)); // and with it the reactor's own descriptors
            const std::size_t before = test::open_descriptors();
            for (int i = 0; i < 1000; ++i) {
                const int fd = ::eventfd(0, EFD_NONBLOCK);
                const async_fd object(fd);
                ::close(fd);
            }
            CHECK(test::are_open_again(before));
            co_return;
        }());
    }

    TEST_CASE("IO-FD-13 a task that holds the last reference may be woken and end at once") {
        const magpie::runtime rt = test::multi_thread(2).build();
        const auto round = []() -> magpie::task<> {
            test::descriptor_pair p;
            auto fd = std::make_shared<async_fd>(p.take());
            auto task = magpie::spawn([](std::shared_ptr<async_fd> f) -> magpie::task<> {
                static_cast<void>(co_await f->readable());
            }(std::move(fd)));
            CHECK(write_fd(p.there(), "x"));
            co_await task;
            const auto end = read_fd(p.there());
            CHECK((end.has_error() || *end == 0)); // it was closed with its task: end, or reset
        };
        for (int i = 0; i < 300; ++i)
            rt.block_on(test::within_five_minutes(round()));
    }

    TEST_CASE("IO-FD-14 sockets that outlive their runtime report an error instead of blocking") {
        magpie::io::tcp_stream stream, peer;
        magpie::io::tcp_listener listener;
        {
            const magpie::runtime gone = test::multi_thread(2).build();
            gone.block_on([](auto& s, auto& p, auto& l) -> magpie::task<> {
                l = magpie::io::tcp_listener::bind(magpie::io::endpoint::loopback_v4(0));
                auto pair = co_await test::connected();
                s = std::move(pair.here);
                p = std::move(pair.there);
            }(stream, peer, listener));
        }
        const magpie::runtime other = test::current_thread().build();
        std::array<std::byte, 8> buffer;
        const auto errors = [&]() -> magpie::task<> {
            const auto read = co_await test::error_of(stream.read(buffer));
            const auto write = co_await test::error_of(stream.write_all(test::bytes("x")));
            const auto accept = co_await test::error_of(listener.accept());
            CHECK(read == magpie::errc::operation_canceled);
            CHECK(write == magpie::errc::operation_canceled);
            CHECK(accept == magpie::errc::operation_canceled);
        };
        other.block_on(test::within_five_minutes(errors()));
    }

    TEST_CASE("a descriptor that somebody waits on may not go: the program ends with a sentence") {
        // (The other half of the contract: what waits is ended first.)
        test::run_on_one_thread([]() -> magpie::task<> {
            test::descriptor_pair p;
            async_fd fd(p.take());
            int woken = 0;
            auto reader = magpie::spawn(wait_readable(fd, woken));
            co_await test::settle();
            CHECK_THROWS_AS(static_cast<void>(fd.into_inner()), std::logic_error);
            reader.abort();
            static_cast<void>(co_await magpie::as_result(reader));
            ::close(fd.into_inner());
        }());
    }

    TEST_CASE(
        "a runtime built without I/O refuses it with a sentence; so does a thread without a runtime") {
        test::descriptor_pair p;
        const int fd = p.take();
        CHECK_THROWS_AS(async_fd{fd}, std::logic_error);
        auto builder = test::current_thread();
        builder.io(false);
        const magpie::runtime rt = builder.build();
        rt.block_on([](int d) -> magpie::task<> {
            try {
                const async_fd refused(d);
                CHECK(false);
            } catch (const std::logic_error& e) {
                CHECK(std::string(e.what()).find("io(false)") != std::string::npos);
            }
            co_return;
        }(fd));
        ::close(fd);
    }

} // TEST_SUITE
