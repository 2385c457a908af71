#include "runtime_group.hpp"

#include "runtime_core.hpp"

#include <magpie/core/config.hpp>
#include <magpie/core/detail/cell.hpp>
#include <magpie/core/detail/immortal.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/log.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <utility>

namespace magpie::detail {

void install_spdlog() noexcept; // logging.cpp

namespace {

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

std::string place_of(std::source_location w) {
    return std::string(w.file_name()) + ":" + std::to_string(w.line());
}

std::string in_quotes(std::string_view name) {
    return name.empty() ? std::string() : " \"" + std::string(name) + "\"";
}

/// Logs what `text()` gives, or `less` if there is no memory for it.
template <class Text>
void log_in_spite_of_memory(log_level level, std::string_view less, Text text) noexcept {
    try {
        log(level, text());
    } catch (const std::bad_alloc&) {
        log(level, less);
    }
}

std::size_t workers_of(const runtime_options& o) noexcept {
    return o.layout == layout::current_thread ? 1 : o.worker_threads;
}
std::size_t shards_of(const runtime_options& o) noexcept {
    return o.layout == layout::thread_per_core ? workers_of(o) : 1;
}

} // namespace

/// Receives what nobody else can, for this runtime's tasks. A report under way on any thread keeps
/// it, not the runtime: a handle may be dropped while the runtime goes.
class runtime_group::sink final : public unhandled_sink {
public:
    sink(std::uint64_t runtime, std::function<void(const unhandled_exception&)> hook)
        : runtime_(runtime), hook_(std::move(hook)) {}

    bool is_for(std::uint64_t task_id) const noexcept override {
        return runtime_of(task_id) == runtime_;
    }

    /// Makes each report close `group`. Before the first task is spawned: nothing guards it.
    void close_at_report(std::weak_ptr<runtime_group> group) noexcept { closes_ = std::move(group); }

    void report(const unhandled_exception& x) noexcept override {
        count_.fetch_add(1, std::memory_order_relaxed); // a statistic
        if (hook_) {
            hook_(x);
        } else {
            log_in_spite_of_memory(
                log_level::error, "a task failed and nobody received its exception", [&] {
                    return "task " + std::to_string(x.task_id) + in_quotes(x.task_name) +
                           ", spawned at " + place_of(x.where) +
                           ", failed and nobody received it: " + std::string(describe(x.error));
                });
        }
        if (const std::shared_ptr<runtime_group> group = closes_.lock())
            group->close();
    }

    std::uint64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

private:
    std::weak_ptr<runtime_group> closes_; // not written once there are tasks
    const std::uint64_t runtime_;
    const std::function<void(const unhandled_exception&)> hook_;
    atomic<std::uint64_t> count_{0};
};

/// Keeps the runtimes that were given up with tasks alive, and that have no thread to keep them: who
/// wakes such a task reaches for its runtime (R33). Never destroyed: so are they.
class runtime_group::leftovers {
public:
    static void keep(runtime_group& group) noexcept {
        leftovers& all = immortal<leftovers>();
        const lock_guard guard(all.lock_);
        if (group.itself_ != nullptr)
            return;
        group.itself_ = group.shared_from_this();
        group.next_leftover_ = std::exchange(all.first_, &group);
    }

    /// Lets those go that somebody else has driven to the end of their tasks meanwhile.
    static void free_ended() noexcept {
        leftovers& all = immortal<leftovers>();
        std::shared_ptr<runtime_group> ended; // a chain: hooks are destroyed, which is not for the lock
        {
            const lock_guard guard(all.lock_);
            for (runtime_group** at = &all.first_; *at != nullptr;) {
                runtime_group& group = **at;
                // Nobody but this list has it, so nobody will use it again.
                if (group.itself_.use_count() > 1 || !group.all_ended()) {
                    at = &group.next_leftover_;
                    continue;
                }
                *at = std::exchange(group.next_leftover_, nullptr);
                std::swap(group.itself_, ended); // the last one found refers to the one before
            }
        }
        while (ended != nullptr)
            ended = std::exchange(ended->itself_, nullptr);
    }

private:
    mutex lock_;
    runtime_group* first_ = nullptr; // guarded by lock_, as the links
};

runtime_group::runtime_group(runtime_options o, std::source_location where)
    : options(std::move(o)), made_at(where), id(next_runtime_id()), time(options.paused_clock),
      // The workers', the other threads' for each shard, the blocking calls'.
      tasks(workers_of(options) + shards_of(options) + 1),
      pool({options.max_blocking_threads, options.thread_keep_alive, options.thread_stack_size,
            options.thread_name, options.on_thread_start, options.on_thread_stop}),
      workers_(workers_of(options)), id_base_(first_id_of(id)),
      sink_(std::make_shared<sink>(id, options.on_unhandled_exception)) {
    install_spdlog();
    std::uint64_t seed = options.seed
                             ? *options.seed
                             : std::random_device{}() | std::uint64_t{std::random_device{}()} << 32;
    const std::size_t in_each = workers_ / shards_of(options);
    for (std::size_t i = 0; i < shards_of(options); ++i)
        shards.push_back(std::make_unique<runtime_core>(*this, i, i * in_each, in_each, seed));
    pool.on_idle = [this] {
        if (time.paused())
            notify_any(); // the clock may go on now, if all sleep
    };
    pool.keep = [this] { return shared_from_this(); };
    try {
        for (const auto& s : shards) {
            add_unhandled_sink(*s, sink_);
            for (const auto& w : s->workers)
                add_unhandled_sink(w->seat, sink_);
        }
        runtime_begins(first_id_of(id + 1));
    } catch (...) {
        forget_sinks();
        throw;
    }
}

runtime_group::~runtime_group() {
    runtime_ends();
    forget_sinks();
}

void runtime_group::forget_sinks() noexcept {
    for (const auto& s : shards) {
        remove_unhandled_sink(*s); // does nothing if there is none
        for (const auto& w : s->workers)
            remove_unhandled_sink(w->seat);
    }
}

void runtime_group::terminate_in_child() const noexcept {
    fatal(inherited_runtime, made_at.file_name(), static_cast<int>(made_at.line()));
}

void runtime_group::start() {
    if (options.unhandled == unhandled_policy::shutdown)
        sink_->close_at_report(weak_from_this());
    if (!has_threads())
        return;
    try {
        for (const auto& s : shards)
            for (const auto& w : s->workers)
                pool.launch(*w);
    } catch (...) {
        close();
        pool.join(futex::time_point::max());
        throw;
    }
}

runtime_core& runtime_group::place() noexcept {
    if (shards.size() == 1)
        return *shards.front();
    worker* const w = worker::current();
    if (w != nullptr && &w->core().group == this)
        return w->core();
    // Relaxed: evenly is enough.
    return *shards[next_place_.fetch_add(1, std::memory_order_relaxed) % shards.size()];
}

std::uint64_t runtime_group::blocking_id() noexcept {
    // Relaxed: unique is enough. Lanes: see `tasks`.
    return id_base_ + (blocking_ids_.fetch_add(1, std::memory_order_relaxed) + 1) * tasks.stride() +
           workers_ + shards.size();
}

void runtime_group::notify_any() noexcept {
    for (const auto& s : shards)
        s->notify_any();
}

std::string runtime_group::describe_task(std::uint64_t task, std::uintptr_t where) const {
    std::string text = "task " + std::to_string(task);
    if (where != 0)
        return text + ", spawned at " + place_of(std::bit_cast<std::source_location>(where)) + ",";
    tasks.for_each([&](const cell& c) { // one with a name: it may have been idle before
        if (c.id == task)
            text += in_quotes(c.name()) + ", spawned at " + place_of(c.where()) + ",";
    });
    return text;
}

// --- the paused clock ---

void runtime_group::pause_clock() {
    if (time.paused())
        throw_usage_error("the clock is paused already: resume_clock() first");
    time.pause();
    notify_any(); // if all sleep, it may go on at once
}

void runtime_group::resume_clock() {
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
    for (const auto& s : shards)
        s->notify_all(); // they sleep without a deadline
}

bool runtime_group::begin_advance(leaf& waiter, clock::duration d) noexcept {
    const lock_guard guard(clock_lock_);
    if (advance_waiter_ != nullptr ||
        !time.paused()) // resume_clock() has the lock: it meets none later
        return false;
    advance_target_ = add_saturated(time.now(), d);
    advance_waiter_ = &waiter;
    advance_complete_ = false;
    return true;
}

cancel_answer runtime_group::withdraw_advance(leaf& waiter) noexcept {
    const lock_guard guard(clock_lock_);
    if (advance_waiter_ != &waiter)
        return cancel_answer::coming;
    advance_waiter_ = nullptr;
    return cancel_answer::quiet;
}

void runtime_group::worker_lies_down() noexcept {
    if (time.paused())
        clock_round_.fetch_add(1, std::memory_order_release); // pairs with clock_round()
}

bool runtime_group::step_clock(runtime_core& by, std::size_t worker, std::uint64_t asked_in) noexcept {
    // All idle sets at once, and always in this order: nobody can begin to run meanwhile (R40). One
    // after the other would miss who wakes another and lies down in between.
    for (const auto& s : shards)
        s->idle.lock();
    const bool stepped = std::all_of(shards.begin(), shards.end(),
                                     [](const auto& s) { return s->idle.all_sleep(); }) &&
                         has_looked_everywhere(by.driver_of(worker), asked_in) && advance_clock();
    if (stepped)
        by.idle.get_up_locked(worker);
    for (const auto& s : shards)
        s->idle.unlock();
    if (stepped && shards.size() > 1)
        for (const auto& s : shards) // they sleep without a deadline
            if (s.get() != &by && s->timers_due())
                s->notify_any();
    return stepped;
}

// Time must not overtake what a reactor has to tell, and only its own shard (or worker) may ask it. So each
// notes in which round it has asked, a round ends when a worker has run or the clock was moved, and who
// finds one that has not asked in this round wakes it, to ask, and then to come here itself. That may be the
// caller's own: another worker may have run and lain down since it asked.
bool runtime_group::has_looked_everywhere(driver_slot& by, std::uint64_t asked_in) noexcept {
    // Relaxed: written by workers that had the lock of their idle set afterwards, and under all of them.
    const std::uint64_t round = clock_round_.load(std::memory_order_relaxed);
    by.looked_in_round = asked_in;
    for (const auto& s : shards) {
        if (driver_slot* const d = s->not_asked_in(round)) {
            d->get().wake();
            return false;
        }
    }
    clock_round_.store(round + 1, std::memory_order_relaxed);
    return true;
}

bool runtime_group::visited() const noexcept {
    return std::any_of(shards.begin(), shards.end(), [](const auto& s) { return s->visited(); });
}

std::uint64_t runtime_group::next_timer() const noexcept {
    std::uint64_t first = timer_wheel::never;
    for (const auto& s : shards)
        first = std::min(first, s->next_timer());
    return first;
}

bool runtime_group::advance_clock() noexcept {
    if (std::any_of(shards.begin(), shards.end(),
                    [](const auto& s) { return s->work_anywhere() || s->has_pinned(); }) ||
        pool.busy() || visited())
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

void runtime_group::finish_advance() noexcept {
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

void runtime_group::seat_changed_now() noexcept {
    seat_changed.word.fetch_add(1, std::memory_order_release); // pairs with drive_until_finished()
    futex::wake(&seat_changed, INT32_MAX);
}

// --- the end ---

void runtime_group::close() noexcept {
    if (closing_.exchange(true, std::memory_order_seq_cst)) // see runtime_core::adopt()
        return;
    for (const auto& s : shards)
        s->closes();
    tasks.close_and_abort();
    pool.close();
    for (const auto& s : shards)
        s->notify_all();
}

// Ends are read before spawns, of all shards: a task counts what it spawns, wherever, before it ends
// itself, and the ends are released. With closing_ set nobody else's spawn succeeds (see adopt).
bool runtime_group::all_ended() const noexcept {
    if (visited()) // for who lies down: see visitor. ~runtime_core waits for the last touch
        return false;
    std::uint64_t ended = 0;
    for (const auto& s : shards)
        ended += s->ended();
    std::uint64_t spawned = 0;
    for (const auto& s : shards)
        spawned += s->spawned();
    return ended == spawned;
}

bool runtime_group::stop_if_all_ended() noexcept {
    if (!all_ended())
        return false;
    for (const auto& s : shards) // by everybody who finds it: his own loop ends by it
        s->stops();
    // Release: pairs with stopped(). seq_cst: install_driver() writes the slot and then reads this.
    if (!stopped_.exchange(true, std::memory_order_seq_cst))
        for (const auto& s : shards)
            s->end_sleep();
    return true;
}

bool runtime_group::shutdown(futex::time_point deadline) {
    close();
    while (!has_threads() && !stopped()) {
        const std::uint32_t seen = seat_changed.word.load(std::memory_order_acquire);
        if (!seat_taken.exchange(true, std::memory_order_acquire)) {
            // Nobody drives it: the calling thread does, for the tasks' last turns (R32).
            shards.front()->workers.front()->run_until([&] { return stopped(); }, deadline);
            seat_taken.store(false, std::memory_order_release);
            seat_changed_now();
            break;
        }
        if (!seat_changed.wait_until(seen, deadline))
            break;
    }
    return pool.join(deadline) && (stopped() || all_ended());
}

void runtime_group::abandon() noexcept {
    close();
    if (!has_threads()) {
        leftovers::free_ended();
        if (!all_ended())
            leftovers::keep(*this);
    }
    pool.detach();
}

void runtime_group::free_leftovers() noexcept { leftovers::free_ended(); }

void runtime_group::report_leftovers() const noexcept {
    log_in_spite_of_memory(log_level::warning, "shutdown of a runtime: tasks are still running",
                           [this] { return describe_leftovers(); });
}

std::string runtime_group::describe_leftovers() const {
    std::string text = "shutdown" +
                       (options.name.empty() ? "" : " of runtime" + in_quotes(options.name)) +
                       ": still running:";
    std::vector<std::uint64_t> named;
    for (const auto& s : shards)
        for (const auto& w : s->workers)
            if (const std::uint64_t task = w->running_id())
                text += "\n  " + describe_task(task, w->running_where()) + " runs on worker " +
                        std::to_string(w->index()),
                    named.push_back(task);
    tasks.for_each([&](const cell& c) {
        if (std::find(named.begin(), named.end(), c.id) == named.end())
            text += "\n  task " + std::to_string(c.id) + in_quotes(c.name()) + ", spawned at " +
                    place_of(c.where());
    });
    for (const std::string& call : pool.running())
        text += "\n  " + call;
    return text;
}

runtime_metrics runtime_group::metrics() const {
    runtime_metrics m;
    std::uint64_t ended = 0;
    for (const auto& s : shards)
        ended += s->ended();
    for (const auto& s : shards) {
        for (const auto& w : s->workers)
            m.workers.push_back(w->metrics());
        m.spawned += s->spawned();
        m.remote_schedules += s->remote_schedules();
        m.injection_depth += s->injected.size();
    }
    m.live = m.spawned - ended;
    m.unhandled_exceptions = sink_->count();
    m.blocking_threads = pool.threads();
    m.idle_blocking_threads = pool.idle_threads();
    m.blocking_depth = pool.depth();
    return m;
}

} // namespace magpie::detail
