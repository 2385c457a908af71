// What the product asks of the C library, for the simulated machine: the linker gives these in place of the
// C library's (--wrap). Descriptors are numbers that no real one has.

#include "machine.hpp"

#include <magpie/core/timer.hpp>
#include <scheduler/src/cpu_count.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <numeric>
#include <poll.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace magpie_machine {

namespace {

/// A timerfd or an eventfd.
struct descriptor {
    std::uint64_t count = 0;
    std::uint64_t setting = 0; // of a timer: the last one counts
};

constexpr int first_descriptor = 1'000'000;

std::unordered_map<int, descriptor> descriptors;
int last_descriptor = first_descriptor;

descriptor* find(int fd) {
    const auto found = descriptors.find(fd);
    return found != descriptors.end() ? &found->second : nullptr;
}

int make_descriptor() {
    descriptors.emplace(++last_descriptor, descriptor());
    return last_descriptor;
}

void add(int fd, std::uint64_t n) {
    if (descriptor* const d = find(fd)) {
        d->count += n;
        wake_sleepers(d, most_cores);
    }
}

picoseconds of(const timespec& t) noexcept {
    return (static_cast<picoseconds>(t.tv_sec) * 1'000'000'000 + t.tv_nsec) * nanosecond;
}

} // namespace
} // namespace magpie_machine

namespace magpie::detail {

// --- processors: as many as there can be ---

std::vector<std::size_t> usable_cpu_list() {
    std::vector<std::size_t> all(magpie_machine::most_cores);
    std::iota(all.begin(), all.end(), std::size_t{0});
    return all;
}
std::size_t usable_cpus() noexcept { return magpie_machine::most_cores; }

// --- the log: the default one will do ---

void install_spdlog() noexcept {}

} // namespace magpie::detail

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" {

using namespace magpie_machine;

// --- time ---

std::int64_t __wrap__ZNSt6chrono3_V212steady_clock3nowEv() noexcept { // std::chrono::steady_clock::now
    spend(cost().clock);
    return to_program(now()).time_since_epoch().count();
}

int __wrap_nanosleep(const timespec* how_long, timespec*) {
    call_system(cost().system_call + cost().switch_out);
    sleep_on({}, now() + of(*how_long));
    return 0;
}

int __wrap_sched_yield() {
    call_system(cost().system_call);
    let_others_go();
    return 0;
}

// --- threads: std::thread's _M_start_thread(std::unique_ptr<_State>, void (*)()), join and detach ---

static_assert(sizeof(std::thread) == sizeof(pthread_t)); // which is the number of its core

void __wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread* self, std::unique_ptr<std::thread::_State>& state, void (*)()) {
    std::shared_ptr<std::thread::_State> body = std::move(state);
    *reinterpret_cast<pthread_t*>(self) = start_thread([body] { body->_M_run(); });
}
void __wrap__ZNSt6thread4joinEv(std::thread* self) {
    auto& id = *reinterpret_cast<pthread_t*>(self);
    join_thread(id);
    id = 0;
}
void __wrap__ZNSt6thread6detachEv(std::thread* self) { *reinterpret_cast<pthread_t*>(self) = 0; }

int __wrap_prctl(int, ...) { return 0; }
int __wrap_pthread_setname_np(pthread_t, const char*) { return 0; }
int __wrap_pthread_getaffinity_np(pthread_t, std::size_t, cpu_set_t*) { return 0; }
int __wrap_pthread_setaffinity_np(pthread_t, std::size_t, const cpu_set_t*) { return 0; }

// --- descriptors ---

int __wrap_eventfd(unsigned, int) { return make_descriptor(); }
int __wrap_timerfd_create(int, int) { return make_descriptor(); }

int __wrap_timerfd_settime(int fd, int flags, const itimerspec* when, itimerspec*) {
    call_system(cost().system_call);
    descriptor* const d = find(fd);
    d->count = 0;
    const std::uint64_t setting = ++d->setting;
    if (const picoseconds t = of(when->it_value); t > 0)
        at((flags & TFD_TIMER_ABSTIME) != 0 ? t : now() + t, [fd, setting] {
            if (const descriptor* const e = find(fd); e != nullptr && e->setting == setting)
                add(fd, 1);
        });
    let_others_go();
    return 0;
}

ssize_t __real_read(int fd, void* to, std::size_t size);
ssize_t __wrap_read(int fd, void* to, std::size_t size) {
    descriptor* const d = find(fd);
    if (d == nullptr)
        return __real_read(fd, to, size);
    call_system(cost().system_call);
    let_others_go();
    if (d->count == 0) {
        errno = EAGAIN;
        return -1;
    }
    *static_cast<std::uint64_t*>(to) = d->count;
    d->count = 0;
    return sizeof d->count;
}

ssize_t __real_write(int fd, const void* from, std::size_t size);
ssize_t __wrap_write(int fd, const void* from, std::size_t size) {
    if (find(fd) == nullptr)
        return __real_write(fd, from, size);
    call_system(cost().system_call);
    let_others_go();
    add(fd, *static_cast<const std::uint64_t*>(from));
    spend(cost().wake);
    return sizeof(std::uint64_t);
}

int __real_close(int fd);
int __wrap_close(int fd) { return descriptors.erase(fd) == 1 ? 0 : __real_close(fd); }

int __wrap_ppoll(pollfd* all, nfds_t n, const timespec* how_long, const sigset_t*) {
    const picoseconds deadline = how_long != nullptr ? now() + of(*how_long) : never;
    call_system(cost().system_call);
    let_others_go();
    for (bool slept = false;; slept = true) {
        int ready = 0;
        for (nfds_t i = 0; i < n; ++i) {
            const descriptor* const d = find(all[i].fd);
            all[i].revents = d->count > 0 ? short{POLLIN} : short{0};
            ready += d->count > 0 ? 1 : 0;
        }
        if (ready > 0 || (slept && now() >= deadline))
            return ready;
        spend(cost().switch_out);
        // The watch alone calls this, with two.
        sleep_on({find(all[0].fd), find(all[n - 1].fd)}, deadline);
    }
}

} // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
