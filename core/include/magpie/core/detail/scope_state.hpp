#pragma once

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/detail/spin_lock.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/scope_error.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <limits>
#include <source_location>
#include <utility>
#include <vector>

// What a scope is made of: the state that its children share, the side of the task that awaits it, and
// the cell of a child.

namespace magpie::detail {

class scope_state;
class place_operation;

enum class scope_rule : unsigned char { fail_fast, collect_all, first_success };

/// What a task carries that belongs to a scope.
struct scope_member {
    cell* task = nullptr;
    scope_state* scope = nullptr; // null: the scope took no more
    scope_member* previous = nullptr;
    scope_member* next = nullptr;
    std::exception_ptr error; // what it has thrown: the result itself is the handle's
};

/// What the children of a scope share. It stands in the frame of the task that awaits the scope.
class scope_state {
public:
    scope_state(scope_rule rule, std::size_t limit) noexcept : limit_(limit), rule_(rule) {}
    scope_state(const scope_state&) = delete;
    scope_state& operator=(const scope_state&) = delete;
    ~scope_state();

    scope_rule rule() const noexcept { return rule_; }
    executor& where_children_run() const noexcept { return *executor_; }
    task_context::time_point deadline() const noexcept { return deadline_; } ///< the children's, too

    // --- from any thread, as long as the scope is not left ---

    std::size_t live() const noexcept;

    /// Takes a child in, in a place that was `reserved` or in any. False: the scope takes no more.
    bool enter(scope_member& m, bool reserved) noexcept;

    /// Takes no more, and aborts the children.
    void abort_all() noexcept;

    // The end of a child, on its last turn: first what it has to say, if anything. Its cell is the
    // scope's then, by the reference of its membership.
    void failed(scope_member& m) noexcept;
    bool succeeded(scope_member& m) noexcept; ///< Whether it is the first: the one that is wanted.

    /// Counts a child out. Its last touch of the scope.
    void leave(scope_member& m, bool was_kept) noexcept;

    // Places: as many as the limit says, each a child's or reserved for one.
    bool try_reserve(place_operation& p) noexcept;
    bool wait_for_place(place_operation& p) noexcept; ///< False: it has got one.
    cancel_answer withdraw(place_operation& p) noexcept;
    void give_back_place() noexcept;

    // --- on the strand of the task that awaits the scope ---

    void begin(executor& e) noexcept {
        executor_ = &e;
        deadline_ = current_deadline();
    }

    /// Wakes `l` when a child says that the body has to stop; false: one has. `l` is bound.
    bool wait_for_stop(leaf& l) noexcept;

    /// Wakes `l`, which is bound, when the last child has gone. True: it has, and there will be no more.
    /// False also if `l` is on its way since `wait_for_stop`.
    bool wait_for_end(leaf& l, bool is_out) noexcept;

    void body_failed() noexcept;

    // --- the same, when the last child has gone ---

    /// What has failed, the body (if that is not null) where it belongs. Forgets it.
    std::vector<task_failure> take_failures(const std::exception_ptr& body, const strand& parent);

    /// Of these the first, null if there is none. The others are reported as unhandled, and attached to it.
    std::exception_ptr take_first_failure(std::exception_ptr body, strand& parent) noexcept;

    scope_member* take_winner() noexcept { return std::exchange(winner_, nullptr); }

    /// Nobody will receive what the children have left: failures are reported (but of first_success,
    /// where some are expected), a value is dropped.
    void discard() noexcept;

private:
    void unlink(scope_member& m) noexcept;
    void keep(scope_member& m) noexcept;
    leaf* next_place() noexcept;

    // Guarded by lock_, as long as there are children: links and counts. User code never runs under it,
    // nor a wake. The last touch of a child is the release of the lock in leave(), or the wake of a leaf
    // that it has in its hand: as long as that has not surfaced, the scope does not end.
    //
    // I1. A child is in the list until it has failed, is the winner, or has left; it holds a reference
    //     to its own cell for so long. So who walks through the list may take references under the lock.
    // I2. closed_ is set once, and nobody enters afterwards: only who has set it walks, by cursor_.
    // I3. watcher_ is there while the parent waits and nobody has the leaf in his hand.
    mutable spin_lock lock_;
    bool closed_ = false;        // takes no more children
    bool stopped_ = false;       // the body has to stop as well
    bool waits_for_end_ = false; // what watcher_ is woken for: the end, or a stop
    std::size_t live_ = 0;       // children that have not left
    std::size_t reserved_ = 0;   // places given to those who wait, and not used yet
    scope_member* children_ = nullptr;
    scope_member* cursor_ = nullptr; // the next to be aborted
    scope_member* failed_ = nullptr; // in the order of the failures, by `next`
    scope_member* last_failed_ = nullptr;
    std::size_t failures_ = 0;
    std::size_t body_failed_after_ = std::numeric_limits<std::size_t>::max();
    scope_member* winner_ = nullptr;
    leaf* watcher_ = nullptr;
    place_operation* first_waiting_ = nullptr; // for a place
    place_operation* last_waiting_ = nullptr;

    const std::size_t limit_;
    executor* executor_ = nullptr;
    task_context::time_point deadline_ = task_context::no_deadline;
    const scope_rule rule_;
};

/// The wait for a place in a scope. Dropped with one in its hand, it gives it to the next.
class [[nodiscard("co_await it")]] place_operation : public operation<place_operation> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit place_operation(scope_state& s) noexcept : scope_(&s) {}
    place_operation(place_operation&& other) noexcept
        : operation<place_operation>(std::move(other)), scope_(other.scope_),
          has_place_(std::exchange(other.has_place_, false)) {}
    ~place_operation() {
        if (has_place_)
            scope_->give_back_place();
    }

    bool try_complete() noexcept { return has_place_ || scope_->try_reserve(*this); }
    bool publish() noexcept { return scope_->wait_for_place(*this); }
    /// The place is the caller's, who enters with it.
    void await_resume() noexcept { has_place_ = false; }

private:
    friend class scope_state;
    cancel_answer cancel() noexcept override { return scope_->withdraw(*this); }

    scope_state* scope_;
    place_operation* previous_ = nullptr;
    place_operation* next_ = nullptr;

protected:
    bool has_place_ = false; // written under the scope's lock until this surfaces
};

/// The side of the task that awaits a scope: it ends when the body has, and the last child.
///
/// The children reach it through a leaf of its own, in a branch without frames, that is never cancelled:
/// it surfaces when the body has to stop, and when the last child has gone.
class scope_parent : protected branch_owner {
protected:
    scope_parent() noexcept = default;
    ~scope_parent() = default;

    /// The body has started in `parent`; whether it has ended. Gives whether the scope has.
    bool begin_wait(const branch& parent, scope_state& s, owned_branch& body, bool ended) noexcept;

    /// Drops the body and the children. Quiet: all are gone. The body's frames stand until then.
    cancel_answer cancel_scope() noexcept;

    virtual bool body_has_failed() const noexcept = 0;

    /// The last one has gone. Gives who runs next.
    virtual std::coroutine_handle<> over() noexcept = 0;

private:
    class watch final : public leaf {
    public:
        using leaf::bind;

    private:
        cancel_answer cancel() noexcept override { return cancel_answer::coming; }
    };

    class watch_branch final : public branch {
    public:
        explicit watch_branch(scope_parent& p) noexcept : parent_(p) {}
        using branch::place_below;
        using branch::start_leaf;

    private:
        std::coroutine_handle<> ended() noexcept override { return parent_.woken(); }
        std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
        void note(std::exception_ptr) noexcept override {} // it has no frames that could throw

        scope_parent& parent_;
    };

    std::coroutine_handle<> branch_ended(branch& body) noexcept override;
    std::coroutine_handle<> branch_gone(branch& body) noexcept override;

    std::coroutine_handle<> woken() noexcept;
    std::coroutine_handle<> next() noexcept { return settle() ? over() : std::noop_coroutine(); }
    bool settle() noexcept;
    void note_end() noexcept;
    void bind_watch() noexcept;

    scope_state* state_ = nullptr;
    owned_branch* body_ = nullptr;
    watch watch_;
    watch_branch watch_branch_{*this};
    bool out_ = false; // watch_ waits, or is in somebody's hand
};

/// The cell of a task in a scope. It has a reference for its membership beside the usual one.
template <class T>
class scope_cell final : public result_cell<T>, public scope_member {
public:
    template <class... Name>
    scope_cell(executor& e, std::coroutine_handle<promise<T>> root, std::source_location where,
               Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...) {
        this->references_.store(2, std::memory_order_relaxed); // nobody else knows the cell yet
        this->task = this;
        this->hold(root.promise());
    }

    /// The scope receives it: nobody else has to report it.
    std::exception_ptr error() const noexcept override {
        return scope != nullptr ? std::exception_ptr() : result_cell<T>::error();
    }

private:
    void end() noexcept override {
        scope_state* const s = scope;
        bool is_winner = false;
        bool is_kept = false;
        if (s != nullptr && this->result_.has_error()) {
            scope_member::error = this->result_.error();
            s->failed(*this);
            is_kept = true;
        } else if (s != nullptr && this->result_.has_value()) {
            is_kept = is_winner = s->succeeded(*this);
        }
        const bool is_mine = this->publish_end();
        if (is_mine && !is_winner) { // a value may refer to what stands outside of the scope
            this->report_unhandled(error());
            this->drop_result_contained();
        }
        if (s != nullptr)
            s->leave(*this, is_kept);
        if (const std::uint32_t mine = (is_mine ? 1U : 0U) + (is_kept ? 0U : 1U); mine > 0)
            this->release(mine);
    }
};

} // namespace magpie::detail
