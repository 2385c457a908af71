#include <magpie/io/endpoint.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

using magpie::io::endpoint;

TEST_SUITE("io.endpoint") {
    TEST_CASE("NET-CORE-02 an endpoint is written as text, or as an address and a port") {
        const endpoint four("127.0.0.1:8080");
        CHECK(four.is_v4());
        CHECK(four.port() == 8080);
        CHECK(four.address() == "127.0.0.1");
        CHECK(four == endpoint("127.0.0.1", 8080));
        CHECK(four == endpoint::loopback_v4(8080));

        const endpoint six("[::1]:80");
        CHECK(six.is_v6());
        CHECK(six.address() == "::1");
        CHECK(six == endpoint("::1", 80));
        CHECK(six == endpoint("[::1]", 80));
        CHECK(six == endpoint::loopback_v6(80));
    }

    TEST_CASE("what it is written as can be read again") {
        for (const char* text :
             {"0.0.0.0:0", "10.1.2.3:65535", "[::]:1", "[2001:db8::7]:443", "[fe80::1%7]:5"})
            CHECK(endpoint(text).to_string() == text);
    }

    TEST_CASE("what is no endpoint is refused") {
        for (const char* text :
             {"", ":", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
              "127.0.0.1: 1", "127.0.0.1:1x", "localhost:80", "::1:80", "[::1]", "[::1:80",
              "[127.0.0.1]:80", "256.0.0.1:80", "[fe80::1%]:80", "[fe80::1%no_such_if]:80",
              "1.2.3.4%2:80", "1.2.3:80"}) {
            CAPTURE(text);
            CHECK_FALSE(endpoint::parse(text).has_value());
            CHECK_THROWS_AS(endpoint{text}, std::invalid_argument);
        }
        CHECK_FALSE(endpoint::parse(std::string("1.2.3.4\0", 8), 80).has_value());
        CHECK_FALSE(endpoint::parse(std::string(100, '1'), 80).has_value());
    }

    TEST_CASE("the default is any address, any port") {
        const endpoint any;
        CHECK(any.is_v4());
        CHECK(any.is_unspecified());
        CHECK(any.port() == 0);
        CHECK(any == endpoint::any_v4(0));
        CHECK(endpoint::any_v6(0).is_unspecified());
        CHECK(endpoint("127.9.9.9:1").is_loopback());
        CHECK(endpoint::loopback_v6(1).is_loopback());
        CHECK_FALSE(endpoint("10.0.0.1:1").is_loopback());
        CHECK(any.with_port(7) == endpoint::any_v4(7));
        CHECK(endpoint::any_v6(0).with_port(7) == endpoint::any_v6(7));
    }

    TEST_CASE("endpoints are ordered by address, then by port") {
        CHECK(endpoint("1.2.3.4:9") < endpoint("1.2.3.5:1"));
        CHECK(endpoint("1.2.3.4:1") < endpoint("1.2.3.4:2"));
        CHECK(endpoint("255.255.255.255:1") < endpoint("[::]:1"));
        CHECK(endpoint("[::1]:1") < endpoint("[::2]:1"));
        CHECK(endpoint("[fe80::1%1]:1") != endpoint("[fe80::1%2]:1"));
    }

} // TEST_SUITE
