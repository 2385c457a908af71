#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/for_each_concurrent.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/task.hpp>
#include <magpie/io/endpoint.hpp>
#include <magpie/io/tcp_listener.hpp>
#include <magpie/io/tcp_stream.hpp>
#include <magpie/scheduler/shard.hpp>

#include <cstddef>
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

/// How many connections each shard has.
class connection_counts {
public:
    explicit connection_counts(std::size_t shards) : counts_(shards) {}
    std::size_t of(std::size_t shard) const noexcept {
        return counts_[shard].load(std::memory_order_relaxed); // a hint
    }
    std::size_t least() const noexcept;

    /// One more, as long as it lives.
    class one {
    public:
        one(std::shared_ptr<connection_counts> all, std::size_t shard) noexcept
            : all_(std::move(all)), shard_(shard) {
            all_->counts_[shard_].fetch_add(1, std::memory_order_relaxed); // a statistic
        }
        one(one&& other) noexcept = default;
        ~one() {
            if (all_ != nullptr)
                all_->counts_[shard_].fetch_sub(1, std::memory_order_relaxed);
        }

    private:
        std::shared_ptr<connection_counts> all_;
        std::size_t shard_;
    };

private:
    std::vector<magpie::detail::atomic<std::size_t>> counts_;
};

template <class F>
task<> serve_counted(connection_counts::one, passing_stream s, F f) {
    co_await std::invoke(f, s.adopt());
}
template <class F>
task<> serve_here(connection_counts::one, tcp_stream s, F f) {
    co_await std::invoke(f, std::move(s));
}

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
/// `connections` may be called from any thread; the rest by the task that owns it.
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
