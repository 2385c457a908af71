// Runs services under each layout of the runtime with the same loads, and says which one serves them
// best: a table, and on request JSON and a page with charts.
//
//     magpie-layouts [--quick] [--services A,B] [--json FILE] [--html FILE]     --help has the rest
//
// The services: echo, http_hello, kv, and cpu, which computes for each request. To compare layouts for a
// service of your own, write what is at the end of own.cpp.

#include "../echo.hpp"
#include "../http_hello.hpp"
#include "../kv/service.hpp"
#include "cpu.hpp"
#include "layouts.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using layouts::traffic;
using verdict = traffic::verdict;

/// Answers of `size` bytes that begin with what they should.
traffic::answer fixed(std::string_view received, std::size_t size, std::string_view beginning) {
    if (!received.starts_with(beginning.substr(0, received.size())))
        return {verdict::wrong, 0};
    return received.size() < size ? traffic::answer{} : traffic::answer{verdict::whole, size};
}

layouts::compared echo() {
    constexpr std::size_t size = 64;
    const auto ask = [](std::string& out, const traffic::wish& w) {
        std::string message = "key " + std::to_string(w.key);
        message.resize(size, '.');
        out += message;
    };
    return {
        "echo", [] { return example::echo; }, {.request = ask, .find = [](std::string_view received) {
                                                   return fixed(received, size, "key ");
                                               }}};
}

layouts::compared http_hello() {
    const auto ask = [](std::string& out, const traffic::wish& w) {
        out += "GET /" + std::to_string(w.key) + " HTTP/1.1\r\nHost: here\r\n\r\n";
    };
    const auto find = [](std::string_view received) {
        return fixed(received, example::http_answer.size(), example::http_answer);
    };
    return {"http_hello", [] { return example::http_hello; }, {.request = ask, .find = find}};
}

/// One SET of 64 bytes to four GETs.
void ask_kv(std::string& out, const traffic::wish& w) {
    static const std::string value(64, 'v');
    thread_local unsigned turn = 0;
    const std::string key = "key:" + std::to_string(w.key);
    const bool sets = ++turn % 5 == 0;
    kv::add_array(out, sets ? 3 : 2);
    kv::add_bulk(out, sets ? "SET" : "GET");
    kv::add_bulk(out, key);
    if (sets)
        kv::add_bulk(out, value);
}

traffic::answer find_kv(std::string_view received) {
    const std::size_t end = received.find('\n');
    if (end == std::string_view::npos)
        return {};
    if (received.front() == '+')
        return {verdict::whole, end + 1};
    std::int64_t size = 0;
    const auto parsed = std::from_chars(received.data() + 1, received.data() + end, size);
    if (received.front() != '$' || parsed.ec != std::errc())
        return {verdict::wrong, 0};
    const std::size_t whole = size < 0 ? end + 1 : end + 1 + static_cast<std::size_t>(size) + 2;
    return received.size() < whole ? traffic::answer{} : traffic::answer{verdict::whole, whole};
}

layouts::compared kv_store() { return {"kv", kv::service(), {.request = ask_kv, .find = find_kv}}; }

} // namespace

int main(int argc, char** argv) {
    return layouts::compare(argc, argv, {echo(), http_hello(), kv_store(), layouts::cpu()});
}
