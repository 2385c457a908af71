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

/// Whether `f` returns true, in a process of its own: it may also crash, abort or hang.
inline bool survives(const std::function<bool()>& f) {
    std::fflush(nullptr); // else the child has what is in the buffers as well
    const pid_t child = fork();
    if (child < 0)
        throw std::runtime_error("no process");
    if (child == 0) {
        for (const int signal : {SIGSEGV, SIGILL, SIGBUS, SIGABRT, SIGTRAP})
            std::signal(signal, SIG_DFL);
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(20);
        bool well = false;
        try {
            well = f();
        } catch (...) {}
        _exit(well ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

} // namespace test
