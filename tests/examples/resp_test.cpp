// The protocol of examples/kv: requests in any pieces, and what is none.

#include <examples/kv/resp.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using kv::request_parser;
using outcome = request_parser::outcome;
using words = std::vector<std::string>;
using namespace std::string_literals;

struct parsed {
    std::vector<words> requests;
    std::string error;
    std::string rest; // what is no request yet
};

/// Gives the parser the pieces of a stream, each copied to another place, as a buffer does that moves.
parsed parse(const std::vector<std::string>& pieces, const kv::limits& most = kv::limits()) {
    parsed p;
    request_parser parser(most);
    for (const std::string& piece : pieces) {
        p.rest = std::string(p.rest) + piece;
        outcome o = outcome::incomplete;
        while ((o = parser.next(p.rest)) == outcome::request) {
            p.requests.emplace_back(parser.arguments().begin(), parser.arguments().end());
            p.rest = p.rest.substr(parser.size());
        }
        if (o == outcome::malformed) {
            p.error = parser.error();
            return p;
        }
    }
    return p;
}

std::string array(const words& arguments) {
    std::string text;
    kv::add_array(text, arguments.size());
    for (const std::string& a : arguments)
        kv::add_bulk(text, a);
    return text;
}

} // namespace

TEST_SUITE("examples.resp") {
    TEST_CASE("a request is an array of strings, or a line of words") {
        CHECK(parse({"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"}).requests == std::vector<words>{{"GET", "k"}});
        CHECK(parse({"SET  k\tv \r\n"}).requests == std::vector<words>{{"SET", "k", "v"}});
        CHECK(parse({"PING\n"}).requests == std::vector<words>{{"PING"}});
    }

    TEST_CASE("what is empty is a request without arguments") {
        for (const char* const nothing : {"\r\n", "\n", "  \r\n", "*0\r\n", "*-1\r\n"}) {
            CAPTURE(nothing);
            const parsed p = parse({nothing + "PING\r\n"s});
            CHECK(p.requests == std::vector<words>{{}, {"PING"}});
        }
    }

    TEST_CASE("arguments may have any bytes, and may be empty") {
        const words all{"SET", "a\r\nb\0c*$"s, "", std::string(70'000, '\r')};
        const parsed p = parse({array(all) + array(all)});
        CHECK(p.requests == std::vector<words>{all, all});
        CHECK(p.rest.empty());
    }

    TEST_CASE("requests are found wherever the stream is split") {
        const std::vector<words> all{
            {"SET", "k\r\n", "$-1\r\n"}, {"GET", ""}, {"PING"}, {}, {"MGET", "a", "b"}};
        const std::string text = array(all[0]) + array(all[1]) + "PING\r\n" + "*-1\r\n" + array(all[4]);
        for (std::size_t i = 0; i <= text.size(); ++i)
            for (std::size_t j = i; j <= text.size(); ++j) {
                const parsed p = parse({text.substr(0, i), text.substr(i, j - i), text.substr(j)});
                REQUIRE(p.error == "");
                REQUIRE(p.requests == all);
            }
        std::vector<std::string> bytes;
        for (const char c : text)
            bytes.emplace_back(1, c);
        CHECK(parse(bytes).requests == all);
    }

    TEST_CASE("a part of a request is no request, and no error") {
        const std::string text = array({"SET", "key", "value"});
        for (std::size_t i = 0; i < text.size(); ++i) {
            const parsed p = parse({text.substr(0, i)});
            CHECK(p.requests.empty());
            CHECK(p.error == "");
        }
    }

    TEST_CASE("what breaks the protocol is told at once") {
        const auto error = [](std::string_view text) { return parse({std::string(text)}).error; };
        for (const char* const text : {"*x\r\n", "*1\n", "*1\rx", "*1x\r\n", "*\r\n", "*-\r\n",
                                       "*--1\r\n", "*99999999999999999999\r\n", "* 1\r\n", "*1\r\r"}) {
            CAPTURE(text);
            CHECK(error(text) == "invalid multibulk length");
        }
        for (const char* const text : {"*1\r\n$x\r\n", "*1\r\n$-1\r\n", "*1\r\n$\r\n", "*1\r\n$1\rx",
                                       "*1\r\n$000000000000000000000000"}) {
            CAPTURE(text);
            CHECK(error(text) == "invalid bulk length");
        }
        CHECK(error("*1\r\n:1\r\n") == "expected '$'");
        CHECK(error("*1\r\n$1\r\nabc") == "an argument is longer than its length says");
        CHECK(error("*1\r\n$1\r\na\rx") == "an argument is longer than its length says");
    }

    TEST_CASE("a request has its limits") {
        const kv::limits most{.arguments = 3, .argument = 10, .request = 40, .line = 20};
        CHECK(parse({array({"a", "b", "c"})}, most).error == "");
        CHECK(parse({"*4\r\n"}, most).error == "too many arguments");
        CHECK(parse({"a b c d\r\n"}, most).error == "too many arguments");
        CHECK(parse({array({"0123456789"})}, most).error == "");
        CHECK(parse({"*1\r\n$11\r\n"}, most).error == "argument is too large");
        CHECK(parse({array({"0123456789", "0123456789"})}, most).error == "");
        CHECK(parse({array({"0123456789", "0123456789", "a"})}, most).error == "request is too large");
        CHECK(parse({std::string(19, 'x')}, most).error == "");
        CHECK(parse({std::string(18, 'x') + "\r\n"}, most).requests.size() == 1);
        CHECK(parse({std::string(20, 'x')}, most).error == "too big inline request");
    }

    TEST_CASE("any bytes end in requests, in an error, or in nothing") {
        const std::string alphabet = "*$\r\n0123-a "s + '\0';
        for (std::uint32_t seed = 0; seed < 20'000; ++seed) {
            std::minstd_rand random(seed + 1);
            std::string text;
            for (std::size_t i = 0; i < 40; ++i)
                text += alphabet[random() % alphabet.size()];
            const parsed whole = parse({text});
            std::vector<std::string> bytes;
            for (const char c : text)
                bytes.emplace_back(1, c);
            const parsed single = parse(bytes);
            CAPTURE(seed);
            CAPTURE(text);
            REQUIRE(whole.requests == single.requests);
            REQUIRE(whole.error == single.error);
        }
    }

    TEST_CASE("answers") {
        std::string out;
        kv::add_status(out, "OK");
        kv::add_error(out, "ERR a\r\nb");
        kv::add_integer(out, std::numeric_limits<std::int64_t>::min());
        kv::add_array(out, 2);
        kv::add_bulk(out, "a\r\n"s);
        kv::add_null(out);
        CHECK(out == "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n*2\r\n$3\r\na\r\n\r\n$-1\r\n");
    }
}
