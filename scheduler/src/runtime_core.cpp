#include "runtime_core.hpp"

#include "futex_driver.hpp"

#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/log.hpp>

#include <algorithm>
#include <bit>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace magpie::detail {

using namespace std::chrono_literals;

void install_spdlog() noexcept; // logging.cpp

namespace {

constexpr auto stamp_later_from = 100ms; // shorter waits are timed to the millisecond
constexpr auto slot_age = 200us;         // when the newest behind a turn that lasts may be taken

std::uint64_t next_runtime_id() noexcept {
    static atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1; // unique is enough
}

// The ids of a runtime's tasks say whose they are.
constexpr unsigned task_id_bits = 44;
constexpr std::uint64_t first_id_of(std::uint64_t runtime) noexcept {
    return (runtime - 1) << task_id_bits;
}
constexpr std::uint64_t runtime_of(std::uint64_t task_id) noexcept {
    return (task_id >> task_id_bits) + 1;
}

std::string place(std::source_location w) {
    return std::string(w.file_name()) + ":" + std::to_string(w.line());
}

} // namespace

/// Receives what nobody else can, for this runtime's tasks. A report under way on any thread keeps
/// it, not the runtime: a handle may be dropped while the runtime goes.
class runtime_core::sink final : public unhandled_sink {
public:
    sink(std::uint64_t runtime, std::function<void(const unhandled_exception&)> hook)
        : runtime_(runtime), hook_(std::move(hook)) {}

    bool is_for(std::uint64_t task_id) const noexcept override {
        return runtime_of(task_id) == runtime_;
    }

    /// Makes each report close `core`. Before the first task is spawned: nothing guards it.
    void close_at_report(std::weak_ptr<runtime_core> core) noexcept { closes_ = std::move(core); }

    void report(const unhandled_exception& x) noexcept override {
        count_.fetch_add(1, std::memory_order_relaxed); // a statistic
        if (hook_) {
            hook_(x);
        } else {
            const std::string name = x.task_name.empty() ? "" : " \"" + std::string(x.task_name) + "\"";
            log(log_level::error,
                "task " + std::to_string(x.task_id) + name + ", spawned at " + place(x.where) +
                    ", failed and nobody received it: " + std::string(describe(x.error)));
        }
        if (const std::shared_ptr<runtime_core> core = closes_.lock())
            core->close();
    }

    std::uint64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

private:
    std::weak_ptr<runtime_core> closes_; // not written once there are tasks
    const std::uint64_t runtime_;
    const std::function<void(const unhandled_exception&)> hook_;
    atomic<std::uint64_t> count_{0};
};

/// Counts a thread that is no worker in and out of the core: it cannot go in between (R31).
class runtime_core::visitor {
public:
    explicit visitor(runtime_core& c) noexcept : core_(c) {
        // seq_cst: all_ended() reads it after closing_ was set; a visitor reads closing_ after it.
        core_.visitors_.fetch_add(1, std::memory_order_seq_cst);
    }
    visitor(const visitor&) = delete;
    ~visitor() { core_.visitors_.fetch_sub(1, std::memory_order_release); } // pairs with ~runtime_core

private:
    runtime_core& core_;
};

/// Keeps the runtimes that were given up with tasks alive, and that have no thread to keep them: who
/// wakes such a task reaches for its runtime (R33).
class runtime_core::leftovers {
public:
    static void keep(runtime_core& core) noexcept {
        leftovers& all = instance();
        const lock_guard guard(all.lock_);
        if (core.itself_ != nullptr)
            return;
        core.itself_ = core.shared_from_this();
        core.next_leftover_ = std::exchange(all.first_, &core);
    }

    /// Lets those go that somebody else has driven to the end of their tasks meanwhile.
    static void free_ended() noexcept {
        leftovers& all = instance();
        std::shared_ptr<runtime_core> ended; // a chain: hooks are destroyed, which is not for the lock
        {
            const lock_guard guard(all.lock_);
            for (runtime_core** at = &all.first_; *at != nullptr;) {
                runtime_core& core = **at;
                // Nobody but this list has it, so nobody will use it again.
                if (core.itself_.use_count() > 1 || !core.all_ended()) {
                    at = &core.next_leftover_;
                    continue;
                }
                *at = std::exchange(core.next_leftover_, nullptr);
                std::swap(core.itself_, ended); // the last one found refers to the one before
            }
        }
        while (ended != nullptr)
            ended = std::exchange(ended->itself_, nullptr);
    }

private:
    static leftovers& instance() noexcept {
        static leftovers* const all = new leftovers; // never destroyed: so are they
        return *all;
    }

    mutex lock_;
    runtime_core* first_ = nullptr; // guarded by lock_, as the links
};

runtime_core::runtime_core(runtime_options o, std::source_location where)
    : executor(o.budget), options(std::move(o)), made_at(where), id(next_runtime_id()),
      time(options.paused_clock), idle(is_multi() ? options.worker_threads : 1),
      tasks((is_multi() ? options.worker_threads : 1) + 2),
      pool({options.max_blocking_threads, options.thread_keep_alive, options.thread_stack_size,
            options.thread_name, options.on_thread_start, options.on_thread_stop}),
      watch(is_multi() && options.worker_threads > 1), futex_driver_(new futex_driver),
      driver_(futex_driver_.get()), id_base_(first_id_of(id)),
      sink_(std::make_shared<sink>(id, options.on_unhandled_exception)) {
    set_timers(this);
    install_spdlog();
    const std::size_t n = is_multi() ? options.worker_threads : 1;
    std::uint64_t seed = options.seed
                             ? *options.seed
                             : std::random_device{}() | std::uint64_t{std::random_device{}()} << 32;
    for (std::size_t i = 0; i < n; ++i)
        workers.push_back(std::make_unique<worker>(*this, i, seed += 0x9E3779B97F4A7C15ULL, n == 1));
    pool.on_idle = [this] {
        if (time.paused())
            notify_any(); // the clock may go on now, if all sleep
    };
    add_unhandled_sink(*this, sink_);
}

runtime_core::~runtime_core() {
    // Acquire: pairs with ~visitor. It is between a push and a notify: a moment.
    while (visitors_.load(std::memory_order_acquire) > 0)
        std::this_thread::yield();
    remove_unhandled_sink(*this);
    if (driver& d = the_driver(); &d != futex_driver_.get()) {
        d.shut_down();
        d.release();
    }
}

void runtime_core::start() {
    if (options.unhandled == unhandled_policy::shutdown)
        sink_->close_at_report(weak_from_this());
    if (!is_multi())
        return;
    try {
        for (const auto& w : workers)
            pool.launch(*w, shared_from_this());
    } catch (...) {
        close();
        pool.join(futex::time_point::max());
        throw;
    }
}

// --- executor ---

void runtime_core::schedule(strand& s, placement where) noexcept {
    const thread_state& here = this_thread();
    worker* const w = worker::of(here);
    if (w != nullptr && &w->core() == this) {
        w->schedule(s, where, here);
        return;
    }
    const visitor inside(*this); // the strand keeps the core alive until it is queued
    remote_schedules_.fetch_add(1, std::memory_order_relaxed); // a statistic
    injected.push(s);
    notify_one();
}

void runtime_core::adopt(cell& c) noexcept {
    const thread_state& here = this_thread();
    worker* const w = worker::of(here);
    if (w != nullptr && &w->core() == this) {
        c.id = w->next_id();
        if (closing_hint()) { // its task is alive: a late look is soon enough
            c.refuse();
            return;
        }
        w->spawned.add();
        introduce(c);
        w->schedule(c, placement::spawn, here);
        return;
    }
    // Counted first, then a look at closing_, both seq_cst: all_ended() is asked after closing_ was
    // set, so it counts this one or this one sees that. (The caller keeps the core alive.)
    const std::uint64_t n = external_spawned_.fetch_add(1, std::memory_order_seq_cst) + 1;
    c.id = id_base_ + n * tasks.stride() + workers.size();
    if (closing()) {
        c.refuse();
        retire_elsewhere();
        return;
    }
    introduce(c);
    injected.push(c);
    notify_one();
}

void runtime_core::introduce(cell& c) noexcept {
    if (!c.name().empty())
        tasks.add(c); // reports find the name while the task runs, too
    if (options.on_task_spawn)
        options.on_task_spawn(c.id);
}

std::uint64_t runtime_core::blocking_id() noexcept {
    // Relaxed: unique is enough. Lanes: the workers', the other threads', the blocking calls'.
    return id_base_ + (blocking_ids_.fetch_add(1, std::memory_order_relaxed) + 1) * tasks.stride() +
           workers.size() + 1;
}

bool runtime_core::enroll(cell& c) noexcept { return tasks.add(c); }

void runtime_core::retire(cell& c) noexcept {
    if (c.is_enrolled())
        tasks.remove(c);
    if (options.on_task_end)
        options.on_task_end(c.id);
    worker* const w = worker::current();
    // Release: pairs with all_ended(); what the task has spawned was counted before.
    if (w != nullptr && &w->core() == this)
        w->ended.store(w->ended.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    else
        retire_elsewhere();
}

// Workers ask whether all has ended when they lie down; what ends elsewhere has to tell them.
// seq_cst: close() writes closing_ and then wakes them; this counts and then reads it.
void runtime_core::retire_elsewhere() noexcept {
    external_ended_.fetch_add(1, std::memory_order_seq_cst);
    if (closing())
        notify_any();
}

bool runtime_core::run_now(cell& c) noexcept {
    worker* const w = worker::current();
    return w != nullptr && &w->core() == this && w->run_now(c);
}

void runtime_core::run_blocking(blocking_job& job) { pool.submit(job, shared_from_this()); }

// --- waking ---

void runtime_core::notify_one() noexcept {
    if (const std::size_t w = idle.wake_one(); w != idle_set::nobody)
        unpark(w);
}

void runtime_core::notify_any() noexcept {
    if (const std::size_t w = idle.wake_any(); w != idle_set::nobody)
        unpark(w);
}

void runtime_core::notify_all() noexcept {
    for (std::size_t w; (w = idle.wake_any()) != idle_set::nobody;)
        unpark(w);
}

void runtime_core::unpark(std::size_t index) noexcept {
    switch (static_cast<parker::where>(workers[index]->parker.notify())) {
    case parker::where::in_driver: the_driver().wake(); break;
    case parker::where::on_watch: watch.wake(); break;
    case parker::where::on_futex: break; // notify() has done it
    }
}

bool runtime_core::work_anywhere() const noexcept {
    if (injected.size() > 0)
        return true;
    return std::any_of(workers.begin(), workers.end(), [](const auto& w) { return w->has_queued(); });
}

bool runtime_core::work_besides(const worker& by) const noexcept {
    return injected.size() > 0 || std::any_of(workers.begin(), workers.end(), [&](const auto& w) {
               return w.get() != &by && w->has_queued();
           });
}

strand* runtime_core::look_after_others(worker& by) noexcept {
    if (workers.size() == 1 || !watching_.try_lock())
        return nullptr;
    strand* found = nullptr;
    const auto now = futex::time_point::clock::now();
    std::string report;
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
        if (stuck >= options.stuck_limit && !std::exchange(w->reported, true))
            report += describe_task(task, w->running_where()) + " has kept worker " +
                      std::to_string(w->index()) + " for more than " +
                      std::to_string(
                          std::chrono::duration_cast<std::chrono::milliseconds>(stuck).count()) +
                      " ms without suspending: use spawn_blocking or co_await consume_budget()";
    }
    watching_.unlock();
    if (!report.empty())
        log(log_level::warning, report);
    return found;
}

std::string runtime_core::describe_task(std::uint64_t task, std::uintptr_t where) const {
    std::string text = "task " + std::to_string(task);
    if (where != 0)
        return text + ", spawned at " + place(std::bit_cast<std::source_location>(where)) + ",";
    tasks.for_each([&](const cell& c) { // one with a name: it may have been idle before
        if (c.id == task)
            text += " \"" + std::string(c.name()) + "\", spawned at " + place(c.where()) + ",";
    });
    return text;
}

// --- the driver ---

bool runtime_core::try_lock_driver() noexcept {
    return !driver_busy_.load(std::memory_order_relaxed) && // spare the others the line
           !driver_busy_.exchange(true, std::memory_order_acquire);
}

void runtime_core::unlock_driver() noexcept { driver_busy_.store(false, std::memory_order_release); }

// A worker got up while the others sleep. If none of them is on the watch, the one in the driver
// has to look after it, and may have lain down without a limit.
void runtime_core::ensure_watched() noexcept {
    watch.set();
    if (workers.size() > 1 && !watch.occupied() &&
        driver_sleeps_until_.load(std::memory_order_seq_cst) > time.tick_now() + 2)
        the_driver().wake();
}

// Who has read the slot before the exchange sleeps in the old driver, or wakes it; who sleeps in the
// new one already may be waited for by somebody who has woken the old one. So both are woken, and
// whoever sleeps looks around once more: at its parker, at the deadlines, and at the slot.
driver& runtime_core::install_driver(driver_factory make) {
    driver& before = *futex_driver_;
    if (driver& d = the_driver(); &d != &before)
        return d;
    if (!options.io)
        throw_usage_error("this runtime was built without I/O: leave io(false) out of its builder");
    const lock_guard guard(installing_);
    if (driver& d = the_driver(); &d != &before) // somebody else was faster
        return d;
    driver& d = *make();
    // Release: pairs with the_driver(). seq_cst: see stop_if_all_ended().
    driver_.exchange(&d, std::memory_order_seq_cst);
    before.wake();
    d.wake();
    if (stopped_.load(std::memory_order_seq_cst))
        d.shut_down();
    return d;
}

driver& io_driver(driver_factory make, const char* what, std::source_location where) {
    const thread_state& here = this_thread();
    executor* const e = here.turn != nullptr ? &here.turn->where_it_runs() : here.executor;
    auto* const core = dynamic_cast<runtime_core*>(e);
    if (core == nullptr)
        throw std::logic_error(place(where) + ": " + what +
                               " outside of a runtime: call it in a task of a magpie::runtime, or "
                               "enter one first (auto in = rt.enter())");
    return core->install_driver(make);
}

bool runtime_core::poll_driver() noexcept {
    if (!try_lock_driver())
        return false;
    the_driver().poll();
    unlock_driver();
    return true;
}

void runtime_core::park_driver(futex::time_point limit) noexcept {
    futex::time_point until;
    std::uint64_t first;
    do {
        first = next_timer();
        until = time.paused() ? limit : std::min(limit, time.steady_time_of(first));
        const std::uint64_t tick = time.tick_of_steady(until);
        // seq_cst, then the deadlines once more: arm() writes a deadline and then reads this.
        driver_sleeps_until_.exchange(std::max<std::uint64_t>(tick, 1), std::memory_order_seq_cst);
        // The same with who gets up and looks for somebody on the watch (ensure_watched).
        if (idle.awake() > 0)
            limit = std::min(limit, futex::time_point::clock::now() + 1ms);
    } while (next_timer() < first || until > limit);
    the_driver().park(until);
    driver_sleeps_until_.store(0, std::memory_order_relaxed); // a late look wakes in vain, at worst
}

// --- timers ---

void runtime_core::arm(timer_entry& e, clock::time_point deadline) noexcept {
    worker* const w = worker::current();
    worker_timers& on = w != nullptr && &w->core() == this ? w->timers : workers.front()->timers;
    const std::uint64_t tick = time.tick_at_or_after(deadline);
    if (on.arm(e, tick) && tick < driver_sleeps_until_.load(std::memory_order_seq_cst)) // park_driver
        the_driver().wake();
}

// Long waits are limits, mostly: taken back long before they are due. Their deadlines are made when the
// worker looks at the clock anyway, within 61 turns; to read it for each is a quarter of a time-out's cost.
void runtime_core::arm_after(timer_entry& e, clock::duration d) noexcept {
    worker* const w = worker::current();
    if (d < stamp_later_from || w == nullptr || &w->core() != this || time.paused()) {
        arm(e, add_saturated(time.now(), d));
        return;
    }
    const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(d);
    w->timers.arm_later(e, static_cast<std::uint64_t>(whole.count()) + (whole < d ? 1 : 0));
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
            n += fire(w->timers, now);
    return n;
}

std::size_t runtime_core::fire(worker_timers& of, std::uint64_t now) noexcept {
    if (of.stamp(now) &&
        of.next() < driver_sleeps_until_.load(std::memory_order_seq_cst)) // park_driver
        the_driver().wake();
    return of.fire(now);
}

// --- the paused clock ---

void runtime_core::pause_clock() {
    if (time.paused())
        throw_usage_error("the clock is paused already: resume_clock() first");
    time.pause();
    notify_any(); // if all sleep, it may go on at once
}

void runtime_core::resume_clock() {
    if (!time.paused())
        throw_usage_error("the clock is not paused: pause_clock() first");
    leaf* waiter;
    {
        const lock_guard guard(clock_lock_);
        time.resume();
        waiter = std::exchange(advance_waiter_, nullptr); // ends where the clock has got to
        advance_complete_ = false;
    }
    if (waiter != nullptr)
        wake(*waiter);
    notify_all(); // they sleep without a deadline
}

bool runtime_core::begin_advance(leaf& waiter, clock::duration d) noexcept {
    const lock_guard guard(clock_lock_);
    if (advance_waiter_ != nullptr ||
        !time.paused()) // resume_clock() has the lock: it meets none later
        return false;
    advance_target_ = add_saturated(time.now(), d);
    advance_waiter_ = &waiter;
    advance_complete_ = false;
    return true;
}

cancel_answer runtime_core::withdraw_advance(leaf& waiter) noexcept {
    const lock_guard guard(clock_lock_);
    if (advance_waiter_ != &waiter)
        return cancel_answer::coming;
    advance_waiter_ = nullptr;
    return cancel_answer::quiet;
}

// Under the idle set's lock, all asleep: nobody can begin to run meanwhile (R40).
bool runtime_core::step_paused_clock() noexcept {
    if (work_anywhere() || pool.busy() || visitors_.load(std::memory_order_seq_cst) > 0)
        return false;
    const std::uint64_t tick = next_timer();
    const lock_guard guard(clock_lock_);
    if (advance_waiter_ == nullptr) {
        if (tick == timer_wheel::never || !time.paused())
            return false;
        time.advance_to(std::max(time.now(), time.time_of(tick)));
        return true;
    }
    if (tick != timer_wheel::never && time.time_of(tick) <= advance_target_) {
        time.advance_to(std::max(time.now(), time.time_of(tick)));
    } else {
        time.advance_to(advance_target_);
        advance_complete_ = true;
    }
    return true;
}

void runtime_core::finish_advance() noexcept {
    if (!time.paused())
        return;
    leaf* waiter = nullptr;
    {
        const lock_guard guard(clock_lock_);
        if (std::exchange(advance_complete_, false))
            waiter = std::exchange(advance_waiter_, nullptr);
    }
    if (waiter != nullptr)
        wake(*waiter);
}

// --- the seat of current_thread ---

void runtime_core::seat_changed_now() noexcept {
    seat_changed.word.fetch_add(1, std::memory_order_release); // pairs with drive_until_finished()
    futex::wake(&seat_changed, INT32_MAX);
}

// --- the end ---

void runtime_core::close() noexcept {
    if (closing_.exchange(true, std::memory_order_seq_cst)) // see visitor
        return;
    tasks.close_and_abort();
    pool.close();
    notify_all();
}

// Ends are read before spawns: a task counts what it spawns before it ends itself, and the ends
// are released. With closing_ set nobody else's spawn succeeds (see adopt).
bool runtime_core::all_ended() const noexcept {
    if (visitors_.load(std::memory_order_seq_cst) > 0)
        return false;
    std::uint64_t ended = external_ended_.load(std::memory_order_acquire);
    for (const auto& w : workers)
        ended += w->ended.load(std::memory_order_acquire);
    std::uint64_t spawned = external_spawned_.load(std::memory_order_seq_cst);
    for (const auto& w : workers)
        spawned += w->spawned.get();
    return ended == spawned;
}

bool runtime_core::stop_if_all_ended() noexcept {
    if (!all_ended())
        return false;
    // Release: pairs with stopped(). seq_cst: install_driver() writes the slot and then reads this.
    if (!stopped_.exchange(true, std::memory_order_seq_cst)) {
        driver_.load(std::memory_order_seq_cst)->shut_down();
        notify_all();
    }
    return true;
}

bool runtime_core::shutdown(futex::time_point deadline) {
    close();
    while (!is_multi() && !stopped()) {
        const std::uint32_t seen = seat_changed.word.load(std::memory_order_acquire);
        if (!seat_taken.exchange(true, std::memory_order_acquire)) {
            // Nobody drives it: the calling thread does, for the tasks' last turns (R32).
            workers.front()->run_until([&] { return stopped(); }, deadline);
            seat_taken.store(false, std::memory_order_release);
            seat_changed_now();
            break;
        }
        if (!seat_changed.wait_until(seen, deadline))
            break;
    }
    return pool.join(deadline) && (stopped() || all_ended());
}

void runtime_core::abandon() noexcept {
    close();
    if (!is_multi()) {
        leftovers::free_ended();
        if (!all_ended())
            leftovers::keep(*this);
    }
    pool.detach();
}

void runtime_core::report_leftovers() const {
    std::string text = "shutdown" +
                       (options.name.empty() ? "" : " of runtime \"" + options.name + "\"") +
                       ": still running:";
    std::vector<std::uint64_t> named;
    for (const auto& w : workers)
        if (const std::uint64_t task = w->running_id())
            text += "\n  " + describe_task(task, w->running_where()) + " runs on worker " +
                    std::to_string(w->index()),
                named.push_back(task);
    tasks.for_each([&](const cell& c) {
        if (std::find(named.begin(), named.end(), c.id) == named.end())
            text += "\n  task " + std::to_string(c.id) +
                    (c.name().empty() ? "" : " \"" + std::string(c.name()) + "\"") + ", spawned at " +
                    place(c.where());
    });
    for (const std::string& call : pool.running())
        text += "\n  " + call;
    log(log_level::warning, text);
}

runtime_metrics runtime_core::metrics() const {
    runtime_metrics m;
    std::uint64_t ended = external_ended_.load(std::memory_order_acquire);
    for (const auto& w : workers)
        ended += w->ended.load(std::memory_order_acquire);
    m.spawned = external_spawned_.load(std::memory_order_relaxed);
    for (const auto& w : workers) {
        m.workers.push_back(w->metrics());
        m.spawned += w->spawned.get();
    }
    m.live = m.spawned - ended;
    m.remote_schedules = remote_schedules_.load(std::memory_order_relaxed);
    m.unhandled_exceptions = sink_->count();
    m.injection_depth = injected.size();
    m.blocking_threads = pool.threads();
    m.idle_blocking_threads = pool.idle_threads();
    m.blocking_depth = pool.depth();
    return m;
}

} // namespace magpie::detail
