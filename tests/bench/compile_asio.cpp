// compile.cpp with Boost.Asio's own coroutines.

#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

#include <chrono>

namespace {
namespace asio = boost::asio;

asio::awaitable<int> twice(int n) {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(1));
    co_await timer.async_wait(asio::use_awaitable);
    co_return 2 * n;
}

asio::awaitable<int> sum() {
    using namespace asio::experimental::awaitable_operators;
    const auto [first, second] = co_await (twice(1) && twice(2));
    co_return first + second;
}
} // namespace

int main() {
    asio::thread_pool pool;
    return asio::co_spawn(pool, sum(), asio::use_future).get();
}
