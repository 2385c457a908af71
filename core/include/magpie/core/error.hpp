#pragma once

#include <magpie/core/config.hpp>

#include <boost/system/errc.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>

#include <exception>
#include <functional>
#include <type_traits>

namespace magpie {

namespace errc = boost::system::errc;

/// What `as_result` of an operation gives: the value or an error code.
template <class T>
using result = boost::system::result<T>;

/// What `as_result` of a task or of a join handle gives: the value or the exception. A reference
/// comes as a `std::reference_wrapper`.
template <class T>
using task_result = boost::system::result<
    std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>,
    std::exception_ptr>;

namespace detail {
/// Throws `std::logic_error` with a sentence that says what to do. Out of line: callers stay small.
[[noreturn]] void throw_usage_error(const char* sentence);
} // namespace detail

} // namespace magpie
