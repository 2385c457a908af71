#pragma once

#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/operation.hpp>
#include <magpie/core/task.hpp>

#include <coroutine>
#include <exception>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <utility>

// What composites (timeout, unconstrained, join, select) are made of: a branch that runs one
// awaitable, and reports to the composite that owns it.

namespace magpie::detail {

/// What a branch tells the composite above it. Both give who runs next.
class branch_owner {
public:
    branch_owner() noexcept = default;
    branch_owner(branch_owner&&) noexcept {}
    virtual std::coroutine_handle<> branch_ended(branch& b) noexcept = 0;
    virtual std::coroutine_handle<> branch_gone(branch& b) noexcept = 0;

protected:
    ~branch_owner() = default;

#if defined(MAGPIE_LOCK_TRACE)
    /// It ends with the last of its branches, whatever the others have come to.
    void ends_with_all() noexcept { ends_with_all_ = true; }

private:
    friend class leaf_access;
    bool ends_with_all_ = false;
#else
    void ends_with_all() noexcept {}
#endif
};

/// What each branch of a composite has in common. Movable until it starts.
class owned_branch : public branch {
    friend class leaf_access;

public:
    owned_branch() noexcept = default;
    owned_branch(owned_branch&&) noexcept = default;

    bool is_running() const noexcept { return state() == phase::running; }
    bool has_ended() const noexcept { return state() == phase::ended; }
    bool is_coming() const noexcept { return state() == phase::coming; }
    bool is_standing() const noexcept { return state() == phase::standing; }

    /// Asks the branch to end: `quiet` if nothing more will be heard of it (its frames may stand).
    cancel_answer request_cancel() noexcept {
        return is_running() ? cancel() : is_coming() ? cancel_answer::coming : cancel_answer::quiet;
    }

    /// Destroys the frames of a branch that was cancelled and is quiet. What destructors throw is
    /// noted.
    void clear() noexcept {
        if (is_standing())
            unwind();
    }

    /// Leaves its frames standing when it is dropped, until `discard()`.
    void keep_frames() noexcept { kept_ = true; }

protected:
    ~owned_branch() = default;

    /// What is in force around a branch is in force in it: nothing to do where its code runs.
    struct inside {
        explicit inside(const branch&) noexcept {}
    };

    void attach(const branch& parent, branch_owner& owner) noexcept { attach(above(parent), owner); }

    /// What a branch takes over from the one that awaits its composite.
    struct above {
        explicit above(const branch& parent) noexcept
            : owner(parent.owner()), unconstrained(parent.unconstrained),
              // What awaits a composite is a strand's main branch or one of these: no virtual call.
              context(parent.is_main() ? nullptr : static_cast<const owned_branch&>(parent).context_) {
#if defined(MAGPIE_LOCK_TRACE)
            of = &parent;
#endif
        }
        strand& owner;
        bool unconstrained;
        const task_context* context;
#if defined(MAGPIE_LOCK_TRACE)
        const branch* of;
#endif
    };
    void attach(const above& parent, branch_owner& owner) noexcept {
        attach_below(parent);
        if (context_ == nullptr)
            context_ = parent.context;
        owner_ = &owner;
        starting_ = true;
    }
    /// The same for one that nothing was bound in, and whose end is told from the start.
    void attach_new(const above& parent, branch_owner& owner) noexcept {
        attach_below(parent);
        context_ = parent.context;
        owner_ = &owner;
    }
    void started() noexcept { starting_ = false; }
    bool is_starting() const noexcept { return starting_; }
    branch_owner& composite() const noexcept { return *owner_; }

    // While it starts, an end is only recorded: the parent is not resumed inside its own
    // suspension (R20).
    std::coroutine_handle<> ended() noexcept override {
        return starting_ ? std::noop_coroutine() : owner_->branch_ended(*this);
    }

private:
    void attach_below(const above& parent) noexcept {
        place_below(parent.owner, parent.unconstrained);
#if defined(MAGPIE_LOCK_TRACE)
        parent_ = parent.of;
#endif
    }

    std::coroutine_handle<> gone() noexcept override { return owner_->branch_gone(*this); }

    const task_context* context() const noexcept final {
        return context_ != nullptr ? context_ : owner().context();
    }

    bool starting_ = false; // in the padding of the base
    branch_owner* owner_ = nullptr;

protected:
    const task_context* context_ = nullptr; ///< null: the strand's
};

#if defined(MAGPIE_LOCK_TRACE)
// Only these have a parent.
inline bool leaf_access::parent_waits_for_all(const branch& b) noexcept {
    return static_cast<const owned_branch&>(b).composite().ends_with_all_;
}
#endif

/// Receives an exception that has no other way out of the task whose strand this is: it goes to the
/// hook for unhandled ones. On the strand's turn.
void report_lost(const strand& s, std::exception_ptr error) noexcept;

/// The same for one that has another in its way, to which it is attached: attached_failures().
void report_beside(strand& s, const std::exception_ptr& thrown, std::exception_ptr error) noexcept;

/// Of several exceptions one can be thrown. The others are reported and attached to it: none is swallowed.
inline void keep_first(strand& s, std::exception_ptr& first, std::exception_ptr error) noexcept {
    if (first)
        report_beside(s, first, std::move(error));
    else
        first = std::move(error);
}

/// Whether an operation has branches, and so may hold frames after it has ended.
template <class Operation>
inline constexpr bool is_composite = std::is_base_of_v<branch_owner, Operation>;

template <class Operation>
constexpr cancel_safety operation_safety() noexcept {
    if constexpr (requires { Operation::safety; })
        return Operation::safety;
    else
        return cancel_safety::unknown;
}

/// A branch that is an operation alone: no frame.
template <class Operation, class Base = owned_branch>
class operation_branch final : public Base {
public:
    using value_type = decltype(std::declval<Operation&>().await_resume());
    static constexpr cancel_safety safety = operation_safety<Operation>();

    /// Of an operation, or of what gives one.
    template <class Source>
    explicit operation_branch(std::in_place_t, Source&& source)
        : operation_(operation_of(std::forward<Source>(source))) {}
    operation_branch(operation_branch&& other) noexcept
        : Base(std::move(other)), operation_(std::move(other.operation_)) {}
    ~operation_branch() { discard(); }

    /// Returns true if it ended at once.
    bool start(const branch& parent, branch_owner& owner) noexcept {
        const typename Base::inside here(*this);
        this->attach(parent, owner);
        this->start_leaf();
        const bool waits = operation_.start_in(*this);
        this->started();
        if (!waits)
            this->end_leaf();
        return !waits;
    }

    Operation& operation() noexcept { return operation_; }

    /// The result of an operation that has ended.
    value_type take() {
        const typename Base::inside here(*this);
        return operation_.await_resume();
    }

    /// Whether frames wait for `clear` or `discard`.
    bool holds_frames() const noexcept { return is_composite<Operation> && this->is_standing(); }

    /// Destroys the operation: one that was handed something gives it back.
    std::exception_ptr discard() noexcept {
        const typename Base::inside here(*this);
        if constexpr (is_composite<Operation>) {
            this->clear();
            // One that has ended may still hold frames, for its await_resume to destroy; not its
            // destructor (R15).
            if (alive_ && this->has_ended())
                if (std::exception_ptr error = leaf_access::discard(operation_))
                    note(std::move(error));
        }
        if (std::exchange(alive_, false))
            operation_.Operation::~Operation();
        if constexpr (is_composite<Operation>)
            return std::exchange(noted_, nullptr);
        else
            return nullptr;
    }

private:
    template <class Source>
    static decltype(auto) operation_of(Source&& source) {
        if constexpr (gives_operation<Source>)
            return std::forward<Source>(source).operation();
        else
            return std::forward<Source>(source);
    }

    void note(std::exception_ptr error) noexcept override {
        if constexpr (is_composite<Operation>) // a plain operation has no frames that could throw
            keep_first(this->owner(), noted_, std::move(error));
    }

    struct nothing {};
    [[no_unique_address]] std::conditional_t<is_composite<Operation>, std::exception_ptr, nothing>
        noted_;
    union {
        Operation operation_;
    };
    bool alive_ = true;
};

/// A branch that is somebody else's operation, which may be awaited again.
template <class Operation, class Base = owned_branch>
class reference_branch final : public Base {
public:
    using value_type = decltype(std::declval<Operation&>().await_resume());
    static constexpr cancel_safety safety = operation_safety<Operation>();

    explicit reference_branch(std::in_place_t, Operation& o) noexcept : operation_(&o) {}
    reference_branch(reference_branch&&) noexcept = default;

    bool start(const branch& parent, branch_owner& owner) noexcept {
        this->attach(parent, owner);
        this->start_leaf();
        const bool waits = operation_->start_in(*this);
        this->started();
        if (!waits)
            this->end_leaf();
        return !waits;
    }

    value_type take() { return operation_->await_resume(); }

    bool holds_frames() const noexcept { return false; }

    /// Leaves the operation as after an await: it may outlive this branch.
    std::exception_ptr discard() noexcept {
        if (this->has_ended() && std::exchange(untaken_, false)) {
            try {
                static_cast<void>(operation_->await_resume());
            } catch (...) { // a result that is dropped is dropped as an exception too (R19)
            }
        }
        return nullptr;
    }

private:
    void note(std::exception_ptr) noexcept override {} // no frames that could throw

    Operation* operation_;
    bool untaken_ = true;
};

/// A branch that runs a coroutine, and has the place for its result.
template <class T, class Base = owned_branch>
class coroutine_branch : public Base {
    using phase = branch::phase;

public:
    using value_type = T;

    T take() {
        const typename Base::inside here(*this);
        this->destroy_root();
        return outcome_.take();
    }

    /// Destroys the frames of a branch that is over. What came of it stays.
    void leave() noexcept {
        const typename Base::inside here(*this);
        this->clear();
        if (this->has_ended())
            this->destroy_root();
    }

    /// Of a branch that has ended: destroys its frame. Whether it has a value, which take_settled() gives.
    bool settle() noexcept {
        this->destroy_ended_root();
        return outcome_.has_value();
    }
    T take_settled() { return outcome_.take(); }

    /// Of a branch that is over: whether by an exception.
    bool has_failed() const noexcept { return outcome_.has_error(); }

    /// The exception of a branch that is over, null if it has none: nothing is thrown.
    std::exception_ptr take_error() noexcept {
        leave();
        return has_failed() ? outcome_.take_error() : std::exception_ptr();
    }

    bool holds_frames() const noexcept { return this->is_standing(); }

    /// Destroys the frames that stand and the result. Gives what a destructor threw (R16).
    std::exception_ptr discard() noexcept {
        const typename Base::inside here(*this);
        this->clear();
        if (this->has_ended()) {
            try {
                outcome_.reset();
            } catch (...) {
                outcome_.fail(std::current_exception());
            }
            this->destroy_root();
        } else if (this->state() == phase::unstarted) {
            this->destroy_root();
        }
        return outcome_.has_error() ? outcome_.take_error() : std::exception_ptr();
    }

protected:
    coroutine_branch() noexcept = default;
    coroutine_branch(coroutine_branch&& other) noexcept : Base(std::move(other)) {} // not started
    ~coroutine_branch() noexcept {} // a value whose destructor throws was dropped before, by discard()

    void hold(promise<T>& root) noexcept {
        root.set_result(outcome_);
        this->set_root(root);
    }
    void fail(std::exception_ptr error) noexcept { outcome_.fail(std::move(error)); }

private:
    void note(std::exception_ptr e) noexcept override {
        if (outcome_.has_error()) // the first is the cause; the second is not lost in silence
            report_lost(this->owner(), std::move(e));
        else
            fail(std::move(e));
    }

    outcome<T> outcome_;
};

/// A branch that runs a task.
template <class T, cancel_safety Safety = task<T>::safety, class Base = owned_branch>
class task_branch final : public coroutine_branch<T, Base> {
public:
    static constexpr cancel_safety safety = Safety;

    task_branch() = default; ///< its task is made when it starts
    explicit task_branch(std::in_place_t, task<T>&& t) noexcept : task_(std::move(t)) {}
    task_branch(task_branch&& other) noexcept = default;

    bool start(const branch& parent, branch_owner& owner) noexcept {
        const typename Base::inside here(*this);
        this->attach(parent, owner);
        if (!task_) {
            this->fail(std::make_exception_ptr(
                std::logic_error("this task is empty: it was moved from, awaited or spawned before")));
            this->end_leaf();
            return true;
        }
        this->hold(task_access::release(std::move(task_)).promise());
        this->start_root();
        this->started();
        return this->has_ended();
    }

    /// The same with the task that `make()` gives. What `make` throws is how the branch ends.
    template <class Make>
    bool start_made(const branch& parent, branch_owner& owner, Make make) noexcept {
        const typename Base::inside here(*this);
        try {
            task_ = make();
        } catch (...) {
            this->attach(parent, owner);
            this->fail(std::current_exception());
            this->end_leaf();
            return true;
        }
        return start(parent, owner);
    }

private:
    task<T> task_;
};

/// Runs any awaitable in a coroutine of its own.
template <class A>
using awaited_type =
    decltype(detail::await_transform(std::declval<promise_base&>(), std::declval<A>()).await_resume());

template <class A>
task<awaited_type<A>> as_task(A awaitable) {
    co_return co_await std::forward<A>(awaitable);
}

/// Calls a function that gives something to await: what it gives, as a task.
template <class F, class Argument>
auto call_as_task(F& f, Argument& argument) {
    using given = std::invoke_result_t<F&, Argument&>;
    if constexpr (is_task<given>::value)
        return std::invoke(f, argument);
    else
        return as_task<given>(std::invoke(f, argument));
}

/// What comes of it.
template <class F, class Argument>
using called_type =
    typename decltype(call_as_task(std::declval<F&>(), std::declval<Argument&>()))::value_type;

/// Whether an operation may stand in a composite as an lvalue, and be awaited again afterwards.
template <class Operation>
inline constexpr bool reusable = requires { requires Operation::reusable; };

/// The branch for an awaitable: operations alone, tasks as they are, all else in a coroutine.
template <class Base = owned_branch, class A>
auto make_branch(A&& awaitable) {
    if constexpr (leaf_operation<A> && std::is_lvalue_reference_v<A>) {
        static_assert(reusable<std::remove_cvref_t<A>>,
                      "pass the operation as an rvalue: of lvalues, timers, join handles and pinned "
                      "tasks can be awaited again after they have lost");
        return reference_branch<std::remove_reference_t<A>, Base>(std::in_place, awaitable);
    } else if constexpr (leaf_operation<A>) {
        return operation_branch<std::remove_cvref_t<A>, Base>(std::in_place, std::move(awaitable));
    } else if constexpr (gives_operation<A>) {
        return operation_branch<decltype(std::forward<A>(awaitable).operation()), Base>(
            std::in_place, std::forward<A>(awaitable));
    } else if constexpr (is_task<std::remove_cvref_t<A>>::value) {
        static_assert(!std::is_lvalue_reference_v<A>,
                      "pass the task as an rvalue, std::move(task): a coroutine that loses is "
                      "destroyed; one that is to outlive the wait for it is pinned, or spawned, and "
                      "what stands for it is passed: the pinned_task, or the join_handle");
        using given = std::remove_cvref_t<A>;
        return task_branch<typename given::value_type, given::safety, Base>(std::in_place,
                                                                            std::move(awaitable));
    } else {
        using value = awaited_type<A>;
        return task_branch<value, task<value>::safety, Base>(std::in_place,
                                                             as_task<A>(std::forward<A>(awaitable)));
    }
}

template <class A>
using branch_for = decltype(make_branch(std::declval<A>()));

/// Makes the branch for an awaitable when it is called: where it is to stand, so that it is not moved. That
/// is to be in the expression that the awaitable is in.
template <class Base = owned_branch, class A>
auto branch_maker(A&& awaitable) {
    return [&awaitable] { return make_branch<Base>(std::forward<A>(awaitable)); };
}

} // namespace magpie::detail
