#pragma once

#include <magpie/core.hpp>

#include <test/trace.hpp>

#include <utility>

namespace test {

/// Awaits a task two frames down, with something to destroy in each. Says so if anything is caught,
/// and if anything goes on behind the await.
inline magpie::task<> noisy_chain(trace& log, magpie::task<> leaf) {
    auto inner = [](trace& l, noisy, magpie::task<> t) -> magpie::task<> {
        const noisy first(l, "inner-first");
        const noisy second(l, "inner-second");
        try {
            co_await std::move(t);
        } catch (...) {
            l.add("caught");
        }
        l.add("continued");
    };
    const noisy local(log, "outer-local");
    try {
        co_await inner(log, noisy(log, "inner-parameter"), std::move(leaf));
    } catch (...) {
        log.add("caught");
    }
    log.add("continued");
}

/// What it says when it is dropped while `leaf` waits.
inline constexpr const char* noisy_chain_dropped =
    "inner-second inner-first inner-parameter outer-local";

} // namespace test
