#pragma once

#include <magpie/core/error.hpp>

#include <type_traits>

namespace magpie::io {

/// What can go wrong beyond what the system reports.
enum class io_error : int {
    unexpected_end = 1, ///< the stream has ended before as much was read as was asked for
    runtime_gone = 2,   ///< the runtime of the descriptor is shut down: nothing can wait on it any
                        ///< more; compares equal to `errc::operation_canceled` as well
};

const boost::system::error_category& io_category() noexcept;

inline boost::system::error_code make_error_code(io_error e) noexcept {
    return {static_cast<int>(e), io_category()};
}

} // namespace magpie::io

template <>
struct boost::system::is_error_code_enum<magpie::io::io_error> : std::true_type {};
