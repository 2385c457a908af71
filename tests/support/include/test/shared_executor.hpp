#pragma once

#include <magpie/core.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <source_location>
#include <thread>
#include <utility>
#include <vector>

namespace test {

/// The simplest executor whose turns any number of threads may run at the same time. Its clock
/// moves when told to.
class shared_executor final : public magpie::executor, private magpie::timer_service {
public:
    explicit shared_executor(std::uint16_t budget = 128) : executor(budget) { set_timers(this); }
    ~shared_executor() {
        close();
        while (live() > 0)
            if (!run_one())
                std::this_thread::yield();
    }

    template <class T>
    magpie::join_handle<T> spawn(magpie::task<T> t,
                                 std::source_location where = std::source_location::current()) {
        return magpie::detail::spawn_on(*this, std::move(t), where);
    }

    /// Runs one turn. Returns false if nothing is queued.
    bool run_one() {
        magpie::strand* s;
        {
            const std::lock_guard guard(lock_);
            if (queue_.empty())
                return false;
            s = queue_.front();
            queue_.pop_front();
        }
        s->run_turn();
        return true;
    }

    /// Moves the clock, and wakes who waited for that.
    void advance(magpie::clock::duration d) {
        std::vector<magpie::leaf*> due;
        {
            const std::lock_guard guard(lock_);
            now_ += d;
            while (!timers_.empty() && timers_.begin()->first <= ticks(now_)) {
                magpie::detail::timer_entry& e = *timers_.begin()->second;
                timers_.erase(timers_.begin());
                due.push_back(e.waiter);
            }
        }
        for (magpie::leaf* l : due) // from here on they are in this thread's hand
            wake(*l);
    }

    /// Drops what waits, and refuses new tasks.
    void close() {
        closed_.store(true, std::memory_order_relaxed); // read under the lock, or as a hint
        for (;;) {
            magpie::detail::cell* c;
            {
                const std::lock_guard guard(lock_);
                c = idle_;
                if (c == nullptr)
                    return;
                c->retain();
                unlink(*c);
            }
            c->abort(); // not under the lock: it schedules
            c->release();
        }
    }

    std::size_t live() const { return live_.load(std::memory_order_acquire); }

private:
    void schedule(magpie::strand& s, placement) noexcept override {
        const std::lock_guard guard(lock_);
        queue_.push_back(&s);
    }
    void adopt(magpie::detail::cell& c) noexcept override {
        c.id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
        if (closed_.load(std::memory_order_relaxed)) {
            c.refuse();
            return;
        }
        live_.fetch_add(1, std::memory_order_relaxed);
        schedule(c, placement::spawn);
    }
    bool enroll(magpie::detail::cell& c) noexcept override {
        const std::lock_guard guard(lock_);
        if (closed_.load(std::memory_order_relaxed))
            return false;
        c.registry_next = std::exchange(idle_, &c);
        if (c.registry_next != nullptr)
            c.registry_next->registry_previous = &c;
        c.set_enrolled(true);
        return true;
    }
    void retire(magpie::detail::cell& c) noexcept override {
        {
            const std::lock_guard guard(lock_);
            unlink(c);
        }
        live_.fetch_sub(1, std::memory_order_release);
    }
    void unlink(magpie::detail::cell& c) noexcept {
        const bool first = idle_ == &c;
        if (!first && c.registry_previous == nullptr)
            return; // in no list
        if (first)
            idle_ = c.registry_next;
        else
            c.registry_previous->registry_next = c.registry_next;
        if (c.registry_next != nullptr)
            c.registry_next->registry_previous = c.registry_previous;
        c.registry_previous = c.registry_next = nullptr;
    }

    magpie::clock::time_point now() noexcept override {
        const std::lock_guard guard(lock_);
        return now_;
    }
    void arm(magpie::detail::timer_entry& e, magpie::clock::time_point deadline) noexcept override {
        const std::lock_guard guard(lock_);
        e.tick = ticks(deadline);
        timers_.emplace(e.tick, &e);
    }
    magpie::cancel_answer disarm(magpie::detail::timer_entry& e) noexcept override {
        using enum magpie::cancel_answer;
        const std::lock_guard guard(lock_);
        return timers_.erase({e.tick, &e}) == 1 ? quiet : coming;
    }
    static std::uint64_t ticks(magpie::clock::time_point t) noexcept {
        return static_cast<std::uint64_t>(t.time_since_epoch().count());
    }

    std::mutex lock_;
    std::deque<magpie::strand*> queue_;
    std::set<std::pair<std::uint64_t, magpie::detail::timer_entry*>> timers_;
    magpie::clock::time_point now_{std::chrono::hours(1)};
    magpie::detail::cell* idle_ = nullptr;
    std::atomic<bool> closed_{false};
    std::atomic<std::uint64_t> last_id_{0};
    std::atomic<std::size_t> live_{0};
};

/// Threads that run the turns of an executor until they are told to stop.
class workers {
public:
    workers(shared_executor& ex, int count) {
        for (int i = 0; i < count; ++i)
            threads_.emplace_back([this, &ex] {
                while (!stop_.load(std::memory_order_acquire))
                    if (!ex.run_one())
                        std::this_thread::yield();
            });
    }
    workers(const workers&) = delete;
    ~workers() {
        stop_.store(true, std::memory_order_release);
        for (std::thread& t : threads_)
            t.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

} // namespace test
