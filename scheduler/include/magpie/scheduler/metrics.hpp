#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace magpie {

/// What one worker has done since the runtime began, and what it has to do.
struct worker_metrics {
    std::uint64_t turns = 0;         ///< turns of strands that it ran
    std::uint64_t steals = 0;        ///< times it took work from another worker
    std::uint64_t stolen_tasks = 0;  ///< how many tasks those were
    std::uint64_t overflows = 0;     ///< times its queue was full and half of it moved out
    std::uint64_t parks = 0;         ///< times it went to sleep
    std::uint64_t unparks = 0;       ///< times a notification ended that
    std::uint64_t timers_fired = 0;  ///< timers that it woke
    std::uint64_t messages = 0;      ///< calls, answers and wakes that it sent to other shards
    std::chrono::nanoseconds busy{}; ///< time not asleep
    std::size_t queue_depth = 0;     ///< tasks in its queue now
};

/// A snapshot. Counters of different workers are read one after another, not at one instant.
struct runtime_metrics {
    std::vector<worker_metrics> workers;
    std::uint64_t spawned = 0;              ///< tasks ever spawned
    std::uint64_t live = 0;                 ///< tasks that have not ended
    std::uint64_t remote_schedules = 0;     ///< tasks queued by threads that are no workers
    std::uint64_t unhandled_exceptions = 0; ///< exceptions that nobody could receive
    std::size_t injection_depth = 0;        ///< tasks in the shared queue now
    std::size_t blocking_threads = 0;       ///< threads of the blocking pool, busy or idle
    std::size_t idle_blocking_threads = 0;  ///< ... and how many of them wait for work
    std::size_t blocking_depth = 0;         ///< blocking calls that wait for a thread

    /// How unevenly the turns are spread over the workers (on `thread_per_core` the shards): the busiest
    /// one's, over the mean, less 1. So 0 is even, and `workers.size() - 1` says that one has run them all.
    double imbalance() const noexcept {
        std::uint64_t all = 0;
        std::uint64_t most = 0;
        for (const worker_metrics& w : workers) {
            all += w.turns;
            most = std::max(most, w.turns);
        }
        return all == 0 ? 0
                        : static_cast<double>(most) * static_cast<double>(workers.size()) /
                                  static_cast<double>(all) -
                              1;
    }
};

} // namespace magpie
