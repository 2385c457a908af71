#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/scheduler/detail/shard_message.hpp>

#include <coroutine>
#include <cstddef>
#include <source_location>

namespace magpie::detail {

class runtime_core;
class runtime_group;

/// The shard with that number, of the runtime of the calling task or of the one entered on this thread.
/// @throws std::logic_error if there is no runtime; std::out_of_range if there is no such shard
runtime_core& shard_here(std::size_t shard, const char* what, std::source_location where);

/// The same of a given runtime.
runtime_core& shard_of(runtime_group& group, std::size_t shard, const char* what,
                       std::source_location where);

executor& executor_of(runtime_core& shard) noexcept;

/// What submit_to is to the two shards, the function aside: a message that goes there, and comes back with
/// the result. It stands in the caller's operation, which waits for it: so nothing of it is allocated.
class submission : public shard_message {
public:
    /// The task that ran there has ended. On its turn; the submission may be gone afterwards.
    void task_ended() noexcept { reply(); }

    /// For a new task's cell that runs this: whether it may. Otherwise it was revoked.
    bool begin_as(cell& c) noexcept {
        void* nobody = nullptr;
        // Success: (K). Failure: relaxed, nothing came with it.
        return runner_.compare_exchange_strong(nobody, &c, std::memory_order_release,
                                               std::memory_order_relaxed);
    }

protected:
    /// @throws std::bad_alloc
    submission(runtime_core& to, executor& from);
    /// Before it goes.
    submission(submission&& other) noexcept : to_(other.to_), from_(other.from_), way_(other.way_) {}
    ~submission() = default;

    /// Whether it would go to another thread: if not, a plain function is called at once.
    bool goes_elsewhere() const noexcept { return way_ != way::none; }
    executor& target() const noexcept { return executor_of(to_); }
    /// Whether it is begun on another thread than the caller's.
    bool may_be_revoked_meanwhile() const noexcept { return way_ == way::mail; }

    /// Sends it there: `begin` or `begin_from_outside` is called. Last touch of the caller's.
    void go() noexcept;
    /// Sends it back: `ended` is called. By `begin`, on the thread that ran it; last touch there.
    void reply() noexcept;

    /// Asks it to end: it is not begun, or its task is aborted. On the caller's turn.
    void revoke() noexcept;

    /// On the target's thread: whether a plain function has been revoked. One that is revoked while it is called
    /// comes back all the same.
    bool is_revoked() const noexcept {
        // Relaxed: whether it is called has to be decided, and nothing comes with that.
        return runner_.load(std::memory_order_relaxed) == revoked();
    }

    /// Calls the function, on the target shard's thread, between turns; or, in its own shard, on the
    /// caller's turn. Then, or when the task that it gave has ended, `reply`.
    virtual void begin() noexcept = 0;
    /// The same from a thread of another runtime: it has to be a task there.
    virtual void begin_from_outside() noexcept = 0;
    /// It is back, or the task has ended: wakes the caller. It may be gone afterwards.
    virtual void ended() noexcept = 0;

    /// Whether it has enclosed a call of the function, as it is now: if both that and its value are small and
    /// mere bytes.
    virtual bool enclose_call(enclosure& e) noexcept = 0;
    /// Makes what that has given the result.
    virtual void take_answer(const enclosure& e) noexcept = 0;

private:
    enum class way : unsigned char {
        none,  // the caller's shard is the target
        mail,  // another shard of the runtime
        spawn, // another runtime
    };

    void arrive() noexcept final;
    bool enclose(enclosure& e) noexcept final { return !goes_home_ && enclose_call(e); }
    void answered(const enclosure* e) noexcept final;
    void come_home() noexcept;

    // runner_ is null, the cell of the task, or revoked().
    //
    // (K) target -> caller: the cell (release) pairs with the caller's exchange (acquire), which then
    //     aborts it. The caller's operation has a reference of the cell.
    static void* revoked() noexcept;
    atomic<void*> runner_{nullptr};
    runtime_core& to_;
    runtime_core* from_;
    way way_;
    bool goes_home_ = false; // whoever it is with
    bool is_home_ = false;   // the caller's
};

/// The cell of a task that was submitted: its end is told to the caller, who takes the result from here.
template <class T>
class submitted_cell final : public result_cell<T> {
public:
    submitted_cell(executor& e, std::coroutine_handle<promise<T>> root, std::source_location where,
                   submission& s)
        : result_cell<T>(e, where), submission_(s) {
        this->hold(root.promise());
        this->retain(); // one for the caller
    }

    /// For who has had it adopted, on its shard's thread.
    bool has_ended() const noexcept { return has_ended_; }

private:
    void end() noexcept override {
        has_ended_ = true;
        submission& s = submission_;
        this->release(); // the caller has another
        s.task_ended();
    }

    submission& submission_;
    bool has_ended_ = false;
};

} // namespace magpie::detail
