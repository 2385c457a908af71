#pragma once

#include "harness.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;

// The concrete executor and not any_io_executor: it is up to twice as fast.
using executor = asio::io_context::executor_type;
template <class T = void>
using task = asio::awaitable<T, executor>;
inline constexpr asio::use_awaitable_t<executor> use_task;
using timer = asio::basic_waitable_timer<bench::clock, asio::wait_traits<bench::clock>, executor>;

// A coroutine that needs a strand: cancelling is safe only where its operations end.
using strand = asio::strand<executor>;
template <class T = void>
using strand_task = asio::awaitable<T, strand>;
inline constexpr asio::use_awaitable_t<strand> use_strand_task;
using strand_timer = asio::basic_waitable_timer<bench::clock, asio::wait_traits<bench::clock>, strand>;

/// What comes nearest to an event: a channel that threads may share, with room for one message.
using event = asio::experimental::concurrent_channel<executor, void(boost::system::error_code)>;

inline void set(event& e) { e.try_send(boost::system::error_code()); }

/// An io_context and the threads that run it.
class runtime {
public:
    explicit runtime(unsigned workers)
        : context_(static_cast<int>(workers)), work_(context_.get_executor()) {
        for (unsigned i = 0; i < workers; ++i)
            threads_.emplace_back([this] { context_.run(); });
    }
    runtime(const runtime&) = delete;
    ~runtime() {
        context_.stop();
    } // then the threads are joined, then coroutines that wait are destroyed

    executor get_executor() { return context_.get_executor(); }

    /// Runs `t` on a worker and waits for its result.
    template <class T>
    T run(task<T> t) {
        return asio::co_spawn(get_executor(), std::move(t), asio::use_future).get();
    }

private:
    asio::io_context context_;
    asio::executor_work_guard<executor> work_;
    std::vector<std::jthread> threads_;
};

/// Queues the coroutine; without it co_spawn runs a child inside its parent, as a call.
inline auto hop() { return asio::post(use_task); }

/// For `bench::workload::prepare`: all repetitions on one runtime.
inline auto on_runtime(std::function<bench::sample(runtime&, const bench::options&)> body) {
    return [body = std::move(body)](const bench::options& options) -> bench::repetition {
        auto rt = std::make_shared<runtime>(options.workers);
        return [=] { return body(*rt, options); };
    };
}

std::vector<bench::workload> spawning_workloads();
std::vector<bench::workload> waking_workloads();
std::vector<bench::workload> timing_workloads();
std::vector<bench::workload> memory_workloads();
