#pragma once

#include <magpie/io/detail/io_operation.hpp>
#include <magpie/io/detail/signal_listener.hpp>

#include <initializer_list>
#include <optional>
#include <source_location>
#include <span>
#include <utility>

namespace magpie::io {

/// The wait for a signal. @see signals::next
class [[nodiscard("co_await it")]] next_signal_operation : public detail::io_operation {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    next_signal_operation(detail::registration& events, detail::signal_slot& slot) noexcept
        : io_operation(&events, detail::waits_for::read), slot_(&slot) {}
    next_signal_operation(next_signal_operation&& other) noexcept // it has not been awaited
        : io_operation(static_cast<io_operation&&>(other)), slot_(other.slot_) {}
    ~next_signal_operation();

    int await_resume();
    result<int> take_result() noexcept;

private:
    detail::attempt perform(int fd) noexcept override;

    detail::signal_slot* slot_;
    int taken_ = 0;
};

/// Listens to signals of the process: SIGINT, SIGTERM, SIGHUP, real-time signals, ...
///
/// It hears what comes after it was made; until `next` is called that is kept. Every listener hears
/// each signal, whatever runtime it belongs to. Signals are not counted: of those with one number that
/// come before it was taken, one is heard.
///
/// The first listener to a signal installs a handler for it, which stays for as long as the process
/// runs: from then on the signal does nothing by itself, also when nobody listens any more. A handler
/// that was there before is still called. Who installs another one later takes the signal away.
/// System calls are not interrupted by the handler (SA_RESTART).
///
/// @par Thread safety
/// Distinct objects: safe. One object: `next` and `try_next` from any thread; when several tasks wait,
/// each signal goes to one of them.
/// @par Lifetime
/// As tcp_stream: nothing may wait on it when it goes.
///
/// @par Example
/// @code
/// magpie::io::signals stop{SIGINT, SIGTERM};
/// const int signal = co_await stop.next();
/// @endcode
class signals {
public:
    /// @param which  at least one
    /// @throws std::invalid_argument for a number that is no signal, and for those that cannot be
    ///         handled or that a handler must not return from: SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,
    ///         SIGILL, SIGFPE. std::logic_error outside of a runtime; std::system_error
    explicit signals(std::initializer_list<int> which,
                     std::source_location where = std::source_location::current())
        : signals(std::span<const int>(which.begin(), which.size()), where) {}
    explicit signals(std::span<const int> which,
                     std::source_location where = std::source_location::current())
        : listener_(which, "signals", where) {}

    /// Waits for the next signal, and gives its number.
    ///
    /// @throws std::system_error `io_error::runtime_gone` when the runtime is shut down
    /// @par Cancellation
    /// Cancel-safe: a dropped call has taken no signal.
    next_signal_operation next() { return next_signal_operation(listener_.events(), listener_.slot()); }

    /// A signal that has come already, or none. Never waits.
    std::optional<int> try_next();

private:
    detail::signal_listener listener_;
};

/// The wait for SIGINT. @see ctrl_c
class [[nodiscard("co_await it")]] ctrl_c_operation : private detail::signal_listener,
                                                      public next_signal_operation {
public:
    explicit ctrl_c_operation(std::source_location where);
    ctrl_c_operation(ctrl_c_operation&& other) noexcept
        : signal_listener(static_cast<signal_listener&&>(other)),
          next_signal_operation(static_cast<next_signal_operation&&>(other)) {}

    void await_resume() { static_cast<void>(next_signal_operation::await_resume()); }
    result<void> take_result() noexcept;
};

/// Waits for the user to press Ctrl-C: for the first SIGINT after the call. @see signals, which misses
/// none between two waits.
///
/// @throws std::logic_error outside of a runtime; std::system_error
/// @par Cancellation
/// Cancel-safe. The signal no longer ends the process afterwards, see `signals`.
ctrl_c_operation ctrl_c(std::source_location where = std::source_location::current());

} // namespace magpie::io
