#pragma once

#include <magpie/scheduler.hpp>

#include <doctest/doctest.h>

#include <cstddef>

namespace test {

inline magpie::runtime_builder multi_thread(std::size_t workers = 2) {
    magpie::runtime_builder b;
    b.worker_threads(workers);
    return b;
}

inline magpie::runtime_builder current_thread() {
    magpie::runtime_builder b;
    b.layout(magpie::layout::current_thread);
    return b;
}

/// Calls `f(builder)` for each layout.
template <class F>
void on_each_layout(F f) {
    {
        INFO("multi_thread, 2 workers");
        f(multi_thread(2));
    }
    {
        INFO("multi_thread, 1 worker");
        f(multi_thread(1));
    }
    {
        INFO("current_thread");
        f(current_thread());
    }
}

} // namespace test
