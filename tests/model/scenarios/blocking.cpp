// A plain thread that waits for one leaf, with a strand on its stack, against who wakes it.

#include "support.hpp"

#include <magpie/core/detail/blocking_wait.hpp>

namespace {

using namespace model_test;
using how = spoiled::how;

magpie::task<int> give_seven() { co_return 7; }

scenario join("blocking.join", [] {
    executor ex;
    auto handle = ex.spawn(give_seven());
    thread("joiner", [&] { check(handle.blocking_join() == 7, "the join gives the value"); });
    thread("worker", [&] { ex.work(); });
    run();
});

mistake sleeps_at_once(join, "the futex sleeps without comparing",
                       {"waiting_thread::wait", "futex wait", how::unconditional});
mistake wakes_nobody(join, "the waker stores, and does not wake the futex",
                     {"waiting_thread::schedule", "futex wake", how::left_out});
mistake joins_by_store(join, "the joiner stores its leaf without comparing",
                       {"cell::wait", "compare_exchange", how::unconditional});
mistake idle_by_store(join, "the thread goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- the same with a waiting thread of our own, and what is not to be done in it ---

enum class flaw : unsigned char { none, wakes_first, leaves_early, touches_late };

template <flaw Flaw>
class waiting_thread final : private magpie::executor, public magpie::strand {
public:
    waiting_thread() : strand(static_cast<magpie::executor&>(*this)) {
        unconstrained = true;
        start_leaf();
    }

    void wait(const magpie::join_handle<int>& joined) noexcept {
        resume_ready();
        while (state() != phase::ended) {
            if (Flaw == flaw::leaves_early) {
                while (!joined.is_finished())
                    notified_.wait(0);
                return;
            }
            while (notified_.word.load(std::memory_order_acquire) == 0)
                notified_.wait(0);
            notified_.word.store(0, std::memory_order_relaxed);
            resume_ready();
        }
    }

private:
    void schedule(strand&, placement) noexcept override {
        magpie::detail::futex* const address = &notified_;
        if (Flaw == flaw::wakes_first)
            magpie::detail::futex::wake(address, 1);
        notified_.word.store(1, std::memory_order_release);
        if (Flaw != flaw::wakes_first)
            magpie::detail::futex::wake(address, 1);
        if (Flaw == flaw::touches_late)
            wakes_.fetch_add(1, std::memory_order_relaxed);
    }
    void adopt(magpie::detail::cell& c) noexcept override { c.refuse(); }
    bool enroll(magpie::detail::cell&) noexcept override { return true; }
    void retire(magpie::detail::cell&) noexcept override {}
    std::coroutine_handle<> ended() noexcept override { return std::noop_coroutine(); }
    std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
    void note(std::exception_ptr) noexcept override {}
    void finish() noexcept override {}

    magpie::detail::futex notified_;
    magpie::detail::atomic<int> wakes_{0};
};

template <flaw Flaw>
void wait_by_hand() {
    executor ex;
    auto handle = ex.spawn(give_seven());
    thread("joiner", [&] {
        waiting_thread<Flaw> here;
        auto operation = handle.operation();
        if (operation.start_in(here))
            here.wait(handle);
        check(operation.await_resume() == 7, "the join gives the value");
    });
    thread("worker", [&] { ex.work(); });
    run();
}

scenario by_hand("blocking.by_hand", &wait_by_hand<flaw::none>);

mistake wakes_first(by_hand, "the waker wakes the futex before it stores",
                    &wait_by_hand<flaw::wakes_first>);
mistake leaves_early(by_hand, "the thread leaves when it sees the end, not when it was notified",
                     &wait_by_hand<flaw::leaves_early>);
mistake touches_late(by_hand, "the waker counts its wake after it has notified",
                     &wait_by_hand<flaw::touches_late>);

} // namespace
