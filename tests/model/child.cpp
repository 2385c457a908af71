#include "child.hpp"

#include <magpie/core/log.hpp>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <sys/time.h>
#include <unistd.h>
#include <utility>

namespace magpie_model {

namespace {

void crashed(int signal) { fail("crash", ::strsignal(signal)); }

// A list that has become a ring is followed for ever, without a step.
void look_for_progress(int) {
    static std::uint64_t seen = 0;
    if (std::exchange(seen, steps_made()) == steps_made())
        fail("livelock", "a thread runs on without a step");
}

void hear(magpie::log_level level, std::string_view text) noexcept {
    if (level == magpie::log_level::critical)
        fail("assertion", text);
}

void catch_signals() {
    static std::array<char, 64 * 1024> stack; // the thread's own may be what has overflown
    stack_t alternative{};
    alternative.ss_sp = stack.data();
    alternative.ss_size = stack.size();
    ::sigaltstack(&alternative, nullptr);
    struct sigaction action{};
    action.sa_handler = &crashed;
    action.sa_flags = SA_ONSTACK | static_cast<int>(SA_RESETHAND);
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
        ::sigaction(signal, &action, nullptr);
    action.sa_handler = &look_for_progress;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    ::sigaction(SIGVTALRM, &action, nullptr);
    const itimerval every_second{{1, 0}, {1, 0}}; // of processor time
    ::setitimer(ITIMER_VIRTUAL, &every_second, nullptr);
}

} // namespace

void leave(int code) noexcept {
    std::fflush(nullptr);
    ::_exit(code);
}

void begin_child(void (*report)(const failure&) noexcept) {
    on_failure(report);
    magpie::set_log_function(&hear);
    catch_signals();
}

} // namespace magpie_model
