// Who makes work visible against who lies down. Nothing times out here: what sleeps though there is
// work sleeps for ever.

#include "scheduler.hpp"

#include <scheduler/src/company.hpp>
#include <scheduler/src/futex_driver.hpp>
#include <scheduler/src/inbox.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <utility>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::strand;
using magpie::detail::futex;
using magpie::detail::idle_set;
using magpie::detail::injector;
using magpie::detail::local_queue;
using magpie::detail::parker;
using magpie::detail::rests;

constexpr scenario::bounds one_worker{.preemptions = 3, .full = 5, .which = timeouts::none};
constexpr scenario::bounds two_workers{.preemptions = 2, .full = 3, .which = timeouts::none};

enum class flaw : unsigned char {
    none,
    notifies_first,       // the idle word is read before the work is visible
    looks_before_it_lies, // the queues are read before the worker is out of the idle word
    never_looks_again,
    leaves_without_look, // a searcher that has found work does not look for more
    looks_before_it_leaves,
    stays_registered, // a sleeper that got up by itself is not taken out of the idle set
    forgets_its_ring,
    keeps_a_batch, // who takes several from the shared queue wakes nobody for the rest
};

/// The loop of worker.cpp, and what runtime_core.cpp does for it, about the product's own parts. All
/// sleep on their futex, and it is over when so many strands have been run.
template <flaw Flaw>
class crew {
    struct worker {
        magpie::detail::parker parker;
        local_queue<4> ring;
        bool searching = false;
    };

public:
    crew(std::size_t workers, std::size_t strands) : idle_(workers), count_(workers), left_(strands) {}

    bool takes_one = false; ///< at a time from the shared queue
    /// What a strand's turn does.
    std::function<void(std::size_t worker, const strand&)> turn = [](std::size_t, const strand&) {};

    /// From outside: runtime_core::schedule.
    void submit(strand& s) {
        if (Flaw == flaw::notifies_first)
            notify_one();
        injected_.push(s);
        if (Flaw != flaw::notifies_first)
            notify_one();
    }

    /// In a turn: worker::push, and the wake as it may come out of order: a plain store may become
    /// visible only after the idle word was read.
    void spawn(std::size_t index, strand& s) {
        notify_one();
        push(workers_[index], s);
    }

    /// worker::run
    void work(std::size_t index) {
        worker& w = workers_[index];
        while (!stopped_.load(std::memory_order_acquire)) {
            if (strand* const s = next(w)) {
                found_work(w);
                numbered_strands::run(s);
                turn(index, *s);
                if (--left_ == 0) {
                    stopped_.exchange(true, std::memory_order_acq_rel);
                    notify_all();
                }
            } else {
                park(w, index);
            }
        }
        if (std::exchange(w.searching, false))
            idle_.stop_searching();
    }

    void check_all_up() const {
        check(idle_.awake() == count_ && idle_.searching() == 0, "the idle set has counted right");
    }

private:
    void push(worker& w, strand& s) {
        while (!w.ring.push(s)) {
            std::array<strand*, decltype(w.ring)::half> older{};
            if (w.ring.take_half(older))
                injected_.push(older);
        }
    }
    strand* next(worker& w) {
        if (Flaw != flaw::forgets_its_ring)
            if (strand* const s = w.ring.pop())
                return s;
        if (strand* const s = share(w))
            return s;
        if (count_ == 1)
            return nullptr;
        if (!w.searching) {
            if (!idle_.start_searching())
                return nullptr;
            w.searching = true;
        }
        for (std::size_t i = 0; i < count_; ++i)
            if (&workers_[i] != &w)
                if (strand* const s = workers_[i].ring.steal_into(w.ring))
                    return s;
        return share(w);
    }
    strand* share(worker& w) { // worker::share_from_injector
        const std::size_t waiting = injected_.size();
        if (waiting == 0)
            return nullptr;
        std::array<strand*, decltype(w.ring)::half> room{};
        const std::size_t taken = injected_.pop(
            std::span(room).first(takes_one ? 1 : std::min(waiting / count_ + 1, room.size())));
        if (taken == 0)
            return nullptr;
        for (strand* const rest : std::span(room).first(taken).subspan(1))
            push(w, *rest);
        if (taken > 1 && Flaw != flaw::keeps_a_batch)
            notify_one();
        return room[0];
    }
    void found_work(worker& w) {
        if (!std::exchange(w.searching, false))
            return;
        const bool more = Flaw == flaw::looks_before_it_leaves && work_anywhere();
        if (idle_.stop_searching() && Flaw != flaw::leaves_without_look &&
            (Flaw == flaw::looks_before_it_leaves ? more : work_anywhere()))
            notify_one();
    }

    void park(worker& w, std::size_t index) {
        const bool work = Flaw == flaw::looks_before_it_lies && work_anywhere();
        idle_.sleep(index, w.searching, [] {});
        w.searching = true;
        if (!work)
            while (!sleep(w)) {}
        if (Flaw != flaw::stays_registered)
            idle_.get_up(index);
    }
    bool sleep(worker& w) {
        if (Flaw != flaw::never_looks_again && Flaw != flaw::looks_before_it_lies && work_anywhere())
            return true;
        if (stopped_.load(std::memory_order_acquire) || !w.parker.announce(parker::where::on_futex))
            return true;
        w.parker.sleep(futex::time_point::max());
        return w.parker.rise();
    }

    bool work_anywhere() const {
        if (injected_.size() > 0)
            return true;
        for (std::size_t i = 0; i < count_; ++i)
            if (workers_[i].ring.size() > 0)
                return true;
        return false;
    }
    void notify_one() {
        if (const std::size_t w = idle_.wake_one(); w != idle_set::nobody)
            workers_[w].parker.notify();
    }
    void notify_all() {
        for (std::size_t w; (w = idle_.wake_any()) != idle_set::nobody;)
            workers_[w].parker.notify();
    }

    idle_set idle_;
    injector injected_;
    std::array<worker, 2> workers_;
    const std::size_t count_;
    std::size_t left_;
    magpie::detail::atomic<bool> stopped_{false};
};

// --- submit against park: one worker ---

template <flaw Flaw>
void submit_to_one() {
    numbered_strands strands(2);
    crew<Flaw> c(1, 2);
    thread("outside", [&] { c.submit(strands[0]), c.submit(strands[1]); });
    thread("worker", [&] { c.work(0); });
    run();
    strands.check_all_run();
    c.check_all_up();
}

scenario submit("park.submit", one_worker, &submit_to_one<flaw::none>);

mistake notifies_first(submit, "who submits looks for sleepers first",
                       &submit_to_one<flaw::notifies_first>);
mistake looks_before(submit, "a worker looks at the queues before it leaves the idle set's word",
                     &submit_to_one<flaw::looks_before_it_lies>);
mistake no_second_look(submit, "a worker lies down without looking again",
                       &submit_to_one<flaw::never_looks_again>);
mistake stays(submit, "a worker that got up by itself stays in the idle set",
              &submit_to_one<flaw::stays_registered>);
mistake outdated_word(submit, "who submits sees an old idle word",
                      {"idle_set::wake_one", "load", how::outdated});
mistake lies_by_store(submit, "a worker that lies down does not look for its notification",
                      {"parker::announce", "compare_exchange", how::unconditional});
mistake sleeps_at_once(submit, "the futex sleeps without comparing",
                       {"parker::sleep", "futex wait", how::unconditional});
mistake notify_in_two(submit, "a notification is a load and a store",
                      {"parker::notify", "exchange", how::in_two});
mistake no_wake(submit, "a notification does not wake the futex",
                {"parker::notify", "futex wake", how::left_out});

// --- two submitters, one worker: a sleeper is picked once ---

template <flaw Flaw>
void two_submit() {
    numbered_strands strands(2);
    crew<Flaw> c(1, 2);
    int n = 0;
    threads(2, "outside", [&] { c.submit(strands[static_cast<std::size_t>(n++)]); });
    thread("worker", [&] { c.work(0); });
    run();
    strands.check_all_run();
    c.check_all_up();
}

scenario submitters("park.two_submitters", {.preemptions = 3, .full = 4, .which = timeouts::none},
                    &two_submit<flaw::none>);

mistake never_out(submitters, "a worker that lies down does not leave the idle set's word",
                  {"idle_set::sleep", "modify", how::left_out});

// --- the turns of two strands wait for each other: each has to get a worker ---

template <flaw Flaw>
void submit_to_two() {
    numbered_strands strands(2);
    crew<Flaw> c(2, 2);
    int begun = 0;
    c.turn = [&](std::size_t, const strand&) {
        ++begun;
        magpie_model::step_when([&] { return begun == 2; }, "wait for the other turn", nullptr);
    };
    thread("outside", [&] { c.submit(strands[0]), c.submit(strands[1]); });
    thread("worker a", [&] { c.work(0); });
    thread("worker b", [&] { c.work(1); });
    run();
    strands.check_all_run();
    c.check_all_up();
}

// In order: what a worker pushes into its own ring may be seen late, by who then sleeps for a moment only.
constexpr scenario::bounds two_workers_in_order{
    .preemptions = 2, .full = 3, .which = timeouts::none, .in_order = true};

scenario together("park.pass_on", two_workers_in_order, &submit_to_two<flaw::none>);

mistake no_pass(together, "a searcher that has found work does not look for more",
                &submit_to_two<flaw::leaves_without_look>);
mistake early_pass(together, "a searcher looks for more before it leaves the idle set's word",
                   &submit_to_two<flaw::looks_before_it_leaves>);
mistake batch(together, "who takes several from the shared queue wakes nobody for the rest",
              &submit_to_two<flaw::keeps_a_batch>);
mistake no_look(together, "a worker lies down without looking again",
                &submit_to_two<flaw::never_looks_again>);
mistake lies_in_two(together, "a worker leaves the idle set's word by a load and a store",
                    {"idle_set::sleep", "modify", how::in_two});
mistake stops_in_two(together, "a searcher leaves the idle set's word by a load and a store",
                     {"idle_set::stop_searching", "modify", how::in_two});

// --- a worker's own pushes, which may wake nobody: it comes to them itself ---

template <flaw Flaw>
void spawn_five() {
    numbered_strands strands(6);
    crew<Flaw> c(2, 6);
    c.turn = [&](std::size_t worker, const strand& s) {
        if (numbered_strands::number_of(s) == 0)
            for (std::size_t i = 1; i < 6; ++i) // the last flows over
                c.spawn(worker, strands[i]);
    };
    c.submit(strands[0]);
    thread("worker a", [&] { c.work(0); });
    thread("worker b", [&] { c.work(1); });
    run();
    strands.check_all_run();
    c.check_all_up();
}

scenario own("park.own_pushes", two_workers, &spawn_five<flaw::none>);

mistake forgets(own, "a worker leaves its ring to the others", &spawn_five<flaw::forgets_its_ring>);
mistake thief_by_store(own, "a thief takes without comparing",
                       {"steal_into", "compare_exchange", how::unconditional});

// --- who rests for whom: not each for the other ---

scenario resting("park.rests", [] {
    rests a;
    rests b;
    int now = 0;
    const auto rest = [&](rests& own, rests& other) {
        if (own.try_begin(other)) {
            check(++now == 1, "they do not rest for each other");
            magpie_model::yield();
            --now;
            own.end(other);
        }
    };
    thread("a", [&] { rest(a, b); });
    thread("b", [&] { rest(b, a); });
    run();
    check(a.try_begin(b), "and then they are free to");
});

mistake both_rest(resting, "who rests does not say so",
                  {"try_begin", "compare_exchange", how::left_out});

// --- what is for one worker alone: no other may take it, so that one has to come ---

template <flaw Flaw>
void for_one_alone() {
    struct letter : magpie::detail::ready_node {
        magpie_model::plain<int> value;
    };
    std::array<letter, 2> letters;
    magpie::detail::inbox in;
    idle_set idle(1);
    parker p;
    int taken = 0;
    thread("outside", [&] {
        for (letter& l : letters) {
            l.value.set(1);
            if (in.put(magpie::detail::parcel(l)) && idle.wake_this(0))
                p.notify();
        }
    });
    thread("worker", [&] {
        bool searching = false;
        while (taken < 2) {
            const bool early = Flaw == flaw::looks_before_it_lies && in.has_any();
            idle.sleep(0, std::exchange(searching, true), [] {});
            const bool any = Flaw == flaw::looks_before_it_lies ? early : in.has_any();
            if (!any && p.announce(parker::where::on_futex)) {
                p.sleep(futex::time_point::max());
                static_cast<void>(p.rise());
            }
            static_cast<void>(idle.get_up(0));
            in.take_all(
                [&](magpie::detail::parcel l) { taken += static_cast<letter&>(l.node()).value.get(); });
        }
    });
    run();
    check(taken == 2 && idle.awake() == 1, "both have come, and the idle set has counted right");
}

scenario alone("park.for_one_alone", one_worker, &for_one_alone<flaw::none>);

mistake alone_early(alone, "the worker looks before it leaves the idle set's word",
                    &for_one_alone<flaw::looks_before_it_lies>);
mistake alone_outdated(alone, "who has something for it sees an old idle word",
                       {"idle_set::awake", "load", how::outdated});

// --- the same in weak memory: with one strand at a time from the shared queue nothing comes late ---

template <flaw Flaw>
void submit_one_by_one() {
    numbered_strands strands(2);
    crew<Flaw> c(2, 2);
    c.takes_one = true;
    int begun = 0;
    c.turn = [&](std::size_t, const strand&) {
        ++begun;
        magpie_model::step_when([&] { return begun == 2; }, "wait for the other turn", nullptr);
    };
    thread("outside", [&] { c.submit(strands[0]), c.submit(strands[1]); });
    thread("worker a", [&] { c.work(0); });
    thread("worker b", [&] { c.work(1); });
    run();
    strands.check_all_run();
    c.check_all_up();
}

scenario one_by_one("park.one_by_one", two_workers, &submit_one_by_one<flaw::none>);

mistake leaves_blindly(one_by_one, "a searcher that has found work does not look for more",
                       &submit_one_by_one<flaw::leaves_without_look>);
mistake stays_down(one_by_one, "a worker lies down without looking again",
                   &submit_one_by_one<flaw::never_looks_again>);
mistake not_asked_again(one_by_one, "a worker that lies down sees old queues",
                        {"injector::size", "load", how::outdated, "idle_set::sleep",
                         "parker::announce"});

// --- a notification carries what was done before it, and so does lying down ---

scenario notification("park.notification", one_worker, [] {
    parker p;
    magpie_model::plain<int> told;
    magpie_model::plain<int> done;
    thread("worker", [&] {
        done.set(7);
        if (p.announce(parker::where::on_futex)) {
            p.sleep(futex::time_point::max());
            check(p.rise(), "nothing else ends the sleep");
        }
        check(told.get() == 7, "who was notified sees what was done before");
    });
    thread("notifier", [&] {
        told.set(7);
        if (p.notify() != 0)
            check(done.get() == 7, "who finds a sleeper sees what that did before");
    });
    run();
});

mistake not_consumed(notification, "a worker that lies down does not look for its notification",
                     {"parker::announce", "compare_exchange", how::unconditional});

// --- so does a wake of the driver, whether somebody sleeps in it or not yet ---

scenario driver_woken("park.driver", one_worker, [] {
    magpie::detail::futex_driver driver;
    magpie_model::plain<int> told;
    thread("worker", [&] {
        driver.park(futex::time_point::max());
        check(told.get() == 7, "who was woken sees what was done before");
    });
    thread("waker", [&] {
        told.set(7);
        driver.wake();
    });
    run();
});

mistake woken_silently(driver_woken, "a sleeper is not woken",
                       {"futex_driver::wake", "futex wake", how::left_out});

} // namespace
