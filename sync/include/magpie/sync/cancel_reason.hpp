#pragma once

#include <string>
#include <system_error>
#include <utility>

namespace magpie::sync {

/// Why a token was cancelled: a text for people, a code for programs. Either may be missing.
///
/// @par Example
/// @code
/// stop.cancel("the configuration has changed");
/// stop.cancel({std::make_error_code(std::errc::io_error), "the disk is full"});
/// @endcode
class cancel_reason {
public:
    // Implicit: it is made where `cancel` is called.
    cancel_reason(std::string text) noexcept
        : text_(std::move(text)) {}                  // NOLINT(google-explicit-constructor)
    cancel_reason(const char* text) : text_(text) {} // NOLINT(google-explicit-constructor)
    cancel_reason(std::error_code code,
                  std::string text = {}) noexcept // NOLINT(google-explicit-constructor)
        : code_(code), text_(std::move(text)) {}

    const std::string& text() const noexcept { return text_; }     ///< Empty: none was given.
    const std::error_code& code() const noexcept { return code_; } ///< False: none was given.

    /// The text, or what the code says if there is no text.
    std::string message() const { return text_.empty() && code_ ? code_.message() : text_; }

private:
    std::error_code code_;
    std::string text_;
};

} // namespace magpie::sync
