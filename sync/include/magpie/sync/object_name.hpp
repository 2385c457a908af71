#pragma once

#include <magpie/core/config.hpp>

namespace magpie::sync {

/// What an object is called in reports: a string literal, so that nothing is copied.
///
/// Each lock takes one when it is made: `mutex m("accounts")`, `shared_mutex m("routes")`; `guarded` and
/// `guarded_shared`, whose arguments are the value's, take it in front of them. A lock keeps it in a build with
/// MAGPIE_LOCK_TRACE; in any other it is accepted, and costs nothing. What has to be known by its name in every
/// build, lock or not, is made as a `named`. Where arguments are passed on, a name has to be written out:
/// `std::make_shared<mutex>(object_name("accounts"))`.
///
/// @par Example
/// @code
/// magpie::sync::mutex log_file("log file");
/// magpie::sync::guarded<std::string> motto(magpie::sync::object_name("motto"), "festina lente");
/// @endcode
class object_name {
public:
    consteval object_name(const char* literal) noexcept // NOLINT: meant to convert
        : text_(literal) {}

    const char* text() const noexcept { return text_; }

private:
    const char* text_;
};

} // namespace magpie::sync
