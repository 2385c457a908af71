#pragma once

#include <cstdint>

namespace magpie {

class strand;
class timer_service;

namespace detail {
class cell;
class blocking_job;
class parcel;
} // namespace detail

/// Where strands run: what `core` knows of a scheduler.
///
/// @par Thread safety
/// Every member may be called from any thread unless it says otherwise.
class executor {
public:
    /// Why a strand is queued, which decides where.
    enum class placement : unsigned char {
        wake,  ///< it was idle, and one of its leaves became ready
        spawn, ///< it is new
        yield, ///< its turn was split: behind everybody else
    };

    executor(const executor&) = delete;
    executor& operator=(const executor&) = delete;

    /// Queues a strand; its `run_turn` is then called once, on one thread.
    virtual void schedule(strand& s, placement where) noexcept = 0;

    /// Takes in a new task: gives it an id and queues it, or, when closed, destroys it unstarted.
    virtual void adopt(detail::cell& c) noexcept = 0;

    /// Called on the task's turn before it first goes idle, so that a shutdown can find it.
    /// Returns false when the executor is closed: the task is to be dropped instead. If that takes its
    /// time this is called once more, so that a report has it.
    virtual bool enroll(detail::cell& c) noexcept = 0;

    /// Called on the task's last turn, when its frames are gone and before its waiter is told.
    virtual void retire(detail::cell& c) noexcept = 0;

    /// For a task that waits for `c` with all it has: runs `c` at once, inside the caller's turn, if it
    /// is among the newest that this thread has queued. Returns whether it took a turn; it may have
    /// suspended in it. On the caller's turn.
    virtual bool run_now(detail::cell&) noexcept { return false; }

    /// For a pinned executor, from any thread but its own: hands over what became ready for one of its
    /// strands. Its thread calls `strand::receive` with it.
    virtual void send(detail::parcel p) noexcept;

    /// Runs a job where blocking harms nobody. The default has no such place and throws.
    virtual void run_blocking(detail::blocking_job& job);

    /// The timers of this executor, null if it has none.
    timer_service* timers() const noexcept { return timers_; }

    /// Whether its strands run on one thread for life, the one with `thread_state::home` here: it alone
    /// touches them (R36).
    bool is_pinned() const noexcept { return pinned_; }

    /// How many operations a turn may complete before it is split.
    std::uint16_t budget() const noexcept { return budget_; }

protected:
    explicit executor(std::uint16_t budget = 128) noexcept : budget_(budget) {}
    ~executor() = default;

    void set_timers(timer_service* t) noexcept { timers_ = t; }
    void set_pinned() noexcept { pinned_ = true; } ///< before it has a strand

private:
    timer_service* timers_ = nullptr; // not virtual: each time-out asks three times
    std::uint16_t budget_;
    bool pinned_ = false;
};

} // namespace magpie
