#include "blocking_pool.hpp"

#include <magpie/core/config.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/timer.hpp>

#include <algorithm>
#include <pthread.h>
#include <system_error>
#include <utility>

namespace magpie::detail {

blocking_pool::~blocking_pool() {
    if (exited_.joinable())
        exited_.get_id() == std::this_thread::get_id() ? exited_.detach() : exited_.join();
}

void blocking_pool::submit(blocking_job& job) {
    bool refused = false;
    futex* sleeper = nullptr;
    {
        const lock_guard guard(lock_);
        if (closed_ && !job.mandatory()) {
            refused = true;
        } else {
            if (!summoned_)
                sleeper = summon(); // it looks when it gets the lock
            // Before the job can end: R40. Relaxed: who lets the clock go on has the idle set's lock behind
            // the worker that calls this, or knows nothing of the call.
            active_.fetch_add(1, std::memory_order_relaxed);
            append(job);
        }
    }
    if (refused)
        job.refuse();
    if (sleeper != nullptr)
        futex::wake(sleeper, 1); // by address: the thread may have seen the word and moved on
}

void blocking_pool::launch(blocking_job& job) {
    const lock_guard guard(lock_);
    start_thread(&job);
}

void blocking_pool::append(blocking_job& job) noexcept {
    job.next_ = nullptr;
    (last_ != nullptr ? last_->next_ : first_) = &job;
    last_ = &job;
    // Relaxed, as all that is written to it: under the lock; who reads it without wants a hint.
    depth_.store(depth_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

blocking_job* blocking_pool::take() noexcept {
    blocking_job* const job = first_;
    if (job == nullptr)
        return nullptr;
    first_ = job->next_;
    if (first_ == nullptr)
        last_ = nullptr;
    depth_.store(depth_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    return job;
}

/// Nobody is summoned: now somebody is, if there is a thread to be had. Gives whom to wake when the lock
/// is free, or null.
futex* blocking_pool::summon() {
    if (!idle_.empty()) {
        member& m = *idle_.back();
        idle_.pop_back();
        m.summoned = summoned_ = true;
        m.notified.word.store(1,
                              std::memory_order_relaxed); // what else there is to see, the lock brings
        return &m.notified;
    }
    if (counted_ < options_.limit) {
        try {
            start_thread(nullptr);
        } catch (...) {
            if (counted_ == 0) // nobody would ever run it
                throw;
        }
    }
    return nullptr;
}

void blocking_pool::start_thread(blocking_job* worker) {
    // A thread that becomes idle cannot fail: there is room for all.
    if (idle_.capacity() <= threads_.size())
        idle_.reserve(2 * threads_.size() + 1);
    const place self = threads_.emplace(threads_.end());
    self->worker = worker;
    live_.word.fetch_add(1, std::memory_order_relaxed); // under the lock, as leave() does
    struct start {
        blocking_pool* pool;
        place self;
        std::shared_ptr<void> keep;
    };
    try {
        // std::thread takes no stack size; the attribute's default is what it reads.
        auto run = [begin = start{this, self, keep ? keep() : nullptr},
                    name = options_.thread_name + "-" + std::to_string(names_++)] {
            ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
            begin.pool->loop(begin.self);
        };
        if (options_.stack_size != 0) {
            static mutex defaults; // the process has one set of them
            const lock_guard guard(defaults);
            pthread_attr_t before;
            pthread_attr_t mine;
            ::pthread_getattr_default_np(&before);
            ::pthread_getattr_default_np(&mine);
            ::pthread_attr_setstacksize(&mine, options_.stack_size);
            ::pthread_setattr_default_np(&mine);
            struct restore {
                pthread_attr_t* to;
                ~restore() { ::pthread_setattr_default_np(to); }
            } at_end{&before};
            self->thread = std::thread(std::move(run));
        } else {
            self->thread = std::thread(std::move(run));
        }
    } catch (...) {
        live_.word.fetch_sub(1, std::memory_order_relaxed);
        threads_.erase(self);
        throw;
    }
    if (worker == nullptr) {
        ++counted_;
        self->summoned = summoned_ = true;
    }
}

bool blocking_pool::owns_this_thread() const noexcept { return this_thread().pool == this; }

void blocking_pool::loop(place self) noexcept {
    this_thread().pool = this; // until the thread's end: hooks and results' destructors run there, too
    if (options_.on_start)
        options_.on_start();
    blocking_job* worker;
    {
        const lock_guard guard(lock_); // the starter has filled the member in
        worker = std::exchange(self->worker, nullptr);
    }
    if (worker != nullptr) {
        worker->run(); // a worker is no call: nothing to report or to finish
        const lock_guard guard(lock_);
        ++counted_; // it has handed its worker over, and is a thread like the others now
    }
    while (blocking_job* const next = next_job(*self))
        execute(*self, *next);
    if (options_.on_stop)
        options_.on_stop();
    leave(self);
}

void blocking_pool::execute(member& self, blocking_job& job) noexcept {
    {
        const lock_guard guard(self.reporting);
        self.current = &job;
    }
    job.run();
    {
        const lock_guard guard(self.reporting); // a report must not find a job that is gone
        self.current = nullptr;
    }
    job.finish();
    end_section(); // the clock may go on now
}

// Null: the thread ends. It stops counting in the same critical section in which it looked for the
// last time: a call that comes afterwards gets another thread, and does not wait for this one.
blocking_job* blocking_pool::next_job(member& self) noexcept {
    enum class before { working, looking, sleeping } came_from = before::working;
    for (;;) {
        futex* sleeper = nullptr;
        blocking_job* job;
        bool out_of_time = false;
        {
            const lock_guard guard(lock_);
            if (self.summoned)
                self.summoned = summoned_ = false;
            else if (came_from == before::sleeping)
                out_of_time = std::erase(idle_, &self) > 0; // or else it was close()
            job = take();
            if (job != nullptr) {
                if (first_ != nullptr && !summoned_)
                    sleeper = summon(); // does not throw: there is this thread
            } else if (closed_ || out_of_time || counted_ > options_.limit) {
                --counted_;
                return nullptr;
            } else if (came_from != before::looking && !summoned_ && self.before_sleep.wants_to()) {
                // Until it has looked, nobody has to wake another one.
                self.summoned = summoned_ = true;
                came_from = before::looking;
            } else {
                self.notified.word.store(0, std::memory_order_relaxed); // before anybody knows us
                idle_.push_back(&self);
                came_from = before::sleeping;
            }
        }
        if (sleeper != nullptr)
            futex::wake(sleeper, 1); // by address, as in submit()
        if (job != nullptr)
            return job;
        if (came_from == before::sleeping)
            sleep(self);
        else if (self.before_sleep.look([&] {
                     return depth_.load(std::memory_order_relaxed) > 0; // a hint; the lock is next
                 }))
            self.before_sleep.learn(true);
    }
}

void blocking_pool::sleep(member& self) noexcept {
    const auto deadline = add_saturated(futex::time_point::clock::now(), options_.keep_alive);
    bool in_time = true;
    // Relaxed: the lock is next, under which it was written.
    while (self.notified.word.load(std::memory_order_relaxed) == 0 && in_time)
        in_time = self.notified.wait_until(0, deadline);
}

void blocking_pool::leave(place self) noexcept {
    std::thread previous;
    {
        const lock_guard guard(lock_);
        if (detached_) {
            if (self->thread.joinable()) // one that was started after detach()
                self->thread.detach();
        } else {
            previous = std::exchange(exited_, std::move(self->thread));
        }
        threads_.erase(self);
        // The pool may go when the last one has left: nothing of it is touched after the lock.
        // Relaxed: join() takes the lock, too.
        live_.word.fetch_sub(1, std::memory_order_relaxed);
        futex::wake(&live_, 1);
    }
    if (previous.joinable())
        previous.join();
}

void blocking_pool::begin_section() noexcept {
    active_.fetch_add(1, std::memory_order_relaxed); // R40: as in submit()
}

void blocking_pool::end_section() noexcept {
    // R40, seq_cst: on_idle reads whether the clock is paused, as does the worker that reads this: see
    // runtime_clock::paused().
    active_.fetch_sub(1, std::memory_order_seq_cst);
    if (on_idle)
        on_idle();
}

void blocking_pool::close() noexcept {
    blocking_job* refused = nullptr;
    blocking_job** end = &refused;
    {
        const lock_guard guard(lock_);
        closed_ = true;
        for (member* m : idle_) {
            m->notified.word.store(1, std::memory_order_relaxed); // as in summon()
            futex::wake(&m->notified, 1);
        }
        idle_.clear();
        blocking_job* job = std::exchange(first_, nullptr);
        last_ = nullptr;
        depth_.store(0, std::memory_order_relaxed);
        while (job != nullptr) {
            blocking_job* const next = std::exchange(job->next_, nullptr);
            if (job->mandatory()) {
                append(*job);
            } else {
                *end = job;
                end = &job->next_;
            }
            job = next;
        }
    }
    while (refused != nullptr) {
        blocking_job* const next = refused->next_;
        refused->refuse(); // not under the lock: it destroys the user's closure
        active_.fetch_sub(1, std::memory_order_relaxed); // the clock matters to nobody any more
        refused = next;
    }
}

bool blocking_pool::join(futex::time_point deadline) noexcept {
    for (;;) {
        // Relaxed, both: the last one to leave has the lock, which is taken below.
        const std::uint32_t n = live_.word.load(std::memory_order_relaxed);
        if (n == 0)
            break;
        if (!live_.wait_until(n, deadline) && live_.word.load(std::memory_order_relaxed) != 0)
            return false;
    }
    std::thread last;
    {
        const lock_guard guard(lock_); // who left last has let go of it
        last = std::move(exited_);
    }
    if (last.joinable())
        last.join();
    return true;
}

void blocking_pool::detach() noexcept {
    const lock_guard guard(lock_);
    detached_ = true;
    for (member& m : threads_)
        if (m.thread.joinable())
            m.thread.detach();
    if (exited_.joinable())
        exited_.detach();
}

std::size_t blocking_pool::threads() const noexcept {
    const lock_guard guard(lock_);
    return counted_;
}
std::size_t blocking_pool::idle_threads() const noexcept {
    const lock_guard guard(lock_);
    return idle_.size();
}
std::size_t blocking_pool::depth() const noexcept {
    const lock_guard guard(lock_);
    const std::size_t all = depth_.load(std::memory_order_relaxed);
    return all - std::min<std::size_t>(all, summoned_ ? 1 : 0); // a thread is on its way to that one
}

std::vector<std::string> blocking_pool::running() const {
    std::vector<std::string> all;
    const lock_guard guard(lock_);
    for (const member& m : threads_) {
        const lock_guard ending(m.reporting); // for long, but a report is rare
        if (m.current != nullptr)
            all.push_back(m.current->describe());
    }
    return all;
}

} // namespace magpie::detail
