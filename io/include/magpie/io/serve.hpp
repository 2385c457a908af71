#pragma once

#include <magpie/core/for_each_concurrent.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/task.hpp>
#include <magpie/io/detail/shard_balance.hpp>
#include <magpie/io/endpoint.hpp>
#include <magpie/io/tcp_listener.hpp>
#include <magpie/io/tcp_stream.hpp>
#include <magpie/scheduler/shard.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <utility>
#include <vector>

namespace magpie::io {

/// How the connections of a `shard_listener` come to the shards.
enum class accepting : unsigned char {
    each_shard,  ///< a listener each, by SO_REUSEPORT: the kernel spreads them by a hash of addresses
    round_robin, ///< one listener, which gives them to each shard in turn
    least_connections, ///< the same, to the shard that has the fewest now
};

/// A callable that makes the task that serves a connection.
template <class F>
concept serves_stream = task_callable<F, tcp_stream>;

/// A callable that makes the task that serves one request of a connection, and gives whether there may be more.
template <class F>
concept serves_request = requires(F& f, tcp_stream& s) {
    { std::invoke(f, s) } -> std::same_as<task<bool>>;
};

/// When `shard_listener::serve_requests` moves connections from a shard that has too much to do.
class rebalancing {
public:
    /// @param limit   the imbalance above which it does: what a shard has served since it last looked, over the
    ///                mean of all shards in that time, less 1 (as `runtime_metrics::imbalance`, of requests).
    ///                Above 0; 0.5 is half as much again as the mean. `shard_count() - 1` is one shard that serves
    ///                all, so from there on nothing is moved
    /// @param window  how many requests a shard serves between two looks, 16 or more. A short one follows the
    ///                load fast, and takes chance for load
    /// @throws std::logic_error for what is out of range
    explicit rebalancing(double limit = 0.5, std::size_t window = 1024);

    double limit() const noexcept { return limit_; }
    std::size_t window() const noexcept { return window_; }

private:
    double limit_;
    std::size_t window_;
};

namespace detail {

/// A connection on its way from one reactor to another: its descriptor.
class passing_stream {
public:
    explicit passing_stream(tcp_stream&& s) : fd_(s.release()) {}
    passing_stream(passing_stream&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ~passing_stream(); ///< closes what nobody has taken in

    /// Takes it in on the calling task's shard. @throws std::system_error: then it is closed
    tcp_stream adopt();

private:
    int fd_;
};

template <class F>
task<> serve_passed(passing_stream s, F f) {
    co_await std::invoke(f, s.adopt());
}

/// What all connections of one `serve_requests` share.
struct balanced {
    std::shared_ptr<connection_counts> counts;
    std::shared_ptr<shard_balance> balance;
};

template <class F>
task<> serve_moved(connection_counts::one, passing_stream s, F f, balanced all);

template <class F>
task<> serve_counted(connection_counts::one, passing_stream s, F f) {
    co_await std::invoke(f, s.adopt());
}
template <class F>
task<> serve_here(connection_counts::one, tcp_stream s, F f) {
    co_await std::invoke(f, std::move(s));
}

/// Request by request, until there are no more or the connection leaves for another shard.
template <class F>
task<> serve_by_request(tcp_stream s, F f, balanced all) {
    const std::size_t here = this_shard();
    std::uint64_t counted = 0;
    for (;;) {
        const bool more = co_await std::invoke(f, s);
        if (!more)
            co_return;
        if (const std::optional<std::size_t> to = all.balance->served(here, counted)) {
            all.counts->count_move();
            spawn_on(*to, serve_moved<F>(connection_counts::one(all.counts, *to),
                                         passing_stream(std::move(s)), std::move(f), all))
                .detach();
            co_return;
        }
    }
}
template <class F>
task<> serve_moved(connection_counts::one, passing_stream s, F f, balanced all) {
    co_await serve_by_request<F>(s.adopt(), std::move(f), std::move(all));
}

/// Serves a connection as `serve_by_request` does.
template <class F>
class request_loop {
public:
    request_loop(F f, balanced all) : f_(std::move(f)), all_(std::move(all)) {}
    task<> operator()(tcp_stream s) { return serve_by_request<F>(std::move(s), f_, all_); }

private:
    F f_;
    balanced all_;
};

} // namespace detail

/// Moves a connection that nobody waits for to another shard, where `f(tcp_stream)` serves it from now on.
///
/// @param shard  0 to `shard_count() - 1`
/// @return the handle of the task over there
/// @throws std::out_of_range if there is no such shard: then the connection is closed; std::logic_error
///         outside of a runtime
/// @par Example
/// @code
/// magpie::io::move_to_shard(2, std::move(connection), serve).detach();
/// @endcode
template <class F>
    requires serves_stream<F>
join_handle<> move_to_shard(std::size_t shard, tcp_stream s, F f) {
    return spawn_on(shard, detail::serve_passed<F>(detail::passing_stream(std::move(s)), std::move(f)));
}

/// Accepts connections for all shards of a runtime.
///
/// @par Thread safety
/// `connections` and `moved` may be called from any thread; the rest by the task that owns it.
/// @par Example
/// @code
/// magpie::task<> server() {
///     auto listener = co_await magpie::io::shard_listener::bind(at, magpie::io::accepting::each_shard);
///     co_await listener.serve(serve_one); // until it is dropped
/// }
/// @endcode
class shard_listener {
public:
    /// @param at  where to listen; with port 0 the system chooses one, the same for all shards
    /// @param options  `reuse_port` is set where `how` needs it
    /// @throws std::system_error if that cannot be, as for a port in use; std::logic_error outside of a
    ///         runtime
    static task<shard_listener> bind(endpoint at, accepting how, listen_options options = {});

    shard_listener(shard_listener&& other) noexcept = default;
    shard_listener& operator=(shard_listener&& other) = delete;
    ~shard_listener() = default;

    /// Where it listens.
    endpoint local_endpoint() const { return at_; }

    /// How many connections a shard serves now.
    std::size_t connections(std::size_t shard) const noexcept { return counts_->of(shard); }

    /// Accepts, and serves each connection by a task of its own, a copy of `f` called on its shard: until it
    /// is dropped, or an accept fails. The connections go on by themselves; what they throw goes to the
    /// runtime's hook.
    /// @throws std::system_error of an accept
    /// @par Cancellation
    /// Dropped, it accepts no more. It can be called again.
    template <class F>
        requires serves_stream<F> && std::copy_constructible<F>
    task<> serve(F f) {
        if (how_ != accepting::each_shard) {
            co_await hand_out(f);
            co_return;
        }
        auto one = [this, &f](std::size_t s) { return on_shard<F>(*this, s, f); };
        co_await for_each_concurrent(std::views::iota(std::size_t{0}, listeners_.size()),
                                     listeners_.size(), one);
    }

    /// The same, request by request: `f(tcp_stream&)` serves one, waiting for it, and gives whether there may be
    /// more. Between two of them nobody waits for the connection: so from a shard that has more to do than
    /// the others, above a limit, connections move by themselves to the one that has least, with their copies
    /// of `f` and what these keep (a buffer with half of the next request, say).
    /// @param f     copied for each connection. Each call is on the shard where the connection is now
    /// @param when  what is too much; the layouts with one shard move nothing
    /// @throws std::system_error of an accept
    /// @par Cancellation
    /// As `serve`; the connections go on, and move on.
    /// @par Complexity
    /// A few instructions a request; a move is `move_to_shard`.
    /// @par Example
    /// @code
    /// auto one_line = [in = line_reader()](magpie::io::tcp_stream& s) mutable -> magpie::task<bool> {
    ///     return answer_line(s, in); // false at the end of the stream
    /// };
    /// co_await listener.serve_requests(one_line, magpie::io::rebalancing(0.25));
    /// @endcode
    template <class F>
        requires serves_request<F> && std::copy_constructible<F>
    task<> serve_requests(F f, rebalancing when = rebalancing()) {
        const detail::balanced all{counts_, std::make_shared<detail::shard_balance>(
                                                magpie::shard_count(), when.limit(), when.window())};
        detail::request_loop<F> loop(std::move(f), all);
        co_await serve(std::move(loop));
    }

    /// How many connections `serve_requests` has moved to another shard so far.
    std::uint64_t moved() const noexcept { return counts_->moved(); }

private:
    shard_listener(accepting how, std::size_t shards)
        : how_(how), listeners_(how == accepting::each_shard ? shards : 1),
          counts_(std::make_shared<detail::connection_counts>(shards)) {}

    template <class F>
    static task<> on_shard(shard_listener& l, std::size_t s, F f) {
        auto loop = [&l, &f] { return l.accept_here(f); };
        co_await submit_to(s, loop);
    }
    template <class F>
    task<> accept_here(F f) {
        const std::size_t here = this_shard();
        for (;;) {
            accepted a = co_await listeners_[here]->accept();
            spawn(detail::serve_here<F>(detail::connection_counts::one(counts_, here),
                                        std::move(a.stream), f))
                .detach();
        }
    }
    template <class F>
    task<> hand_out(F f) {
        for (;;) {
            accepted a = co_await listeners_.front()->accept();
            const std::size_t to = how_ == accepting::least_connections
                                       ? counts_->least()
                                       : next_++ % magpie::shard_count();
            spawn_on(to, detail::serve_counted<F>(detail::connection_counts::one(counts_, to),
                                                  detail::passing_stream(std::move(a.stream)), f))
                .detach();
        }
    }

    accepting how_;
    std::vector<std::optional<tcp_listener>> listeners_; // each used by its shard
    std::shared_ptr<detail::connection_counts> counts_;
    endpoint at_;
    std::size_t next_ = 0;
};

} // namespace magpie::io
