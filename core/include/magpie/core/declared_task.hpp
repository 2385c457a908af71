#pragma once

#include <magpie/core/operation.hpp>
#include <magpie/core/task.hpp>

#include <coroutine>
#include <utility>

namespace magpie {

/// A `task<T>` of which its author says what is lost when it is dropped half-way. Of any other
/// coroutine nobody can say: it is `unknown`. @see safe_task, lossy_task, cancel_safety
///
/// It is a `task<T>` in everything else, and may be used in place of one.
template <class T, cancel_safety Safety>
class [[nodiscard("a task does nothing until it is awaited or spawned")]] declared_task
    : public task<T> {
public:
    static constexpr cancel_safety safety = Safety;

    struct promise_type : detail::promise<T> {
        declared_task get_return_object() noexcept {
            return declared_task(std::coroutine_handle<detail::promise<T>>::from_promise(*this));
        }
    };

    declared_task() noexcept = default;

private:
    explicit declared_task(std::coroutine_handle<detail::promise<T>> frame) noexcept : task<T>(frame) {}
};

/// What a coroutine returns that has had no effect the caller cannot see, if it is dropped before its
/// end: it keeps what it has got so far outside of itself.
///
/// @par Example
/// @code
/// // The bytes of an unfinished line stay in `input`: the next call goes on with them.
/// magpie::safe_task<std::string> next_line(line_buffer& input) {
///     while (!input.has_line())
///         co_await input.fill(); // cancel-safe: dropped, it has read nothing
///     co_return input.take_line();
/// }
/// @endcode
template <class T = void>
using safe_task = declared_task<T, cancel_safety::safe>;

/// What a coroutine returns that loses a part of its effect when it is dropped half-way: `select`
/// refuses it, as it refuses `write_all`.
template <class T = void>
using lossy_task = declared_task<T, cancel_safety::lossy>;

} // namespace magpie
