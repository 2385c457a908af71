// The threads for blocking calls: a call is handed over while the thread's time is up, and while the
// pool closes.

#include "scheduler.hpp"

#include <scheduler/src/runtime_clock.hpp>

#include <array>
#include <chrono>
#include <memory>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::detail::blocking_pool;
using magpie::detail::futex;

class call final : public magpie::detail::blocking_job {
public:
    int ran = 0;
    int finished = 0;
    int refused = 0;
    const call* waits_for = nullptr;

private:
    void run() noexcept override {
        if (waits_for != nullptr)
            magpie_model::step_when([&] { return waits_for->ran == 1; }, "wait for the next call",
                                    nullptr);
        ++ran;
    }
    void finish() noexcept override { ++finished; }
    void refuse() noexcept override { ++refused; }
    std::string describe() const override { return {}; }
};

// One thread at most, which may be idle, and be over, when the second call comes.
void submit_and_close() {
    auto pool = std::make_unique<blocking_pool>(
        blocking_pool::options{1, std::chrono::seconds(10), 0, "model", {}, {}});
    std::array<call, 2> calls;
    bool submitted = false;
    thread("submitter", [&] {
        for (call& c : calls)
            pool->submit(c);
        magpie_model::step("submitted", nullptr, [&] { submitted = true; });
    });
    thread("closer", [&] {
        pool->close();
        magpie_model::step_when([&] { return submitted; }, "wait for the submitter", nullptr);
        check(pool->join(futex::time_point::max()), "all threads end");
        check(!pool->busy(), "no call is left");
        pool.reset();
    });
    run();
    for (const call& c : calls)
        check(c.ran == c.finished && c.ran + c.refused == 1, "a call runs once, or is refused");
}

scenario keep_alive("pool.keep_alive", {.preemptions = 3, .full = 4}, &submit_and_close);

mistake never_leaves(keep_alive, "a thread that ends is not counted",
                     {"blocking_pool::leave", "modify", how::left_out});
mistake leaves_unheard(keep_alive, "a thread that ends wakes nobody",
                       {"blocking_pool::leave", "futex wake", how::left_out});

// The thread's time may be up right before the second call comes: somebody still runs that.
void submit_and_wait() {
    auto pool = std::make_unique<blocking_pool>(
        blocking_pool::options{1, std::chrono::seconds(10), 0, "model", {}, {}});
    std::array<call, 2> calls;
    thread("submitter", [&] {
        for (call& c : calls) {
            pool->submit(c);
            magpie_model::step_when([&] { return c.finished == 1; }, "wait for the call", nullptr);
        }
        pool->close();
        check(pool->join(futex::time_point::max()), "all threads end");
        pool.reset();
    });
    run();
    for (const call& c : calls)
        check(c.ran == 1 && c.refused == 0, "a call runs once");
}

scenario last_moment("pool.last_moment", {.preemptions = 3, .full = 4}, &submit_and_wait);

mistake last_unheard(last_moment, "a thread that ends wakes nobody",
                     {"blocking_pool::leave", "futex wake", how::left_out});

scenario hand_over("pool.hand_over", {.preemptions = 3, .full = 4, .which = timeouts::none},
                   &submit_and_close);

mistake not_told(hand_over, "an idle thread is not told of its call",
                 {"blocking_pool::summon", "store", how::left_out});
mistake not_woken(hand_over, "an idle thread is told, and not woken",
                  {"blocking_pool::submit", "futex wake", how::left_out});
mistake sleeps_at_once(hand_over, "an idle thread sleeps without comparing",
                       {"blocking_pool::sleep", "futex wait", how::unconditional});
mistake close_unheard(hand_over, "close() wakes no idle thread",
                      {"blocking_pool::close", "futex wake", how::left_out});

// The first call of a pair waits for the second: the thread that has come for the first sees to another
// one. At first there is none, later it is idle.
void submit_pairs() {
    auto pool = std::make_unique<blocking_pool>(
        blocking_pool::options{2, std::chrono::seconds(10), 0, "model", {}, {}});
    std::array<call, 4> calls;
    calls[0].waits_for = &calls[1];
    calls[2].waits_for = &calls[3];
    thread("submitter", [&] {
        for (std::size_t i = 0; i < calls.size(); i += 2) {
            pool->submit(calls[i]);
            pool->submit(calls[i + 1]);
            magpie_model::step_when([&] { return calls[i].finished + calls[i + 1].finished == 2; },
                                    "wait for both calls", nullptr);
        }
        pool->close();
        check(pool->join(futex::time_point::max()), "all threads end");
        pool.reset();
    });
    run();
    for (const call& c : calls)
        check(c.ran == 1 && c.finished == 1 && c.refused == 0, "a call runs once");
}

scenario pass_on("pool.pass_on", {.preemptions = 2, .full = 3, .which = timeouts::none}, &submit_pairs);

mistake not_passed_on(pass_on, "who comes for a call wakes nobody for the next",
                      {"blocking_pool::next_job", "futex wake", how::left_out});
mistake not_called(pass_on, "a call wakes nobody",
                   {"blocking_pool::submit", "futex wake", how::left_out});

// --- the last call ends while the clock is paused: somebody lets that go on ---

// A worker of runtime_core's that has lain down, about the product's own parts: it asks whether the clock may
// go on when it lies down, and each time that it is woken.
void pause_and_end() {
    using magpie::detail::idle_set;
    using magpie::detail::parker;
    magpie::detail::runtime_clock time(false);
    idle_set idle(1);
    parker sleep;
    blocking_pool pool(blocking_pool::options{1, std::chrono::seconds(10), 0, "model", {}, {}});
    const auto notify_any = [&] {
        if (idle.wake_any() != idle_set::nobody)
            sleep.notify();
    };
    pool.on_idle = [&] {
        if (time.paused())
            notify_any();
    };
    const auto step = [&] {
        const magpie::detail::lock_guard guard(idle);
        if (!idle.all_sleep() || pool.busy())
            return false;
        idle.get_up_locked(0);
        return true;
    };
    pool.begin_section();
    bool ended = false;
    thread("call", [&] {
        magpie_model::step("end", nullptr, [&] { ended = true; });
        pool.end_section();
    });
    thread("pauser", [&] {
        time.pause();
        notify_any();
    });
    thread("worker", [&] {
        for (bool steps = false; !steps;) {
            idle.sleep(0, false, [] {});
            if (time.paused())
                steps = step();
            if (!steps && sleep.announce(parker::where::on_futex)) {
                sleep.sleep(futex::time_point::max());
                sleep.rise();
            }
            if (!steps)
                idle.get_up(0);
            idle.stop_searching();
        }
        check(ended, "the clock goes on when no call runs");
    });
    run();
}

scenario paused("pool.paused", {.preemptions = 3, .full = 4, .which = timeouts::none}, &pause_and_end);

mistake not_counted_in(paused, "a call is not counted",
                       {"blocking_pool::begin_section", "modify", how::left_out});
mistake ends_unheard(paused, "who counts itself out does not see that the clock is paused",
                     {"runtime_clock::paused", "load", how::outdated, "blocking_pool::end_section"});

} // namespace
