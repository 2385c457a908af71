#include <magpie/io/resolve.hpp>

#include <magpie/io/detail/lookup.hpp>

#include <test/captured_log.hpp>
#include <test/eventually.hpp>
#include <test/io.hpp>

#include <magpie/magpie.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using magpie::io::endpoint;
using magpie::io::resolve;
using magpie::io::resolve_error;
using magpie::io::tcp_listener;
using magpie::io::tcp_stream;

using addresses = std::vector<endpoint>;

/// Puts a function in the place of the system's name lookup, as long as it lives.
class other_lookup {
public:
    explicit other_lookup(magpie::io::detail::lookup_function f)
        : before_(magpie::io::detail::set_lookup_function(f)) {}
    other_lookup(const other_lookup&) = delete;
    ~other_lookup() { magpie::io::detail::set_lookup_function(before_); }

private:
    magpie::io::detail::lookup_function before_;
};

/// A lookup that takes until it is told to end.
struct slow {
    static inline std::atomic<int> begun{0};
    static inline std::atomic<int> ended{0};
    static inline std::atomic<bool> go{false};

    static void reset() { begun = 0, ended = 0, go = false; }
    static magpie::result<addresses> look_up(const std::string&, const std::string&) {
        ++begun;
        CHECK(test::eventually([] { return go.load(); }));
        ++ended;
        return addresses{endpoint::loopback_v4(1)};
    }
};

magpie::task<> resolve_slowly() { static_cast<void>(co_await resolve("slow.example", 80)); }

std::uint16_t number_of(const std::string& text) { return static_cast<std::uint16_t>(std::stoi(text)); }

magpie::task<std::string> accept_and_read(tcp_listener& listener) {
    auto peer = co_await listener.accept();
    co_return co_await test::read_all(peer.stream);
}

/// What connecting with these arguments arrives at.
template <class... Args>
magpie::task<> connects(tcp_listener& listener, Args... args) {
    auto server = magpie::spawn(accept_and_read(listener));
    auto stream = co_await tcp_stream::connect(args...);
    CHECK(stream.remote_endpoint() == listener.local_endpoint());
    co_await stream.write_all(test::bytes("hello"));
    stream.shutdown(magpie::io::shutdown_side::write);
    const std::string text = co_await server;
    CHECK(text == "hello");
}

} // namespace

TEST_SUITE("io.resolve") {
    TEST_CASE("NET-CORE-12 addresses with a number are known without a lookup") {
        const other_lookup none(
            [](const std::string&, const std::string&) -> magpie::result<addresses> {
                CHECK_MESSAGE(false, "looked up");
                return addresses{};
            });
        test::run_on_one_thread([]() -> magpie::task<> {
            auto four = co_await resolve("127.0.0.1", 80);
            CHECK(four == addresses{endpoint("127.0.0.1:80")});
            auto six = co_await resolve("::1", 80);
            CHECK(six == addresses{endpoint("[::1]:80")});
            auto bracketed = co_await resolve("[::1]", "80");
            CHECK(bracketed == addresses{endpoint("[::1]:80")});
            auto text = co_await resolve("10.1.2.3:65535");
            CHECK(text == addresses{endpoint("10.1.2.3:65535")});
            auto text_six = co_await resolve("[::1]:0");
            CHECK(text_six == addresses{endpoint("[::1]:0")});
        }());
    }

    TEST_CASE("NET-CORE-12 names resolve, on each layout") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto local = co_await resolve("localhost", 443);
            REQUIRE_FALSE(local.empty());
            for (const endpoint& e : local) {
                CHECK(e.is_loopback());
                CHECK(e.port() == 443);
            }
            auto text = co_await resolve("localhost:443");
            CHECK(text == local);
            // An address and the name of a service: that is looked up as well.
            auto https = co_await magpie::as_result(resolve("127.0.0.1", "https"));
            if (https.has_value()) // else the machine has no list of services
                CHECK(*https == addresses{endpoint("127.0.0.1:443")});
            else
                CHECK(https.error() == resolve_error::service_not_found);
        });
    }

    TEST_CASE("the order of what was found is kept, and each address comes once") {
        const other_lookup two([](const std::string& host, const std::string& service) {
            CHECK(host == "host.example");
            return magpie::result<addresses>(
                addresses{endpoint("[::2]:80").with_port(number_of(service)),
                          endpoint("1.2.3.4:80").with_port(number_of(service))});
        });
        test::run_on_one_thread([]() -> magpie::task<> {
            auto found = co_await resolve("host.example", 8080);
            CHECK(found == addresses{endpoint("[::2]:8080"), endpoint("1.2.3.4:8080")});
        }());
    }

    TEST_CASE("what is unknown is an error of getaddrinfo's category, thrown or as a result") {
        test::run_on_one_thread([]() -> magpie::task<> {
            // A part of a name has at most 63 letters: no name server is asked.
            const std::string host(100, 'a');
            auto outcome = co_await magpie::as_result(resolve(host, 80));
            REQUIRE(outcome.has_error());
            CHECK(outcome.error() == resolve_error::host_not_found);
            CHECK(outcome.error().category() == magpie::io::resolve_category());
            CHECK_FALSE(outcome.error().message().empty());
            bool thrown = false;
            try {
                static_cast<void>(co_await resolve(host, 80));
            } catch (const std::system_error& e) {
                thrown = true;
                CHECK(e.code() == std::error_code(outcome.error()));
                CHECK(std::string(e.what()).find(host) != std::string::npos);
            }
            CHECK(thrown);
            auto service = co_await magpie::as_result(resolve("127.0.0.1", "no-such-service"));
            REQUIRE(service.has_error());
            CHECK(service.error() == resolve_error::service_not_found);
        }());
    }

    TEST_CASE("errors have the text of the system, and one without addresses is an error") {
        CHECK(make_error_code(resolve_error::try_again).message() ==
              "Temporary failure in name resolution");
        const other_lookup nothing([](const std::string&, const std::string&) {
            return magpie::result<addresses>(addresses{});
        });
        test::run_on_one_thread([]() -> magpie::task<> {
            const auto error = co_await test::error_of(resolve("host.example", 80));
            CHECK(error == resolve_error::no_address);
        }());
    }

    TEST_CASE("misuse is refused at the call, with a sentence") {
        CHECK_THROWS_AS(static_cast<void>(resolve("", 80)), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve("host", "")), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve("host", "65536")), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve(std::string_view("ho\0st", 5), 80)),
                        std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve("host")), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve("::1:80")), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(resolve(":80")), std::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(tcp_stream::connect("host", 80)), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(tcp_listener::bind("host", 80)), std::logic_error);
    }

    TEST_CASE("a lookup blocks no worker, and one that is dropped ends by itself") {
        slow::reset();
        const other_lookup slowly(&slow::look_up);
        test::run_on_each_layout([]() -> magpie::task<> {
            slow::reset();
            auto waiting = magpie::spawn(resolve_slowly());
            while (slow::begun == 0) // the worker is free meanwhile
                co_await magpie::yield_now();
            waiting.abort();
            auto outcome = co_await magpie::as_result(waiting);
            CHECK(outcome.has_error());
            CHECK(slow::ended == 0); // it goes on, and nobody waits for it
            slow::go = true;
            while (slow::ended == 0)
                co_await magpie::yield_now();
        });
    }

    TEST_CASE("a lookup that has not begun when it is dropped never does") {
        slow::reset();
        const other_lookup slowly(&slow::look_up);
        {
            const magpie::runtime rt = test::current_thread().max_blocking_threads(1).build();
            rt.block_on(test::within_five_minutes([]() -> magpie::task<> {
                auto first = magpie::spawn(resolve_slowly());
                while (slow::begun == 0)
                    co_await magpie::yield_now();
                auto second = magpie::spawn(resolve_slowly());
                co_await test::settle(); // it waits for a thread
                second.abort();
                auto outcome = co_await magpie::as_result(second);
                CHECK(outcome.has_error());
                slow::go = true;
                co_await first;
            }()));
        }
        CHECK(slow::begun == 1);
    }

    TEST_CASE("a timeout ends the wait") {
        slow::reset();
        const other_lookup slowly(&slow::look_up);
        test::run_on_one_thread([]() -> magpie::task<> {
            auto found = co_await magpie::timeout(1ms, resolve("slow.example", 80));
            CHECK_FALSE(found);
            slow::go = true;
        }());
    }

    TEST_CASE("SCOPE-16 a lookup in progress does not delay a shutdown, and the report names it") {
        test::on_each_layout([](auto builder) {
            slow::reset();
            const other_lookup slowly(&slow::look_up);
            const test::captured_log log;
            magpie::runtime rt = builder.build();
            // current_thread has no worker of its own: someone has to begin the lookup.
            auto waiting = rt.spawn(resolve_slowly());
            rt.block_on([]() -> magpie::task<> {
                while (slow::begun == 0)
                    co_await magpie::yield_now();
            }());
            CHECK_FALSE(rt.shutdown_timeout(10ms));
            CHECK(test::ends_cancelled(waiting)); // the task is gone; only the lookup is left
            CHECK(slow::ended == 0);
            INFO(log.text());
            CHECK(log.contains("of the name \"slow.example\", started at"));
            CHECK(log.contains("resolve_test.cpp:"));
            slow::go = true;
            CHECK(test::eventually([] { return slow::ended.load() == 1; }));
        });
    }

    TEST_CASE("NET-CORE-02 connecting by name and port, by text, and by address") {
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            const std::uint16_t port = listener.local_endpoint().port();
            co_await connects(listener, "127.0.0.1", port);
            co_await connects(listener, std::string_view("localhost"), port);
            const std::string text = "localhost:" + std::to_string(port);
            co_await connects(listener, std::string_view(text));
            co_await connects(listener, listener.local_endpoint());
        });
    }

    TEST_CASE("NET-CORE-02 each address is tried in turn, and the last error is given") {
        const other_lookup three([](const std::string&, const std::string& service) {
            const auto port = number_of(service);
            // Nobody listens at the first two: 127.0.0.2 and .3 are not bound.
            return magpie::result<addresses>(addresses{
                endpoint("127.0.0.2", port), endpoint("127.0.0.3", port), endpoint("127.0.0.1", port)});
        });
        test::run_on_each_layout([]() -> magpie::task<> {
            auto listener = tcp_listener::bind(endpoint::loopback_v4(0));
            co_await connects(listener, "many.example", listener.local_endpoint().port());

            const test::silent_place nobody;
            const std::uint16_t port = nobody.at().port();
            const auto error = co_await test::error_of(tcp_stream::connect("many.example", port));
            CHECK(error == magpie::errc::connection_refused);
            bool thrown = false;
            try {
                static_cast<void>(co_await tcp_stream::connect("many.example", port));
            } catch (const std::system_error& e) {
                thrown = true;
                CHECK(std::string(e.what()).find("many.example") != std::string::npos);
            }
            CHECK(thrown);
        });
    }

    TEST_CASE("connecting to a name that is unknown gives the lookup's error") {
        const other_lookup unknown([](const std::string&, const std::string&) {
            return magpie::result<addresses>(boost::system::in_place_error,
                                             make_error_code(resolve_error::host_not_found));
        });
        test::run_on_one_thread([]() -> magpie::task<> {
            const auto error = co_await test::error_of(tcp_stream::connect("unknown.example:80"));
            CHECK(error == resolve_error::host_not_found);
            const auto bind_error = co_await test::error_of(tcp_listener::bind("unknown.example:80"));
            CHECK(bind_error == resolve_error::host_not_found);
        }());
    }

    TEST_CASE("connecting by name is dropped in the lookup, and in the attempt") {
        slow::reset();
        const std::size_t streams = test::open_streams();
        const std::size_t before =
            test::open_descriptors(); // with those of a runtime that was given up above
        {
            const other_lookup slowly(&slow::look_up);
            test::run_on_one_thread([]() -> magpie::task<> {
                auto none = co_await magpie::timeout(1ms, tcp_stream::connect("slow.example", 80));
                CHECK_FALSE(none);
                slow::go = true;
            }());
        }
        {
            // A full backlog: the listener's system answers nothing more.
            test::run_on_one_thread([]() -> magpie::task<> {
                auto listener = tcp_listener::bind(endpoint::loopback_v4(0),
                                                   magpie::io::listen_options().backlog(1));
                const std::uint16_t port = listener.local_endpoint().port();
                std::vector<tcp_stream> queued;
                for (int i = 0; i < 100; ++i) {
                    auto made = co_await magpie::timeout(20ms, tcp_stream::connect("localhost", port));
                    if (!made)
                        co_return; // dropped half-way
                    queued.push_back(std::move(*made));
                }
                CHECK_MESSAGE(false, "the backlog was never full");
            }());
        }
        CHECK(test::eventually(
            [&] { return test::open_streams() == streams && test::open_descriptors() <= before; }));
    }

    TEST_CASE("binding by name, and binding the first address that can be bound") {
        test::run_on_one_thread([]() -> magpie::task<> {
            auto listener = co_await tcp_listener::bind("localhost", 0);
            CHECK(listener.local_endpoint().is_loopback());
            const other_lookup two([](const std::string&, const std::string& service) {
                // 192.0.2.1 is nobody's (TEST-NET).
                return magpie::result<addresses>(
                    addresses{endpoint("192.0.2.1", number_of(service)), endpoint("127.0.0.1", 0)});
            });
            auto second = co_await tcp_listener::bind("two.example:1234");
            CHECK(second.local_endpoint().address() == "127.0.0.1");
        }());
    }
}
