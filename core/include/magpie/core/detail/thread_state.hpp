#pragma once

#include <cstdint>

namespace magpie {
class branch;
class executor;
class strand;

namespace detail {

class cell;
class fork_lane;

/// What a thread knows about itself.
struct thread_state {
    strand* turn = nullptr; ///< the strand whose turn this thread runs
    /// In a turn: the branch that runs, or one in which the same context is in force.
    const branch* running = nullptr;
    strand* may_block = nullptr;          ///< the turn in which blocking harms nobody (block_in_place)
    magpie::executor* executor = nullptr; ///< where `spawn` goes outside of a turn
    const cell* result_of = nullptr;      ///< the ended task whose result is being destroyed
    const magpie::executor* home = nullptr; ///< the pinned executor whose strands run on this thread
    void* worker = nullptr;                 ///< the scheduler's worker that runs on this thread
    fork_lane* forks = nullptr;             ///< where the tasks of that worker put what they fork
    const void* pool = nullptr;        ///< the scheduler's pool of threads to which this one belongs
    std::uint32_t random = 0x9E3779B9; ///< which branch a select starts first; never 0
};

#if defined(MAGPIE_MODEL) // the explorer has a state for each of its fibers
thread_state& this_thread() noexcept;
#else
extern thread_local constinit thread_state state_of_thread;

/// The state of the calling thread. Only for functions that no coroutine can have inlined, because they stand in
/// a source file or say so: a task moves between threads, and compilers keep the address of a thread-local over
/// a suspension if they can see it (R41).
inline thread_state& this_thread() noexcept { return state_of_thread; }
#endif

/// A number below `n`, from the calling thread's own sequence.
std::uint32_t random_below(std::uint32_t n) noexcept;

} // namespace detail
} // namespace magpie
