#pragma once

#include <magpie/core/detail/atomic.hpp>
#include <magpie/core/detail/context.hpp>
#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/strand.hpp>

#include <bit>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace magpie {
struct task_failure;
}

namespace magpie::detail {

class cell;

/// Where a task was spawned, its name and what it carries from its birth: one word, for most have
/// only the first.
class task_origin {
public:
    explicit task_origin(std::source_location where) : word_(std::bit_cast<std::uintptr_t>(where)) {
        inherit();
    }
    task_origin(std::source_location where, std::string name) : task_origin(where) {
        make_full().name = std::move(name);
    }
    struct borrow {};
    /// The same as `other`, which lives longer.
    task_origin(borrow, const task_origin& other) noexcept : word_(other.word_ | borrowed) {}
    task_origin(const task_origin&) = delete;
    task_origin& operator=(const task_origin&) = delete;
    ~task_origin() {
        if ((word_ & (has_record | borrowed)) == has_record) [[unlikely]]
            delete_full();
    }

    std::source_location where() const noexcept {
        const record* const r = full();
        return std::bit_cast<std::source_location>(r != nullptr ? r->place : pointer());
    }
    /// The place as one word, 0 for a task with a name: reports find it in the registry.
    std::uintptr_t place() const noexcept { return full() == nullptr ? pointer() : full_place(); }

    std::string_view name() const noexcept {
        const record* const r = full();
        return r != nullptr ? std::string_view(r->name) : std::string_view();
    }

    /// What the task carries where none of its branches says otherwise; null: nothing.
    const task_context* context() const noexcept {
        const record* const r = full();
        return r != nullptr ? &r->context : nullptr;
    }
    void set_deadline(task_context::time_point deadline) { make_full().context.deadline = deadline; }

private:
    struct record {
        std::uintptr_t place;
        std::string name;
        task_context context;
    };
    static_assert(sizeof(std::source_location) == sizeof(std::uintptr_t));

    static constexpr std::uintptr_t has_record = 1;
    static constexpr std::uintptr_t borrowed = 2;

    std::uintptr_t pointer() const noexcept { return word_ & ~(has_record | borrowed); }
    record* full() const noexcept {
        return (word_ & has_record) != 0 ? reinterpret_cast<record*>(pointer()) : nullptr;
    }
    std::uintptr_t full_place() const noexcept;
    record& make_full();
    void delete_full() noexcept;
    void inherit();

    std::uintptr_t word_; // a pointer, to a record or to the place, and the two bits
};

/// Leads to another task in an executor's list; changed under the executor's lock.
class registry_link {
public:
    registry_link() noexcept = default;
    registry_link(const registry_link&) = delete;
    registry_link& operator=(const registry_link& other) noexcept {
        *this = static_cast<cell*>(other);
        return *this;
    }
    // Relaxed: the lock orders them. Who reads one without it only fetches what is there.
    cell* operator=(cell* c) noexcept {
        to_.store(c, std::memory_order_relaxed);
        return c;
    }
    operator cell*() const noexcept { return to_.load(std::memory_order_relaxed); }
    cell* operator->() const noexcept { return *this; }

private:
    atomic<cell*> to_{nullptr};
};

/// A spawned task: its strand, the word by which it is joined, and who it is. The result stands
/// in `result_cell<T>`. Cells are made and freed through the frame allocator.
class cell : public strand {
public:
    static void* operator new(std::size_t size) { return allocate_cell(size); }
    static void* operator new(std::size_t size, std::align_val_t alignment) {
        return allocate_cell(size, static_cast<std::size_t>(alignment));
    }
    static void operator delete(void* block, std::size_t size) noexcept {
        deallocate_cell(block, size);
    }
    static void operator delete(void* block, std::size_t size, std::align_val_t alignment) noexcept {
        deallocate_cell(block, size, static_cast<std::size_t>(alignment));
    }

    registry_link registry_previous; ///< the executor's list of idle tasks
    registry_link registry_next;
    std::uint64_t id = 0; ///< given by the executor when it adopts the cell

    std::source_location where() const noexcept { return origin_.where(); }
    std::string_view name() const noexcept { return origin_.name(); }
    std::uintptr_t origin_word() const noexcept { return origin_.place(); }

    const task_context* context() const noexcept override { return origin_.context(); }

    /// Lets the task see a deadline that somebody else enforces, who waits for it. Before it is adopted.
    void set_deadline(task_context::time_point deadline) { origin_.set_deadline(deadline); }

    /// Asks for the task to be dropped. Any thread that holds a reference; idempotent.
    void abort() noexcept;

    /// Takes and gives back a reference (abort handles; the task and its handle share the first).
    void retain() noexcept;
    void release(std::uint32_t references = 1) noexcept;

    /// Ends a task that never ran and never will: its executor is closed. By `adopt` alone.
    void refuse() noexcept;

    // --- the handle's side: one thread at a time ---

    bool is_finished() const noexcept;

    /// The handle goes: the task runs on without it.
    void detach() noexcept;

    enum class join_state : unsigned char { pending, done, taken, occupied };
    join_state joined() const noexcept;
    join_state wait(leaf& l) noexcept;
    cancel_answer withdraw(leaf& l) noexcept;
    void mark_taken() noexcept;

    virtual std::exception_ptr error() const noexcept = 0; ///< null without one

    /// The other way to own a task that has ended, without a handle: a set lets go of it, and nobody
    /// has received its result.
    void leave_set() noexcept;

    // --- what else had failed, of an exception that has reached the task: attached_failures() ---

    /// On the task's turn, or by who has seen its end. Forgets what was there. @throws std::bad_alloc
    void attach(const std::exception_ptr& thrown, std::vector<task_failure>&& others);
    /// Attaches one more, and what is attached to that. @throws std::bad_alloc
    void attach_beside(const std::exception_ptr& thrown, task_failure other);
    std::vector<task_failure> take_attached(const std::exception_ptr& thrown) noexcept;
    bool has_attached() const noexcept;
    /// Gives what is attached to the task's exception to who receives that: the calling task or thread.
    void pass_attached() noexcept;
    /// The same with whatever it has, to the task of which it is a part.
    void pass_attached(cell& whole) noexcept;

    /// Ends the cell's life as a task: publishes the result. The cell may be gone afterwards.
    void complete() noexcept;

    /// Brings nearer what leaving the executor's list touches: its neighbours there, which are as cold as
    /// it was. For who is going to wake one that has waited long.
    void prefetch_neighbours() const noexcept {
        if (const cell* const c = registry_next)
            __builtin_prefetch(&c->registry_next, 1);
        if (const cell* const c = registry_previous)
            __builtin_prefetch(&c->registry_next, 1);
    }

    bool is_enrolled() const noexcept { return enrolled_; }
    void set_enrolled(bool on) noexcept { enrolled_ = on; }

    /// Whether it was dropped, and what it waits for takes its time. On its turn.
    bool is_being_dropped() const noexcept { return state() == phase::coming; }

protected:
    explicit cell(executor& e, std::source_location where) : strand(e), origin_(where) {}
    cell(executor& e, std::source_location where, std::string name)
        : strand(e), origin_(where, std::move(name)) {}
    /// A part of the task `whole`, which lives longer.
    cell(executor& e, const cell& whole) noexcept
        : strand(e), id(whole.id), origin_(task_origin::borrow{}, whole.origin_) {}
    virtual ~cell() = default;

    void report_unhandled(std::exception_ptr e) noexcept; // null: nothing to report

    virtual void drop_result() = 0; // may throw what the result's destructor throws
    void drop_result_contained() noexcept;

    /// What the end of a task does when its frames are gone and its executor has let it go. One that
    /// belongs to a scope has more to tell.
    virtual void end() noexcept { complete(); }

    /// Publishes the result and wakes who waits for it. Whether the handle is gone: the handle's side
    /// is the caller's then, and nothing was reported. Otherwise it is the handle's, and the cell gone
    /// unless the caller has a reference.
    bool publish_end() noexcept;

    /// Makes this the cell of a task whose end a set is told: nobody waits for it alone. To be called
    /// before anybody else knows the cell.
    void belong_to_set() noexcept;

    /// Tells the set. What the handle's side owns is the set's from then on: the cell may be gone.
    virtual void tell_set() noexcept {}

    /// What `abort` does after the flag was set. A blocking job has no turn to wake.
    virtual void request_abort() noexcept { push_abort(); }

private:
    bool closes_to_aborts() noexcept override;
    bool may_sleep() noexcept override;
    void finish() noexcept override;
    std::coroutine_handle<> ended() noexcept override { return std::noop_coroutine(); }
    std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }

    // join_ is one of
    //   null         open: the task has not ended, nobody waits
    //   done()       ended; the result is final and belongs to the handle
    //   taken()      the handle has taken the result
    //   detached()   the handle is gone; the task frees the cell
    //   in_set()     the task has not ended; a set is told when it does, and owns the handle's side
    //   other        the leaf that waits (R29)
    //
    // The task and its handle share one reference. The word says who drops it: the exchange in
    // complete() finds detached(), or leaves done() for the handle to find.
    //
    // (E) end -> handle: complete() (release) pairs with joined(), wait() and detach() (acquire):
    //     who sees the end sees the result, and every frame destroyed (R28).
    // (L) leaf -> end: wait() (release) pairs with complete() (acquire): it wakes what was bound.
    // (D) handle -> end: detach() (release) pairs with complete() (acquire): the end may free what
    //     the handle's thread has last touched.
    static void* done() noexcept;
    static void* taken() noexcept;
    static void* detached() noexcept;
    static void* in_set() noexcept;
    atomic<void*> join_{nullptr};
    task_origin origin_;

    void forget_attached() noexcept;

    // What the word of references has beside their number, and aborted_bit.
    static constexpr std::uint32_t attached_bit = 1U << 30;
    static constexpr std::uint32_t count_mask = pinned_bit - 1;
};

template <class T>
class result_cell : public cell {
public:
    outcome<T>& result() noexcept { return result_; }
    std::exception_ptr error() const noexcept override {
        return result_.has_error() ? result_.error() : std::exception_ptr();
    }

protected:
    using cell::cell;
    ~result_cell() noexcept override {} // the result was dropped before, where its exception is caught

    void note(std::exception_ptr e) noexcept override {
        if (result_.has_error()) // the first is the cause; the second is not lost in silence
            report_unhandled(std::move(e));
        else
            result_.fail(std::move(e));
    }
    void drop_result() override { result_.reset(); }

    /// Makes `root` the coroutine of the task: what it gives stands here.
    void hold(promise<T>& root) noexcept {
        root.set_result(result_);
        this->set_root(root);
    }

    outcome<T> result_;
};

/// The cell of a spawned coroutine.
template <class T>
class task_cell final : public result_cell<T> {
public:
    template <class... Name>
    task_cell(executor& e, std::coroutine_handle<promise<T>> root, std::source_location where,
              Name&&... name)
        : result_cell<T>(e, where, std::forward<Name>(name)...) {
        this->hold(root.promise());
    }
};

} // namespace magpie::detail
