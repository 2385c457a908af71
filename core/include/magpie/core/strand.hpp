#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/executor.hpp>

#include <coroutine>
#include <cstdint>
#include <exception>
#include <utility>

// The protocol everything stands on: what is scheduled (strand), what waits (leaf), and the chain
// of frames between them (branch). The two verbs are `wake(leaf)` and `cancel(leaf)`; the one law:
// a frame dies only when its leaf is quiet, or has surfaced.

namespace magpie {

class branch;
class strand;

namespace detail {

struct promise_base;
struct task_context;
struct thread_state;
class leaf_access;

/// What stands in a strand's word and in its ready list: the part of a leaf that links it.
struct ready_node {
    ready_node* next = nullptr;
};

/// What is on its way to the thread of a pinned strand: a leaf, or, marked, the strand, which is aborted. It may
/// stand in a list meanwhile, linked through the leaf, or through the strand's word, which has no other use.
class parcel {
public:
    parcel() noexcept = default; ///< none
    explicit parcel(ready_node& n) noexcept : word_(reinterpret_cast<std::uintptr_t>(&n)) {}
    explicit parcel(strand& aborted) noexcept
        : word_(reinterpret_cast<std::uintptr_t>(&aborted) + abort_mark) {}

    explicit operator bool() const noexcept { return word_ != 0; }
    bool is_abort() const noexcept { return (word_ & abort_mark) != 0; }
    ready_node& node() const noexcept { return *reinterpret_cast<ready_node*>(word_); }
    strand& aborted() const noexcept { return *reinterpret_cast<strand*>(word_ - abort_mark); }

    void link(parcel next) const noexcept;
    parcel next() const noexcept;

private:
    explicit parcel(std::uintptr_t word) noexcept : word_(word) {}

    static constexpr std::uintptr_t abort_mark = 1;
    std::uintptr_t word_ = 0;
};

} // namespace detail

/// What `cancel` answers (R7).
enum class cancel_answer : unsigned char {
    quiet,  ///< unlinked: nobody will wake the leaf any more
    coming, ///< a wake is on its way: the leaf surfaces exactly once more
};

/// An awaiter that really suspends: a node in the coroutine frame, by which a waker finds the task.
///
/// Operations derive from `operation<Derived>`, which derives from this. A leaf may be moved until
/// it is awaited; from then on others hold its address.
class leaf : private detail::ready_node {
public:
    leaf& operator=(const leaf&) = delete;

    /// The strand that waits. Only while the leaf is bound.
    strand& owner() const noexcept;

protected:
    leaf() noexcept = default;
    leaf([[maybe_unused]] leaf&& other) noexcept { MAGPIE_ASSERT(!other.bound_); }
    virtual ~leaf() = default;

    /// Takes the leaf back from whoever may wake it. On the strand's turn, once, never blocks, and
    /// destroys nothing: it may be called inside a final suspend. A composite cancels its branches.
    virtual cancel_answer cancel() noexcept = 0;

    /// Destroys the frames that stand below a composite, when it was cancelled and is quiet, or has
    /// ended and nobody will resume. Called by the turn or in an `await_resume` (R15). Gives what a
    /// destructor threw.
    virtual std::exception_ptr discard() noexcept { return nullptr; }

    /// What was asked for by `step_later`. Returns who runs next.
    virtual std::coroutine_handle<> step() noexcept { return std::noop_coroutine(); }

    /// Called when the leaf surfaces after it had yielded before its first attempt (its turn's
    /// budget was spent): makes that attempt. Returns false when it suspended.
    virtual bool retry() noexcept { return true; }

    /// Binds to the coroutine that awaits, or to a branch without a frame of its own.
    void bind(detail::promise_base& at) noexcept;
    void bind(branch& b) noexcept;

    /// Lets the leaf surface on the strand's next turn, behind whatever is queued. Own turn only.
    void defer() noexcept;

    /// What a composite does when it has ended: gives who runs next. Own turn only. For functions that no
    /// coroutine can have inlined (this_thread()): virtual ones.
    std::coroutine_handle<> surface() noexcept;

    /// Has the turn call `step`, later, from its loop: a composite may destroy frames there. Own turn
    /// only. Until then the leaf must not surface.
    void step_later() noexcept;
    bool is_stepping() const noexcept { return steps_; }

    /// Where an operation that is about to be awaited belongs (await_transform sets it).
    branch* where() const noexcept;

    /// Whether the whole task waits for this leaf: no composite stands between.
    bool is_alone() const noexcept;

    /// Whether its branch was dropped while it was coming.
    bool is_dropped() const noexcept { return cancelled_; }

    /// A link for the list that the leaf waits in. Whoever wakes it has taken it out before.
    leaf* next_waiting() const noexcept { return static_cast<leaf*>(next); }
    void set_next_waiting(leaf* l) noexcept { next = l; }

private:
    friend class branch;
    friend class strand;
    friend class detail::leaf_access;
    friend void wake(leaf& l) noexcept;

    std::coroutine_handle<> go_on() noexcept;

    bool is_lone() const noexcept { return (place_ & lone) != 0; } ///< in a branch without a frame

    /// Who awaits, if it is not lone.
    detail::promise_base* at() const noexcept {
        return reinterpret_cast<detail::promise_base*>(place_);
    }
#if defined(MAGPIE_LOCK_TRACE)
    void set_place(detail::promise_base& at) noexcept; // and tells the branch
    void set_place(branch& b) noexcept;
#else
    void set_place(detail::promise_base& at) noexcept {
        place_ = reinterpret_cast<std::uintptr_t>(&at);
    }
    void set_place(branch& b) noexcept { place_ = reinterpret_cast<std::uintptr_t>(&b) | lone; }
#endif

    // One word, for there may be a million leaves: the promise that awaits, which knows its branch,
    // or, marked, the branch that has no frame.
    static constexpr std::uintptr_t lone = 1;
    std::uintptr_t place_ = 0;
    // Two bytes: operations put what they have into the rest of the word. All are the strand's own.
    bool bound_ = false;
    bool cancelled_ : 1 = false; // answered `coming`: its surfacing drops the branch
    bool deferred_ : 1 = false;  // in the ready list since `defer`, for the next turn
    bool steps_ : 1 = false;     // in the ready list since `step_later`
protected:
    bool retry_ : 1 = false; ///< surfacing means `retry`, not the end of the wait
private:
    [[maybe_unused]] unsigned char unused_ : 4 = 0; // so that one store sets the byte
};

/// A chain of frames from a root to the leaf it is suspended in; or a leaf alone.
class branch {
public:
    branch& operator=(const branch&) = delete;

    strand& owner() const noexcept;

    /// Whether it is the one that a strand begins with.
    bool is_main() const noexcept { return (belongs_ & main) != 0; }

    /// What is in force in it: task-locals, the nearest deadline. Null: nothing.
    virtual const detail::task_context* context() const noexcept { return nullptr; }

protected:
    enum class phase : unsigned char {
        unstarted, // root_ is the root (null: nothing to run)
        running,   // leaf_ is where it is suspended, unless it runs just now
        coming,    // dropped; leaf_ has still to surface
        standing,  // dropped; the leaf is quiet, the frames still stand
        unwinding, // its frames are being destroyed
        parked,    // ... and the one at hand stopped at its final suspend (R16)
        ended,     // root_ is at its final suspend, or the lone leaf has surfaced
        gone,      // no frame is left
    };

    branch() noexcept = default;
    /// That of a strand, which runs on `e`.
    explicit branch(executor& e) noexcept : belongs_(reinterpret_cast<std::uintptr_t>(&e) + main) {}
    branch(branch&& other) noexcept : unconstrained(other.unconstrained) {
        MAGPIE_ASSERT(other.belongs_ == 0);
    }
    ~branch() = default;

    /// Tells a branch below another one where it belongs, before it starts.
    void place_below(const branch& parent) noexcept {
        place_below(parent.owner(), parent.unconstrained);
    }
    void place_below(strand& s, bool parent_is_unconstrained) noexcept {
        belongs_ = reinterpret_cast<std::uintptr_t>(&s);
        unconstrained = unconstrained || parent_is_unconstrained;
    }

    /// The root has reached its end (or the lone leaf has surfaced). Returns who runs next.
    virtual std::coroutine_handle<> ended() noexcept = 0;

    /// A branch whose leaf was coming has surfaced, and is gone. Returns who runs next.
    virtual std::coroutine_handle<> gone() noexcept = 0;

    /// Takes note of an exception that a destructor threw while the branch was unwound (R16).
    virtual void note(std::exception_ptr error) noexcept = 0;

    phase state() const noexcept { return phase_; }

    /// Makes `root` the coroutine of this branch. It has not started.
    void set_root(detail::promise_base& root) noexcept;

    /// Sets whose code the thread runs; gives whose it did.
    static const branch* exchange_running(const branch* b) noexcept;

    /// Code of the branch runs while it lives, not because it was resumed: it starts, or is destroyed.
    class inside {
    public:
        explicit inside(const branch& b) noexcept : outer_(exchange_running(&b)) {}
        inside(const inside&) = delete;
        inside& operator=(const inside&) = delete;
        ~inside() { exchange_running(outer_); }

    private:
        const branch* outer_;
    };

    /// Runs the root until it first suspends.
    void start_root() noexcept { begin_root().resume(); }

    /// Marks the root as started: the caller resumes it.
    std::coroutine_handle<> begin_root() noexcept;

    /// The root of a branch that has not started; there is none afterwards.
    detail::promise_base* take_root() noexcept { return std::exchange(root_, nullptr); }

    /// For a branch whose root runs as another strand: it has to end there.
    void come_from_elsewhere() noexcept { phase_ = phase::coming; }

    /// ... and has ended, with or without a result.
    void end_elsewhere(bool with_result) noexcept {
        root_ = nullptr;
        phase_ = with_result ? phase::ended : phase::gone;
    }

    /// Marks a branch without frames as started: `leaf_` is set by the leaf's binding.
    void start_leaf() noexcept { phase_ = phase::running; }

    /// The lone leaf is ready.
    void end_leaf() noexcept { phase_ = phase::ended, root_ = nullptr; }

    /// Brings its root, or where it waits, nearer.
    void prefetch() const noexcept {
        const auto* const at = reinterpret_cast<const char*>(root_); // the same word as leaf_
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + 128, 1); // where the compiler keeps how far a coroutine has come
    }

    /// Destroys the frame of a root that has ended. What its destructors throw is noted.
    void destroy_root() noexcept;

    /// The same where speed counts: of a root at its final suspend.
    void destroy_ended_root() noexcept;

    /// Cancels the leaf; the frames stand. Returns `quiet` also if there is nothing to cancel.
    cancel_answer cancel() noexcept;

    /// Destroys the frames that stand, innermost first, without recursion (R13).
    void unwind() noexcept;

private:
    friend class strand;
    friend class leaf;
    friend struct detail::promise_base;
    friend class detail::leaf_access;

    std::coroutine_handle<> root_ended(detail::promise_base& root) noexcept;
    std::coroutine_handle<> surfaced_cancelled() noexcept;
    void destroy(detail::promise_base& frame) noexcept;

    // Its strand; or, marked, it is the strand itself, and this is where that runs: so an idle task has one
    // word for both. Read by wakers at any time: it never changes.
    static constexpr std::uintptr_t main = 1;
    std::uintptr_t belongs_ = 0;
    union {
        leaf* leaf_;
        detail::promise_base* root_ = nullptr;
    };
    phase phase_ = phase::unstarted;

#if defined(MAGPIE_LOCK_TRACE)
    // The frames that a branch holds while it is suspended are found from here. They are its own to change, and
    // whoever reads them knows that it is suspended.
    detail::promise_base* innermost_ = nullptr; // that awaits; null: a leaf without a frame does
protected:
    const branch* parent_ = nullptr; // of a branch of a composite: the one that awaits that
#endif

protected:
    // Of a strand: they stand here to fill a gap in the layout.
    bool enrolled_ : 1 = false;
    bool met_abort_ : 1 = false;  // its turn has seen the abort
    bool abort_came_ : 1 = false; // if it is pinned: its thread was told of the abort
    bool asleep_ : 1 = false;     // if it is pinned: it is idle

    bool kept_ : 1 = false; // dropped while it was coming, its frames stand until its owner unwinds it

public:
    bool unconstrained : 1 = false; ///< operations below take no budget

private:
    [[maybe_unused]] unsigned char unused_ : 2 = 0; // so that one store sets the byte
};

/// What is scheduled: at most one thread runs its turn at a time.
class strand : public branch {
public:
    /// Runs one turn: resumes what is ready until nothing is, or the budget is spent. Called by
    /// the executor, once for each `schedule`; the strand may be gone afterwards. Returns how much it
    /// did: one, and what it took of its budget.
    std::uint32_t run_turn() noexcept;

    /// Takes in what another thread has sent to a pinned strand. On the strand's thread.
    static void receive(detail::parcel p) noexcept;

    /// Brings nearer what the next turn begins with. For who owns the queued strand, and found it cold.
    void prefetch_turn() const noexcept { prefetch(); }

    /// Whether it has had no turn. For who owns the queued strand.
    bool is_new() const noexcept { return state() == phase::unstarted; }

    executor& where_it_runs() const noexcept { return *reinterpret_cast<executor*>(belongs_ - main); }
    std::uint16_t budget() const noexcept { return budget_; }
    void take_budget() noexcept {
        if (budget_ > 0) // a composite takes its unit after its body
            --budget_;
    }

    // --- for who owns the queued strand, where there is no memory to note its address ---

    /// Puts it into a list, before `next` (null: at the end). Until `unlink` it has no turn; wakes may come.
    ///
    /// The link stands at the end of the ready list, which is the turn's: so an idle task has no word for what
    /// hardly ever happens.
    void link(strand* next) noexcept;
    strand* unlink() noexcept; ///< Gives what was behind it.

protected:
    explicit strand(executor& e) noexcept
        : branch(e), references_(1 + (e.is_pinned() ? pinned_bit : 0)) {}
    ~strand() = default;

    /// For a strand that a plain thread waits on: resumes what is ready, then goes idle. It is no turn:
    /// what runs meanwhile is on a plain thread, and belongs to no task.
    void resume_ready() noexcept;

    /// Sees to it that a turn looks for the abort bit, which the caller has set: that drops the main branch.
    /// At most once (the caller sees to it), from any thread that keeps the strand's memory alive.
    void push_abort() noexcept;

    /// Whether an abort was asked for.
    bool abort_requested() const noexcept {
        return (references_.load(std::memory_order_acquire) & aborted_bit) != 0; // (A)
    }

    /// For a pinned strand that is over: whether no abort is on its way, and none will be. On its turn.
    virtual bool closes_to_aborts() noexcept { return true; }

    /// Called before the strand first goes idle. False: it has to be dropped instead.
    virtual bool may_sleep() noexcept { return true; }

    /// Drops the main branch: at once, or when its leaf has surfaced. On the strand's turn.
    void drop_main() noexcept;

    /// Called at the end of the last turn, when the main branch is `ended` or `gone`.
    virtual void finish() noexcept = 0;

private:
    friend class leaf;
    friend class detail::parcel;
    friend void wake(leaf& l) noexcept;

    // word_ is one of
    //   idle()   nothing is ready, and nobody has queued the strand
    //   busy()   queued or running, nothing new (null: it also ends the stack)
    //   stirred() queued or running, no leaf, but the abort bit was set (it may end the stack, too)
    //   other    queued or running; the head of a stack of leaves that became ready meanwhile
    //
    // An abort is a bit, which each turn looks for before it resumes anything, and a wake without a leaf: so
    // that a strand which is going idle does not miss it.
    //
    // I1. Whoever turns idle into busy owns the strand until it is queued (R2): only it writes
    //     the ready list, and the run queue publishes that to the thread that runs the turn.
    // I2. While busy, the ready list belongs to the turn, or to the owner of I1.
    // I3. Leaves are removed by taking the whole stack: no ABA, and nothing leaves the middle.
    // I4. A finished strand stays busy for ever: a late abort stirs a word nobody takes.
    // I5. A pinned strand has no use for a word: its executor's thread alone has to do with it, puts what is
    //     ready into the list, and keeps in asleep_ whether it is idle. What others have for it they send
    //     there; the word links the parcel of an abort, which is sent once. It does not finish while an abort
    //     is on its way, for that reaches for the executor (R36).
    //
    // (T) turn -> waker: busy to idle (release) pairs with the waker's idle to busy (acquire):
    //     the waker sees the ready list as the turn left it.
    // (N) waker -> turn: a push (release) pairs with the turn's take (acquire): the turn sees the
    //     leaf's link and all that happened before the wake. Pushes are read-modify-writes, so
    //     one acquire covers the whole stack.
    // (A) abort -> turn: the bit is set (release), and looked for (acquire). Who then pushes (release) is as
    //     (N): a turn that takes what was stirred, or goes idle behind it, sees the bit.
    detail::ready_node* take_word() noexcept;
    static detail::ready_node* idle() noexcept;
    static detail::ready_node* busy() noexcept { return nullptr; }
    static detail::ready_node* stirred() noexcept;

    void push(detail::ready_node& n) noexcept;
    void push_pinned(detail::ready_node& n) noexcept;
    void wake_at_home() noexcept;
    bool is_at_home() const noexcept;
    bool meets_abort() noexcept;
    bool is_linked() const noexcept;
    bool may_finish() noexcept { return !is_pinned() || closes_to_aborts(); }
    void append(detail::ready_node& n) noexcept;
    detail::ready_node& take_first() noexcept; // of the ready list, which is not empty
    void take_new() noexcept;
    bool try_idle() noexcept;
    void deliver(leaf& l, detail::thread_state& here) noexcept;
    bool is_pinned() const noexcept { // relaxed: the bit never changes
        return (references_.load(std::memory_order_relaxed) & pinned_bit) != 0;
    }
    bool over() const noexcept { return phase_ == phase::ended || phase_ == phase::gone; }

    // What a wake and a turn touch stands in one cache line, with the branch before it.
    std::uint16_t budget_ = 0;

protected:
    // Reference count and abort flag of a cell: it stands here to fill a gap in the layout.
    // Whether the strand is pinned stands here as well: its executor may be gone when that is asked.
    detail::atomic<std::uint32_t> references_;
    static constexpr std::uint32_t pinned_bit = 1U << 29;
    static constexpr std::uint32_t aborted_bit = 1U << 31;

private:
    detail::atomic<detail::ready_node*> word_{busy()}; // a new strand is busy (R1)
    // The ready list, circular: tail_->next is the first. Of a strand that is linked it is opened: tail_ is the first,
    // marked as such, and behind the last stands the link, marked as such. Of an empty list, tail_ is the link.
    detail::ready_node* tail_ = nullptr;
};

inline strand& branch::owner() const noexcept {
    // A strand is its main branch: the same address.
    return is_main() ? static_cast<strand&>(const_cast<branch&>(*this))
                     : *reinterpret_cast<strand*>(belongs_);
}

namespace detail {

// Relaxed: the inbox publishes it, and only one has the parcel.
inline void parcel::link(parcel next) const noexcept {
    auto* const to = reinterpret_cast<ready_node*>(next.word_);
    if (is_abort())
        aborted().word_.store(to, std::memory_order_relaxed);
    else
        node().next = to;
}
inline parcel parcel::next() const noexcept {
    ready_node* const to = is_abort() ? aborted().word_.load(std::memory_order_relaxed) // as above
                                      : node().next;
    return parcel(reinterpret_cast<std::uintptr_t>(to));
}

} // namespace detail

/// Makes a leaf ready and queues its strand if that was idle. Never runs user code.
///
/// The caller has taken the leaf out of wherever wakers find it; afterwards it may be gone.
/// @par Thread safety
/// From any thread.
/// @par Complexity
/// One read-modify-write and a `schedule` if the strand was idle, one if not, none on the strand's
/// own turn, nor on the thread of a pinned strand.
void wake(leaf& l) noexcept;

} // namespace magpie
