#pragma once

#include <string_view>

namespace magpie {

enum class log_level : unsigned char { debug, info, warning, error, critical };

/// Receives what the library has to say. `text` is valid during the call. Must not throw.
using log_function = void (*)(log_level level, std::string_view text) noexcept;

/// Puts `sink` in place of the present one and returns that. A null `sink` is silence.
///
/// At the start messages go to standard error; the scheduler library puts spdlog there.
///
/// @par Thread safety
/// May be called at any time from any thread; a message under way may still reach the old sink.
log_function set_log_function(log_function sink) noexcept;

/// The sink at the start: standard error.
log_function default_log_function() noexcept;

/// Hands a message to the sink.
void log(log_level level, std::string_view text) noexcept;

} // namespace magpie
