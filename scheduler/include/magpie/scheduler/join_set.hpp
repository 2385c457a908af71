#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/scheduler/detail/set_word.hpp>

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

/// The end of a task in a set: which it was, and its value or exception.
template <class T>
struct joined {
    std::uint64_t id;
    task_result<T> result;
};

/// Spawned tasks of one type, joined in the order in which they end.
///
/// The set owns its tasks: each is joined once, and then forgotten; a set that is destroyed aborts
/// those that are left. It does not wait for their ends, for a destructor cannot: to wait,
/// `abort_all()` and join until the set is empty. A task's exception that nobody joins goes to the
/// hook for unhandled exceptions.
///
/// @par Thread safety
/// Belongs to one task, or to one thread, at a time. Several branches of its task may use it; one of
/// them may wait. The set must stay where it is, and live, while an operation of it exists.
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
class join_set : private detail::join_set_base {
public:
    /// What a join gives: a `std::optional` of the task's value. For void a `bool`, for references
    /// an optional `std::reference_wrapper`.
    using value_type = typename detail::timeout_value<T>::type;

    join_set() noexcept = default;

    /// A set of the tasks in `tasks`, which are moved from. @throws as `spawn`
    template <range_of_tasks<T> Range>
    explicit join_set(Range&& tasks, std::source_location where = std::source_location::current()) {
        spawn_all(std::forward<Range>(tasks), where);
    }

    /// The other one is empty afterwards. No operation of either may exist.
    join_set(join_set&&) noexcept = default;
    join_set& operator=(join_set&& other) noexcept {
        join_set old(std::move(other));
        this->swap(old);
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
    void abort_all() const noexcept { join_set_base::abort_all(); }

    /// Lets all tasks run on without the set, which is empty then. Results that nobody has joined
    /// are lost; exceptions among them go to the hook for unhandled exceptions.
    /// @par Complexity
    /// O(tasks that have ended).
    void detach_all() noexcept { join_set_base::detach_all(); }

    /// How many tasks were spawned and not joined yet, whether they have ended or not.
    std::size_t size() const noexcept { return join_set_base::size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; } ///< Whether that is none.

private:
    friend class join_next_operation<T>;
    using kept =
        detail::stored_t<std::conditional_t<std::is_reference_v<T>,
                                            std::reference_wrapper<std::remove_reference_t<T>>, T>>;

    template <class... Name>
    abort_handle start(task<T>&& t, std::source_location where, Name&&... name) {
        executor& e = detail::current_executor(where);
        detail::set_word& w = this->word();
        const auto root = detail::task_access::release(std::move(t));
        detail::set_cell<T>* c;
        try {
            c = new detail::set_cell<T>(e, root, w, where, std::forward<Name>(name)...);
        } catch (...) {
            root.destroy();
            throw;
        }
        abort_handle handle(*c);
        this->add(*c);
        e.adopt(*c);
        return handle;
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
class [[nodiscard("co_await it")]] join_next_operation : public operation<join_next_operation<T>> {
public:
    using value_type = typename join_set<T>::value_type;
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit join_next_operation(join_set<T>& set) noexcept : set_(&set) {}
    join_next_operation(join_next_operation&& other) noexcept
        : operation<join_next_operation>(std::move(other)), set_(other.set_),
          member_(std::exchange(other.member_, nullptr)) {}
    ~join_next_operation() {
        if (member_ != nullptr) // dropped in the moment between the wake and the end of the wait
            set_->put_back(*member_);
    }

    bool try_complete() noexcept {
        if (member_ == nullptr) // else it was awaited before, and what it got was not asked for
            member_ = set_->pop();
        return member_ != nullptr || set_->size() == 0;
    }
    bool publish() noexcept {
        using state = detail::set_word::wait_state;
        this->retry_ = true; // to surface is to look again: another branch may have been faster
        const state s = set_->wait(*this);
        if (s == state::waiting)
            return true;
        this->retry_ = false;
        occupied_ = s == state::occupied;
        if (!occupied_)
            member_ = set_->pop();
        return false;
    }

    value_type await_resume() {
        detail::set_member* const m = take_member();
        if (m == nullptr)
            return value_type();
        const released here(m);
        detail::outcome<T>& r = here.cell().result();
        if (r.empty())
            throw task_cancelled(here.cell().id);
        if constexpr (std::is_void_v<T>) {
            r.take();
            return true;
        } else {
            return value_type(r.take());
        }
    }

    /// What `as_result` gives: nothing is thrown but misuse.
    std::optional<task_result<T>> take_result() {
        std::optional<joined<T>> j = take_joined();
        return j ? std::optional<task_result<T>>(std::move(j->result)) : std::nullopt;
    }

    std::optional<joined<T>> take_joined() {
        detail::set_member* const m = take_member();
        if (m == nullptr)
            return std::nullopt;
        const released here(m);
        detail::outcome<T>& r = here.cell().result();
        const std::uint64_t id = here.cell().id;
        if (r.empty())
            return joined<T>{id, {boost::system::in_place_error, task_cancelled_ptr()}};
        if (r.has_error())
            return joined<T>{id, {boost::system::in_place_error, r.take_error()}};
        if constexpr (std::is_void_v<T>)
            return joined<T>{id, {boost::system::in_place_value}};
        else
            return joined<T>{id, {boost::system::in_place_value, r.take()}};
    }

private:
    /// Gives the cell back when its result was moved out, or threw.
    class released {
    public:
        explicit released(detail::set_member* m) noexcept
            : cell_(static_cast<detail::set_cell<T>*>(m)) {}
        released(const released&) = delete;
        released& operator=(const released&) = delete;
        ~released() { cell_->release(); }
        detail::set_cell<T>& cell() const noexcept { return *cell_; }

    private:
        detail::set_cell<T>* cell_;
    };

    cancel_answer cancel() noexcept override { return set_->withdraw(*this); }

    detail::set_member* take_member() {
        if (std::exchange(occupied_, false))
            detail::throw_usage_error("somebody else waits for this join_set already: it has one "
                                      "waiter at a time");
        if (member_ == nullptr) // a plain thread that was woken has not looked again
            member_ = set_->pop();
        return std::exchange(member_, nullptr);
    }

    join_set<T>* set_;
    detail::set_member* member_ = nullptr;
    bool occupied_ = false;
};

/// The same with the task's id. @see join_set::join_next_with_id
template <class T>
class [[nodiscard("co_await it")]] join_next_with_id_operation : public join_next_operation<T> {
public:
    using join_next_operation<T>::join_next_operation;

    std::optional<joined<T>> await_resume() { return this->take_joined(); }
    auto take_result() { return this->take_joined(); } ///< The same: it throws nothing anyway.
};

} // namespace magpie
