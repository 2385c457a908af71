// compile.cpp with Boost.Asio's own coroutines.

#include <boost/asio.hpp>

#include <array>
#include <cstddef>
#include <string_view>

namespace {
namespace asio = boost::asio;
using asio::ip::tcp;

asio::awaitable<std::size_t> ask(tcp::endpoint server, std::string_view question) {
    tcp::socket stream(co_await asio::this_coro::executor);
    co_await stream.async_connect(server, asio::use_awaitable);
    co_await asio::async_write(stream, asio::buffer(question), asio::use_awaitable);
    std::array<std::byte, 512> answer;
    co_return co_await stream.async_read_some(asio::buffer(answer), asio::use_awaitable);
}
} // namespace

int main() {
    asio::thread_pool pool;
    const tcp::endpoint server(asio::ip::make_address("127.0.0.1"), 7000);
    const std::size_t n = asio::co_spawn(pool, ask(server, "hello"), asio::use_future).get();
    return n > 0 ? 0 : 1;
}
