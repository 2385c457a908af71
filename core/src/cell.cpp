#include <magpie/core/detail/cell.hpp>

#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/unhandled.hpp>

#include <utility>

namespace magpie::detail {

namespace {
char done_mark;
char taken_mark;
char detached_mark;
char in_set_mark;
} // namespace

task_origin::record& task_origin::make_full() {
    if (full() == nullptr)
        word_ = reinterpret_cast<std::uintptr_t>(new record{word_, {}, {}}) | has_record;
    return *full();
}

std::uintptr_t task_origin::full_place() const noexcept {
    const record* const r = full();
    return r->name.empty() ? r->place : 0;
}

void task_origin::delete_full() noexcept { delete full(); }

void task_origin::inherit() {
    const task_context* const here = current_context();
    if (here != nullptr && here->inherited != nullptr) [[unlikely]]
        make_full().context.inherited = here->inherited;
}

void* cell::done() noexcept { return &done_mark; }
void* cell::taken() noexcept { return &taken_mark; }
void* cell::detached() noexcept { return &detached_mark; }
void* cell::in_set() noexcept { return &in_set_mark; }

void cell::abort() noexcept {
    // Release: edge (A) of strand. Who is first wakes it.
    if ((references_.fetch_or(aborted_bit, std::memory_order_release) & aborted_bit) == 0)
        request_abort();
}

bool cell::closes_to_aborts() noexcept {
    // Relaxed: nothing is published. Who is first decides whether a parcel comes.
    return (references_.fetch_or(aborted_bit, std::memory_order_relaxed) & aborted_bit) == 0 ||
           abort_came_;
}

void cell::retain() noexcept {
    references_.fetch_add(1, std::memory_order_relaxed); // the caller holds a reference already
}

void cell::release(std::uint32_t references) noexcept {
    // Acquire: the last one to leave sees what the others did before they left; they released.
    // Who holds all there are needs no read-modify-write: nobody else can make another.
    const bool last = (references_.load(std::memory_order_acquire) & count_mask) == references ||
                      (references_.fetch_sub(references, std::memory_order_acq_rel) & count_mask) ==
                          references;
    if (last) {
        if (has_attached()) [[unlikely]]
            forget_attached();
        drop_result_contained();
        delete this;
    }
}

void cell::refuse() noexcept {
    thread_state& here = this_thread();
    strand* const outer = std::exchange(here.turn, this); // its last turn, on the spawner's thread
    const branch* const outer_running = std::exchange(here.running, this);
    drop_main();
    static_cast<void>(closes_to_aborts()); // nobody else knows the cell yet
    here.turn = outer;
    here.running = outer_running;
    end();
}

bool cell::is_finished() const noexcept {
    // (E). seq_cst: see complete().
    void* const word = join_.load(std::memory_order_seq_cst);
    return word == done() || word == taken();
}

cell::join_state cell::joined() const noexcept {
    void* const word = join_.load(std::memory_order_acquire); // (E)
    if (word == done())
        return join_state::done;
    if (word == taken())
        return join_state::taken;
    return word == nullptr ? join_state::pending : join_state::occupied;
}

cell::join_state cell::wait(leaf& l) noexcept {
    void* word = nullptr;
    // Success: (L). Failure: (E), the task has ended meanwhile.
    if (join_.compare_exchange_strong(word, &l, std::memory_order_release, std::memory_order_acquire))
        return join_state::pending;
    if (word == done())
        return join_state::done;
    return word == taken() ? join_state::taken : join_state::occupied;
}

cancel_answer cell::withdraw(leaf& l) noexcept {
    void* word = &l;
    // Relaxed: the leaf goes back to its own strand, and nothing else was handed over.
    return join_.compare_exchange_strong(word, nullptr, std::memory_order_relaxed,
                                         std::memory_order_relaxed)
               ? cancel_answer::quiet
               : cancel_answer::coming;
}

bool cell::has_attached() const noexcept {
    // Relaxed: it was set before the task's end, which the caller has seen, or on its own turn.
    return (references_.load(std::memory_order_relaxed) & attached_bit) != 0;
}

void cell::mark_taken() noexcept {
    if (has_attached()) [[unlikely]]
        pass_attached();
    join_.store(taken(), std::memory_order_release); // (E) goes on, for who asks is_finished()
}

void cell::detach() noexcept {
    void* word = join_.load(std::memory_order_acquire); // (E): mostly it has ended
    // Success: (D). Failure: (E).
    if (word == nullptr && join_.compare_exchange_strong(word, detached(), std::memory_order_release,
                                                         std::memory_order_acquire))
        return;
    MAGPIE_ASSERT(word == done() || word == taken()); // nobody waits through a handle that goes
    if (word == done())
        report_unhandled(error());
    release();
}

void cell::belong_to_set() noexcept {
    join_.store(in_set(), std::memory_order_relaxed); // nobody else knows the cell yet
}

void cell::leave_set() noexcept {
    report_unhandled(error());
    release();
}

void cell::complete() noexcept {
    // (E), (L), (D). seq_cst, with is_finished(): who waits for a seat counts itself in and then asks for the
    // end of its root; who has the seat ends that and then reads the count (R35). If both read old values,
    // nobody tells the one that waits.
    void* const word = join_.exchange(done(), std::memory_order_seq_cst);
    if (word == detached()) {
        report_unhandled(error());
        release();
    } else if (word == in_set()) {
        tell_set();
    } else if (word != nullptr) {
        wake(*static_cast<leaf*>(word)); // the cell belongs to the handle now, and may be gone
    }
}

bool cell::publish_end() noexcept {
    void* const word = join_.exchange(done(), std::memory_order_acq_rel); // (E), (L), (D)
    if (word != nullptr && word != detached())
        wake(*static_cast<leaf*>(word));
    return word == detached();
}

bool cell::may_sleep() noexcept { return where_it_runs().enroll(*this); }

void cell::finish() noexcept {
    destroy_root(); // parameters too, before anybody is told (R28)
    where_it_runs().retire(*this);
    end();
}

void cell::report_unhandled(std::exception_ptr e) noexcept {
    if (e)
        detail::report_unhandled(where_it_runs(), {std::move(e), id, name(), where()});
}

void report_lost(const strand& s, std::exception_ptr error) noexcept {
    const cell& c = static_cast<const cell&>(s); // the only strands that take turns are cells
    detail::report_unhandled(c.where_it_runs(), {std::move(error), c.id, c.name(), c.where()});
}

void cell::drop_result_contained() noexcept {
    thread_state& here = this_thread();
    // Its destructor sees the task's id. Not its turn: the executor may be gone.
    const cell* const outer = std::exchange(here.result_of, this);
    try {
        drop_result();
    } catch (...) {
        report_unhandled(std::current_exception());
    }
    here.result_of = outer;
}

} // namespace magpie::detail
