#include <magpie/core/detail/atomic.hpp>

#if !defined(MAGPIE_MODEL)

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace magpie::detail {

namespace {

/// One wait. False when the deadline has passed.
bool wait_once(const void* address, std::uint32_t expected, futex::time_point deadline) noexcept {
    // FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC, which is the steady clock.
    timespec at{};
    const timespec* limit = nullptr;
    if (deadline != futex::time_point::max()) {
        const auto since = std::max(deadline.time_since_epoch(), futex::time_point::duration::zero());
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
        at.tv_sec = static_cast<time_t>(seconds.count());
        at.tv_nsec = static_cast<long>(std::chrono::nanoseconds(since - seconds).count());
        limit = &at;
    }
    const long r = ::syscall(SYS_futex, address, FUTEX_WAIT_BITSET_PRIVATE, expected, limit, nullptr,
                             FUTEX_BITSET_MATCH_ANY);
    return !(r == -1 && errno == ETIMEDOUT);
}

} // namespace

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MAGPIE_SIGNALS_ARE_KEPT_BACK 1
#endif
#endif

bool futex::wait_until(std::uint32_t expected, time_point deadline) noexcept {
#if defined(MAGPIE_SIGNALS_ARE_KEPT_BACK)
    // ThreadSanitizer keeps a signal back until its thread does something that it watches, which a
    // sleep in a bare system call is not: so this thread looks up now and then.
    while (word.load(std::memory_order_relaxed) == expected) { // callers look again, with their order
        const auto soon = time_point::clock::now() + std::chrono::milliseconds(50);
        if (wait_once(&word, expected, std::min(soon, deadline)))
            return true;
        if (deadline <= soon)
            return false;
    }
    return true;
#else
    return wait_once(&word, expected, deadline);
#endif
}

void futex::wake(futex* address, int count) noexcept {
    ::syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

} // namespace magpie::detail

#endif
