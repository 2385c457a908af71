#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/scheduler/runtime.hpp>
#include <magpie/scheduler/spawn_on_worker.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

namespace detail {

/// How many tasks of a local_pool each worker has.
class pool_loads {
public:
    explicit pool_loads(std::size_t workers) : loads_(workers) {}

    /// Counts one more where there are the fewest; gives where.
    std::size_t add_to_least() noexcept;
    void add_to(std::size_t worker) noexcept;
    void remove_from(std::size_t worker) noexcept;
    std::vector<std::size_t> all() const;

private:
    mutable mutex lock_;
    std::vector<std::size_t> loads_; // guarded by lock_
};

/// That a task counts where it is, from before it is spawned until its frame is gone.
class pool_place {
public:
    explicit pool_place(std::shared_ptr<pool_loads> loads) noexcept
        : loads_(std::move(loads)), worker_(loads_->add_to_least()) {}
    pool_place(std::shared_ptr<pool_loads> loads, std::size_t worker) noexcept
        : loads_(std::move(loads)), worker_(worker) {
        loads_->add_to(worker_);
    }
    pool_place(pool_place&& other) noexcept = default;
    pool_place& operator=(pool_place&&) = delete;
    ~pool_place() {
        if (loads_ != nullptr)
            loads_->remove_from(worker_);
    }

    std::size_t worker() const noexcept { return worker_; }

private:
    std::shared_ptr<pool_loads> loads_; // null: it has moved on
    std::size_t worker_;
};

/// What a task of a local_pool is made by, with its place.
template <class F>
class placed {
public:
    placed(pool_place place, F f) : place_(std::move(place)), f_(std::move(f)) {}
    auto operator()() { return std::invoke(f_); }

private:
    pool_place place_; // goes last: what `f_` holds is the worker's until then
    F f_;
};

} // namespace detail

/// Tasks that each stay on one worker of a runtime, which is the one that has the fewest of them.
///
/// For what may not be touched by two threads, but does not matter on which it is: a connection with a library
/// that knows no locks, an interpreter. A task is given as a function that makes it, which is called on its worker:
/// so what is bound to a thread is made there, used there, and destroyed there. @see spawn_on_worker
///
/// A copy is the same pool. Its tasks are the runtime's: they go on when the pool is gone, and end with the
/// runtime. What is spawned past the pool does not count.
///
/// @par Thread safety
/// Every member may be called concurrently.
/// @par Example
/// @code
/// const magpie::local_pool interpreters;
/// auto run = [script]() -> magpie::task<int> {
///     interpreter one;                   // made on the worker ...
///     co_return co_await one.run(script); // ... and never anywhere else
/// };
/// const int result = co_await interpreters.spawn(run);
/// @endcode
class local_pool {
    template <class F>
    using spawned = join_handle<detail::spawned_type<std::decay_t<F>>>;

public:
    /// @param on  the runtime whose workers it has, all of them; without it, the caller's
    /// @throws std::logic_error outside of a runtime; std::bad_alloc
    explicit local_pool(runtime_handle on = runtime_handle::current())
        : on_(std::move(on)), loads_(std::make_shared<detail::pool_loads>(on_.worker_threads())) {}

    /// Calls `f()`, which gives a task, on the worker that has the fewest tasks of this pool now (the first of
    /// several), and runs that there. `f` lives as long as it does.
    ///
    /// @return the handle, as `spawn` gives it: what `f` itself throws comes out of it as well
    /// @throws std::bad_alloc; std::logic_error in a forked child
    /// @par Complexity
    /// As `spawn_on_worker`, a lock, and a look at each worker's count.
    template <class F>
        requires task_callable<F>
    spawned<F> spawn(F&& f, std::source_location where = std::source_location::current()) const {
        return spawn_at(detail::pool_place(loads_), std::forward<F>(f), where);
    }

    /// The same on a given worker.
    /// @param worker  0 to `workers() - 1`
    /// @throws std::out_of_range if there is no such worker
    template <class F>
        requires task_callable<F>
    spawned<F> spawn_on(std::size_t worker, F&& f,
                        std::source_location where = std::source_location::current()) const {
        static_cast<void>(detail::worker_of(on_, worker, where)); // whether there is one
        return spawn_at(detail::pool_place(loads_, worker), std::forward<F>(f), where);
    }

    std::size_t workers() const noexcept { return on_.worker_threads(); } ///< How many workers it has.

    /// How many tasks of this pool each worker has, which have not ended. A task whose handle was awaited does not
    /// count any more. @throws std::bad_alloc
    std::vector<std::size_t> loads() const { return loads_->all(); }

private:
    template <class F>
    spawned<F> spawn_at(detail::pool_place place, F&& f, std::source_location where) const {
        using placed = detail::placed<std::decay_t<F>>;
        executor& at = detail::worker_of(on_, place.worker(), where);
        return detail::spawn_on(
            at, detail::own_and_run<placed>(placed(std::move(place), std::forward<F>(f))), where);
    }

    runtime_handle on_;
    std::shared_ptr<detail::pool_loads> loads_;
};

} // namespace magpie
