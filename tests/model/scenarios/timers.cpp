// A worker's timers: arm against fire against disarm, and arm against who sleeps until the next one.

#include "scheduler.hpp"

#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <source_location>
#include <vector>

namespace {

using namespace model_test;
using namespace std::chrono_literals;
using how = spoiled::how;
using magpie::detail::lock_guard;
using magpie::detail::runtime_group;
using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;
using magpie::detail::worker_timers;

/// The product's timers with one line wrong.
enum class flaw : unsigned char { always_quiet, reads_after_wake, stores_late };

template <flaw Flaw>
class copied_timers {
public:
    bool arm(timer_entry& e, std::uint64_t tick) noexcept {
        const lock_guard guard(lock_);
        e.wheel = this;
        e.armed = true;
        wheel_.insert(e, tick);
        if (tick >= next_.load(std::memory_order_relaxed))
            return false;
        next_.exchange(tick, std::memory_order_seq_cst);
        return true;
    }
    bool disarm(timer_entry& e) noexcept {
        const lock_guard guard(lock_);
        if (!e.armed)
            return Flaw == flaw::always_quiet;
        wheel_.remove(e);
        e.armed = false;
        if (e.tick <= next_.load(std::memory_order_relaxed))
            next_.store(wheel_.next_tick(), std::memory_order_seq_cst);
        return true;
    }
    std::uint64_t next() const noexcept { return next_.load(std::memory_order_seq_cst); }
    void fire(std::uint64_t now) noexcept {
        timer_entry* due;
        std::uint64_t first;
        {
            const lock_guard guard(lock_);
            due = wheel_.advance(now);
            for (timer_entry* e = due; e != nullptr; e = e->next)
                e->armed = false;
            first = wheel_.next_tick();
            if (Flaw != flaw::stores_late)
                next_.store(first, std::memory_order_seq_cst);
        }
        if (Flaw == flaw::stores_late)
            next_.store(first, std::memory_order_seq_cst);
        while (due != nullptr) {
            timer_entry* next = due->next;
            wake(*due->waiter);
            if (Flaw == flaw::reads_after_wake)
                next = due->next;
            due = next;
        }
    }

private:
    magpie::detail::mutex lock_;
    timer_wheel wheel_;
    magpie::detail::atomic<std::uint64_t> next_{timer_wheel::never};
};

/// The scenarios' executor with real timers; its time stands still, a tick is a millisecond.
template <class Timers>
class timed_executor final : public executor {
public:
    /// What a clock does: it waits until so many timers have been armed, and then lets time go on.
    void await_armed(int count) {
        magpie_model::step_when([&] { return armed_ >= count || is_over(); }, "wait for timers",
                                nullptr);
    }
    void fire(std::uint64_t now) {
        if constexpr (requires { timers_.fire(now); })
            timers_.fire(now);
        else
            worker_timers::wake_all(timers_.look([now] { return now; }).due);
    }
    std::uint64_t next() const { return timers_.next(); }

private:
    void arm(timer_entry& e, magpie::clock::time_point at) noexcept override {
        timers_.arm(e, static_cast<std::uint64_t>(at.time_since_epoch() / 1ms));
        ++armed_; // one step with the end of arm
    }
    void arm_after(timer_entry& e, magpie::clock::duration d) noexcept override {
        if constexpr (requires { timers_.arm_later(e, d); }) {
            timers_.arm_later(e, d);
            ++armed_;
        }
    }
    magpie::cancel_answer disarm(timer_entry& e) noexcept override {
        return timers_.disarm(e) ? magpie::cancel_answer::quiet : magpie::cancel_answer::coming;
    }

    Timers timers_;
    int armed_ = 0;
};

magpie::task<> sleep(std::chrono::milliseconds d, int& passed, tracked) {
    co_await magpie::sleep_for(d);
    ++passed;
}

// --- two timers run out while one of them is taken back ---

template <class Timers>
void fire_and_drop() {
    timed_executor<Timers> ex;
    int passed = 0;
    int stayed = 0;
    int destroyed = 0;
    auto handle = ex.spawn(sleep(1ms, passed, tracked(destroyed)));
    ex.spawn(sleep(1ms, stayed, tracked(destroyed))).detach();
    thread("clock", [&] {
        ex.await_armed(1);
        ex.fire(1);
        ex.await_armed(2);
        ex.fire(2);
    });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 2, "both tasks have ended");
    check(stayed == 1, "the timer that nobody took back has run out");
    check(ex.next() == timer_wheel::never, "no timer is left");
}

scenario drop("timers.drop", {.preemptions = 3, .full = 4}, &fire_and_drop<worker_timers>);

mistake always_quiet(drop, "a timer that was taken to be fired says quiet",
                     &fire_and_drop<copied_timers<flaw::always_quiet>>);
mistake reads_after_wake(drop, "an entry is read after its waiter was woken",
                         &fire_and_drop<copied_timers<flaw::reads_after_wake>>);

// --- one timer is armed while another one runs out ---

template <class Timers>
void fire_and_arm() {
    timed_executor<Timers> ex;
    int passed = 0;
    int destroyed = 0;
    ex.spawn(sleep(1ms, passed, tracked(destroyed))).detach();
    ex.spawn(sleep(2ms, passed, tracked(destroyed))).detach();
    thread("clock", [&] {
        ex.await_armed(1);
        ex.fire(1);
        ex.await_armed(2);
        for (std::uint64_t next; (next = ex.next()) != timer_wheel::never;) // as who sleeps until then
            ex.fire(next);
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(passed == 2 && destroyed == 2, "both timers run out");
}

scenario arm("timers.arm", &fire_and_arm<worker_timers>);

mistake stores_late(arm, "the next tick is written outside of the lock",
                    &fire_and_arm<copied_timers<flaw::stores_late>>);
mistake not_next(arm, "arm does not write the next tick",
                 {"worker_timers::set_next", "exchange", how::left_out});

// --- one that was armed to be timed later is taken back while it is timed ---

magpie::task<> limited(magpie::sync::event& never, int& expired, tracked) {
    const bool in_time = co_await magpie::timeout(1ms, never.wait());
    expired += in_time ? 0 : 1;
}

/// The product's, but look() takes the whole list first, and a disarm comes in between.
class stamps_in_steps : public worker_timers {
public:
    void arm_later(timer_entry& e, magpie::clock::duration d) noexcept {
        const lock_guard guard(list_lock_);
        e.tick = static_cast<std::uint64_t>(d / 1ms);
        e.armed = true;
        waiting_.push_back(&e);
    }
    template <class Clock>
    looked look(const Clock& tick_now) noexcept {
        std::vector<timer_entry*> taken;
        {
            const lock_guard guard(list_lock_);
            taken.swap(waiting_);
        }
        for (timer_entry* const e : taken)
            arm(*e, tick_now() + e->tick + 1);
        return worker_timers::look(tick_now);
    }
    bool disarm(timer_entry& e) noexcept {
        {
            const lock_guard guard(list_lock_);
            if (std::erase(waiting_, &e) > 0)
                return true;
        }
        return e.wheel == nullptr || worker_timers::disarm(e); // not in the list: so it was in no list
    }

private:
    magpie::detail::mutex list_lock_;
    std::vector<timer_entry*> waiting_;
};

template <class Timers>
void stamp_and_drop() {
    timed_executor<Timers> ex;
    magpie::sync::event never;
    int expired = 0;
    int destroyed = 0;
    auto handle = ex.spawn(limited(never, expired, tracked(destroyed)));
    ex.spawn(limited(never, expired, tracked(destroyed))).detach();
    thread("clock", [&] {
        ex.await_armed(1);
        ex.fire(0); // a look
        ex.fire(2);
        ex.await_armed(2);
        ex.fire(2);
        ex.fire(4);
    });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 2, "both tasks have ended");
    check(expired >= 1, "the time-out that nobody took back has expired");
    check(ex.next() == timer_wheel::never, "no timer is left");
}

scenario later("timers.later", {.preemptions = 2, .full = 3}, &stamp_and_drop<worker_timers>);

mistake in_steps(later, "entries are timed outside of the lock", &stamp_and_drop<stamps_in_steps>);

// --- a deadline, against who sleeps in the driver until the first one ---

std::shared_ptr<runtime_group> make_runtime(std::size_t workers, bool reactor_each = false) {
    magpie::detail::runtime_options o;
    o.worker_threads = workers;
    o.seed = 1;
    o.reactor_per_worker = reactor_each;
    return std::make_shared<runtime_group>(std::move(o), std::source_location::current());
}

scenario driver("timers.driver", [] {
    const auto rt = make_runtime(1);
    magpie::detail::runtime_core* const core = rt->shards.front().get();
    timer_entry entry;
    core->idle.sleep(0, false, [] {}); // with somebody awake it would sleep for a millisecond at most
    check(core->driver_of(0).try_lock(), "nobody is in the driver");
    // A sleep with a limit ends when nothing else can run. One without has to be ended by arm().
    thread("sleeper", [&] { core->park_driver(0, magpie::clock::time_point::max(), true); });
    thread("armer", [&] { core->arm(entry, core->now() + 1h); });
    run();
    core->driver_of(0).unlock();
    core->disarm(entry);
});

mistake no_second_look(driver, "the sleeper sees old deadlines",
                       {"worker_timers::next", "load", how::outdated});
mistake not_announced(driver, "the sleeper does not say until when it sleeps",
                      {"driver_slot::sleep_until", "exchange", how::left_out});
mistake wakes_nobody(driver, "who arms does not look for the sleeper",
                     {"driver_slot::sleeps_beyond", "load", how::outdated});

// --- the same for one that is timed later: who does that tells the sleeper ---

scenario stamped("timers.stamped", [] {
    const auto rt = make_runtime(1);
    magpie::detail::runtime_core* const core = rt->shards.front().get();
    timer_entry entry;
    core->idle.sleep(0, false, [] {});
    check(core->driver_of(0).try_lock(), "nobody is in the driver");
    thread("sleeper", [&] { core->park_driver(0, magpie::clock::time_point::max(), true); });
    thread("owner", [&] {
        magpie::detail::worker& owner = *core->workers.front();
        owner.timers.arm_later(entry, 1h);
        core->fire(owner, 1); // it counts from here
        core->fire(owner, 2); // and goes into the wheel
    });
    run();
    core->driver_of(0).unlock();
    core->disarm(entry);
});

mistake stamps_in_silence(stamped, "who times an entry does not look for the sleeper",
                          {"driver_slot::sleeps_beyond", "load", how::outdated});

// --- somebody looks after a worker that is stuck, while that one adds an entry ---

using magpie::detail::runtime_clock;
using point = magpie::clock::time_point;

template <class Look>
void look_after_another(const Look& look) {
    runtime_clock time(true);
    const point begin = time.now();
    const std::uint64_t tick = time.tick_now() + 10;
    worker_timers timers;
    timer_entry entry;
    thread("owner", [&] {
        time.advance_to(begin + 10ms);
        timers.arm_later(entry, 100ms);
    });
    thread("other", [&] { look(timers, time); });
    run();
    timers.look([tick] { return tick; }, true);
    check(entry.tick > tick + 100, "it is not due too early");
    timers.disarm(entry);
}

scenario looked_after("timers.looked_after", [] {
    look_after_another([](worker_timers& timers, const runtime_clock& time) {
        timers.look([&] { return time.tick_now(); });
    });
});

mistake clock_before(looked_after, "the clock is read before the lock is taken", [] {
    look_after_another([](worker_timers& timers, const runtime_clock& time) {
        const std::uint64_t now = time.tick_now();
        timers.look([now] { return now; });
    });
});

// --- who gets up, against who lies down in the driver: somebody has to look after the one that is up ---

/// `up` gets the other worker up.
template <class Up>
void get_up_and_sleep(const Up& up) {
    const auto rt = make_runtime(2);
    magpie::detail::runtime_core* const core = rt->shards.front().get();
    core->idle.sleep(0, false, [] {});
    core->idle.sleep(1, false, [] {});
    check(core->driver_of(0).try_lock(), "nobody is in the driver");
    // Without a limit it would have to be woken; with one, of a millisecond, it comes back by itself.
    thread("sleeper", [&] { core->park_driver(0, magpie::clock::time_point::max(), true); });
    thread("riser", [&] {
        up(*core);
        core->ensure_watched();
    });
    run();
    core->driver_of(0).unlock();
}

constexpr scenario::bounds soon{.preemptions = 3, .full = 4, .which = timeouts::soon};

scenario watched("timers.watched", soon, [] {
    get_up_and_sleep([](magpie::detail::runtime_core& core) { core.idle.get_up(1); });
});

mistake not_up(watched, "who gets up by itself is not counted",
               {"idle_set::get_up", "modify", how::left_out});
mistake not_down(watched, "who gets up does not see who lies down",
                 {"driver_slot::sleeps_beyond", "load", how::outdated});

scenario watched_first("timers.watched_first", soon, [] {
    get_up_and_sleep([](magpie::detail::runtime_core& core) {
        const magpie::detail::lock_guard guard(core.idle);
        check(core.idle.all_sleep(), "nobody is up yet");
        core.idle.get_up_locked(1);
    });
});

mistake not_up_first(watched_first, "who gets up while all sleep is not counted",
                     {"idle_set::get_up_locked", "modify", how::left_out});

scenario watched_woken("timers.watched_woken", soon, [] {
    get_up_and_sleep([](magpie::detail::runtime_core& core) {
        check(core.idle.wake_any() == 1, "the last to sleep");
    });
});

mistake not_up_woken(watched_woken, "who is woken is not counted",
                     {"idle_set::take", "modify", how::left_out});

// --- who leaves the watch for the driver ---

scenario watch_left("timers.watch_left", soon, [] {
    const auto rt = make_runtime(2);
    magpie::detail::runtime_core* const core = rt->shards.front().get();
    core->idle.sleep(0, false, [] {});
    core->idle.sleep(1, false, [] {});
    check(core->watch.try_occupy(), "nobody is on the watch");
    check(core->driver_of(0).try_lock(), "nobody is in the driver");
    thread("sleeper", [&] {
        core->watch.vacate();
        core->park_driver(0, magpie::clock::time_point::max(), true);
    });
    thread("riser", [&] {
        core->idle.get_up(1);
        core->ensure_watched();
    });
    run();
    core->driver_of(0).unlock();
});

mistake not_left(watch_left, "who leaves the watch does not say so",
                 {"watch_timer::vacate", "store", how::left_out});

// --- with a reactor each: who gets up, against who begins to look after those that are up ---

scenario kept("timers.kept", soon, [] {
    const auto rt = make_runtime(3, true);
    magpie::detail::runtime_core* const core = rt->shards.front().get();
    for (const std::size_t worker : {1U, 0U, 2U}) // the last one is who is woken if nobody keeps
        core->idle.sleep(worker, false, [] {});
    check(core->driver_of(0).try_lock(), "nobody is in the driver");
    thread("sleeper", [&] {
        check(core->try_keep(0), "nobody keeps");
        core->park_driver(0, magpie::clock::time_point::max(), true);
    });
    thread("riser", [&] {
        core->idle.get_up(1);
        core->ensure_watched();
    });
    run();
    core->driver_of(0).unlock();
});

mistake keeps_in_silence(kept, "who gets up does not see who keeps",
                         {"runtime_core::ensure_kept", "load", how::outdated});
mistake up_uncounted(kept, "who gets up is not counted", {"idle_set::get_up", "modify", how::left_out});

// --- the clock: who sees what it shows sees what was done before ---

template <class Change, class Shows>
void change_clock(bool paused, const Change& change, const Shows& shows) {
    magpie::detail::runtime_clock time(paused);
    const auto begin = time.now();
    if (paused)
        time.advance_to(begin + 1h);
    magpie_model::plain<int> data;
    thread("changer", [&] {
        data.set(7);
        change(time, begin);
    });
    thread("reader", [&] {
        if (shows(time, begin))
            check(data.get() == 7, "who sees the change sees what was done before");
    });
    run();
}

scenario advanced("timers.clock_advances", [] {
    change_clock(
        true, [](runtime_clock& time, point begin) { time.advance_to(begin + 2h); },
        [](runtime_clock& time, point begin) { return time.now() >= begin + 2h; });
});
scenario pauses("timers.clock_pauses", [] {
    change_clock(
        false, [](runtime_clock& time, point) { time.pause(); },
        [](runtime_clock& time, point) { return time.paused(); });
});
scenario resumes("timers.clock_resumes", [] {
    change_clock(
        true, [](runtime_clock& time, point) { time.resume(); },
        [](runtime_clock& time, point begin) {
            check(time.now() >= begin + 59min, "the clock does not go back");
            return !time.paused();
        });
});

} // namespace
