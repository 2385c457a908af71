#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/task.hpp>
#include <magpie/sync/mutex.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace magpie::sync {

/// What became of a `once_cell::set`.
enum class set_result : unsigned char {
    done,         ///< the value is in the cell
    already_set,  ///< the cell had one
    initializing, ///< somebody is making one just now
};

namespace detail {

/// Whether what an initialiser gives is the value itself, or has to be awaited for it.
template <class A>
concept to_be_awaited = magpie::detail::own_awaitable<A>;

template <class A>
struct initialised {
    using type = std::remove_cvref_t<A>;
};
template <to_be_awaited A>
struct initialised<A> {
    using type = std::remove_cvref_t<magpie::detail::awaited_type<A>>;
};
/// The value that an initialiser makes: `f()` gives it, or something of magpie's to be awaited for it.
template <class F>
using initialised_t = typename initialised<std::invoke_result_t<F&>>::type;

} // namespace detail

/// A value that is made by the first who needs it, while the others wait; it never changes afterwards.
///
/// What was done to make it is visible to whoever gets it.
///
/// @par Thread safety
/// `get`, `set` and `get_or_init` may be called concurrently, from tasks of any executor; the others need
/// the cell for themselves. It must outlive the tasks that are inside.
///
/// @par Example
/// @code
/// magpie::sync::once_cell<connection> database;
///
/// magpie::task<> query() {
///     connection& c = co_await database.get_or_init([]() -> magpie::task<connection> {
///         co_return co_await connect();
///     });
///     co_await c.send("...");
/// }
/// @endcode
template <class T>
class once_cell {
public:
    using value_type = T;

    once_cell() noexcept = default;
    once_cell(const once_cell&) = delete;
    once_cell& operator=(const once_cell&) = delete;

    /// The value, null if there is none yet. One load.
    T* get() noexcept { return is_set() ? std::addressof(*value_) : nullptr; }
    const T* get() const noexcept { return is_set() ? std::addressof(*value_) : nullptr; }
    bool is_set() const noexcept {
        return set_.load(std::memory_order_acquire); // pairs with the store in put()
    }

    /// Gives the value. If there is none, one caller makes it: `f()` gives it, or a task or an operation of
    /// magpie's to be awaited for it. The others wait. If `f` throws, or is dropped with its task, the cell
    /// stays empty, and the next one who waits makes it with his own `f`.
    ///
    /// @throws what `f` throws. An `f` that asks for this cell's value waits for itself.
    /// @par Cancellation
    /// Cancel-safe: what was begun is dropped, and the next begins anew.
    /// @par Complexity
    /// One load, and a frame from the frame allocator: `get()` first costs less, where it is mostly set.
    template <class F>
        requires std::is_same_v<detail::initialised_t<F>, T>
    task<T&> get_or_init(F f) {
        if (!is_set()) {
            auto guard = co_await initializing_.lock();
            if (!is_set()) {
                if constexpr (detail::to_be_awaited<std::invoke_result_t<F&>>)
                    put(co_await f());
                else
                    put(f());
            }
        }
        co_return *value_;
    }

    /// The same with an `f` that gives a `boost::system::result<T, E>`, or something to be awaited for it. An
    /// error leaves the cell empty and goes to the caller: `result<std::reference_wrapper<T>, E>`.
    template <class F, class Result = detail::initialised_t<F>>
        requires std::is_same_v<typename Result::value_type, T>
    task<boost::system::result<std::reference_wrapper<T>, typename Result::error_type>> get_or_try_init(
        F f) {
        if (!is_set()) {
            auto guard = co_await initializing_.lock();
            if (!is_set()) {
                std::optional<Result> made;
                if constexpr (detail::to_be_awaited<std::invoke_result_t<F&>>)
                    made.emplace(co_await f());
                else
                    made.emplace(f());
                if (made->has_error())
                    co_return made->error();
                put(std::move(**made));
            }
        }
        co_return std::ref(*value_);
    }

    /// Puts a value in, if there is none and nobody makes one. Else `v` stays as it was.
    set_result set(T&& v) { return set_from(std::move(v)); }
    set_result set(const T& v) { return set_from(v); }

    /// Takes the value out: the cell is empty again. Nobody may use the cell at the same time.
    std::optional<T> take() {
        std::optional<T> out;
        if (is_set()) {
            out.emplace(std::move(*value_));
            set_.store(false, std::memory_order_relaxed); // nobody else is there
            value_.reset();
        }
        return out;
    }

private:
    template <class U>
    set_result set_from(U&& v) {
        const auto guard = initializing_.try_lock();
        if (is_set())
            return set_result::already_set;
        if (!guard)
            return set_result::initializing;
        put(std::forward<U>(v));
        return set_result::done;
    }

    /// By who holds the lock.
    template <class U>
    void put(U&& v) {
        value_.emplace(std::forward<U>(v));
        set_.store(true, std::memory_order_release); // pairs with is_set()
    }

    magpie::detail::atomic<bool> set_{false};
    mutex initializing_;
    std::optional<T> value_; // written by who holds the lock; constant once set_
};

} // namespace magpie::sync
