#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/composite_operation.hpp>
#include <magpie/core/detail/fork_deque.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/executor.hpp>
#include <magpie/core/strand.hpp>
#include <magpie/core/task.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

// What fork_join is made of. A forked child stands in the parent's frame, as a record. Its parent takes
// it back and runs it as a branch, or a taker, who found it in a worker's deque, runs it as a strand of
// its own; the end of that comes back to the parent's strand as a wake, so all that the parent counts is
// counted on its own turn.

namespace magpie::detail {

class cell;
class fork_cell;

/// Where the tasks of one worker put what they fork. `thread_state::forks` while the worker runs.
class fork_lane : public fork_deque {
public:
    fork_lane(const executor& e, bool thieves) : fork_deque(thieves), executor_(e) {}

    /// The lane of the calling thread, null if it runs no worker of `e`.
    static fork_lane* here(const executor& e) noexcept {
        fork_lane* const lane = this_thread().forks;
        return lane != nullptr && &lane->executor_ == &e ? lane : nullptr;
    }

    /// Puts in the last `n` that were written.
    void offer(const writer& w, std::size_t n) noexcept {
        if (push(w, n)) [[unlikely]]
            call_for_help();
        if (--until_measured_ == 0) [[unlikely]]
            until_measured_ = measure();
    }
    /// Lets thieves take all there is. At the end of a turn: what it leaves behind is for everybody.
    void share() noexcept final {
        if (open())
            call_for_help();
    }

    // What a taker calls. Both give a strand that is to be run at once; null if there was nothing, a race
    // was lost, or there is no memory for a strand: then the record stays.
    cell* take_newest() noexcept;
    cell* take_oldest() noexcept;

protected:
    ~fork_lane() = default;

    /// There was nothing for thieves, and now there is.
    virtual void call_for_help() noexcept = 0;

    /// Called from time to time: sees how often something is forked, and sets keep_private(). Gives after how many
    /// offers it is called again.
    virtual std::uint32_t measure() noexcept { return std::numeric_limits<std::uint32_t>::max(); }

private:
    template <class Take>
    cell* take_as_strand(Take take) noexcept;

    const executor& executor_;
    std::uint32_t until_measured_ = 1;
};

class fork_record;

/// What a fork_join is to its parent and to its children; the children themselves aside.
class fork_leaf : public leaf, public branch_owner {
protected:
    fork_leaf() noexcept = default;
    fork_leaf(fork_leaf&&) noexcept = default;
    ~fork_leaf() = default;

    /// The next child that nobody has, if it is at hand.
    fork_record* take_back() noexcept;

    /// One has ended well. Who runs next.
    std::coroutine_handle<> child_ended() noexcept;

    std::size_t pending_ = 0;     // children that have not ended
    fork_record* next_ = nullptr; // the first that this strand has not begun, of those known

private:
    template <class T>
    friend class fork_child;
};

/// A child of a fork_join, in the parent's frame.
class fork_record : public owned_branch {
public:
    fork_record() noexcept = default;
    fork_record(fork_record&& other) noexcept : owned_branch(std::move(other)) {}

    fork_record* sibling = nullptr; ///< the next one, as long as none has started

    // --- the parent's side: on its strand's turn ---

    using owned_branch::above;
    using owned_branch::attach;

    /// Where it belongs. It is about to begin, or to be put into a lane.
    void place(const above& parent, branch_owner& owner) noexcept { attach_new(parent, owner); }
    void offer(const above& parent, branch_owner& owner) noexcept {
        place(parent, owner);
        offered_ = true;
    }
    /// Takes it back from the lane of this worker, if it is the newest there.
    bool take_back(fork_lane& lane) noexcept {
        if (!lane.fork_deque::take_back(*this))
            return false;
        offered_ = false;
        return true;
    }
    /// Whether a taker has it: a hint.
    bool is_taken() const noexcept { return taker_.load(std::memory_order_relaxed) != nullptr; }

    /// Starts as a branch of the parent: the caller resumes what this gives.
    std::coroutine_handle<> begin() noexcept {
        started();
        return begin_root();
    }
    /// The same inside the parent's suspension (R20). Whether it has ended.
    bool run() noexcept {
        start_root();
        started();
        return has_ended();
    }

    /// Asks it to end, wherever it is.
    cancel_answer request_cancel() noexcept;

protected:
    ~fork_record() = default;

    virtual bool has_error() const noexcept = 0;

private:
    friend class fork_cell;

    /// A taker's strand has ended: on the parent's turn.
    std::coroutine_handle<> ended_elsewhere(bool has_result) noexcept;

    // taker_ is null, the taker's cell, or revoked(): the parent does not want it to run any more.
    //
    // (K) taker -> parent: the cell (release) pairs with the parent's exchange (acquire), which then
    //     aborts it. The parent holds a reference of the cell until it has heard of its end.
    static void* revoked() noexcept;
    atomic<void*> taker_{nullptr};
    bool offered_ = false; // it was put into a lane, and the parent has not taken it back
};

inline fork_record* fork_leaf::take_back() noexcept {
    // Whosever lane it is: what is not in it is not found there.
    fork_lane* const lane = this_thread().forks;
    if (lane == nullptr) [[unlikely]]
        return nullptr;
    while (next_ != nullptr) {
        if (next_->take_back(*lane)) [[likely]]
            return std::exchange(next_, next_->sibling);
        if (!next_->is_taken())
            return nullptr; // another worker's, below what others have forked, or just being taken
        next_ = next_->sibling;
    }
    return nullptr;
}

// Inlined by force: one call less for each child that ends.
[[gnu::always_inline]] inline std::coroutine_handle<> fork_leaf::child_ended() noexcept {
    --pending_;
    if (next_ != nullptr)
        if (fork_record* const r = take_back())
            return r->begin();
    return pending_ == 0 ? surface() : std::noop_coroutine();
}

/// A child that gives a `T`.
template <class T>
class fork_child final : public coroutine_branch<T, fork_record> {
public:
    static constexpr cancel_safety safety = cancel_safety::unknown;

    fork_child() noexcept = default;
    explicit fork_child(task<T>&& t) { run_later(std::move(t)); }
    fork_child(fork_child&& other) noexcept : coroutine_branch<T, fork_record>(std::move(other)) {
        if (promise_base* const root = other.take_root())
            this->hold(static_cast<promise<T>&>(*root));
    }
    ~fork_child() noexcept {
        if (this->state() == branch::phase::unstarted)
            if (promise_base* const root = this->take_root()) // never awaited
                root->handle().destroy();
    }

    bool has_error() const noexcept override { return this->has_failed(); }

    /// Its root has ended, on the parent's strand. In front of what an owned branch does: a shorter way.
    [[gnu::noinline]] std::coroutine_handle<> ended() noexcept override {
        if (this->has_failed() || this->is_starting()) [[unlikely]]
            return owned_branch::ended();
        return static_cast<fork_leaf&>(this->composite()).child_ended();
    }

    void run_later(task<T>&& t) { this->hold(task_access::release(std::move(t)).promise()); }
};

} // namespace magpie::detail
