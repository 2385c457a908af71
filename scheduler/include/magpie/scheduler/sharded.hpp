#pragma once

#include <magpie/core/declared_task.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/for_each_concurrent.hpp>
#include <magpie/scheduler/foreign_ptr.hpp>
#include <magpie/scheduler/shard.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

/// One instance of `T` on each shard of a runtime: what shards own instead of sharing it.
///
/// An instance is made, used and destroyed by its shard alone, so on `thread_per_core` it needs no lock. (On
/// the other layouts there is one shard, and one instance; on `multi_thread` it is used in parallel.)
///
/// Before it goes, a `sharded` that was started is to be stopped. One that was not, since its owner was
/// dropped, sends its instances home as `foreign_ptr` does, and calls no `stop()` of theirs.
///
/// @par Thread safety
/// `local`, `invoke_on`, `invoke_on_all` and `map_reduce` may be called concurrently between `start` and
/// `stop`.
/// @par Example
/// @code
/// magpie::sharded<cache> caches;
/// co_await caches.start(capacity);
/// co_await caches.invoke_on(owner_of(key), [&](cache& c) { c.put(key, value); });
/// const std::size_t all = co_await caches.map_reduce(&cache::size, std::size_t{0}, std::plus<>());
/// co_await caches.stop();
/// @endcode
template <class T>
class sharded {
    template <class F>
    class bound {
    public:
        bound(sharded& all, F f) : all_(&all), f_(std::move(f)) {}
        decltype(auto) operator()() { return std::invoke(f_, all_->local()); }

    private:
        sharded* all_;
        F f_;
    };

    template <class F>
    using given = typename submit_operation<bound<F>>::value_type;

public:
    sharded() = default;
    sharded(const sharded&) = delete; // tasks on each shard have its address
    sharded& operator=(const sharded&) = delete;

    bool is_started() const noexcept { return !instances_.empty(); }

    /// Makes the instances, shard by shard, each on its own: `T(args...)`, of copies. If one cannot be made,
    /// those before it are stopped again.
    /// @throws what the constructor throws; std::logic_error if it is started
    /// @par Cancellation
    /// Not cancel-safe: what was made by then goes home when the `sharded` goes.
    template <class... Args>
        requires std::constructible_from<T, const Args&...>
    lossy_task<> start(Args... args) {
        if (is_started())
            detail::throw_usage_error("this sharded is started already: stop() it first");
        instances_.resize(shard_count());
        std::exception_ptr failure;
        try {
            for (std::size_t s = 0; s < instances_.size(); ++s) {
                auto make = [&] { return foreign_ptr<T>(std::make_unique<T>(args...)); };
                instances_[s] = co_await submit_to(s, make);
            }
        } catch (...) {
            failure = std::current_exception();
        }
        if (failure) {
            co_await stop();
            std::rethrow_exception(failure);
        }
    }

    /// Ends the instances, each on its shard, the last one first: awaits `stop()` of those that have one,
    /// and destroys them. What `stop()` throws is thrown when all are gone, the first of it. Nothing if it
    /// is not started.
    /// @par Cancellation
    /// Not cancel-safe; what is left goes home when the `sharded` goes.
    lossy_task<> stop() {
        std::exception_ptr failure;
        for (std::size_t s = instances_.size(); s-- > 0;) {
            if (!instances_[s]) // it could not be made
                continue;
            try {
                co_await submit_to(s, bound<end_one>(*this, end_one()));
            } catch (...) {
                if (failure == nullptr)
                    failure = std::current_exception();
            }
            auto destroy = [this, s] { instances_[s].reset(); };
            co_await submit_to(s, destroy);
        }
        instances_.clear();
        if (failure)
            std::rethrow_exception(failure);
    }

    /// The instance of the calling shard. @throws std::logic_error outside of the runtime, or if it is not
    /// started
    T& local() {
        const std::size_t s = this_shard();
        if (s >= instances_.size() || !instances_[s])
            detail::throw_usage_error("this sharded has no instance here: co_await its start() first");
        return *instances_[s];
    }

    /// Calls `f(T&)` on a shard. @see submit_to, for what it gives and throws, and for cancelling it
    template <class F>
        requires std::invocable<std::decay_t<F>&, T&>
    submit_operation<bound<std::decay_t<F>>> invoke_on(std::size_t shard, F&& f) {
        return submit_to(shard, bound<std::decay_t<F>>(*this, std::forward<F>(f)));
    }

    /// Calls a copy of `f(T&)` on each shard, on all at once, and waits for all of them. The first failure
    /// drops the others, and is thrown when they are gone.
    /// @par Cancellation
    /// Not cancel-safe: what is done is done.
    template <class F>
        requires std::invocable<F&, T&> && std::copy_constructible<F>
    lossy_task<> invoke_on_all(F f) {
        auto one = [this, &f](std::size_t s) { return ignore<F>(*this, s, f); };
        co_await for_each_concurrent(std::views::iota(std::size_t{0}, instances_.size()), limit(), one);
    }

    /// Calls a copy of `map(T&)` on each shard, on all at once, and folds what they give, in the order of
    /// the shards: `reduce(so_far, value)`, on the caller's.
    /// @par Cancellation
    /// Not cancel-safe: what `map` has done is done.
    template <class Map, class Value, class Reduce>
        requires std::invocable<Map&, T&> && std::copy_constructible<Map>
    lossy_task<Value> map_reduce(Map map, Value initial, Reduce reduce) {
        auto one = [this, &map](std::size_t s) { return ask<Map>(*this, s, map); };
        std::vector<given<Map>> values = co_await map_concurrent(
            std::views::iota(std::size_t{0}, instances_.size()), limit(), one);
        for (auto&& v : values)
            initial = std::invoke(reduce, std::move(initial), std::move(v));
        co_return initial;
    }

private:
    /// What is done with an instance before it is destroyed.
    struct end_one {
        auto operator()(T& t) const {
            if constexpr (requires { t.stop(); })
                return t.stop();
        }
    };

    template <class F>
    static task<given<F>> ask(sharded& all, std::size_t s, F f) {
        co_return co_await submit_to(s, bound<F>(all, std::move(f)));
    }
    template <class F>
    static task<> ignore(sharded& all, std::size_t s, F f) {
        static_cast<void>(co_await submit_to(s, bound<F>(all, std::move(f))));
    }

    std::size_t limit() const noexcept { return instances_.empty() ? 1 : instances_.size(); }

    std::vector<foreign_ptr<T>> instances_; // each written by its shard
};

} // namespace magpie
