#pragma once

#include <test/trace.hpp>

#include <magpie/core/task.hpp>
#include <magpie/core/task_cancelled.hpp>
#include <magpie/sync/event.hpp>

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

// What tests of join_set, join_queue and join_map share: tasks that are spawned into them, and what
// comes of joining, as words.

namespace test {

inline magpie::task<int> give(int n) { co_return n; }

inline magpie::task<int> give_after(magpie::sync::event& e, int n) {
    co_await e.wait();
    co_return n;
}

inline magpie::task<int> fail(const char* what) {
    throw std::runtime_error(what);
    co_return 0;
}

inline magpie::task<int> never(noisy) {
    magpie::sync::event e;
    co_await e.wait();
    co_return 0;
}

/// What the next join gives, as a word.
template <class Group>
magpie::task<std::string> next_of(Group& group) {
    try {
        const std::optional<int> n = co_await group.join_next();
        co_return n ? std::to_string(*n) : "none";
    } catch (const magpie::task_cancelled&) {
        co_return "cancelled";
    } catch (const std::exception& e) {
        co_return e.what();
    }
}

/// Joins until nothing is left.
template <class Group>
magpie::task<> drain(Group& group, trace& log) {
    for (;;) {
        const std::string word = co_await next_of(group);
        log.add(word);
        if (word == "none")
            break;
    }
}

} // namespace test
