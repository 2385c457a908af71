#include <magpie/io/cancel_on.hpp>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace magpie::io {

namespace {

std::string name_of(int signal) {
    const char* const name = ::sigabbrev_np(signal);
    return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

/// Does what the signal does when nobody listens to it; ends the process also if that is nothing.
[[noreturn]] void end_process(int signal) {
    struct sigaction by_default{};
    by_default.sa_handler = SIG_DFL;
    ::sigaction(signal, &by_default, nullptr);
    sigset_t only;
    ::sigemptyset(&only);
    ::sigaddset(&only, signal);
    ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr); // this thread may have been made with all blocked
    ::raise(signal);
    std::_Exit(128 + signal);
}

} // namespace

task<int> cancel_on(signals on, sync::cancellation_token token, second_signal second) {
    static_cast<void>(token.is_cancelled()); // a token that was moved from is noticed now
    const int first = co_await on.next();
    token.cancel(name_of(first));
    if (second == second_signal::ends_process)
        end_process(co_await on.next());
    co_return first;
}

} // namespace magpie::io
