#pragma once

#include <magpie/core/detail/thread_state.hpp>

namespace magpie::detail {

/// While it lives the calling thread, which runs no turn, calls something for a worker: a blocking wait in that
/// would block the worker, and throws.
class no_blocking {
public:
    no_blocking() noexcept;
    no_blocking(const no_blocking&) = delete;
    no_blocking& operator=(const no_blocking&) = delete;
    ~no_blocking();

    static bool is_here() noexcept;

private:
    strand* outer_;
};

} // namespace magpie::detail
