#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

/// How a process ends that does nothing but `f`: its exit code, 0 if `f` returns true and 1 if not (or what
/// it gives _exit); -1 if it crashes, aborts or hangs.
inline int status_of(const std::function<bool()>& f) {
    std::fflush(nullptr); // else the child has what is in the buffers as well
    const pid_t child = fork();
    if (child < 0)
        throw std::runtime_error("no process");
    if (child == 0) {
        for (const int signal : {SIGSEGV, SIGILL, SIGBUS, SIGABRT, SIGTRAP})
            std::signal(signal, SIG_DFL);
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(60);
        bool well = false;
        try {
            well = f();
        } catch (...) {}
        _exit(well ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Whether `f` returns true, in a process of its own: it may also crash, abort or hang.
inline bool survives(const std::function<bool()>& f) { return status_of(f) == 0; }

} // namespace test
