#include <magpie/core/strand.hpp>

#include <magpie/core/detail/promise.hpp>
#include <magpie/core/detail/thread_state.hpp>

#include <cstddef>
#include <utility>

namespace magpie {

// --- leaf ---

void leaf::bind(branch& b) noexcept {
    set_place(b);
    bound_ = true;
    b.leaf_ = this;
}

void leaf::defer() noexcept {
    deferred_ = true;
    owner().append(*this);
}

void leaf::step_later() noexcept {
    MAGPIE_ASSERT(!steps_);
    steps_ = true;
    owner().append(*this);
}

void wake(leaf& l) noexcept { l.owner().push(l); }

// --- branch ---

const branch* branch::exchange_running(const branch* b) noexcept {
    return std::exchange(detail::this_thread().running, b);
}

cancel_answer branch::cancel() noexcept {
    MAGPIE_ASSERT(phase_ == phase::running);
    leaf& l = *leaf_;
    const cancel_answer answer = l.deferred_ ? cancel_answer::coming : l.cancel();
    if (answer == cancel_answer::coming) {
        phase_ = phase::coming;
        l.cancelled_ = true;
    } else {
        phase_ = phase::standing;
        l.bound_ = false;
    }
    return answer;
}

std::coroutine_handle<> branch::surfaced_cancelled() noexcept {
    phase_ = phase::standing;
    if (!kept_)
        unwind();
    return gone();
}

void branch::unwind() noexcept {
    MAGPIE_ASSERT(phase_ == phase::standing);
    const inside here(*this);
    phase_ = phase::unwinding;
    leaf& l = *std::exchange(leaf_, nullptr);
    if (std::exception_ptr error = l.discard()) // what is below goes first
        note(std::move(error));
    detail::promise_base* frame = l.is_lone() ? nullptr : l.at();
    while (frame != nullptr) {
        detail::child_link* const link = frame->link();
        detail::promise_base* const parent = link != nullptr ? link->parent : nullptr;
        if (link != nullptr)
            link->child = {}; // its destructor has nothing left to do
        destroy(*frame);
        frame = parent;
    }
    phase_ = phase::gone;
}

void branch::destroy_root() noexcept {
    if (detail::promise_base* const root = std::exchange(root_, nullptr)) {
        const phase before = std::exchange(phase_, phase::unwinding);
        destroy(*root);
        phase_ = before;
    }
}

// A destructor of a local that throws does not come out of destroy(): the coroutine notes it by
// unhandled_exception() and parks at its final suspend, its frame still there; a second destroy()
// frees it. Only a parameter's destructor comes out, and clang then has freed the frame (R16).
void branch::destroy(detail::promise_base& frame) noexcept {
    const auto h = frame.handle();
    try {
        h.destroy();
        if (phase_ == phase::parked) {
            phase_ = phase::unwinding;
            h.destroy();
        }
    } catch (...) {
        note(std::current_exception());
    }
}

// --- strand ---

detail::ready_node* strand::idle() noexcept {
    static detail::ready_node mark;
    return &mark;
}

void strand::append(detail::ready_node& n) noexcept {
    if (tail_ == nullptr) {
        n.next = &n;
    } else {
        n.next = tail_->next;
        tail_->next = &n;
    }
    tail_ = &n;
}

detail::ready_node& strand::take_first() noexcept {
    detail::ready_node& first = *tail_->next;
    if (&first == tail_)
        tail_ = nullptr;
    else
        tail_->next = first.next;
    return first;
}

void strand::push(detail::ready_node& n) noexcept {
    if (detail::this_thread().turn == this) {
        detail::ready_node* const last = tail_;
        append(n);
        if (&n == &abort_ && last != nullptr)
            tail_ = last; // an abort goes first (R17): behind the last one in the circle
        return;
    }
    if (is_pinned()) {
        push_pinned(n);
        return;
    }
    detail::ready_node* seen = word_.load(std::memory_order_relaxed); // checked by the CAS below
    for (;;) {
        if (seen == idle()) {
            // Acquire: (T). No release: what was done before, the run queue publishes (I1).
            if (word_.compare_exchange_weak(seen, busy(), std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                append(n);
                executor_->schedule(*this, executor::placement::wake);
                return; // another thread may have run, finished and freed everything (R3)
            }
        } else {
            n.next = seen;
            // (N). After it the node belongs to the turn, which may free it.
            if (word_.compare_exchange_weak(seen, &n, std::memory_order_release,
                                            std::memory_order_relaxed))
                return;
        }
    }
}

void strand::push_pinned(detail::ready_node& n) noexcept {
    executor& home = *executor_;
    if (detail::this_thread().home == &home)
        push_at_home(n);
    else // from here on the node is its thread's, which may free everything
        home.send(detail::parcel(n, &n == &abort_));
}

// Relaxed, here and in what else a pinned strand does with its word: one thread (I5).
void strand::push_at_home(detail::ready_node& n) noexcept {
    detail::ready_node* const seen = word_.load(std::memory_order_relaxed);
    if (seen == idle()) {
        word_.store(busy(), std::memory_order_relaxed);
        append(n);
        executor_->schedule(*this, executor::placement::wake);
    } else {
        n.next = seen;
        word_.store(&n, std::memory_order_relaxed);
    }
}

strand& strand::of_abort_node(detail::ready_node& n) noexcept {
    // Conditionally supported, as the standard says of a class that is more than a struct; both compilers
    // do. A pointer back would cost each idle task a word.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
    constexpr std::size_t offset = offsetof(strand, abort_);
#pragma GCC diagnostic pop
    return *reinterpret_cast<strand*>(reinterpret_cast<std::byte*>(&n) - offset);
}

void strand::receive(detail::parcel p) noexcept {
    detail::ready_node& n = p.node();
    strand& s = p.is_abort() ? of_abort_node(n) : static_cast<leaf&>(n).owner();
    s.push(n);
}

detail::ready_node* strand::take_word() noexcept {
    // Relaxed: nothing new to read, or the exchange below reads it.
    detail::ready_node* const seen = word_.load(std::memory_order_relaxed);
    if (seen == busy())
        return nullptr;
    if (is_pinned()) {
        word_.store(busy(), std::memory_order_relaxed); // I5
        return seen;
    }
    return word_.exchange(busy(), std::memory_order_acquire); // (N)
}

void strand::take_new() noexcept {
    detail::ready_node* stack = take_word();
    detail::ready_node* in_order = nullptr;
    bool aborted = false;
    while (stack != nullptr) { // reversed: first woken, first resumed (R5)
        detail::ready_node* const next = stack->next;
        if (stack == &abort_) {
            aborted = true;
        } else {
            stack->next = in_order;
            in_order = stack;
        }
        stack = next;
    }
    while (in_order != nullptr) {
        detail::ready_node* const next = in_order->next;
        append(*in_order);
        in_order = next;
    }
    if (aborted) // before the rest of its batch (R17)
        meet_abort();
}

void strand::meet_abort() noexcept {
    met_abort_ = true;
    drop_main();
}

void strand::drop_main() noexcept {
    switch (phase_) {
    case phase::unstarted:
        if (root_ != nullptr)
            destroy_root();
        phase_ = phase::gone;
        break;
    case phase::running:
        if (cancel() == cancel_answer::quiet)
            unwind();
        break;
    default: // it has ended, or is being dropped already
        break;
    }
}

[[gnu::always_inline]] inline void strand::deliver(leaf& l, detail::thread_state& here) noexcept {
    branch& b = *l.where();
    here.running = &b;
    l.deferred_ = false;
    if (l.steps_) {
        l.steps_ = false;
        l.step().resume();
        return;
    }
    if (l.cancelled_) {
        l.go_on().resume();
        return;
    }
    if (l.retry_) {
        l.retry_ = false;
        if (!l.retry())
            return;
    }
    if (!b.unconstrained)
        take_budget();
    l.go_on().resume();
}

bool strand::try_idle() noexcept {
    detail::ready_node* seen = busy();
    if (is_pinned()) { // I5
        if (word_.load(std::memory_order_relaxed) != busy())
            return false;
        word_.store(idle(), std::memory_order_relaxed);
        return true;
    }
    // Success, release: (T). No acquire: there is nothing new. Failure, relaxed: what is new is taken next.
    return word_.compare_exchange_strong(seen, idle(), std::memory_order_release,
                                         std::memory_order_relaxed);
}

void strand::resume_ready() noexcept {
    const inside here(*this);
    while (!over()) {
        if (tail_ != nullptr)
            deliver(static_cast<leaf&>(take_first()), detail::this_thread()); // nobody aborts a thread
        else if (try_idle())
            return;
        else
            take_new();
    }
}

std::uint32_t strand::run_turn() noexcept {
    detail::thread_state& here = detail::this_thread();
    strand* const outer = std::exchange(here.turn, this);
    const branch* const outer_running = std::exchange(here.running, this);
    const std::uint16_t whole = executor_->budget();
    budget_ = whole;
    const auto done_so_far = [&] { return 1U + whole - budget_; };

    // What an earlier turn left behind ends here. Leaves deferred from now on are for the next one.
    detail::ready_node* last = tail_;
    bool looked = false; // each turn looks at the word, however much it has to do (R4)
    if (abort_requested()) {
        take_new();
        looked = true;
    }
    if (phase_ == phase::unstarted)
        start_root();

    while (!over() || !may_finish()) {
        if (tail_ != nullptr) {
            detail::ready_node* const n = tail_->next;
            const bool abort = n == &abort_;
            if (abort || (budget_ > 0 && (last != nullptr || !static_cast<leaf*>(n)->deferred_))) {
                static_cast<void>(take_first());
                if (n == last)
                    last = nullptr;
                if (abort) {
                    meet_abort();
                } else {
                    deliver(*static_cast<leaf*>(n), here);
                    here.running = this;
                }
            } else if (!looked) {
                take_new();
                looked = true;
            } else {
                here.turn = outer;
                here.running = outer_running;
                const std::uint32_t done = done_so_far();
                executor_->schedule(*this, executor::placement::yield);
                return done;
            }
            continue;
        }
        looked = true;
        // One that is being dropped already is enrolled for the reports alone.
        if (!enrolled_ && !may_sleep() && phase_ == phase::running) {
            drop_main(); // the executor is closed
            continue;
        }
        here.turn = outer; // before the strand may run elsewhere
        here.running = outer_running;
        const std::uint32_t done = done_so_far();
        if (try_idle())
            return done;
        here.turn = this;
        here.running = this;
        take_new();
    }
    const std::uint32_t done = done_so_far();
    finish();
    here.turn = outer;
    here.running = outer_running;
    return done;
}

} // namespace magpie
