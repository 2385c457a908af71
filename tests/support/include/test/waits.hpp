#pragma once

#include <test/trace.hpp>

#include <magpie/core/task.hpp>
#include <magpie/core/yield.hpp>

#include <utility>

// Small tasks around an operation, for tests of what happens when they are dropped.

namespace test {

/// Awaits with something of its own to destroy.
template <class Operation>
magpie::task<> outer(trace& log, Operation op) {
    const noisy local(log, "outer-gone");
    co_await std::move(op);
    log.add("went on");
}

template <class Operation>
magpie::task<> await_it(Operation op) {
    co_await std::move(op);
}

inline magpie::task<> ends_later() { co_await magpie::yield_now(); }

} // namespace test
