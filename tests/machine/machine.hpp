#pragma once

#include <magpie_machine/operations.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string_view>

// A machine of many cores, simulated on one thread by discrete events. A thread of the program is a fiber
// with a core of its own, and each core has a clock. An operation on shared memory moves that clock on: by
// little if the core has the line, by a transfer if another one had it last. The core that is behind in time
// is the one that runs, so operations happen in the order of their times; and since everything is decided by
// the seed, a run can be repeated.

namespace magpie_machine {

using picoseconds = std::int64_t;
inline constexpr picoseconds nanosecond = 1000;
inline constexpr picoseconds microsecond = 1000 * nanosecond;
inline constexpr picoseconds millisecond = 1000 * microsecond;
inline constexpr picoseconds never = std::numeric_limits<picoseconds>::max();

inline constexpr std::size_t most_cores = 320;

/// What things cost. The defaults are those of a current server.
struct costs {
    picoseconds load = 500;                 // with the line at hand: a load or a store ...
    picoseconds modify = 5 * nanosecond;    // ... and a locked instruction
    picoseconds transfer = 50 * nanosecond; // of a line from another core
    picoseconds clock = 20 * nanosecond;
    picoseconds pause = 10 * nanosecond;
    picoseconds system_call = 300 * nanosecond;
    picoseconds wake = 1 * microsecond;         // for who wakes a sleeping thread ...
    picoseconds wake_latency = 5 * microsecond; // ... until that one runs
    picoseconds switch_out = 1 * microsecond;   // to sleep
    picoseconds interrupt = 10 * microsecond;   // of all cores, for who asks for it
    picoseconds new_thread = 20 * microsecond;
};

/// What was done, by all cores together.
struct counts {
    // Through the seam.
    std::uint64_t loads = 0;
    std::uint64_t stores = 0;
    std::uint64_t modifies = 0;  ///< read-modify-writes; to lock and to unlock a mutex is one each
    std::uint64_t locks = 0;     ///< mutexes locked
    std::uint64_t transfers = 0; ///< writes to a line whose last writer was another core
    std::uint64_t fetches = 0;   ///< of any kind, for which the line came from another core
    // Plain accesses of the product and of what it runs, if the compiler reports them.
    std::uint64_t plain_fetches = 0;

    picoseconds fetching = 0; ///< time in which cores waited for lines
    picoseconds queueing = 0; ///< ... and how much of it because others were before them
    std::uint64_t sleeps = 0;
    std::uint64_t wakes = 0;
    std::uint64_t system_calls = 0;

    counts since(const counts& before) const noexcept;
    void add(const counts& other) noexcept;
};

/// Begins anew: no line has ever been touched. No thread but the caller's may be there.
/// @param seed  of what is left to chance: how long a transfer takes, to a tenth
void begin(const costs& c, std::uint64_t seed);

counts counted() noexcept;

// --- the core that runs ---

picoseconds now() noexcept;
std::size_t core() noexcept; ///< 0 is the one of `main`

/// A time as the program's steady clock has it, and back.
std::chrono::steady_clock::time_point to_program(picoseconds t) noexcept;
picoseconds to_machine(std::chrono::steady_clock::time_point t) noexcept;

const costs& cost() noexcept;

/// Computes.
void spend(picoseconds t) noexcept;
/// Makes a system call.
void call_system(picoseconds t) noexcept;
/// Lets those go first that are behind in time: where the program would see what they do.
void let_others_go() noexcept;

// --- devices ---

/// Calls `f` at a time: it takes none itself, and must not wait.
void at(picoseconds when, std::function<void()> f);

// --- threads ---

std::size_t start_thread(std::function<void()> body);
void join_thread(std::size_t core) noexcept;

/// Sleeps until one of the addresses is woken; false if `deadline` came first.
bool sleep_on(std::initializer_list<const void*> addresses, picoseconds deadline) noexcept;
/// Wakes who sleeps on an address, `count` at most; how many that were. From a device, or from the core that
/// runs, which has called the system for it.
std::size_t wake_sleepers(const void* address, std::size_t count) noexcept;

// --- lines ---

/// Gives an object the name under which its lines are reported.
void name(const void* object, std::size_t size, std::string_view name);

struct hot_line {
    char name[40] = {};
    std::uint64_t fetches = 0;
    picoseconds queueing = 0; ///< that cores waited for each other, all together
};
/// Forgets what is known of waits so far.
void forget_heat() noexcept;
/// Those for which cores have waited longest since then, with those of one name taken together.
std::array<hot_line, 4> hottest();

/// A plain access, for what the compiler does not report.
void touch(const void* address, std::size_t size, bool store) noexcept;

} // namespace magpie_machine
