// The servers: a task a connection, spawned by one that accepts.

#include "common.hpp"
#include "http_hello.hpp"
#include "server.hpp"

#include <examples/kv/session.hpp>
#include <examples/kv/shared_store.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string_view>
#include <system_error>

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

using session = std::function<task<>(io::tcp_stream)>;

/// The store of examples/kv.
session kv_session() {
    return [store = std::make_shared<kv::shared_store>()](io::tcp_stream client) {
        return kv::serve(std::move(client), kv::shared_requests(store));
    };
}

task<> accept(io::tcp_listener listener, session serve) {
    for (;;) {
        auto next = co_await listener.accept();
        next.stream.set_nodelay(true);
        magpie::spawn(serve(std::move(next.stream))).detach();
    }
}

bench::running_server start(unsigned workers, session serve) {
    auto rt = std::make_shared<magpie::runtime>(
        magpie::runtime::builder()
            .worker_threads(workers)
            .on_unhandled_exception([](const magpie::unhandled_exception& e) {
                std::cerr << "cannot accept any more: " << magpie::describe(e.error) << std::endl;
                std::_Exit(EXIT_FAILURE); // nobody can measure it
            })
            .build());
    const auto entered = rt->enter();
    auto listener = io::tcp_listener::bind(io::endpoint::loopback_v4(0),
                                           io::listen_options().backlog(4096));
    const auto port = listener.local_endpoint().port();
    rt->spawn(accept(std::move(listener), serve)).detach();
    return {.port = port, .runtime = std::move(rt)};
}
} // namespace

std::vector<bench::server> bench::servers() {
    const auto of = [](session serve) {
        return [serve = std::move(serve)](unsigned workers) { return start(workers, serve); };
    };
    return {{"echo", of(echo)},
            {"http_hello", of(http_hello)},
            {"idle", of(idle)},
            {"kv", of(kv_session())}};
}
