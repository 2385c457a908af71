#pragma once

#include "patience.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/scheduler/detail/blocking_job.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace magpie::detail {

/// Threads for calls that block: made on demand up to a limit, kept for a while when idle. The
/// workers run here as well, beside the limit.
///
/// Calls wait in one queue, and at most one thread at a time is on its way to it (*summoned*: woken,
/// just made, or looking once more before it sleeps). When it has come and has taken a call, and there
/// are more, it summons the next before it runs its own. So a call that blocks holds up no other one,
/// and many short ones wake few threads: those that are awake have taken them meanwhile.
///
/// While calls wait, a thread is summoned, or the limit is reached and none is idle (or the system has
/// refused a thread): whoever adds a call, takes one or arrives sees to it under the lock.
class blocking_pool {
public:
    struct options {
        std::size_t limit;
        std::chrono::nanoseconds keep_alive;
        std::size_t stack_size;
        std::string thread_name;
        std::function<void()> on_start, on_stop;
    };

    explicit blocking_pool(options o) : options_(std::move(o)) {}
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;
    ~blocking_pool();

    /// Runs `job` on a thread of its own choosing.
    /// @throws std::system_error when there is no thread at all and none can be made
    void submit(blocking_job& job);

    /// The same, at once, on a thread that does not count: for a worker.
    void launch(blocking_job& job);

    /// Counts a task that blocks in place as a call: until its turn has ended.
    void begin_section() noexcept;
    void end_section() noexcept;

    /// Refuses what waits (mandatory jobs aside) and everything new; idle threads end.
    void close() noexcept;

    /// Waits until no thread is left, and joins them. False when `deadline` came first.
    bool join(futex::time_point deadline) noexcept;

    /// Lets the threads end by themselves.
    void detach() noexcept;

    std::size_t threads() const noexcept;
    std::size_t idle_threads() const noexcept;
    std::size_t depth() const noexcept;

    /// Whether calls run or wait. The workers do not count.
    bool busy() const noexcept { return active_.load(std::memory_order_seq_cst) > 0; } // end_section

    /// Whether the calling thread is one of the pool's: `join` would wait for itself.
    bool owns_this_thread() const noexcept;

    /// What runs now, for a report.
    std::vector<std::string> running() const;

    /// Called, from the pool's thread, when a call has ended. Set before the first thread.
    std::function<void()> on_idle;

    /// Gives what a thread keeps alive. Set before the first thread.
    std::function<std::shared_ptr<void>()> keep;

private:
    // A thread's place in the pool; in `threads_` from its start to its end.
    struct member {
        std::thread thread;
        blocking_job* worker = nullptr; // what it was started for; guarded by lock_
        bool summoned = false;          // guarded by lock_
        futex notified;
        mutable spin_lock reporting;
        blocking_job* current = nullptr; // guarded by reporting
        patience before_sleep;           // its own
    };
    using place = std::list<member>::iterator;

    // These with lock_ held.
    void start_thread(blocking_job* worker);
    futex* summon();
    void append(blocking_job& job) noexcept;
    blocking_job* take() noexcept;

    void loop(place self) noexcept;
    void execute(member& self, blocking_job& job) noexcept;
    blocking_job* next_job(member& self) noexcept;
    void sleep(member& self) noexcept;
    void leave(place self) noexcept;

    const options options_;
    mutable mutex lock_;
    std::list<member> threads_;
    std::vector<member*> idle_; // the last to become idle is used first
    std::size_t counted_ = 0;   // threads that are no workers and still look for calls
    std::size_t names_ = 0;
    bool summoned_ = false;         // one of the members is
    blocking_job* first_ = nullptr; // waiting jobs
    blocking_job* last_ = nullptr;
    atomic<std::size_t> depth_{0}; // written under lock_
    bool closed_ = false;
    bool detached_ = false;
    std::thread exited_; // the last thread that has ended, to be joined by the next one
    futex live_;         // how many threads there are
    atomic<std::size_t> active_{0};
};

} // namespace magpie::detail
