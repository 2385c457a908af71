#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/scheduler/detail/set_operation.hpp>
#include <magpie/scheduler/detail/task_set.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace magpie {

/// What `std::begin` and `std::end` take and has `task<T>`s in it.
template <class Range, class T>
concept range_of_tasks = requires(Range& r) {
    std::end(r);
    requires std::same_as<std::remove_cvref_t<decltype(*std::begin(r))>, task<T>>;
};

template <class T>
class join_next_operation;
template <class T>
class join_next_with_id_operation;
template <class T>
class spawn_when_free_operation;

/// The end of a task in a set: which it was, and its value or exception.
template <class T>
struct joined {
    std::uint64_t id;
    task_result<T> result;
};

/// Spawned tasks of one type, joined in the order in which they end. `join_queue` joins in the order of
/// the spawns, and a `join_map` knows its tasks by keys.
///
/// The set owns its tasks: each is joined once, and then forgotten; a set that is destroyed aborts
/// those that are left. It does not wait for their ends, for a destructor cannot: to wait,
/// `abort_all()` and join until the set is empty. A task's exception that nobody joins goes to the
/// hook for unhandled exceptions.
///
/// @par Thread safety
/// Belongs to one task, or to one thread, at a time. Several branches of its task may use it: one may
/// join while others spawn, and one at a time may wait for the next end. The set must stay where it is, and live, while an operation of it exists.
/// @par Complexity
/// To spawn, to end and to join: O(1). One allocation a task beside its frame, as without a set.
///
/// @par Example
/// @code
/// magpie::join_set<page> pages;
/// for (const url& u : urls)
///     pages.spawn(fetch(u));
/// for (;;) {
///     std::optional<page> next = co_await pages.join_next(); // whichever comes first
///     if (!next)
///         break;
///     index(*next);
/// }
/// @endcode
template <class T = void>
class join_set : private detail::set_of<T> {
public:
    /// What a join gives: a `std::optional` of the task's value. For void a `bool`, for references
    /// an optional `std::reference_wrapper`.
    using value_type = typename detail::timeout_value<T>::type;

    join_set() noexcept = default;

    /// A set in which at most `limit` tasks, one or more, have not ended. `spawn_when_free` waits for a
    /// place; `spawn` does not wait, and throws std::logic_error if there is none.
    explicit join_set(std::size_t limit) : detail::set_of<T>(limit) {}

    /// A set of the tasks in `tasks`, which are moved from. @throws as `spawn`
    template <range_of_tasks<T> Range>
    explicit join_set(Range&& tasks, std::source_location where = std::source_location::current()) {
        spawn_all(std::forward<Range>(tasks), where);
    }

    /// The other one is empty afterwards. No operation of either may exist.
    join_set(join_set&&) noexcept = default;
    join_set& operator=(join_set&& other) noexcept {
        join_set old(std::move(other));
        base::swap(old);
        return *this;
    }
    ~join_set() = default; ///< Aborts what is left.

    /// Spawns a task into the set, on the caller's runtime.
    ///
    /// @param where  the place that logs and reports name
    /// @return a way to abort it alone; may be ignored
    /// @throws std::logic_error outside of a runtime, or if `t` is empty; std::bad_alloc
    abort_handle spawn(task<T> t, std::source_location where = std::source_location::current()) {
        return start(std::move(t), where);
    }
    /// The same with a name that logs, reports and `this_task::name` show.
    abort_handle spawn(std::string name, task<T> t,
                       std::source_location where = std::source_location::current()) {
        return start(std::move(t), where, std::move(name));
    }
    /// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
    template <class F>
        requires task_callable<F>
    abort_handle spawn(F&& f, std::source_location where = std::source_location::current()) {
        return start(detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)), where);
    }
    /// Waits until fewer tasks than the limit have not ended, and spawns the task then. Several
    /// branches may wait, also while another one waits in `join_next`: first come, first served. A
    /// place is free when a task has ended, whether it was joined or not.
    ///
    /// @return as `spawn`
    /// @throws as `spawn`
    /// @par Cancellation
    /// Cancel-safe: dropped, it has spawned nothing and holds no place; the task is destroyed unstarted.
    /// @par Complexity
    /// O(1), and O(branches that wait) to queue up; no allocation but that of `spawn`.
    spawn_when_free_operation<T> spawn_when_free(
        task<T> t, std::source_location where = std::source_location::current()) noexcept {
        return spawn_when_free_operation<T>(*this, std::move(t), where);
    }
    /// Whether as many tasks as the limit allows have not ended.
    [[nodiscard]] bool full() noexcept { return base::is_full(); }

    /// Spawns all tasks of a range, which are moved from.
    template <range_of_tasks<T> Range>
    void spawn_all(Range&& tasks, std::source_location where = std::source_location::current()) {
        for (auto&& t : tasks)
            start(std::move(t), where);
    }

    /// Waits for the next end of a task in the set, or takes the oldest that was not joined.
    ///
    /// Gives the value, or nothing when the set is empty (for void: true, or false), and throws
    /// the task's exception, or `task_cancelled`. `as_result` gives an optional `task_result<T>`.
    /// Tasks may be spawned into the set by other branches meanwhile.
    ///
    /// @throws std::logic_error if somebody else waits
    /// @par Cancellation
    /// Cancel-safe: dropped, it has taken no result out of the set.
    /// @par Complexity
    /// O(1), no allocation. Completes at once if a task has ended.
    join_next_operation<T> join_next() noexcept { return join_next_operation<T>(*this); }

    /// The same as a `std::optional<joined<T>>`, which says which task it was, and throws nothing but
    /// misuse.
    join_next_with_id_operation<T> join_next_with_id() noexcept {
        return join_next_with_id_operation<T>(*this);
    }

    /// `join_next` on a plain thread. @throws as it does; std::logic_error inside a task
    value_type blocking_join_next() { return detail::blocking_wait(join_next()); }

    /// The same without waiting: nothing if no task has ended that was not joined.
    /// @throws the task's exception, or `task_cancelled`
    value_type try_join_next() {
        auto op = join_next();
        static_cast<void>(op.try_complete());
        return op.await_resume();
    }
    std::optional<joined<T>> try_join_next_with_id() {
        auto op = join_next_with_id();
        static_cast<void>(op.try_complete());
        return op.await_resume();
    }

    /// Joins until the set is empty; gives the values in order of the ends. At the first exception
    /// it aborts what is left, which can still be joined, and rethrows.
    ///
    /// @par Cancellation
    /// Dropped, it loses the values that it has joined.
    auto join_all() {
        if constexpr (std::is_void_v<T>)
            return join_all_void(*this);
        else
            return join_all_values(*this);
    }

    /// Asks for all tasks to be dropped at their next suspension. They stay in the set until they
    /// are joined: as cancelled, or with their values if they have ended before.
    /// @par Complexity
    /// O(tasks).
    void abort_all() const noexcept { base::abort_all(); }

    /// Aborts all tasks, and waits until they have ended. Their results are destroyed; exceptions that
    /// nobody has received go to the hook for unhandled exceptions.
    ///
    /// @throws std::logic_error if somebody else waits for the next end
    /// @par Cancellation
    /// Cancel-safe: dropped, it leaves those that have not ended in the set, aborted.
    detail::set_shutdown_operation<detail::set_of<T>> shutdown() noexcept {
        return detail::set_shutdown_operation<detail::set_of<T>>(*this);
    }

    /// Lets all tasks run on without the set, which is empty then. Results that nobody has joined
    /// are lost; exceptions among them go to the hook for unhandled exceptions.
    /// @par Complexity
    /// O(tasks that have ended).
    void detach_all() noexcept { base::detach_all(); }

    /// How many tasks were spawned and not joined yet, whether they have ended or not.
    std::size_t size() const noexcept { return base::size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; } ///< Whether that is none.

private:
    using base = detail::set_of<T>;
    using kept =
        detail::stored_t<std::conditional_t<std::is_reference_v<T>,
                                            std::reference_wrapper<std::remove_reference_t<T>>, T>>;

    template <class... Name>
    abort_handle start(task<T>&& t, std::source_location where, Name&&... name) {
        if (base::is_full())
            detail::throw_set_is_full();
        return base::start(std::move(t), where, std::forward<Name>(name)...);
    }

    static task<> join_all_void(join_set& set) {
        try {
            for (bool more = true; more;)
                more = co_await set.join_next();
        } catch (...) {
            set.abort_all();
            throw;
        }
    }
    static task<std::vector<kept>> join_all_values(join_set& set) {
        std::vector<kept> all;
        try {
            for (;;) {
                value_type next = co_await set.join_next();
                if (!next)
                    break;
                all.push_back(std::move(*next));
            }
        } catch (...) {
            set.abort_all();
            throw;
        }
        co_return all;
    }
};

/// The wait for the next end in a set. @see join_set::join_next
template <class T>
class [[nodiscard("co_await it")]] join_next_operation
    : public detail::next_value_operation<T, join_next_operation<T>, detail::set_of<T>,
                                          detail::set_cell<T>> {
public:
    using detail::next_value_operation<T, join_next_operation, detail::set_of<T>,
                                       detail::set_cell<T>>::next_value_operation;
};

/// The same with the task's id. @see join_set::join_next_with_id
template <class T>
class [[nodiscard("co_await it")]] join_next_with_id_operation
    : public detail::next_member_operation<join_next_with_id_operation<T>, detail::set_of<T>,
                                           detail::set_cell<T>> {
    using base = detail::next_member_operation<join_next_with_id_operation, detail::set_of<T>,
                                               detail::set_cell<T>>;

public:
    using base::base;

    std::optional<joined<T>> await_resume() {
        const auto ended = this->take_member();
        return ended ? std::optional<joined<T>>(joined<T>{ended.cell().id, ended.take_result()})
                     : std::nullopt;
    }
    auto take_result() { return await_resume(); } ///< The same: it throws nothing anyway.
};

/// The wait for a place in a set. @see join_set::spawn_when_free
template <class T>
class [[nodiscard("co_await it")]] spawn_when_free_operation
    : public operation<spawn_when_free_operation<T>>,
      private detail::place_waiter {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    spawn_when_free_operation(detail::set_of<T>& set, task<T>&& t, std::source_location where) noexcept
        : set_(&set), task_(std::move(t)), where_(where) {}
    spawn_when_free_operation(spawn_when_free_operation&& other) noexcept
        : operation<spawn_when_free_operation>(std::move(other)), place_waiter(), set_(other.set_),
          task_(std::move(other.task_)), where_(other.where_) {}
    ~spawn_when_free_operation() {
        if (has_place)
            set_->give_place_back();
        else if (is_queued_) // dropped: it may have been the one to see to the others
            set_->attend();
    }

    bool try_complete() noexcept {
        has_place = has_place || (!is_queued_ && set_->take_place());
        return has_place;
    }
    bool publish() noexcept {
        this->retry_ = true; // an end that wakes it does not always leave it a place
        waiting = this;
        if (std::exchange(is_queued_, true))
            set_->look_again(*this);
        else
            set_->enter(*this);
        return true;
    }

    abort_handle await_resume() {
        abort_handle handle = set_->start(std::move(task_), where_);
        set_->use_place();
        has_place = is_queued_ = false;
        return handle;
    }

private:
    cancel_answer cancel() noexcept override {
        return set_->withdraw(static_cast<place_waiter&>(*this));
    }

    detail::set_of<T>* set_;
    task<T> task_;
    std::source_location where_;
    bool is_queued_ = false;
};

} // namespace magpie
