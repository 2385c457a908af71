#pragma once

#include <magpie/core/config.hpp>

namespace magpie::sync {

/// What a lock is called in reports (`lock_trace.hpp`): a string literal, so that nothing is copied.
///
/// Each lock takes one when it is made: `mutex m("accounts")`, `shared_mutex m("routes")`; `guarded` and
/// `guarded_shared`, whose arguments are the value's, take it in front of them. It is kept by a build with
/// MAGPIE_LOCK_TRACE; in any other it is accepted, and costs nothing. Where arguments are passed on, it has to
/// be named: `std::make_shared<mutex>(lock_name("accounts"))`.
///
/// @par Example
/// @code
/// magpie::sync::mutex log_file("log file");
/// magpie::sync::guarded<std::string> motto(magpie::sync::lock_name("motto"), "festina lente");
/// @endcode
class lock_name {
public:
    consteval lock_name([[maybe_unused]] const char* literal) noexcept // NOLINT: meant to convert
#if defined(MAGPIE_LOCK_TRACE)
        : text_(literal)
#endif
    {
    }

#if defined(MAGPIE_LOCK_TRACE)
    const char* text() const noexcept { return text_; }

private:
    const char* text_;
#endif
};

} // namespace magpie::sync
