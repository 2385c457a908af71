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

bool futex::wait_until(std::uint32_t expected, time_point deadline) noexcept {
    // FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC, which is the steady clock.
    timespec at{};
    const timespec* limit = nullptr;
    if (deadline != time_point::max()) {
        const auto since = std::max(deadline.time_since_epoch(), time_point::duration::zero());
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
        at.tv_sec = static_cast<time_t>(seconds.count());
        at.tv_nsec = static_cast<long>(std::chrono::nanoseconds(since - seconds).count());
        limit = &at;
    }
    const long r = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, limit, nullptr,
                             FUTEX_BITSET_MATCH_ANY);
    return !(r == -1 && errno == ETIMEDOUT);
}

void futex::wake(futex* address, int count) noexcept {
    ::syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

} // namespace magpie::detail

#endif
