#pragma once

#include <magpie/io/detail/descriptor.hpp>
#include <magpie/io/readiness.hpp>

#include <source_location>
#include <utility>

namespace magpie::io {

class ready_guard;

/// The wait of an `async_fd`. @see ready_operation for errors and cancellation
class [[nodiscard("co_await it")]] guarded_ready_operation : public ready_operation {
public:
    using ready_operation::ready_operation;

    ready_guard await_resume() const;
    result<ready_guard> take_result() const noexcept;
};

/// Readiness that was found, to be used up by a system call.
///
/// Readiness is kept until a call has found that it is over: then, and only then, `clear_ready`, or
/// the next wait returns at once. `try_io` does that by itself. Clearing never loses an event that
/// came after the guard.
///
/// Valid while its descriptor is.
class ready_guard {
public:
    explicit ready_guard(detail::registration& r, const detail::look& seen) noexcept
        : registration_(&r), seen_(seen) {}

    /// What the descriptor was ready for.
    readiness ready() const noexcept { return readiness(seen_); }

    /// Forgets it all, or only what `which` names. That a side is closed is never forgotten.
    void clear_ready() noexcept;
    void clear_ready(interest which) noexcept;

    /// Calls `f`, which makes a system call and gives a `magpie::result<T>`. If that is
    /// `operation_would_block`, the readiness is cleared.
    template <class F>
    auto try_io(F&& f) {
        auto outcome = std::forward<F>(f)();
        if (outcome.has_error() && (outcome.error() == errc::operation_would_block ||
                                    outcome.error() == errc::resource_unavailable_try_again))
            clear_ready();
        return outcome;
    }

private:
    detail::registration* registration_;
    detail::look seen_;
};

/// Any descriptor that can be polled, made awaitable: waits for readiness, and leaves the system calls
/// to its user.
///
/// @par Thread safety
/// Distinct objects: safe. One object: any number of tasks may wait; an event wakes them all.
/// @par Lifetime
/// As tcp_stream: nothing may wait on it when it goes.
///
/// @par Example
/// @code
/// magpie::io::async_fd fd(::eventfd(0, EFD_NONBLOCK));
/// for (;;) {
///     auto guard = co_await fd.readable();
///     auto n = guard.try_io([&] { return read_counter(fd.native_handle()); });
///     if (n)
///         co_return *n;
/// }
/// @endcode
class async_fd {
public:
    async_fd() noexcept = default; ///< An empty one, to be assigned to.

    /// Takes the descriptor, which is not blocking, and closes it at its end.
    /// @throws std::system_error if it cannot be polled (a regular file: operation_not_permitted), is
    ///         registered already, or there is no room; std::invalid_argument if it blocks;
    ///         std::logic_error outside of a runtime. The descriptor is still the caller's then.
    explicit async_fd(int fd, std::source_location where = std::source_location::current());

    /// Wait until the descriptor is ready; give a guard that says for what.
    guarded_ready_operation readable() { return ready(interest::readable); }
    guarded_ready_operation writable() { return ready(interest::writable); }
    guarded_ready_operation ready(interest what) {
        return guarded_ready_operation(registration_.get(), what);
    }

    /// What is known now, without waiting. It may be empty.
    ready_guard seen() const;

    /// Calls `f` if the descriptor is known to be ready for `what`; else gives `operation_would_block`.
    /// @see ready_guard::try_io
    template <class F>
    auto try_io(interest what, F&& f) -> decltype(std::forward<F>(f)()) {
        if (!is_ready(what))
            return {boost::system::in_place_error, errc::make_error_code(errc::operation_would_block)};
        return seen().try_io(std::forward<F>(f));
    }

    /// Gives the descriptor back; it may be registered again. Nothing may wait on it.
    int into_inner() { return registration_.release(); }
    int native_handle() const { return registration_.fd(); }

    explicit operator bool() const noexcept { return static_cast<bool>(registration_); }

private:
    bool is_ready(interest what) const;

    detail::descriptor registration_;
};

inline ready_guard guarded_ready_operation::await_resume() const {
    static_cast<void>(value("waiting for readiness"));
    return ready_guard(*registration_, seen_);
}

inline result<ready_guard> guarded_ready_operation::take_result() const noexcept {
    if (result_ < 0)
        return {boost::system::in_place_error, error()};
    return {boost::system::in_place_value, *registration_, seen_};
}

} // namespace magpie::io
