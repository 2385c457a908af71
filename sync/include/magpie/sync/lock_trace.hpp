#pragma once

#include <magpie/sync/detail/lock_access.hpp>
#include <magpie/sync/detail/lock_entry.hpp>

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

// Who has a lock, who waits for it, and which of them wait for each other for ever. For a build of magpie with
// -DMAGPIE_LOCK_TRACE=ON, which says so to those who use it: the setting belongs to the library, not to their
// NDEBUG. Any other build knows none of this: names of locks are accepted, and what is here throws.
//
// With it
//   - a task or thread that waits for a lock which it holds itself gets a std::logic_error;
//   - tasks and threads that wait for each other for ever are reported to the log, once, when the last of them
//     begins to wait: their names, where they wait, and where each took what another one waits for. It is an
//     error if nothing but an abort ends the waits. Where a `timeout` or another branch of a `select` or
//     `join` may end one, it is a warning.
//   - what follows can be asked.
//
// A lock is held by the task in whose frames its guard stands, or the thread on whose stack: a guard may be
// moved about. One that stands elsewhere (in a vector, in an object on the heap) is seen by what is asked, and
// belongs to nobody's wait: a deadlock over it is not reported. Semaphores, and waits for tasks, are no locks.

namespace magpie::sync {

/// Whether this build knows who has a lock.
inline constexpr bool lock_trace_is_on = detail::traces_locks;

/// Who has a lock or waits for it.
struct lock_user {
    std::string who;                   ///< "task 7 'alice'", "thread 4711 'main'"
    std::optional<std::uint64_t> task; ///< its id; nothing for a thread
    lock_mode mode = lock_mode::exclusive;
    std::source_location where; ///< of the call that took the lock, or waits
    std::chrono::steady_clock::time_point since;
};

/// A lock that somebody has or waits for.
struct lock_use {
    std::string lock;               ///< its name, or its address
    std::vector<lock_user> owners;  ///< who took it: a guard that was passed on is still his here
    std::vector<lock_user> waiters; ///< first come first
};

/// All locks of the program that somebody has or waits for.
///
/// @throws std::logic_error in a build without MAGPIE_LOCK_TRACE
/// @par Thread safety
/// From any thread. What it gives was true at one moment for all locks.
/// @par Complexity
/// O(owners and waiters); no lock is taken or given meanwhile.
/// @par Example
/// @code
/// if constexpr (magpie::sync::lock_trace_is_on)
///     for (const magpie::sync::lock_use& l : magpie::sync::lock_report())
///         std::cerr << l << '\n';
/// @endcode
std::vector<lock_use> lock_report();

/// "'accounts': held by task 7 'alice' since bank.cpp:12; task 8 'bob' waits at bank.cpp:20".
std::ostream& operator<<(std::ostream& out, const lock_use& l);

namespace detail {
lock_use use_of(const traced_lock& l);
} // namespace detail

/// Who has this lock, and who waits for it. `Lock` is a `mutex`, `guarded`, `shared_mutex` or `guarded_shared`.
/// @throws std::logic_error as `lock_report`
template <class Lock>
std::vector<lock_user> lock_owners(Lock& lock) {
    return detail::use_of(detail::lock_access::traced(lock)).owners;
}
template <class Lock>
std::vector<lock_user> lock_waiters(Lock& lock) {
    return detail::use_of(detail::lock_access::traced(lock)).waiters;
}

} // namespace magpie::sync
