// Runtimes with I/O: their ends, and who is served when.

#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::join_handle;
using magpie::runtime;
using magpie::task;
using magpie::io::async_fd;
using magpie::io::endpoint;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;
using test::eventually;

task<> echo(tcp_stream peer) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const auto n = co_await magpie::as_result(peer.read(buffer));
        if (n.has_error() || *n == 0)
            co_return;
        const auto sent = co_await magpie::as_result(peer.write_all(std::span(buffer).first(*n)));
        if (sent.has_error())
            co_return;
    }
}

task<> talk(endpoint to, std::atomic<int>& rounds) {
    auto stream = co_await tcp_stream::connect(to);
    for (;;) {
        co_await stream.write_all(test::bytes("ping"));
        const std::string text = co_await test::read_text(stream, 4);
        CHECK(text == "ping");
        ++rounds;
    }
}

task<> serve(tcp_listener& listener) {
    for (;;) {
        auto a = co_await listener.accept();
        magpie::spawn(echo(std::move(a.stream))).detach();
    }
}

task<> never_idle(std::atomic<bool>& stop) {
    while (!stop)
        co_await magpie::yield_now();
}

/// Waits for data, reads it, and says so.
task<> take(async_fd& fd, std::atomic<int>& taken) {
    auto guard = co_await fd.readable();
    const auto n = guard.try_io([&] { return test::read_fd(fd.native_handle()); });
    CHECK(n.has_value());
    ++taken;
}

task<std::unique_ptr<async_fd>> adopt(int fd) { co_return std::make_unique<async_fd>(fd); }

/// Resumes what awaits it on a thread of an Asio context.
class asio_wait {
public:
    asio_wait(boost::asio::io_context& c, std::thread::id& resumed) : timer_(c), resumed_(resumed) {}

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        timer_.expires_after(1ms);
        timer_.async_wait([this, h](const boost::system::error_code&) {
            resumed_ = std::this_thread::get_id();
            h.resume();
        });
    }
    void await_resume() const noexcept {}

private:
    boost::asio::steady_timer timer_;
    std::thread::id& resumed_;
};

} // namespace

TEST_SUITE("io.lifecycle") {
    TEST_CASE("RT-LIFE-04 a runtime may end while events come for its sockets") {
        const std::size_t before = test::open_descriptors();
        for (int round = 0; round < 20; ++round) {
            test::on_each_layout([](auto builder) {
                std::atomic<int> rounds{0};
                // The clients live on another runtime, and do not know of the end.
                std::optional<runtime> clients(test::multi_thread(2).build());
                std::optional<runtime> rt(builder.build());
                auto listener = rt->block_on([]() -> task<std::unique_ptr<tcp_listener>> {
                    co_return std::make_unique<tcp_listener>(
                        tcp_listener::bind(endpoint::loopback_v4(0)));
                }());
                auto server = rt->spawn(serve(*listener));
                std::vector<join_handle<>> all;
                for (int i = 0; i < 3; ++i)
                    all.push_back(clients->spawn(talk(listener->local_endpoint(), rounds)));
                rt->block_on([](std::atomic<int>& n) -> task<> {
                    while (n < 10)
                        co_await magpie::yield_now();
                }(rounds));
                rt.reset();
                CHECK(test::ends_cancelled(server));
                listener.reset(); // some may wait in its backlog
                // Those whose server has gone fail, which nothing else is mistaken for.
                for (auto& h : all)
                    if (test::eventually([&] { return h.is_finished(); }))
                        CHECK_THROWS_AS(h.blocking_join(), std::system_error);
                    else
                        CHECK_MESSAGE(false, "a client hangs");
                clients.reset();
            });
        }
        CHECK(test::are_open_again(before));
    }

    TEST_CASE("RT-SCHED-10 sockets are served though the queue is never empty") {
        test::on_each_layout([](auto builder) {
            std::atomic<bool> stop{false};
            const runtime rt = builder.build();
            std::vector<join_handle<>> load;
            for (int i = 0; i < 4; ++i)
                load.push_back(rt.spawn(never_idle(stop)));
            rt.block_on(test::within_five_minutes([](std::atomic<bool>& end) -> task<> {
                auto p = co_await test::connected();
                auto server = magpie::spawn(echo(std::move(p.there)));
                for (int i = 0; i < 50; ++i) {
                    co_await p.here.write_all(test::bytes("ping"));
                    const std::string text = co_await test::read_text(p.here, 4);
                    CHECK(text == "ping");
                }
                p.here.shutdown(magpie::io::shutdown_side::write);
                co_await server;
                end = true;
            }(stop)));
        });
    }

    TEST_CASE("RT-SCHED-11 a task that yields runs again only after the reactor was polled") {
        test::on_each_layout([](auto builder) {
            std::atomic<int> taken{0};
            test::descriptor_pair p;
            // The periodic look is far away: 65536 turns.
            const runtime rt = builder.event_interval(65536).build();
            auto fd = rt.block_on(adopt(p.take()));
            rt.block_on([](async_fd& from, int to, std::atomic<int>& n) -> task<> {
                auto reader = magpie::spawn(take(from, n));
                co_await test::settle(); // it waits
                CHECK(test::write_fd(to, "x"));
                const auto due = std::chrono::steady_clock::now() + 30s;
                while (n == 0 && std::chrono::steady_clock::now() < due)
                    co_await magpie::yield_now();
                CHECK(n == 1);
                co_await reader;
            }(*fd, p.there(), taken));
        });
    }

    TEST_CASE("a task whose socket is always ready yields within its budget") {
        test::run_on_one_thread([]() -> task<> {
            auto p = co_await test::connected();
            const std::string much(4096, 'x');
            co_await p.there.write_all(test::bytes(much));
            bool ran = false;
            auto other = magpie::spawn([](bool& flag) -> task<> {
                flag = true;
                co_return;
            }(ran));
            int reads = 0;
            std::array<std::byte, 1> byte{};
            while (!ran && reads < 1000) {
                static_cast<void>(co_await p.here.read(byte));
                ++reads;
            }
            CHECK(reads <= 130); // a turn has 128 units
            co_await other;
        }());
    }

    TEST_CASE("RT-SCHED-26 a worker stuck right after its sleep in the reactor does not freeze I/O") {
        std::atomic<bool> stuck{false};
        std::atomic<bool> go{false};
        test::descriptor_pair a;
        test::descriptor_pair b;
        std::atomic<int> taken{0};
        const runtime rt = test::multi_thread(3).build();
        auto first = rt.block_on(adopt(a.take()));
        auto second = rt.block_on(adopt(b.take()));
        // Woken by an event, so by whoever slept in the reactor.
        auto hog = rt.spawn([](async_fd& fd, std::atomic<bool>& at, std::atomic<bool>& end) -> task<> {
            static_cast<void>(co_await fd.readable());
            at = true;
            CHECK(eventually([&] { return end.load(); }));
        }(*first, stuck, go));
        REQUIRE(test::write_fd(a.there(), "x"));
        REQUIRE(eventually([&] { return stuck.load(); }));
        auto reader = rt.spawn(take(*second, taken));
        CHECK(test::write_fd(b.there(), "x"));
        CHECK(test::ends(reader));
        go = true;
        CHECK(test::ends(hog));
    }

    TEST_CASE("CPP-22 what an Asio context's thread resumes goes on on the task's own worker") {
        boost::asio::io_context context;
        auto work = boost::asio::make_work_guard(context);
        std::thread asio([&] { context.run(); });
        const std::thread::id there = asio.get_id();
        test::on_each_layout([&](auto builder) {
            const runtime rt = builder.build();
            rt.block_on([](boost::asio::io_context& c, std::thread::id other) -> task<> {
                for (int i = 0; i < 20; ++i) {
                    std::thread::id resumed;
                    asio_wait wait(c, resumed);
                    co_await wait;
                    CHECK(resumed == other); // the handler ran there, and
                    CHECK(std::this_thread::get_id() != other);
                    CHECK(magpie::worker_index().has_value());
                }
            }(context, there));
        });
        work.reset();
        asio.join();
    }

    TEST_CASE("CPP-23 a runtime that ends with tasks in every kind of I/O leaves nothing") {
        const std::size_t before = test::open_descriptors();
        auto keep = std::make_shared<int>(0);
        test::on_each_layout([&](auto builder) {
            std::vector<join_handle<>> all;
            {
                const runtime rt = builder.build();
                rt.block_on([](std::shared_ptr<int> k, std::vector<join_handle<>>& tasks) -> task<> {
                    using guard = std::shared_ptr<int>;
                    auto in_accept = [](guard) -> task<> {
                        auto l = tcp_listener::bind(endpoint::loopback_v4(0));
                        static_cast<void>(co_await l.accept());
                    };
                    auto in_read = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        std::array<std::byte, 1> byte{};
                        static_cast<void>(co_await p.here.read(byte));
                    };
                    auto in_read_exact = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        co_await p.there.write_all(test::bytes("half"));
                        static_cast<void>(co_await test::read_text(p.here, 8));
                    };
                    auto in_write_all = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        const std::string much(1 << 24, 'x');
                        co_await p.here.write_all(test::bytes(much));
                    };
                    auto in_timeout = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        std::array<std::byte, 1> byte{};
                        static_cast<void>(co_await magpie::timeout(1h, p.here.read(byte)));
                    };
                    auto in_connect = [](guard) -> task<> {
                        auto l = tcp_listener::bind(endpoint::loopback_v4(0),
                                                    magpie::io::listen_options().backlog(1));
                        const auto port = l.local_endpoint().port();
                        std::vector<tcp_stream> queued;
                        for (;;) // until there is no room in the backlog
                            queued.push_back(co_await tcp_stream::connect("127.0.0.1", port));
                    };
                    auto in_ready = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        static_cast<void>(co_await p.here.ready(magpie::io::interest::priority |
                                                                magpie::io::interest::error));
                    };
                    auto in_halves = [](guard) -> task<> {
                        auto p = co_await test::connected();
                        auto halves = magpie::io::owned_halves(std::move(p.here));
                        std::array<std::byte, 1> byte{};
                        static_cast<void>(co_await halves.read.read(byte));
                    };
                    auto in_signal = [](guard) -> task<> {
                        magpie::io::signals s{SIGUSR1};
                        static_cast<void>(co_await s.next());
                    };
                    auto in_lookup = [](guard) -> task<> {
                        for (;;) // one that begins when the end has come gives runtime_gone
                            static_cast<void>(
                                co_await magpie::as_result(magpie::io::resolve("localhost", 80)));
                    };
                    tasks.push_back(magpie::spawn(in_accept(k)));
                    tasks.push_back(magpie::spawn(in_read(k)));
                    tasks.push_back(magpie::spawn(in_read_exact(k)));
                    tasks.push_back(magpie::spawn(in_write_all(k)));
                    tasks.push_back(magpie::spawn(in_timeout(k)));
                    tasks.push_back(magpie::spawn(in_connect(k)));
                    tasks.push_back(magpie::spawn(in_ready(k)));
                    tasks.push_back(magpie::spawn(in_halves(k)));
                    tasks.push_back(magpie::spawn(in_signal(k)));
                    tasks.push_back(magpie::spawn(in_lookup(k)));
                    for (int i = 0; i < 300; ++i) // most of them wait by then; any state is fine
                        co_await magpie::yield_now();
                }(keep, all));
            }
            CHECK(keep.use_count() == 1);
            for (auto& h : all)
                CHECK(test::ends_cancelled(h));
        });
        CHECK(test::are_open_again(before));
    }
}
