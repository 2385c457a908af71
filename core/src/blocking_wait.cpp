#include <magpie/core/detail/blocking_wait.hpp>

#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/may_block.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>

#include <utility>

namespace magpie::detail {

namespace {
/// A turn that there is none of: so the thread may block in none.
strand* no_turn() noexcept {
    static char mark;
    return reinterpret_cast<strand*>(&mark);
}
} // namespace

no_blocking::no_blocking() noexcept : outer_(std::exchange(this_thread().may_block, no_turn())) {}
no_blocking::~no_blocking() { this_thread().may_block = outer_; }
bool no_blocking::is_here() noexcept { return this_thread().may_block == no_turn(); }

waiting_thread::waiting_thread() : strand(static_cast<executor&>(*this)) {
    const thread_state& here = this_thread();
    if (here.turn != nullptr && here.turn != here.may_block)
        throw_usage_error("a blocking wait inside a task would block its worker: co_await the "
                          "operation instead, or do it in spawn_blocking");
    if (no_blocking::is_here())
        throw_usage_error("a blocking wait in a function that was submitted to a shard would block all "
                          "of the shard: submit one that gives a task, and co_await the operation in "
                          "that");
    unconstrained = true;
    start_leaf();
}

void waiting_thread::wait() noexcept {
    resume_ready();                   // it may be ready already; else the strand goes idle
    while (state() != phase::ended) { // an operation may have more than one thing to wait for
        // Acquire: pairs with the release in schedule(), the waker's last touch (R34). What the waker
        // did before is visible, and the strand may leave this stack.
        while (notified_.word.load(std::memory_order_acquire) == 0)
            notified_.wait(0);
        // Relaxed: only who finds the strand idle notifies, and it is not idle before the next line.
        notified_.word.store(0, std::memory_order_relaxed);
        resume_ready();
    }
}

void waiting_thread::schedule(strand&, placement) noexcept {
    futex* const address = &notified_;
    notified_.word.store(1, std::memory_order_release); // pairs with wait()
    futex::wake(address, 1);                            // by address alone: the thread may be gone
}

void waiting_thread::adopt(cell& c) noexcept { c.refuse(); }

} // namespace magpie::detail
