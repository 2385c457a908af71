#pragma once

#include <magpie/core/detail/may_block.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task_cancelled.hpp>
#include <magpie/scheduler/detail/submission.hpp>
#include <magpie/scheduler/runtime.hpp>

#include <concepts>
#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace magpie {

namespace detail {
struct group_access {
    static const std::shared_ptr<runtime_group>& get(const runtime_handle& h) noexcept {
        return h.group_;
    }
};
} // namespace detail

// Shards are what a thread_per_core runtime is made of. The other layouts have one: number 0, in which all
// their workers are. So a program that is written for shards runs on each layout, but what it may leave
// unlocked because a shard is one thread, it may not on multi_thread.

/// How many shards the runtime of the calling task has (or the one that this thread has entered).
/// @throws std::logic_error outside of a runtime
std::size_t shard_count(std::source_location where = std::source_location::current());

/// The shard of the calling task, 0 to `shard_count() - 1` (or the one that this thread has entered).
/// @throws std::logic_error outside of a runtime
std::size_t this_shard(std::source_location where = std::source_location::current());

/// Spawns a task on a shard of the caller's runtime, where it stays. @see spawn
///
/// @param shard  0 to `shard_count() - 1`
/// @throws std::out_of_range if there is no such shard; std::logic_error outside of a runtime
/// @par Thread safety
/// From a task, or from a thread that has entered a runtime.
/// @par Example
/// @code
/// for (std::size_t s = 0; s < magpie::shard_count(); ++s)
///     magpie::spawn_on(s, serve(listener_of(s))).detach();
/// @endcode
template <class T>
join_handle<T> spawn_on(std::size_t shard, task<T> t,
                        std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::executor_of(detail::shard_here(shard, "spawn_on", where)),
                            std::move(t), where);
}
/// The same with a name that logs, reports and `this_task::name` show.
template <class T>
join_handle<T> spawn_on(std::size_t shard, std::string name, task<T> t,
                        std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::executor_of(detail::shard_here(shard, "spawn_on", where)),
                            std::move(t), where, std::move(name));
}
/// On a shard of a given runtime, from anywhere.
template <class T>
join_handle<T> spawn_on(const runtime_handle& on, std::size_t shard, task<T> t,
                        std::source_location where = std::source_location::current()) {
    return detail::spawn_on(
        detail::executor_of(detail::shard_of(*detail::group_access::get(on), shard, "spawn_on", where)),
        std::move(t), where);
}
/// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
template <class F>
    requires task_callable<F>
auto spawn_on(std::size_t shard, F&& f, std::source_location where = std::source_location::current()) {
    return detail::spawn_on(detail::executor_of(detail::shard_here(shard, "spawn_on", where)),
                            detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
}

namespace detail {

template <class R>
struct submitted {
    using type = R;
};
template <task_type R>
struct submitted<R> {
    using type = typename std::remove_cvref_t<R>::value_type;
};

} // namespace detail

/// The wait for what a function gives that was submitted to another shard. @see submit_to
template <class F>
class [[nodiscard("co_await it")]] submit_operation : public operation<submit_operation<F>>,
                                                      private detail::submission {
    using result = std::invoke_result_t<F&>;
    static constexpr bool is_task = detail::task_type<result>;

public:
    using value_type = typename detail::submitted<result>::type;
    static constexpr cancel_safety safety = cancel_safety::lossy;

    submit_operation(detail::runtime_core& to, executor& from, F f, std::source_location where,
                     std::shared_ptr<detail::runtime_group> keep = nullptr)
        : submission(to, from), f_(std::move(f)), where_(where), keep_(std::move(keep)) {}
    submit_operation(submit_operation&& other) noexcept(std::is_nothrow_move_constructible_v<F>)
        : operation<submit_operation>(std::move(other)), submission(std::move(other)),
          f_(std::move(other.f_)), where_(other.where_), keep_(std::move(other.keep_)) {}
    ~submit_operation() {
        if (cell_ != nullptr)
            cell_->release();
    }

    bool try_complete() noexcept {
        if constexpr (!is_task) {
            if (!goes_elsewhere()) {
                call();
                return true;
            }
        }
        return false;
    }
    bool publish() noexcept {
        go();
        return true;
    }
    value_type await_resume() {
        detail::outcome<value_type>& r = cell_ != nullptr ? cell_->result() : result_;
        if (r.empty())
            throw task_cancelled();
        return r.take();
    }

private:
    cancel_answer cancel() noexcept override {
        revoke();
        return cancel_answer::coming;
    }

    void begin() noexcept override {
        if constexpr (is_task) {
            start([this] { return std::invoke(f_); });
        } else {
            if (!is_revoked())
                call();
            reply();
        }
    }
    void begin_from_outside() noexcept override {
        if constexpr (is_task)
            begin();
        else
            start([this] { return as_task(f_); });
    }
    void ended() noexcept override { wake(*this); }

    using stored_value = detail::stored_t<value_type>;
    static constexpr bool is_enclosed = !is_task && detail::enclosed_call::has_room_for<F> &&
                                        detail::enclosure::has_room_for<stored_value> &&
                                        std::is_copy_constructible_v<stored_value>;

    bool enclose_call(detail::enclosure& e) noexcept override {
        if constexpr (is_enclosed) {
            auto* const c = ::new (static_cast<void*>(e.bytes)) detail::enclosed_call;
            c->call = &call_enclosed;
            std::memcpy(c->f, std::addressof(f_), sizeof(F));
        }
        return is_enclosed;
    }
    /// On the target's thread. What `m` is stays in the caller's caches, mostly.
    static bool call_enclosed(detail::shard_message& m, detail::enclosure& e,
                              bool may_be_revoked) noexcept {
        auto& self = static_cast<submit_operation&>(m);
        if (may_be_revoked && self.is_revoked())
            return false;
        try {
            const detail::no_blocking here; // it is no turn
            auto* const c = std::launder(reinterpret_cast<detail::enclosed_call*>(e.bytes));
            F& function = *std::launder(reinterpret_cast<F*>(c->f));
            void* const answer = e.bytes; // in place of the call, when that is over
            if constexpr (std::is_void_v<value_type>) {
                std::invoke(function);
            } else if constexpr (std::is_lvalue_reference_v<value_type>) {
                stored_value const value = std::addressof(std::invoke(function));
                ::new (answer) stored_value(value);
            } else {
                const stored_value value = std::invoke(function);
                ::new (answer) stored_value(value);
            }
            return true;
        } catch (...) {
            self.result_.fail(std::current_exception());
            return false;
        }
    }
    void take_answer(const detail::enclosure& e) noexcept override {
        if constexpr (is_enclosed) {
            if constexpr (std::is_void_v<value_type>) {
                result_.emplace();
            } else {
                result_.emplace(*std::launder(reinterpret_cast<const stored_value*>(e.bytes)));
            }
        }
    }

    static task<value_type> as_task(F& f) { co_return std::invoke(f); }

    /// Calls a plain function here.
    void call() noexcept {
        try {
            if constexpr (std::is_void_v<value_type>) {
                std::invoke(f_);
                result_.emplace();
            } else if constexpr (std::is_lvalue_reference_v<value_type>) {
                result_.emplace(std::addressof(std::invoke(f_)));
            } else {
                result_.emplace(std::invoke(f_));
            }
        } catch (...) {
            result_.fail(std::current_exception());
        }
    }

    /// Spawns the task that `make` gives, on the target.
    template <class Make>
    void start(Make make) noexcept {
        try {
            task<value_type> t = make();
            const auto root = detail::task_access::release(std::move(t));
            try {
                cell_ = new detail::submitted_cell<value_type>(target(), root, where_, *this);
            } catch (...) {
                root.destroy();
                throw;
            }
        } catch (...) {
            result_.fail(std::current_exception());
            reply();
            return;
        }
        detail::submitted_cell<value_type>& c = *cell_; // from here on its end may be the end of this
        if (!may_be_revoked_meanwhile()) {
            static_cast<void>(begin_as(c)); // it is the caller's turn, who has not revoked it
            target().adopt(c);
            return;
        }
        // One that a closing shard refuses is over at once, and no abort may be on its way to it. One that is
        // taken in does not run before this thread is through here.
        c.retain();
        target().adopt(c);
        if (!c.has_ended() && !begin_as(c))
            c.abort();
        c.release();
    }

    // What a plain function needs over there stands together, behind the message: few cache lines.
    F f_;
    detail::outcome<value_type> result_;                 // of a plain function, or why there is no task
    detail::submitted_cell<value_type>* cell_ = nullptr; // written on the target
    std::source_location where_;
    std::shared_ptr<detail::runtime_group> keep_; // another runtime's, which may be gone otherwise
};

namespace detail {

template <class F>
submit_operation<F> submit_on(const std::shared_ptr<runtime_group>& group, std::size_t shard, F f,
                              std::source_location where) {
    return submit_operation<F>(shard_of(*group, shard, "submit_to", where), current_executor(where),
                               std::move(f), where, group);
}

} // namespace detail

/// Calls a function on another shard, and waits for what it gives.
///
/// A function that gives a task runs as a task of that shard; its value is the task's. Any other is called on
/// the shard's thread between two of its tasks: it belongs to no task, has to be short, and cannot wait
/// (`blocking_join` and its like throw std::logic_error in it). On
/// the caller's own shard it is called at once. Messages are sent in batches, between two shards in order;
/// a function that gives a task may be overtaken by those behind it once it waits.
///
/// @param shard  0 to `shard_count() - 1`, of the caller's runtime
/// @param f  moved into the operation, called once on the shard, and destroyed on the caller's
/// @return what `f` gives, or what its task gives; a reference is one into the other shard's data, not into `f`,
///         of which a copy may have been called if it is mere bytes
/// @throws what `f` throws; task_cancelled if the runtime shuts down before there is a result;
///         std::out_of_range if there is no such shard; std::logic_error outside of a runtime; std::bad_alloc
///
/// @par Cancellation
/// Not cancel-safe: what `f` has done is done. Dropped, it is not begun any more, or its task is aborted;
/// the drop waits until it is gone, so what `f` refers to may be the caller's.
/// @par Thread safety
/// Awaited in a task. The number of messages under way between two shards is bounded; callers beyond that
/// wait for their turn.
/// @par Complexity
/// No allocation for a plain function; a cell and its frame for a task. A plain function of at most 48 trivially
/// copyable bytes, with a value of at most 56, goes over and comes back in one cache line.
/// @par Example
/// @code
/// magpie::task<std::optional<std::string>> get(std::string key) {
///     auto look = [&key] { return tables[magpie::this_shard()].find(key); };
///     co_return co_await magpie::submit_to(owner_of(key), look);
/// }
/// @endcode
template <class F>
    requires std::invocable<std::decay_t<F>&>
submit_operation<std::decay_t<F>> submit_to(
    std::size_t shard, F&& f, std::source_location where = std::source_location::current()) {
    return submit_operation<std::decay_t<F>>(detail::shard_here(shard, "submit_to", where),
                                             detail::current_executor(where), std::forward<F>(f),
                                             where);
}
/// The same on a shard of a given runtime, which may be another than the caller's: there a plain function
/// runs as a task as well.
/// @throws task_cancelled also if that runtime has been shut down
template <class F>
    requires std::invocable<std::decay_t<F>&>
submit_operation<std::decay_t<F>> submit_to(
    const runtime_handle& on, std::size_t shard, F&& f,
    std::source_location where = std::source_location::current()) {
    return detail::submit_on<std::decay_t<F>>(detail::group_access::get(on), shard, std::forward<F>(f),
                                              where);
}

} // namespace magpie
