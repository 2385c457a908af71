#pragma once

#include <magpie/core/join_handle.hpp>

#include <chrono>
#include <thread>

namespace test {

/// Whether `done()` becomes true. What never does fails after half a minute, and does not hang.
template <class F>
bool eventually(F done) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done()) {
        if (std::chrono::steady_clock::now() > limit)
            return false;
        std::this_thread::yield();
    }
    return true;
}

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
