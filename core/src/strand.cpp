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

detail::ready_node* strand::stirred() noexcept {
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

namespace {

constexpr std::uintptr_t link_mark = 1;
constexpr std::uintptr_t opened_mark = 2;

detail::ready_node* mark(void* p, std::uintptr_t as) noexcept {
    return reinterpret_cast<detail::ready_node*>(reinterpret_cast<std::uintptr_t>(p) + as);
}
template <class T>
T* unmark(detail::ready_node* p, std::uintptr_t as) noexcept {
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(p) - as);
}
bool is_marked(const detail::ready_node* p, std::uintptr_t as) noexcept {
    return (reinterpret_cast<std::uintptr_t>(p) & as) != 0;
}

} // namespace

bool strand::is_linked() const noexcept { return is_marked(tail_, link_mark | opened_mark); }

void strand::link(strand* next) noexcept {
    detail::ready_node* const end = mark(next, link_mark);
    tail_ = tail_ == nullptr ? end : mark(std::exchange(tail_->next, end), opened_mark);
}

strand* strand::unlink() noexcept {
    detail::ready_node* last = nullptr;
    detail::ready_node* end = tail_;
    if (is_marked(tail_, opened_mark)) {
        auto* const first = unmark<detail::ready_node>(tail_, opened_mark);
        for (end = first; !is_marked(end, link_mark); end = end->next)
            last = end;
        last->next = first;
    }
    tail_ = last;
    return unmark<strand>(end, link_mark);
}

void strand::push(detail::ready_node& n) noexcept {
    if (detail::this_thread().turn == this) {
        append(n);
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
                where_it_runs().schedule(*this, executor::placement::wake);
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

void strand::push_abort() noexcept {
    if (detail::this_thread().turn == this) { // it looks before it resumes anything
        abort_came_ = true;
        return;
    }
    if (is_pinned()) {
        if (!is_at_home()) {
            where_it_runs().send(detail::parcel(*this)); // from here on it is its thread's
            return;
        }
        abort_came_ = true;
        wake_at_home();
        return;
    }
    detail::ready_node* seen = word_.load(std::memory_order_relaxed); // checked by the CAS below
    for (;;) {
        if (seen == idle()) {
            // As in push().
            if (word_.compare_exchange_weak(seen, busy(), std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                where_it_runs().schedule(*this, executor::placement::wake);
                return;
            }
        } else {
            // Of a stack that is not empty nothing changes. The CAS tells all the same: (A).
            if (word_.compare_exchange_weak(seen, seen == busy() ? stirred() : seen,
                                            std::memory_order_release, std::memory_order_relaxed))
                return;
        }
    }
}

bool strand::is_at_home() const noexcept { return detail::this_thread().home == &where_it_runs(); }

void strand::push_pinned(detail::ready_node& n) noexcept {
    if (!is_at_home()) { // from here on the node is its thread's, which may free everything
        where_it_runs().send(detail::parcel(n));
        return;
    }
    if (is_linked()) [[unlikely]] {
        strand* const behind = unlink();
        append(n);
        link(behind);
    } else {
        append(n);
    }
    wake_at_home();
}

void strand::wake_at_home() noexcept {
    if (asleep_) {
        asleep_ = false;
        where_it_runs().schedule(*this, executor::placement::wake);
    }
}

void strand::receive(detail::parcel p) noexcept {
    if (p.is_abort()) {
        p.aborted().push_abort();
    } else {
        detail::ready_node& n = p.node();
        static_cast<leaf&>(n).owner().push(n);
    }
}

detail::ready_node* strand::take_word() noexcept {
    // Relaxed: nothing new to read, or the exchange below reads it.
    if (word_.load(std::memory_order_relaxed) == busy() || is_pinned()) // I5
        return busy();
    return word_.exchange(busy(), std::memory_order_acquire); // (N)
}

void strand::take_new() noexcept {
    detail::ready_node* stack = take_word();
    detail::ready_node* in_order = nullptr;
    while (stack != busy() && stack != stirred()) { // reversed: first woken, first resumed (R5)
        detail::ready_node* const next = stack->next;
        stack->next = in_order;
        in_order = stack;
        stack = next;
    }
    while (in_order != nullptr) {
        detail::ready_node* const next = in_order->next;
        append(*in_order);
        in_order = next;
    }
}

bool strand::meets_abort() noexcept {
    if (!abort_requested() || met_abort_) [[likely]]
        return false;
    met_abort_ = true;
    drop_main();
    return true;
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
    if (is_pinned()) { // I5
        asleep_ = true;
        return true;
    }
    detail::ready_node* seen = busy();
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
    const std::uint16_t whole = where_it_runs().budget();
    budget_ = whole;
    const auto done_so_far = [&] { return 1U + whole - budget_; };

    // What an earlier turn left behind ends here. Leaves deferred from now on are for the next one.
    detail::ready_node* last = tail_;
    bool looked = false; // each turn looks at the word, however much it has to do (R4)
    if (!meets_abort() && phase_ == phase::unstarted)
        start_root();

    while (!over() || !may_finish()) {
        if (meets_abort()) // before the rest of its batch (R17)
            continue;
        if (tail_ != nullptr) {
            detail::ready_node* const n = tail_->next;
            if (budget_ > 0 && (last != nullptr || !static_cast<leaf*>(n)->deferred_)) {
                static_cast<void>(take_first());
                if (n == last)
                    last = nullptr;
                deliver(*static_cast<leaf*>(n), here);
                here.running = this;
            } else if (!looked) {
                take_new();
                looked = true;
            } else {
                here.turn = outer;
                here.running = outer_running;
                const std::uint32_t done = done_so_far();
                where_it_runs().schedule(*this, executor::placement::yield);
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
