#pragma once

#define MAGPIE_VERSION_MAJOR 0
#define MAGPIE_VERSION_MINOR 1
#define MAGPIE_VERSION_PATCH 0

namespace magpie::detail {
/// Logs the sentence at critical level, with the place, and ends the program.
[[noreturn]] void fatal(const char* sentence, const char* file, int line) noexcept;
} // namespace magpie::detail

/// Guards magpie's own invariants, never a caller's input. Costs nothing with NDEBUG.
#if defined(NDEBUG)
#define MAGPIE_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))
#else
#define MAGPIE_ASSERT(condition)                                                                       \
    ((condition) ? static_cast<void>(0)                                                                \
                 : ::magpie::detail::fatal("broken invariant: " #condition, __FILE__, __LINE__))
#endif
