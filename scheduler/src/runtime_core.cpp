#include "runtime_core.hpp"

#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/log.hpp>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace magpie::detail {

using namespace std::chrono_literals;

namespace {

constexpr auto stamp_later_from = 100ms; // shorter waits are timed to the millisecond
constexpr auto slot_age = 200us;         // when the newest behind a turn that lasts may be taken

/// Of `count` workers, who are bound to `cpus` in turn, or not at all.
neighbourhood neighbours_of(const std::vector<std::size_t>& cpus, std::size_t count) {
    if (cpus.empty() || count == 1)
        return neighbourhood(count);
    std::vector<std::size_t> of_workers;
    for (std::size_t i = 0; i < count; ++i)
        of_workers.push_back(cpus[i % cpus.size()]);
    return neighbourhood(read_places(of_workers));
}

} // namespace

/// Counts a thread that is no worker in and out of the core: it cannot go in between (R31).
class runtime_core::visitor {
public:
    explicit visitor(runtime_core& c) noexcept : core_(c) {
        // Relaxed. What it pushes is seq_cst, so as long as that is in a queue nobody lies down for good, and
        // who has taken it from there knows of this: it, at least, asks again until the visitor is out.
        core_.visitors_.fetch_add(1, std::memory_order_relaxed);
    }
    visitor(const visitor&) = delete;
    ~visitor() { core_.visitors_.fetch_sub(1, std::memory_order_release); } // pairs with ~runtime_core

private:
    runtime_core& core_;
};

runtime_core::runtime_core(runtime_group& g, std::size_t number, std::size_t first, std::size_t count,
                           std::uint64_t& seed)
    : executor(g.options.budget), group(g), time(g.time), shard(number), first_worker(first),
      idle(count), mail(number, g.is_pinned() ? g.workers() : 1), watch(g.has_threads() && count > 1),
      neighbours(neighbours_of(g.options.affinity, count)) {
    const std::size_t drivers = g.options.reactor_per_worker ? count
                                                             : 1; // current_thread has one worker
    for (std::size_t i = 0; i < drivers; ++i)
        drivers_.push_back(std::make_unique<driver_slot>(count == 1));
    set_timers(this);
    if (g.is_pinned())
        set_pinned();
    for (std::size_t i = 0; i < count; ++i)
        workers.push_back(
            std::make_unique<worker>(*this, i, seed += 0x9E3779B97F4A7C15ULL, count == 1));
}

runtime_core::~runtime_core() {
    // Acquire: pairs with ~visitor. It is between a push and a notify: a moment.
    while (visitors_.load(std::memory_order_acquire) > 0)
        std::this_thread::yield();
}

// --- executor ---

void runtime_core::schedule(strand& s, placement where) noexcept {
    const thread_state& here = this_thread();
    worker* const w = worker::of(here);
    if (w != nullptr && &w->core() == this) {
        w->schedule(s, where, here);
        return;
    }
    group.require_own_or_terminate(); // nobody here would run it
    const visitor inside(*this);      // the strand keeps the core alive until it is queued
    remote_schedules_.fetch_add(1, std::memory_order_relaxed); // a statistic
    injected.push(s);
    notify_one();
}

runtime_core* runtime_core::of(executor& e) noexcept {
    if (auto* const core = dynamic_cast<runtime_core*>(&e))
        return core;
    auto* const seat = dynamic_cast<worker_seat*>(&e);
    return seat != nullptr ? &seat->core() : nullptr;
}

template <class Notify>
void runtime_core::send(magpie::detail::inbox& to, parcel p, Notify notify) noexcept {
    worker* const w = worker::current();
    if (w != nullptr && &w->core().group == &group) { // its thread keeps the runtime
        w->messages.add();
        if (to.put(p))
            notify();
        return;
    }
    group.require_own_or_terminate(); // as in schedule()
    const visitor inside(*this);
    remote_schedules_.fetch_add(1, std::memory_order_relaxed);
    if (to.put(p))
        notify();
}

void runtime_core::send(parcel p) noexcept {
    send(inbox, p, [this] { notify_one(); });
}

void runtime_core::send_to(magpie::detail::inbox& to, std::size_t place, parcel p) noexcept {
    send(to, p, [this, place] { notify_this(place); });
}

worker* runtime_core::worker_here() const noexcept {
    worker* const w = worker::current();
    return w != nullptr && &w->core() == this ? w : nullptr;
}

bool runtime_core::count_in(cell& c, worker& here) noexcept {
    c.id = here.next_id();
    if (closing_hint()) { // its task is alive: a late look is soon enough
        c.refuse();
        return false;
    }
    here.spawned.add();
    introduce(c);
    return true;
}

bool runtime_core::count_in_from_outside(cell& c) noexcept {
    // Counted first, then a look at the group's closing_, both seq_cst: all_ended() is asked after that
    // was set, so it counts this one or this one sees that. (The caller keeps the core alive.)
    const std::uint64_t n = external_spawned_.fetch_add(1, std::memory_order_seq_cst) + 1;
    c.id = group.id_base() + n * group.tasks.stride() + group.workers() + shard;
    if (group.closing()) {
        c.refuse();
        retire_elsewhere();
        return false;
    }
    introduce(c);
    return true;
}

void runtime_core::adopt(cell& c) noexcept {
    const thread_state& here = this_thread();
    worker* const w = worker::of(here);
    if (w != nullptr && &w->core() == this) {
        if (count_in(c, *w))
            w->schedule(c, placement::spawn, here);
    } else if (count_in_from_outside(c)) {
        injected.push(c);
        notify_one();
    }
}

void runtime_core::introduce(cell& c) noexcept {
    if (!c.name().empty())
        group.tasks.add(c); // reports find the name while the task runs, too
    if (group.options.on_task_spawn)
        group.options.on_task_spawn(c.id);
}

bool runtime_core::enroll(cell& c) noexcept { return group.tasks.add(c); }

void runtime_core::retire(cell& c) noexcept {
    if (c.is_enrolled())
        group.tasks.remove(c);
    if (group.options.on_task_end)
        group.options.on_task_end(c.id);
    worker* const w = worker::current();
    // Release: pairs with ended(); what the task has spawned was counted before.
    if (w != nullptr && &w->core() == this)
        w->ended.store(w->ended.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    else
        retire_elsewhere();
}

// Workers ask whether all has ended when they lie down; what ends elsewhere has to tell them.
// seq_cst: the group's close() writes closing_ and then wakes them; this counts and then reads it.
void runtime_core::retire_elsewhere() noexcept {
    external_ended_.fetch_add(1, std::memory_order_seq_cst);
    if (group.closing())
        notify_any();
}

bool runtime_core::run_now(cell& c) noexcept {
    worker* const w = worker::current();
    return w != nullptr && &w->core() == this && w->run_now(c);
}

void runtime_core::run_blocking(blocking_job& job) { group.pool.submit(job); }

// --- messages ---

/// Of a shard's mail to the others.
class runtime_core::route {
public:
    explicit route(runtime_core& from) noexcept : from_(from) {}

    shard_mail& mail_of(std::size_t s) const noexcept { return from_.group.shards[s]->mail; }
    void tell(std::size_t s) const noexcept { from_.group.shards[s]->notify_after_store(); }
    void answered(std::size_t n) const noexcept { from_.workers.front()->messages.add(n); }

private:
    runtime_core& from_;
};

void runtime_core::send_mail() noexcept { mail.send(route(*this)); }

bool runtime_core::receive_mail() noexcept { return mail.receive(route(*this)); }

// --- waking ---

void runtime_core::notify_one() noexcept {
    if (const std::size_t w = idle.wake_one(); w != idle_set::nobody)
        unpark(w);
}

void runtime_core::notify_after_store() noexcept {
    if (const std::size_t w = idle.wake_one_after_store(); w != idle_set::nobody)
        unpark(w);
}

void runtime_core::notify_any() noexcept {
    if (const std::size_t w = idle.wake_any(); w != idle_set::nobody)
        unpark(w);
}

void runtime_core::notify_this(std::size_t place) noexcept {
    if (idle.wake_this(place))
        unpark(place);
}

bool runtime_core::has_pinned() const noexcept {
    return std::any_of(workers.begin(), workers.end(), [](const auto& w) { return w->seat.has_any(); });
}

void runtime_core::notify_all() noexcept {
    for (std::size_t w; (w = idle.wake_any()) != idle_set::nobody;)
        unpark(w);
}

void runtime_core::unpark(std::size_t place) noexcept {
    workers[place]->note_notified(futex::time_point::clock::now());
    switch (static_cast<parker::where>(workers[place]->parker.notify())) {
    case parker::where::in_driver: driver_of(place).get().wake(); break;
    case parker::where::on_watch: watch.wake(); break;
    case parker::where::on_futex: break; // notify() has done it
    }
}

bool runtime_core::work_anywhere() const noexcept {
    if (injected.size() > 0 || has_messages())
        return true;
    return std::any_of(workers.begin(), workers.end(),
                       [](const auto& w) { return w->has_for_thieves(); });
}

bool runtime_core::work_besides(const worker& by) const noexcept {
    return injected.size() > 0 || std::any_of(workers.begin(), workers.end(), [&](const auto& w) {
               return w.get() != &by && w->has_for_thieves();
           });
}

strand* runtime_core::look_after_others(worker& by) noexcept {
    if (workers.size() == 1 || !watching_.try_lock())
        return nullptr;
    strand* found = nullptr;
    const auto now = futex::time_point::clock::now();
    std::string report;
    bool has_report = false;
    for (const auto& w : workers) {
        if (w.get() == &by)
            continue;
        const std::uint64_t turn = w->turn_number();
        const std::uint64_t task = w->running_id();
        if (turn != w->seen_turn || task == 0) {
            w->seen_turn = turn;
            w->seen_since = now;
            w->reported = false;
            continue;
        }
        const auto stuck = now - w->seen_since;
        if (found == nullptr && stuck >= slot_age)
            found = w->take_recent();
        if (stuck < group.options.stuck_limit || std::exchange(w->reported, true))
            continue;
        has_report = true;
        try {
            report += group.describe_task(task, w->running_where()) + " has kept worker " +
                      std::to_string(w->index()) + " for more than " +
                      std::to_string(
                          std::chrono::duration_cast<std::chrono::milliseconds>(stuck).count()) +
                      " ms without suspending: use spawn_blocking or co_await consume_budget()";
        } catch (const std::bad_alloc&) { // it is said in fewer words
        }
    }
    watching_.unlock();
    if (has_report)
        log(log_level::warning, !report.empty() ? std::string_view(report)
                                                : "a task has kept its worker for long without "
                                                  "suspending");
    return found;
}

// --- the driver ---

// A worker got up while the others sleep. If none of them is on the watch, the one in the driver
// has to look after it, and may have lain down without a limit.
void runtime_core::ensure_watched() noexcept {
    if (has_drivers_each()) {
        ensure_kept();
        return;
    }
    watch.set();
    if (workers.size() > 1 && !watch.occupied() && drivers_[0]->sleeps_beyond(time.tick_now() + 2))
        drivers_[0]->get().wake();
}

// With a reactor each, all sleep in their own; one of them, the keeper, looks every millisecond after those who
// are awake. It goes on with that for a while when nobody is awake any more, so that a runtime that gets up often
// does not wake two each time. (If nobody keeps, whoever is woken here does so when it lies down again.)
//
// seq_cst, also in park_driver(): who gets up has counted itself, and then reads who keeps and until when that one
// sleeps; who begins to keep says both, and then reads whether somebody is awake.
void runtime_core::ensure_kept() noexcept {
    last_up_.store(time.tick_now(), std::memory_order_relaxed); // a hint
    const std::size_t keeper = keeper_.load(std::memory_order_seq_cst);
    if (keeper == idle_set::nobody)
        notify_any();
    else if (driver_of(keeper).sleeps_beyond(time.tick_now() + 2))
        driver_of(keeper).get().wake();
}

bool runtime_core::try_keep(std::size_t place) noexcept {
    std::size_t nobody = idle_set::nobody;
    return keeper_.compare_exchange_strong(nobody, place,
                                           std::memory_order_seq_cst, // see ensure_kept()
                                           std::memory_order_relaxed);
}

void runtime_core::stop_keeping() noexcept {
    // Relaxed: who still finds this worker here comes before who keeps next, and that one asks who is up.
    keeper_.store(idle_set::nobody, std::memory_order_relaxed);
}

// Who has read the slot before the exchange sleeps in the old driver, or wakes it; who sleeps in the
// new one already may be waited for by somebody who has woken the old one. So both are woken, and
// whoever sleeps looks around once more: at its parker, at the deadlines, and at the slot.
driver& runtime_core::install_driver(driver_factory make) {
    const worker* const w = worker_here();
    driver_slot& slot = driver_of(w != nullptr ? w->place() : 0);
    if (slot.has_io())
        return slot.get();
    if (!group.options.io)
        throw_usage_error("this runtime was built without I/O: leave io(false) out of its builder");
    const lock_guard guard(installing_);
    if (slot.has_io()) // somebody else was faster
        return slot.get();
    driver& d = *make();
    slot.replace(d);
    slot.before().wake();
    d.wake();
    if (group.stopped_in_order())
        d.shut_down();
    return d;
}

driver& io_driver(driver_factory make, const char* what, std::source_location where) {
    const thread_state& here = this_thread();
    executor* const e = here.turn != nullptr ? &here.turn->where_it_runs() : here.executor;
    runtime_core* const core = e != nullptr ? runtime_core::of(*e) : nullptr;
    if (core == nullptr)
        throw std::logic_error(std::string(where.file_name()) + ":" + std::to_string(where.line()) +
                               ": " + what +
                               " outside of a runtime: call it in a task of a magpie::runtime, or "
                               "enter one first (auto in = rt.enter())");
    return core->install_driver(make);
}

void runtime_core::poll_another(std::size_t place, std::uint32_t start) noexcept {
    // One is enough: who finds nothing comes again, or lies down.
    static_cast<void>(neighbours.ask(place, start, [this](std::size_t w) {
        driver_slot& d = *drivers_[w];
        return d.has_io() && d.poll() ? &d : nullptr; // whose worker sleeps, sleeps in it
    }));
}

void runtime_core::park_driver(std::size_t place, futex::time_point limit, bool watches) noexcept {
    driver_slot& slot = driver_of(place);
    const auto first_of = [this, place] {
        return has_drivers_each() ? workers[place]->timers.next() : next_timer();
    };
    futex::time_point until;
    std::uint64_t first;
    do {
        first = first_of();
        until = time.paused() ? limit : std::min(limit, time.steady_time_of(first));
        slot.sleep_until(std::max<std::uint64_t>(time.tick_of_steady(until), 1));
        // The same with who gets up and looks for somebody on the watch (ensure_watched).
        if (watches && idle.awake() > 0)
            limit = std::min(limit, futex::time_point::clock::now() + 1ms);
    } while (first_of() < first || until > limit);
    slot.get().park(until);
    slot.wake_up();
}

driver_slot* runtime_core::not_asked_in(std::uint64_t round) const noexcept {
    for (const auto& d : drivers_)
        if (d->has_io() && d->looked_in_round != round)
            return d.get();
    return nullptr;
}

// --- timers ---

void runtime_core::arm(timer_entry& e, clock::time_point deadline) noexcept {
    worker* const w = worker_here();
    worker& on = w != nullptr ? *w : *workers.front();
    const std::uint64_t tick = time.tick_at_or_after(deadline);
    if (on.timers.arm(e, tick))
        wake_for_timer(on, tick);
}

// Who sleeps for it in the driver until later looks again.
void runtime_core::wake_for_timer(worker& of, std::uint64_t tick) noexcept {
    driver_slot& slot = driver_of(of.place());
    if (slot.sleeps_beyond(tick))
        slot.get().wake();
}

// Long waits are limits, mostly: taken back long before they are due. They count from when the worker looks
// at the clock anyway, within 61 turns; to read it for each is a quarter of a time-out's cost.
void runtime_core::arm_after(timer_entry& e, clock::duration d) noexcept {
    worker* const w = worker::current();
    if (d < stamp_later_from || w == nullptr || &w->core() != this || time.paused()) {
        arm(e, add_saturated(time.now(), d));
        return;
    }
    w->timers.arm_later(e, d);
}

cancel_answer runtime_core::disarm(timer_entry& e) noexcept {
    return static_cast<worker_timers*>(e.wheel)->disarm(e) ? cancel_answer::quiet
                                                           : cancel_answer::coming;
}

std::uint64_t runtime_core::next_timer() const noexcept {
    std::uint64_t first = timer_wheel::never;
    for (const auto& w : workers)
        first = std::min(first, w->timers.next());
    return first;
}

bool runtime_core::timers_due() const noexcept {
    const std::uint64_t first = next_timer();
    return first != timer_wheel::never && first <= time.tick_now();
}

std::size_t runtime_core::fire_timers() noexcept {
    const std::uint64_t now = time.tick_now();
    std::size_t n = 0;
    for (const auto& w : workers)
        if (w->timers.next() <= now)
            n += settle(*w, w->timers.look([this] { return time.tick_now(); }));
    return n;
}

std::size_t runtime_core::fire(worker& own, std::uint64_t now) noexcept {
    return settle(own, own.timers.look([now] { return now; }));
}

std::size_t runtime_core::fire_before_rest(worker& own) noexcept {
    if (!own.timers.has_unstamped())
        return 0;
    return settle(own, own.timers.look([this] { return time.tick_now(); }, true));
}

std::size_t runtime_core::settle(worker& of, worker_timers::looked found) noexcept {
    if (found.sooner != timer_wheel::never)
        wake_for_timer(of, found.sooner);
    return worker_timers::wake_all(found.due);
}

// --- for the group ---

// Relaxed for what only grows: see runtime_group::all_ended for the order in which the two are read.
std::uint64_t runtime_core::ended() const noexcept {
    // seq_cst: who lies down has read the group's closing_, and then this; see retire_elsewhere().
    std::uint64_t n = external_ended_.load(std::memory_order_seq_cst);
    for (const auto& w : workers)
        n += w->ended.load(std::memory_order_acquire); // pairs with retire()
    return n;
}

std::uint64_t runtime_core::spawned() const noexcept {
    std::uint64_t n = external_spawned_.load(std::memory_order_seq_cst); // see adopt()
    for (const auto& w : workers)
        n += w->spawned.get();
    return n;
}

void runtime_core::end_sleep() noexcept {
    for (const auto& d : drivers_)
        d->at_the_end().shut_down();
    notify_all();
}

} // namespace magpie::detail
