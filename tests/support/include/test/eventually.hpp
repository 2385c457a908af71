#pragma once

#include <magpie/core/join_handle.hpp>

#include <chrono>
#include <thread>

namespace test {

/// Whether `done()` becomes true. What never does fails after half a minute, and does not hang.
template <class F>
bool eventually(F done, std::chrono::seconds most = std::chrono::seconds(30)) {
    const auto limit = std::chrono::steady_clock::now() + most;
    while (!done()) {
        if (std::chrono::steady_clock::now() > limit)
            return false;
        std::this_thread::yield();
    }
    return true;
}

/// For a loop that goes on until something has come that only the order decides in which threads get a core: a
/// minute, behind which it is a failure.
class patience {
public:
    bool is_over() const { return std::chrono::steady_clock::now() > limit_; }

private:
    const std::chrono::steady_clock::time_point limit_ = std::chrono::steady_clock::now() +
                                                         std::chrono::minutes(1);
};

/// Whether the task comes to its end.
template <class T>
bool ends(const magpie::join_handle<T>& h) {
    return eventually([&] { return h.is_finished(); });
}

/// Whether the task has come to its end by being cancelled. Takes the result.
template <class T>
bool ends_cancelled(magpie::join_handle<T>& h) {
    if (!ends(h))
        return false;
    try {
        static_cast<void>(h.blocking_join());
    } catch (const magpie::task_cancelled&) {
        return true;
    }
    return false;
}

} // namespace test
