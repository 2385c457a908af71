#pragma once

#include <magpie/core/task.hpp>
#include <magpie/io/signal.hpp>
#include <magpie/sync/cancellation_token.hpp>

namespace magpie::io {

/// What `cancel_on` does with the signals that come after the first.
enum class second_signal : unsigned char {
    ends_process, ///< what they do to a process that does not listen to them: SIGINT, SIGTERM end it
    is_ignored,   ///< nothing
};

/// Cancels a token when a signal comes, with the signal's name as the reason, as "SIGINT".
///
/// To be spawned: it waits for as long as it is not dropped, which the end of the runtime does. After
/// the first signal it waits for a second one, by which the user says that the end in good order takes
/// too long: with `second_signal::ends_process` the signal's default action is taken then, as if nobody
/// had listened; with `is_ignored` the task ends after the first one. Not within a signal handler: the
/// token is cancelled on the task's turn.
///
/// @param on  the signals; those that have come since it was made count
/// @return the number of the first signal
/// @throws std::logic_error if `on` or `token` was moved from
/// @par Cancellation
/// Cancel-safe: dropped, it listens no more. The signals then do nothing, see `signals`.
///
/// @par Example
/// @code
/// magpie::task<> program() {
///     magpie::cancellation_token stop;
///     magpie::spawn(magpie::io::cancel_on(magpie::io::signals{SIGINT, SIGTERM}, stop)).detach();
///     co_await serve(stop); // ends in good order at the first Ctrl-C, and at once at the second
/// }
/// @endcode
task<int> cancel_on(signals on, sync::cancellation_token token,
                    second_signal second = second_signal::ends_process);

} // namespace magpie::io
