#include "worker.hpp"

#include "runtime_core.hpp"

#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/detail/inherited.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/log.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <pthread.h>
#include <sched.h>
#include <span>
#include <sys/prctl.h>
#include <thread>
#include <utility>
#include <vector>

namespace magpie::detail {

using namespace std::chrono_literals;

namespace {
constexpr std::uint32_t recent_limit = 16;       // how often in a row the newest goes before the queue
constexpr std::uint32_t nested_limit = 256;      // turns inside one turn ...
constexpr std::uint32_t nested_depth_limit = 64; // ... and inside each other: they use stack
constexpr auto nap = 50us;                       // of a thief whose last steal did not pay ...
constexpr auto steal_memory = 10ms;              // ... which it knows for so long
constexpr std::int64_t worth_waking = 100'000;   // nanoseconds of work that wait
constexpr auto watch_interval = 1ms;             // how often one looks while others run
constexpr auto trim_after = 1s;
constexpr auto kept_at_most =
    1us; // from one fork to the next, on average, if children are kept from thieves
constexpr std::uint64_t no_index = std::numeric_limits<std::uint64_t>::max();

/// What a thread is set to while it runs a worker.
class thread_settings {
public:
    thread_settings(const std::vector<std::size_t>& cpus, std::size_t index) noexcept
        : bound_(!cpus.empty()) {
        ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0,
                0); // a microsecond: 50 by default, added to each sleep
        if (!bound_)
            return;
        ::pthread_getaffinity_np(::pthread_self(), sizeof before_, &before_);
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpus[index % cpus.size()], &set);
        if (::pthread_setaffinity_np(::pthread_self(), sizeof set, &set) != 0)
            log(log_level::warning, "a worker could not be bound to its processor: see affinity()");
    }
    thread_settings(const thread_settings&) = delete;
    ~thread_settings() {
        ::prctl(PR_SET_TIMERSLACK, 0UL, 0, 0, 0); // the thread's default
        if (bound_)
            ::pthread_setaffinity_np(::pthread_self(), sizeof before_, &before_);
    }

private:
    const bool bound_;
    cpu_set_t before_;
};

} // namespace

worker::worker(runtime_core& core, std::size_t place, std::uint64_t seed, bool alone)
    : timers(core.group.has_threads() && !core.is_pinned()), core_(core),
      index_(core.first_worker + place), place_(place),
      event_interval_(core.group.options.event_interval),
      global_queue_interval_(core.group.options.global_queue_interval), random_(seed != 0 ? seed : 1),
      poll_before_(no_index), alone_(alone), recent_(!alone), ring_(!alone), forks_(*this, !alone),
      seat(*this) {}

worker::lane::lane(worker& w, bool thieves) : fork_lane(w.core(), thieves), worker_(w) {}

void worker::lane::call_for_help() noexcept {
    if (!worker_.alone_)
        worker_.core_.notify_one();
}

// What is kept from thieves waits for the next fork or join of this worker. So that is done only where
// these come so fast that a thief would take longer to come.
std::uint32_t worker::lane::measure() noexcept {
    constexpr std::uint32_t offers = 64;
    const auto now = futex::time_point::clock::now();
    keep_private(now - std::exchange(measured_, now) < offers * kept_at_most);
    return offers;
}

// --- the loop ---

void worker::run() noexcept {
    thread_state& here = this_thread();
    here.worker = this;
    here.forks = &forks_;
    here.executor = &core_;
    here.home = core_.is_pinned() ? static_cast<const executor*>(&core_) : &seat;
    here.random = seed_of_selects();
    const thread_settings settings(core_.group.options.affinity, index_);
    awake_since_ = futex::time_point::clock::now();
    running_id_.store(0, std::memory_order_relaxed); // handed over in the middle of a turn
    while (!core_.stopped()) {
        if (strand* const s = next()) {
            execute(*s);
            if (lost()) { // a blocking section has handed the worker to another thread
                core_.group.pool.end_section();
                return;
            }
        } else if (!run_pinned()) {
            park();
        }
    }
    if (searching_) {
        searching_ = false;
        core_.idle.stop_searching();
    }
    here.worker = nullptr;
    here.forks = nullptr;
    here.executor = nullptr;
    here.home = nullptr;
}

void worker::run_until(const std::function<bool()>& done, futex::time_point deadline) {
    thread_state& here = this_thread();
    const thread_state before = here;
    here.worker = this;
    here.forks = &forks_;
    here.executor = &core_;
    here.random = seed_of_selects();
    here.turn = nullptr;
    awake_since_ = futex::time_point::clock::now();
    while (!done()) {
        if (strand* const s = next()) {
            execute(*s);
            // seq_cst: a waiter counts itself in and then looks at its root's end (R35).
            if (core_.group.seat_waiters.load(std::memory_order_seq_cst) > 0)
                core_.group.seat_changed_now();
        } else if (deadline != futex::time_point::max() &&
                   futex::time_point::clock::now() >= deadline && !core_.group.stop_if_all_ended()) {
            break;
        } else {
            wake_by_ = deadline;
            park();
        }
    }
    wake_by_ = futex::time_point::max();
    fired_.add(core_.fire_before_rest(*this)); // time goes on, whether somebody sits here or not
    found_work();                              // whoever sits here next begins as a running worker
    here = before;
}

strand* worker::next() noexcept {
    if (strand* const s = std::exchange(found_, nullptr))
        return s;
    ++tick_;
    if (tick_ - maintained_ >= event_interval_) {
        maintain_all();
        if (company_.is_under_way() && forks_.size() == 0)
            consider_rest();
    }
    if (tick_ - injected_ >= global_queue_interval_ && is_regular_look()) {
        if (strand* const s = one_from_injector())
            return s;
        if (forks_.top_index() < left_behind_)
            if (strand* const s = forks_.take_oldest())
                return s;
    }
    if (recent_run_ < recent_limit) {
        if (strand* const s = recent_.pop()) {
            ++recent_run_;
            return s;
        }
    } else if (strand* const s = recent_.pop_oldest()) {
        push(*s); // nothing stays below the newest for ever; it wakes nobody: this worker comes to it
    }
    recent_run_ = 0;
    if (ring_.head_index() >= poll_before_) {
        // A task that has yielded runs again only after reactor, timers and messages had their look.
        poll_before_ = no_index;
        receive_before_yielded();
        maintain();
    }
    if (strand* const s = ring_.pop())
        return s;
    if (strand* const s = recent_.pop())
        return s;
    // Behind what is queued: there may be their parents, who would take them back and go on depth first.
    if (strand* const s = forks_.take_newest())
        return s;
    if (strand* const s = share_from_injector())
        return s;
    return search();
}

/// For a shard of several: sends what others shall have, and takes in what they have sent; strands go to the end of
/// the ring. Whether there was anything.
bool worker::receive() noexcept {
    if (!core_.is_pinned())
        return false;
    bool any = core_.inbox.has_any();
    if (any)
        core_.inbox.take_all([](parcel p) { strand::receive(p); });
    if (core_.mail.has_unsent()) // first: it has waited
        core_.send_mail();
    any = core_.receive_mail() || any;
    if (core_.mail.has_unsent())
        core_.send_mail();
    return any;
}

/// Messages, before a task that has yielded runs again. If that is the only one here, it lets those go first who have
/// been waiting for them, and what these send is sent before its turn.
void worker::receive_before_yielded() noexcept {
    if (!core_.is_pinned())
        return;
    strand* const yielded = ring_.size() == 1 ? ring_.pop() : nullptr;
    const bool any = receive();
    if (yielded == nullptr)
        return;
    if (any && ring_.size() > 0)
        poll_before_ = ring_.tail_index();
    push(*yielded);
}

/// Whether it is time to look at the injector. Before that a pinned task takes its turn, for which this may be
/// early; so they and the others take turns, one by one.
[[gnu::noinline]] bool worker::is_regular_look() noexcept {
    const bool due = tick_ - looked_for_injected_ >= global_queue_interval_;
    if (due)
        looked_for_injected_ = tick_;
    injected_ = looked_for_injected_;
    static_cast<void>(run_pinned());
    return due;
}

/// A turn of one of the tasks that are pinned to this worker. Whether there was one.
bool worker::run_pinned() noexcept {
    strand* const s = seat.next();
    if (s == nullptr)
        return false;
    found_work();
    take_turn(static_cast<cell&>(*s));
    if (lost()) // the task has forked, and this is the child
        core_.group.terminate_in_child();
    running_id_.store(0, std::memory_order_relaxed); // as in execute()
    return true;
}

[[gnu::noinline]] strand* worker::one_from_injector() noexcept {
    static_cast<void>(receive());
    return core_.injected.pop();
}

/// A share of the shared queue, into the empty ring; half of that stays free, or the next spawns
/// would carry it back.
[[gnu::noinline]] strand* worker::share_from_injector() noexcept {
    if (receive())
        return ring_.pop();
    const std::size_t waiting = core_.injected.size();
    if (waiting == 0)
        return nullptr;
    std::array<strand*, decltype(ring_)::half> share;
    const std::size_t taken = core_.injected.pop(
        std::span(share).first(std::min(waiting / core_.workers.size() + 1, share.size())));
    if (taken == 0)
        return nullptr;
    const auto rest = std::span(share).first(taken).subspan(1);
    for (const strand* const cold : rest)
        __builtin_prefetch(cold, 1);
    for (strand* const s : rest) {
        s->prefetch_turn();
        push(*s);
    }
    if (taken > 1)
        core_.notify_one(); // who lay down meanwhile has seen them in neither queue
    return share[0];
}

strand* worker::search() noexcept {
    if (alone_ || seat.has_any())
        return nullptr;
    if (!searching_) {
        if (!core_.idle.start_searching())
            return nullptr;
        searching_ = true;
    }
    if (!last_steal_paid()) {
        // Its tasks were shorter than moving them is dear: they went better where they were. It stays
        // a searcher, so nobody is woken in its place, and tries again with a single one.
        if (strand* const s = share_from_injector())
            return s;
        if (!core_.work_anywhere())
            return nullptr;
        std::this_thread::sleep_for(nap);
    }
    if (strand* const s = steal_once())
        return s;
    if (core_.has_drivers_each() && poll_another())
        return ring_.pop();
    return share_from_injector();
}

/// Whether what was stolen last kept this worker busy for as long as it cost to move. Also true when
/// that was long ago.
bool worker::last_steal_paid() noexcept {
    const std::uint64_t n = std::exchange(stolen_last_, 0);
    if (n == 0 && steal_most_ > 1)
        return true;
    const auto since = futex::time_point::clock::now() - stole_at_;
    if (since >= steal_memory || (n > 0 && since >= n * core_.group.options.move_cost))
        steal_most_ = ring_.capacity;
    else if (n > 0)
        steal_most_ = 1;
    return steal_most_ > 1;
}

void worker::note_steal(const worker& victim, std::uint64_t n) noexcept {
    steals_.add();
    stolen_.add(n);
    stolen_last_ = n;
    stole_at_ = futex::time_point::clock::now();
    // Where each has a reactor of its own, nobody would look after that while it rests.
    if (!core_.has_drivers_each() && core_.idle.awake() <= company::most_awake)
        company_.begin(victim.place_, {victim.done(), done()}, stole_at_);
}

[[gnu::noinline]] void worker::consider_rest() noexcept {
    worker& victim = *core_.workers[company_.victim()];
    const auto now = futex::time_point::clock::now();
    const company::count both{victim.done(), done()};
    if (!company_.wants_rest(both, now, core_.idle.awake() <= 2))
        return;
    if (rests_.try_begin(victim.rests_)) {
        leave_to(victim);
        rests_.end(victim.rests_);
    } else {
        company_.begin_anew(both, now);
    }
}

/// This worker's help does not pay: gives back what it has, and rests.
void worker::leave_to(const worker& victim) noexcept {
    std::array<strand*, local_queue<>::capacity + recent_stack::capacity + 1> all;
    std::size_t n = 0;
    while (strand* const s = ring_.pop())
        all[n++] = s;
    while (strand* const s = recent_.pop_oldest())
        all[n++] = s;
    if (n > 0)
        core_.injected.push(std::span(all).first(n)); // at once: others want the queue, too
    // What is for this worker alone, nobody else would come to.
    for (std::uint32_t i = company_.slices(); i > 0 && !core_.stopped() && !seat.has_any(); --i) {
        const std::uint64_t before = victim.done();
        const auto from = futex::time_point::clock::now();
        std::this_thread::sleep_for(company::slice);
        const auto to = futex::time_point::clock::now();
        if (!company_.rested(victim.done() - before, to - from, to))
            break;
    }
}

[[gnu::noinline]] strand* worker::steal_once() noexcept {
    const std::uint32_t start = random(std::numeric_limits<std::uint32_t>::max());
    strand* const queued = core_.neighbours.ask(place_, start, [this](std::size_t w) -> strand* {
        worker& victim = *core_.workers[w];
        if (strand* const s = victim.forks_.take_oldest()) {
            note_steal(victim, 1);
            return s;
        }
        if (victim.rests_.is_relied_on()) // somebody rests to leave it its tasks
            return nullptr;
        const std::uint64_t before = ring_.tail_index();
        strand* const s = victim.ring_.steal_into(ring_, steal_most_);
        if (s != nullptr)
            note_steal(victim, ring_.tail_index() - before + 1);
        return s;
    });
    if (queued != nullptr)
        return queued;
    return core_.neighbours.ask(place_, start, [this](std::size_t w) -> strand* {
        worker& victim = *core_.workers[w];
        if (victim.rests_.is_relied_on())
            return nullptr;
        strand* const s = victim.recent_.steal(); // the newest is left: it is next there
        if (s != nullptr)
            note_steal(victim, 1);
        return s;
    });
}

void worker::stop_searching() noexcept {
    searching_ = false;
    // Pass it on if there is more. Who pushed while this worker was the only searcher woke
    // nobody; having left the word, it now looks at every queue, as a sleeper does (R39).
    if (core_.idle.stop_searching() && (core_.work_besides(*this) || wants_help()))
        core_.notify_one();
}

// Waking another worker and moving half of the tasks to it is dear beside a few short turns. What came
// with a batch of events is like what came before it: if this worker will be through with it soon, it
// wants none. Nor where all processors are taken, and help would come when the work is done. (Should it be
// wrong, the one on the watch helps within a millisecond.)
bool worker::wants_help() const noexcept {
    constexpr std::int64_t always_worth = 1'000'000;
    const std::int64_t late = 2 * core_.usual_wake().count();
    return waiting_work() >= std::clamp(late, worth_waking, always_worth) && has_queued();
}

// The tasks of a connection find what they need in the caches of the worker that had its events. If two workers
// are in the driver by turns, it goes to and fro; and each of them sleeps, and is woken, as often as one
// would. Asked a second time, while that worker has not been there: its turn lasts, and it comes back late.
bool worker::leaves_driver(const driver_slot& driver) noexcept {
    if (!driver.has_io())
        return false;
    const std::uint32_t sleeps = driver.sleeps();
    const bool seen_before = std::exchange(seen_sleeps_, sleeps) == sleeps;
    const worker* const last = driver.last_sleeper();
    return !seen_before && last != nullptr && last != this && !last->is_asleep() &&
           last->waiting_work() < worth_waking;
}

void worker::execute(strand& s) noexcept {
    found_work();
    nested_ = 0;
    nested_left_ = nested_limit;
    split_ = false;
    const std::uint32_t n = take_turn(static_cast<cell&>(s)); // the strands of this executor are cells
    if (lost()) {
        if (has_inherited()) // the task has forked, and this is the child
            core_.group.terminate_in_child();
        return;
    }
    running_id_.store(0, std::memory_order_relaxed);
    done_.add(n);
    forks_.share();
    if (!split_)
        left_behind_ = forks_.bottom_index();
    if (nested_left_ == 0) // it went before the queue long enough
        recent_run_ = recent_limit;
}

// The caller's task waits for `c` and could do nothing else. It counts as a turn like any other, so
// timers and driver have their look; how many may run inside one turn is bounded, for what is in the
// queues waits meanwhile.
bool worker::run_now(cell& c) noexcept {
    if (nested_left_ == 0 || nested_ == nested_depth_limit || !recent_.remove(c))
        return false;
    const std::uint64_t id = running_id();
    const std::uintptr_t where = running_where();
    ++nested_;
    --nested_left_;
    const std::uint32_t n = take_turn(c);
    if (lost()) // the rest of the caller's turn has no worker
        return true;
    done_.add(n);
    --nested_;
    running_id_.store(id, std::memory_order_relaxed); // as in take_turn
    running_where_.store(where, std::memory_order_relaxed);
    if (++tick_ - maintained_ >= event_interval_) {
        thread_state& here = this_thread();
        strand* const turn = std::exchange(here.turn, nullptr); // what becomes ready keeps its order
        maintain_all();
        here.turn = turn;
    }
    return true;
}

/// Returns how much it did. The thread may have lost the worker.
std::uint32_t worker::take_turn(cell& c) noexcept {
    turns_.add();
    running_id_.store(c.id, std::memory_order_relaxed); // for reports: relaxed, a recent value will do
    running_where_.store(c.origin_word(), std::memory_order_relaxed);
    if (core_.closing_hint()) [[unlikely]]
        c.abort();
    return c.run_turn();
}

// --- queues ---

void worker::wake_another() noexcept {
    if (!alone_ && !rests_.is_relied_on())
        core_.notify_one();
}

void worker::schedule(strand& s, executor::placement where, const thread_state& here) noexcept {
    if (where == executor::placement::yield) {
        split_ = true;
        poll_before_ = std::min(poll_before_, ring_.tail_index());
        push(s);
        if (ring_.size() > 1)
            wake_another();
        return;
    }
    // Between turns (timers, reactor) there is no "next": the order of the wakes is kept.
    if (!core_.group.options.lifo_slot || here.turn == nullptr) {
        push(s);
        if (!in_driver_) // else once for the whole batch, by who drives
            wake_another();
        return;
    }
    // One that is alone wakes nobody: this worker comes to it next, and if its turn lasts, who looks
    // after the others takes it.
    if (strand* const oldest = recent_.push(s)) {
        push(*oldest);
        wake_another();
    } else if (recent_.size() > 1) {
        wake_another();
    }
}

void worker::push(strand& s) noexcept {
    if (!ring_.push(s)) [[unlikely]]
        push_and_share(s);
}

/// Not inlined, like what else is rare here: its arrays would be made room for each time.
[[gnu::noinline]] void worker::push_and_share(strand& s) noexcept {
    do {
        std::array<strand*, decltype(ring_)::half> older;
        if (ring_.take_half(older)) {
            overflows_.add();
            core_.injected.push(older);
        }
    } while (!ring_.push(s));
}

std::uint64_t worker::next_id() noexcept {
    last_id_ += core_.group.tasks.stride();
    return core_.group.id_base() + last_id_ + index_;
}

// A new one each time: a program that enters the runtime for each of its selects is treated fairly too.
std::uint32_t worker::seed_of_selects() noexcept {
    return 1 + random(std::numeric_limits<std::uint32_t>::max());
}

std::uint32_t worker::random(std::uint32_t below) noexcept {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return static_cast<std::uint32_t>(((random_ * 0x2545F4914F6CDD1DULL) >> 32) * below >> 32);
}

void worker::maintain_all() noexcept {
    maintained_ = tick_;
    maintain();
    looked_at_ = tick_;
    if (core_.timers_due()) // of the others: one of them may be stuck
        fired_.add(core_.fire_timers());
}

bool worker::poll_driver() noexcept {
    if (!core_.driver_of(place_).has_io()) // a futex tells nothing
        return true;
    const std::uint64_t before = ring_.tail_index();
    in_driver_ = true;
    const bool polled = core_.driver_of(place_).poll();
    in_driver_ = false;
    // This worker comes to one of them itself; help is wanted if there is more to do than that.
    if (ring_.tail_index() != before && ring_.size() + recent_.size() > 1 && wants_help())
        wake_another();
    return polled;
}

/// The reactor of a busy worker: what has become ready there comes here.
bool worker::poll_another() noexcept {
    in_driver_ = true; // found_work() gets help if it is much
    core_.poll_another(place_, random(std::numeric_limits<std::uint32_t>::max()));
    in_driver_ = false;
    return ring_.size() > 0;
}

void worker::maintain() noexcept {
    static_cast<void>(poll_driver());
    // Turns are mostly much shorter than a millisecond, and the clock is dearer than a yield: while
    // that is so, every eighth look is a look at the clock.
    if (timers.next() == timer_wheel::never || tick_ - looked_at_ < look_every_)
        return;
    looked_at_ = tick_;
    const std::uint64_t now = core_.time.tick_now();
    look_every_ = now == std::exchange(last_look_, now) ? 8 : 1;
    if (timers.next() <= now || timers.has_unstamped())
        fired_.add(core_.fire(*this, now));
}

// --- sleep ---

/// For who looks a moment longer before it sleeps. It is awake meanwhile, so what comes wakes nobody: a shard looks
/// at its sockets, too, or it would be deaf to them.
bool worker::has_come() noexcept {
    constexpr std::uint32_t looks_between_polls = 8; // a poll is a system call
    if (core_.is_pinned() && core_.driver_of(place_).has_io() && ++looks_ % looks_between_polls == 0) {
        static_cast<void>(poll_driver());
        if (ring_.size() > 0)
            return true;
    }
    return core_.injected.size() > 0 || seat.has_any() || core_.has_messages();
}

void worker::park() noexcept {
    if (core_.group.closing() && core_.group.stop_if_all_ended())
        return;
    if (before_sleep_.wants_to() && before_sleep_.look([this] { return has_come(); })) {
        if (ring_.size() > 0) { // of the sockets: for them, it would have been woken as well
            before_sleep_.learn(false);
            return;
        }
        // Who is woken from outside has been waited for, and so has a message. New tasks are better taken
        // several at a time, as they are after a sleep, than one by one from who goes on to spawn.
        const bool waited_for = seat.has_any() || core_.has_messages();
        found_ = share_from_injector();
        before_sleep_.learn(waited_for || (found_ != nullptr && !found_->is_new()));
        return;
    }
    if (core_.group.options.on_thread_park) {
        core_.group.options.on_thread_park(); // it may spawn and wake: then there is no sleep
        if (has_queued() || recent_.size() > 0)
            return;
    }
    if (const std::size_t n = core_.fire_before_rest(*this); n > 0) {
        fired_.add(n);
        if (has_queued())
            return;
    }
    const auto lay_down = futex::time_point::clock::now();
    const auto busy = (lay_down - awake_since_).count();
    busy_ns_.add(static_cast<std::uint64_t>(busy));
    if (const auto n = static_cast<std::int64_t>(turns_.get() - turns_before_); n > 0)
        usual_turn_.store(usual_turn() + (busy / n - usual_turn()) / 8, std::memory_order_relaxed);
    parks_.add();
    trimmed_ = false;
    asleep_.store(true, std::memory_order_relaxed); // published by the idle set's word: (S)
    core_.group.worker_lies_down();
    core_.idle.sleep(place_, searching_, [this] { core_.watch.unset(); });
    searching_ = true; // whichever way it gets up, it gets up as a searcher
    while (!sleep()) {}
    asleep_.store(false, std::memory_order_relaxed); // a hint from here on
    core_.idle.get_up(place_);                       // unless a notifier has counted it in already
    awake_since_ = futex::time_point::clock::now();
    if (const auto at = notified_at_.exchange(0, std::memory_order_relaxed); at != 0)
        core_.note_wake(awake_since_ - futex::time_point(futex::time_point::duration(at)));
    turns_before_ = turns_.get();
    core_.ensure_watched(); // somebody is up: the others look after it
    if (core_.timers_due())
        fired_.add(core_.fire_timers());
    core_.group.finish_advance();
    if (core_.group.options.on_thread_unpark)
        core_.group.options.on_thread_unpark();
}

/// One sleep, after the worker has left the idle set's word. Returns true when it shall get up.
bool worker::sleep() noexcept {
    // Asked before the questions to which a visitor makes the answer no: it leaves without a word.
    // Who comes in later notifies behind its push, and finds this worker among the sleepers.
    const bool visited = core_.visited();
    // R39: out of the word first, now every queue. Whoever comes later sees that nobody is awake.
    if (core_.work_anywhere() || seat.has_any() || core_.stopped() || core_.timers_due())
        return true;
    if (core_.group.closing() && core_.group.stop_if_all_ended())
        return true;
    // Time must not overtake what the reactor has to tell (R40). If somebody sleeps in it, he is woken,
    // and asks this himself: he may have an event in hand.
    driver_slot& driver = core_.driver_of(place_);
    const std::uint64_t round = core_.group.clock_round(); // before it asks
    if (core_.time.paused() && driver.has_io() && !poll_driver()) {
        driver.get().wake();
    } else if (core_.time.paused()) {
        if (ring_.size() > 0 || seat.ready() > 0)
            return true;
        if (core_.group.step_clock(core_, place_, round))
            return true;
    }

    const bool others_run = core_.idle.awake() > 0;
    const bool each = core_.has_drivers_each();
    if (each && !driver.try_lock()) // somebody polls it for this worker: a moment
        return true;
    const bool keeps = each && core_.try_keep(place_);
    const auto now = futex::time_point::clock::now();
    auto limit = futex::time_point::max();
    const bool ask_again = visited && (core_.group.closing() || core_.time.paused());
    if (ask_again)
        limit = now + watch_interval;
    else if (others_run || (keeps && core_.was_up_just_now()))
        limit = !each || keeps ? now + watch_interval : limit;
    else if (!trimmed_)
        limit = now + trim_after;

    if (now >= wake_by_) // of current_thread, which has one driver
        return true;
    limit = std::min(limit, wake_by_);

    bool notified;
    if (each || (!(others_run && leaves_driver(driver)) && driver.try_lock())) {
        driver.note_sleeper(*this);
        if (keeps)
            core_.idle.set_watcher(place_);
        notified = !parker.announce(parker::where::in_driver);
        if (!notified) {
            in_driver_ = true;
            core_.park_driver(place_, limit, !each || keeps);
            in_driver_ = false;
            notified = parker.rise();
        }
        driver.unlock();
        if (keeps) {
            core_.idle.set_watcher(idle_set::nobody);
            core_.stop_keeping();
        }
        // What came goes on here; if it is more than one task, found_work() gets help.
        if (!notified && (ring_.size() > 0 || (keeps && core_.idle.awake() > 0 && poll_another())))
            return true;
    } else if (core_.watch.try_occupy()) {
        core_.idle.set_watcher(place_);
        notified = !parker.announce(parker::where::on_watch);
        if (!notified) {
            core_.watch.sleep(limit);
            notified = parker.rise();
        }
        core_.idle.set_watcher(idle_set::nobody);
        core_.watch.vacate();
    } else {
        notified = !parker.announce(parker::where::on_futex);
        if (!notified) {
            // With others awake two sleepers at most look after them: in the driver and on the watch.
            parker.sleep(others_run && !ask_again ? futex::time_point::max() : limit);
            notified = parker.rise();
        }
    }
    if (notified) {
        unparks_.add();
        return true;
    }
    if (!trimmed_ && futex::time_point::clock::now() - now >= trim_after) {
        trimmed_ = true;
        trim_frames(); // others may use them, or the system
    }
    found_ = core_.look_after_others(*this);
    return found_ != nullptr;
}

worker_metrics worker::metrics() const noexcept {
    worker_metrics m;
    m.turns = turns_.get();
    m.steals = steals_.get();
    m.stolen_tasks = stolen_.get();
    m.overflows = overflows_.get();
    m.parks = parks_.get();
    m.unparks = unparks_.get();
    m.timers_fired = fired_.get();
    m.messages = messages.get();
    m.busy = std::chrono::nanoseconds(busy_ns_.get());
    m.queue_depth = ring_.size() + recent_.size() + seat.ready();
    return m;
}

} // namespace magpie::detail
