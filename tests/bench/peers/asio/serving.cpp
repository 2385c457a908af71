// The servers: a coroutine a connection, on an io_context that all workers run.

#include "common.hpp"
#include "http_hello.hpp"
#include "server.hpp"

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <exception>
#include <string_view>

namespace {
using asio::ip::tcp;
using acceptor = asio::basic_socket_acceptor<tcp, executor>;
using stream = asio::basic_stream_socket<tcp, executor>;

// These throw when the client is gone, which ends them.

task<> echo(stream client) {
    std::array<char, 4096> buffer;
    for (;;) {
        const auto got = co_await client.async_read_some(asio::buffer(buffer), use_task);
        co_await asio::async_write(client, asio::buffer(buffer, got), use_task);
    }
}

task<> http_hello(stream client) {
    std::array<char, bench::http_buffer_size> buffer;
    bench::request_counter requests;
    for (;;) {
        const auto got = co_await client.async_read_some(asio::buffer(buffer), use_task);
        const auto ended = requests.count({buffer.data(), got});
        if (ended > 0)
            co_await asio::async_write(client, asio::buffer(bench::hello_answers(ended)), use_task);
    }
}

task<> idle(stream client) {
    std::array<char, 64> buffer;
    for (;;)
        co_await client.async_read_some(asio::buffer(buffer), use_task);
}

using session = task<> (*)(stream);

void forget_client(std::exception_ptr error) {
    try {
        if (error)
            std::rethrow_exception(error);
    } catch (const boost::system::system_error&) { // it is gone
    }
}

task<> accept(acceptor listener, session serve) {
    for (;;) {
        auto client = co_await listener.async_accept(use_task);
        client.set_option(tcp::no_delay(true));
        asio::co_spawn(listener.get_executor(), serve(std::move(client)), forget_client);
    }
}

bench::running_server start(unsigned workers, session serve) {
    auto rt = std::make_shared<runtime>(workers);
    acceptor listener(rt->get_executor(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    listener.listen(4096);
    const auto port = listener.local_endpoint().port();
    asio::co_spawn(rt->get_executor(), accept(std::move(listener), serve),
                   [](std::exception_ptr error) {
                       if (error) // it cannot accept any more: nobody can measure it
                           std::rethrow_exception(error);
                   });
    return {.port = port, .runtime = std::move(rt)};
}
} // namespace

std::vector<bench::server> bench::servers() {
    const auto of = [](session serve) {
        return bench::in_one_layout([=](unsigned workers) { return start(workers, serve); });
    };
    return {{"echo", of(echo)}, {"http_hello", of(http_hello)}, {"idle", of(idle)}};
}
