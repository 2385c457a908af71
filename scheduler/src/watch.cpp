#include "watch.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <system_error>
#include <unistd.h>

namespace magpie::detail {

watch_timer::watch_timer(bool used) {
    if (!used)
        return;
    timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (timer_ == -1 || event_ == -1) {
        const int error = errno;
        close_both();
        throw std::system_error(error, std::system_category(), "timerfd and eventfd for a runtime");
    }
}

watch_timer::~watch_timer() { close_both(); }

void watch_timer::close_both() noexcept {
    if (timer_ != -1)
        ::close(timer_);
    if (event_ != -1)
        ::close(event_);
}

bool watch_timer::try_occupy() noexcept {
    // seq_cst: who gets up reads it after it has left the sleepers (ensure_watched).
    return timer_ != -1 && !occupied_.exchange(true, std::memory_order_seq_cst);
}

// seq_cst, as occupied(): who leaves for the driver says there until when it sleeps, and asks who is up; who gets
// up has counted itself, and asks whether somebody is here (runtime_core::ensure_watched).
void watch_timer::vacate() noexcept { occupied_.store(false, std::memory_order_seq_cst); }

void watch_timer::sleep(clock::time_point limit) noexcept {
    pollfd p[2] = {{timer_, POLLIN, 0}, {event_, POLLIN, 0}};
    timespec wait{};
    timespec* how_long = nullptr;
    if (limit != clock::time_point::max()) {
        const auto left = std::max<std::chrono::nanoseconds>(limit - clock::now(),
                                                             std::chrono::nanoseconds(0));
        wait.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
        wait.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
        how_long = &wait;
    }
    ::ppoll(p, 2, how_long, nullptr);
    std::uint64_t times;
    if ((p[0].revents & POLLIN) != 0 && ::read(timer_, &times, sizeof times) == sizeof times)
        // seq_cst read-modify-write: the sleeper then reads who is awake; who gets up writes that
        // and then reads set_.
        set_.exchange(false, std::memory_order_seq_cst);
    if ((p[1].revents & POLLIN) != 0)
        static_cast<void>(::read(event_, &times, sizeof times)); // empty already: just as good
}

void watch_timer::wake() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_, &one, sizeof one)); // full: it is awake already
}

void watch_timer::set() noexcept {
    // When it is set already, this millisecond is watched, or the sleeper is just getting up and
    // looks around before it lies down again.
    if (timer_ == -1 || set_.load(std::memory_order_seq_cst)) // see sleep()
        return;
    if (set_.exchange(true, std::memory_order_seq_cst))
        return;
    const clock::rep now = clock::now().time_since_epoch().count();
    const clock::rep before = set_at_.exchange(now, std::memory_order_relaxed);
    frequent_.store(clock::duration(now - before) < std::chrono::milliseconds(5),
                    std::memory_order_relaxed);
    arm(std::chrono::milliseconds(1));
}

void watch_timer::unset() noexcept {
    // Left set, it costs one waking in this millisecond: less than two system calls each time,
    // when the runtime gets up often.
    if (timer_ == -1 || !set_.load(std::memory_order_seq_cst) ||
        frequent_.load(std::memory_order_relaxed))
        return;
    arm(std::chrono::nanoseconds(0));
    set_.store(false, std::memory_order_seq_cst);
}

void watch_timer::arm(std::chrono::nanoseconds from_now) noexcept {
    itimerspec when{};
    when.it_value.tv_nsec = static_cast<long>(from_now.count());
    ::timerfd_settime(timer_, 0, &when, nullptr);
}

} // namespace magpie::detail
