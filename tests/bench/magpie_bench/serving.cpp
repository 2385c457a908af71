// The servers: a task a connection, spawned by one that accepts.

#include "common.hpp"
#include "http_hello.hpp"
#include "server.hpp"

#include <examples/kv/service.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace {
using magpie::as_result;
using magpie::task;
namespace io = magpie::io;

// A client that is gone ends its task: an end of the stream, or an error. Where requests are answered an
// error comes as a value; `idle` takes the exception, which is rare there, since its frame is smaller
// without a result in it.

task<> echo(io::tcp_stream client) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const auto got = co_await as_result(client.read(buffer));
        if (!got || *got == 0)
            co_return;
        const auto sent = co_await as_result(client.write_all(std::span(buffer).first(*got)));
        if (!sent)
            co_return;
    }
}

task<> http_hello(io::tcp_stream client) {
    std::array<std::byte, bench::http_buffer_size> buffer;
    bench::request_counter requests;
    for (;;) {
        const auto got = co_await as_result(client.read(buffer));
        if (!got || *got == 0)
            co_return;
        const auto ended = requests.count({reinterpret_cast<const char*>(buffer.data()), *got});
        if (ended == 0)
            continue;
        const std::span answers(bench::hello_answers(ended));
        const auto sent = co_await as_result(client.write_all(std::as_bytes(answers)));
        if (!sent)
            co_return;
    }
}

task<> idle(io::tcp_stream client) {
    std::array<std::byte, 64> buffer;
    try {
        for (;;) {
            const std::size_t got = co_await client.read(buffer);
            if (got == 0)
                co_return;
        }
    } catch (const std::system_error&) { // it is gone
    }
}

/// Tells first which shard has the connection, so that the load can spread its connections evenly.
task<> echo_spread(io::tcp_stream client) {
    const std::array number{static_cast<std::byte>(magpie::this_shard())};
    const auto sent = co_await as_result(client.write_all(number));
    if (sent)
        co_await echo(std::move(client));
}

task<> accept(io::tcp_listener listener, example::session serve) {
    for (;;) {
        auto next = co_await listener.accept();
        next.stream.set_nodelay(true);
        magpie::spawn(serve(std::move(next.stream))).detach();
    }
}

task<io::endpoint> listen_here(io::endpoint at, io::listen_options options, example::service make) {
    auto listener = io::tcp_listener::bind(at, options);
    at = listener.local_endpoint();
    magpie::spawn(accept(std::move(listener), make())).detach();
    co_return at;
}

/// A listener on each shard.
task<std::uint16_t> listen(example::service make) {
    io::endpoint at = io::endpoint::loopback_v4(0);
    const auto options = io::listen_options().backlog(4096).reuse_port(magpie::shard_count() > 1);
    for (std::size_t shard = 0; shard < magpie::shard_count(); ++shard)
        at = co_await magpie::spawn_on(shard, listen_here(at, options, std::ref(make)));
    co_return at.port();
}

bench::running_server start(const bench::serve_options& options, example::service make) {
    magpie::runtime_builder builder;
    builder.worker_threads(options.workers)
        .on_unhandled_exception([](const magpie::unhandled_exception& e) {
            std::cerr << "cannot accept any more: " << magpie::describe(e.error) << std::endl;
            std::_Exit(EXIT_FAILURE); // nobody can measure it
        });
    if (!options.layout.empty())
        builder.layout(example::layout_named(options.layout).layout);
    auto rt = std::make_shared<magpie::runtime>(builder.build());
    const std::uint16_t port = rt->block_on(listen(std::move(make)));
    return {.port = port, .runtime = std::move(rt)};
}
} // namespace

std::vector<bench::server> bench::servers() {
    const auto of = [](example::service make) {
        return [make = std::move(make)](const serve_options& options) { return start(options, make); };
    };
    const auto each = [of](task<> (*serve)(io::tcp_stream)) {
        return of([serve] { return example::session(serve); });
    };
    return {{"echo", each(echo)},
            {"echo_spread", each(echo_spread)},
            {"http_hello", each(http_hello)},
            {"idle", each(idle)},
            {"kv", of(kv::service())}};
}
