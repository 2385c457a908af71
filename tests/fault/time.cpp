#include "time.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <mutex>
#include <optional>
#include <sys/syscall.h>
#include <sys/timerfd.h>

namespace test {

namespace {

// Relaxed: who has to see a jump is told of it by something else.
std::atomic<std::int64_t> ahead{0}; // nanoseconds

std::int64_t now_ahead() noexcept { return ahead.load(std::memory_order_relaxed); }

/// What the kernel is told for a point of the clock that has jumped.
timespec to_kernel(const timespec& at) noexcept {
    constexpr std::int64_t second = 1'000'000'000;
    const std::int64_t ns = at.tv_sec * second + at.tv_nsec - now_ahead();
    timespec t{};
    t.tv_sec = static_cast<time_t>(ns > 0 ? ns / second : 0);
    t.tv_nsec = static_cast<long>(ns > 0 ? ns % second : 1);
    return t;
}

/// The timers that were set to a point of the clock: by descriptor. No memory is asked for, which another
/// test refuses and counts.
std::mutex lock;
std::array<std::optional<itimerspec>, 1024> timers;

std::optional<itimerspec>& timer_of(int fd) { return timers.at(static_cast<std::size_t>(fd)); }

} // namespace
} // namespace test

extern "C" int __real_timerfd_settime(int fd, int flags, const itimerspec* at, itimerspec* before);

namespace test {

void jump(std::chrono::nanoseconds forward) {
    ahead.fetch_add(forward.count(), std::memory_order_relaxed);
    const std::lock_guard guard(lock);
    for (std::size_t fd = 0; fd < timers.size(); ++fd) {
        if (!timers[fd])
            continue;
        itimerspec moved = *timers[fd];
        moved.it_value = to_kernel(moved.it_value);
        // It fails if it was closed.
        __real_timerfd_settime(static_cast<int>(fd), TFD_TIMER_ABSTIME, &moved, nullptr);
    }
}

jumping_clock::~jumping_clock() { ahead.store(0, std::memory_order_relaxed); }

} // namespace test

extern "C" {

// std::chrono::steady_clock::now()
std::int64_t __real__ZNSt6chrono3_V212steady_clock3nowEv() noexcept;
long __real_syscall(long number, ...);

std::int64_t __wrap__ZNSt6chrono3_V212steady_clock3nowEv() noexcept {
    return __real__ZNSt6chrono3_V212steady_clock3nowEv() + test::now_ahead();
}

long __wrap_syscall(long number, ...) {
    std::va_list list;
    va_start(list, number);
    long a[6];
    for (long& one : a)
        one = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && a[3] != 0 &&
        test::now_ahead() != 0) {
        const timespec at = test::to_kernel(*reinterpret_cast<const timespec*>(a[3]));
        return __real_syscall(number, a[0], a[1], a[2], reinterpret_cast<long>(&at), a[4], a[5]);
    }
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int __wrap_timerfd_settime(int fd, int flags, const itimerspec* at, itimerspec* before) {
    const std::lock_guard guard(test::lock);
    if ((flags & TFD_TIMER_ABSTIME) == 0) {
        test::timer_of(fd).reset();
        return __real_timerfd_settime(fd, flags, at, before);
    }
    test::timer_of(fd) = *at;
    itimerspec moved = *at;
    moved.it_value = test::to_kernel(at->it_value);
    return __real_timerfd_settime(fd, flags, &moved, before);
}

} // extern "C"
