#pragma once

#include <magpie/core/detail/blocking_wait.hpp>
#include <magpie/core/join_handle.hpp>
#include <magpie/core/spawn.hpp>
#include <magpie/core/task.hpp>
#include <magpie/scheduler/detail/set_operation.hpp>
#include <magpie/scheduler/detail/task_set.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <optional>
#include <ranges>
#include <source_location>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace magpie {

namespace detail {

/// The cell of a task in a map, with its key.
template <class K, class T>
class map_cell final : public set_cell<T> {
public:
    template <class... Name>
    map_cell(executor& e, std::coroutine_handle<promise<T>> root, set_word& word, K&& k,
             std::source_location where, Name&&... name)
        : set_cell<T>(e, root, word, where, std::forward<Name>(name)...), key(std::move(k)) {}

    K key;
    bool is_replaced = false;
};

template <class K, class T, class Hash, class Equal>
class map_of : public task_set {
public:
    using cell = map_cell<K, T>;

    using task_set::swap;

    map_of() = default;
    map_of(map_of&& other) noexcept : task_set(std::move(other)) { cells.swap(other.cells); }

    /// The next that has ended. Those that were replaced are forgotten on the way.
    set_member* pop() noexcept {
        while (set_member* const m = task_set::pop()) {
            if (!static_cast<cell*>(m)->is_replaced)
                return m;
            m->task->leave_set();
        }
        return nullptr;
    }
    void forget(set_member& m) noexcept {
        leave(static_cast<cell&>(m));
        m.task->leave_set();
    }
    /// Takes the key of one that was popped out of the map, if it has not been spawned anew since.
    void leave(cell& c) noexcept {
        if (!c.is_replaced)
            cells.erase(&c);
    }
    bool is_drained() const noexcept { return task_set::size() == 0; }

    template <class... Name>
    abort_handle start(K&& key, task<T>&& t, std::source_location where, Name&&... name) {
        executor& e = current_executor(where);
        set_word& w = word();
        const auto root = task_access::release(std::move(t));
        cell* c = nullptr;
        try {
            c = new cell(e, root, w, std::move(key), where, std::forward<Name>(name)...);
            const auto [place, is_new] = cells.insert(c);
            if (!is_new) {
                cell* const old = *place;
                auto node = cells.extract(place);
                node.value() = c;
                cells.insert(std::move(node)); // into the room that it has left
                old->is_replaced = true;
                old->abort();
            }
        } catch (...) {
            root.destroy();
            if (c != nullptr)
                c->release();
            throw;
        }
        abort_handle handle(*c);
        add(*c);
        e.adopt(*c);
        return handle;
    }

    void detach_all() noexcept {
        cells.clear();
        task_set::detach_all();
    }

    // A cell is here until it was joined, or replaced: one that a branch has popped and not yet joined
    // may still be.
    struct hash {
        using is_transparent = void;
        std::size_t operator()(const K& key) const { return Hash()(key); }
        std::size_t operator()(const cell* c) const { return Hash()(c->key); }
    };
    struct equal {
        using is_transparent = void;
        bool operator()(const K& a, const cell* b) const { return Equal()(a, b->key); }
        bool operator()(const cell* a, const K& b) const { return Equal()(a->key, b); }
        bool operator()(const cell* a, const cell* b) const { return Equal()(a->key, b->key); }
    };
    std::unordered_set<cell*, hash, equal> cells;
};

} // namespace detail

/// The end of a task in a map: its key, and its value or exception.
template <class K, class T>
struct joined_by_key {
    K key;
    task_result<T> result;
};

template <class K, class T, class Hash, class Equal>
class join_map_next_operation;

/// Spawned tasks with keys: at most one task a key, joined in the order in which they end.
///
/// To spawn a task under a key that is in the map aborts the one that was there, and nobody is told of
/// its end. (If it has failed before, its exception goes to the hook for unhandled exceptions.) A key is
/// in the map until its task was joined. A map that is destroyed aborts its tasks, and does not wait for
/// their ends; `co_await map.shutdown()` does.
///
/// @tparam Hash, Equal  as of `std::unordered_map`; they do not throw
/// @par Thread safety
/// Belongs to one task, or to one thread, at a time. Several branches of its task may use it; one of
/// them may wait for the next end. The map must stay where it is, and live, while an operation of it
/// exists.
/// @par Complexity
/// To spawn, to end and to join: O(1) on average. An entry a key, beside what `spawn` allocates.
///
/// @par Example
/// @code
/// magpie::join_map<user_id, void> sessions;
/// sessions.spawn(user, serve(std::move(stream))); // who logs in again ends his former session
/// ...
/// auto ended = co_await sessions.join_next();
/// if (ended)
///     log("{} has left", ended->key);
/// @endcode
template <class K, class T = void, class Hash = std::hash<K>, class Equal = std::equal_to<K>>
class join_map : private detail::map_of<K, T, Hash, Equal> {
    using base = detail::map_of<K, T, Hash, Equal>;

public:
    join_map() = default;
    /// The other one is empty afterwards. No operation of either may exist.
    join_map(join_map&&) noexcept = default;
    join_map& operator=(join_map&& other) noexcept {
        join_map old(std::move(other));
        base::swap(old);
        base::cells.swap(old.cells);
        return *this;
    }
    ~join_map() = default; ///< Aborts what is left.

    /// Spawns a task under a key, on the caller's runtime. One that is there under this key is aborted
    /// and forgotten.
    ///
    /// @param where  the place that logs and reports name
    /// @return a way to abort it; may be ignored
    /// @throws std::logic_error outside of a runtime, or if `t` is empty; std::bad_alloc
    abort_handle spawn(K key, task<T> t, std::source_location where = std::source_location::current()) {
        return base::start(std::move(key), std::move(t), where);
    }
    /// The same with a name that logs, reports and `this_task::name` show.
    abort_handle spawn(K key, std::string name, task<T> t,
                       std::source_location where = std::source_location::current()) {
        return base::start(std::move(key), std::move(t), where, std::move(name));
    }
    /// Calls `f()`, which gives a task, and spawns that; `f` lives as long as it does.
    template <class F>
        requires task_callable<F>
    abort_handle spawn(K key, F&& f, std::source_location where = std::source_location::current()) {
        return base::start(std::move(key), detail::own_and_run<std::decay_t<F>>(std::forward<F>(f)),
                           where);
    }

    /// Waits for the next end of a task in the map, or takes the oldest that was not joined: a
    /// `std::optional<joined_by_key<K, T>>`. The key is out of the map then. Nothing if the map is empty;
    /// those that were replaced have ended as well then.
    ///
    /// @throws std::logic_error if somebody else waits
    /// @par Cancellation
    /// Cancel-safe: dropped, it has taken no result out of the map.
    /// @par Complexity
    /// O(1), and O(1) for each task that was replaced; no allocation.
    join_map_next_operation<K, T, Hash, Equal> join_next() noexcept {
        return join_map_next_operation<K, T, Hash, Equal>(*this);
    }
    /// The same on a plain thread. @throws as it does; std::logic_error inside a task
    std::optional<joined_by_key<K, T>> blocking_join_next() {
        for (;;) {
            auto next = detail::blocking_wait(join_next());
            if (next || base::is_drained())
                return next; // else it was woken by the end of one that was replaced
        }
    }
    /// The same without waiting: nothing if no task has ended that was not joined.
    std::optional<joined_by_key<K, T>> try_join_next() {
        auto op = join_next();
        static_cast<void>(op.try_complete());
        return op.await_resume();
    }

    /// Asks for the task of a key to be dropped at its next suspension. It stays in the map until it is
    /// joined: as cancelled, or with its value if it has ended before.
    /// @return whether the key is in the map
    bool abort(const K& key) noexcept {
        const auto found = base::cells.find(key);
        if (found == base::cells.end())
            return false;
        (*found)->abort();
        return true;
    }
    /// The same for each key for which `matches(key)` is true.
    /// @return how many these are
    /// @throws what `matches` throws
    template <std::predicate<const K&> Predicate>
    std::size_t abort_matching(Predicate matches) {
        std::size_t count = 0;
        for (auto* const cell : base::cells)
            if (std::invoke(matches, std::as_const(cell->key))) {
                cell->abort();
                ++count;
            }
        return count;
    }
    /// Asks for all tasks to be dropped. They stay in the map until they are joined. O(tasks).
    void abort_all() const noexcept { base::abort_all(); }

    /// Aborts all tasks, and waits until they have ended. Their results are destroyed; exceptions that
    /// nobody has received go to the hook for unhandled exceptions.
    ///
    /// @throws std::logic_error if somebody else waits for the next end
    /// @par Cancellation
    /// Cancel-safe: dropped, it leaves those that have not ended in the map, aborted.
    detail::set_shutdown_operation<base> shutdown() noexcept {
        return detail::set_shutdown_operation<base>(*this);
    }
    /// Lets all tasks run on without the map, which is empty then, as `join_set::detach_all` does.
    void detach_all() noexcept { base::detach_all(); }

    /// Whether a task of this key was spawned and not joined yet.
    bool contains(const K& key) const { return base::cells.contains(key); }

    /// The keys in the map, in no order: a view, valid until a task is spawned or joined.
    auto keys() const noexcept {
        return std::views::transform(base::cells,
                                     [](const typename base::cell* c) -> const K& { return c->key; });
    }

    /// How many keys are in the map, whether their tasks have ended or not.
    std::size_t size() const noexcept { return base::cells.size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; } ///< Whether that is none.
};

/// The wait for the next end in a map. @see join_map::join_next
template <class K, class T, class Hash, class Equal>
class [[nodiscard("co_await it")]] join_map_next_operation
    : public detail::next_member_operation<join_map_next_operation<K, T, Hash, Equal>,
                                           detail::map_of<K, T, Hash, Equal>, detail::map_cell<K, T>> {
    using map = detail::map_of<K, T, Hash, Equal>;
    using base = detail::next_member_operation<join_map_next_operation, map, detail::map_cell<K, T>>;

public:
    using base::base;

    std::optional<joined_by_key<K, T>> await_resume() {
        const auto ended = this->take_member();
        if (!ended)
            return std::nullopt;
        this->set_->leave(ended.cell());
        return joined_by_key<K, T>{std::move(ended.cell().key), ended.take_result()};
    }
    auto take_result() { return await_resume(); } ///< The same: it throws nothing anyway.
};

} // namespace magpie
