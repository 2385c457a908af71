#include "watch.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <poll.h>
#include <sys/timerfd.h>
#include <system_error>
#include <unistd.h>

namespace magpie::detail {

watch_timer::watch_timer(bool used) {
    if (!used)
        return;
    descriptor_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (descriptor_ == -1)
        throw std::system_error(errno, std::system_category(), "timerfd_create for a runtime");
}

watch_timer::~watch_timer() {
    if (descriptor_ != -1)
        ::close(descriptor_);
}

bool watch_timer::try_occupy() noexcept {
    // Acquire and release: set_at_ is not theirs, but who sleeps next shall see a clean descriptor.
    return descriptor_ != -1 && !occupied_.exchange(true, std::memory_order_acq_rel);
}

void watch_timer::vacate() noexcept { occupied_.store(false, std::memory_order_release); }

void watch_timer::sleep(clock::time_point limit) noexcept {
    pollfd p{descriptor_, POLLIN, 0};
    timespec wait{};
    timespec* how_long = nullptr;
    if (limit != clock::time_point::max()) {
        const auto left = std::max<std::chrono::nanoseconds>(limit - clock::now(), std::chrono::nanoseconds(0));
        wait.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
        wait.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
        how_long = &wait;
    }
    ::ppoll(&p, 1, how_long, nullptr);
    std::uint64_t times;
    if (::read(descriptor_, &times, sizeof times) == static_cast<ssize_t>(sizeof times))
        set_.store(false, std::memory_order_release); // pairs with set(): it may be set anew
}

void watch_timer::wake() noexcept { arm(std::chrono::nanoseconds(1)); }

void watch_timer::set() noexcept {
    // Relaxed: when it is set already, this millisecond is watched, or the sleeper is just getting
    // up and looks around before it lies down again.
    if (descriptor_ == -1 || set_.load(std::memory_order_relaxed))
        return;
    if (set_.exchange(true, std::memory_order_acq_rel)) // acquire: set_at_ of who set it before
        return;
    const clock::time_point now = clock::now();
    frequent_.store(now - set_at_ < std::chrono::milliseconds(5), std::memory_order_relaxed);
    set_at_ = now;
    arm(std::chrono::milliseconds(1));
}

void watch_timer::unset() noexcept {
    // Nobody is awake, so nobody sets it now. Left set, it costs one waking in this millisecond:
    // less than two system calls each time, when the runtime gets up often.
    if (descriptor_ == -1 || !set_.load(std::memory_order_acquire) ||
        frequent_.load(std::memory_order_relaxed))
        return;
    arm(std::chrono::nanoseconds(0));
    set_.store(false, std::memory_order_release); // pairs with the exchange in set()
}

void watch_timer::arm(std::chrono::nanoseconds from_now) noexcept {
    itimerspec when{};
    when.it_value.tv_nsec = static_cast<long>(from_now.count());
    ::timerfd_settime(descriptor_, 0, &when, nullptr);
}

} // namespace magpie::detail
