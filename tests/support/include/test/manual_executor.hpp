#pragma once

#include <magpie/core.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <source_location>
#include <string>
#include <utility>

namespace test {

/// An executor on the calling thread that runs only when told to, with timers that move only when
/// told to. Other threads may wake its tasks.
class manual_executor final : public magpie::executor, private magpie::timer_service {
public:
    explicit manual_executor(std::uint16_t budget = 128) : executor(budget) { set_timers(this); }
    ~manual_executor() {
        close();
        run_until_idle();
    }

    template <class T>
    magpie::join_handle<T> spawn(magpie::task<T> t,
                                 std::source_location where = std::source_location::current()) {
        return magpie::detail::spawn_on(*this, std::move(t), where);
    }
    template <class T>
    magpie::join_handle<T> spawn(std::string name, magpie::task<T> t,
                                 std::source_location where = std::source_location::current()) {
        return magpie::detail::spawn_on(*this, std::move(t), where, std::move(name));
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
        ++turns_;
        s->run_turn();
        return true;
    }

    void run_until_idle() {
        while (run_one()) {}
    }

    /// Moves the clock and fires what is due, in order; runs everything to idle in between.
    void advance(magpie::clock::duration d) {
        run_until_idle();
        const auto target = now_ + d;
        while (!timers_.empty() && timers_.begin()->first <= target) {
            auto first = timers_.begin();
            now_ = std::max(now_, first->first);
            magpie::detail::timer_entry* const e = first->second;
            e->wheel = nullptr;
            timers_.erase(first);
            wake(*e->waiter);
            run_until_idle();
        }
        now_ = target;
    }

    /// Aborts every live task and refuses new ones.
    void close() {
        closed_ = true;
        while (magpie::detail::cell* const c = idle_) {
            unlink(*c);
            c->retain();
            c->abort();
            c->release();
        }
    }

    std::size_t turns() const { return turns_; }
    std::size_t live() const { return live_; }
    std::size_t armed_timers() const { return timers_.size(); }
    void without_timers() { set_timers(nullptr); }

    magpie::clock::time_point now() noexcept override { return now_; }

private:
    void schedule(magpie::strand& s, placement) noexcept override {
        const std::lock_guard guard(lock_);
        queue_.push_back(&s);
    }
    void adopt(magpie::detail::cell& c) noexcept override {
        c.id = ++last_id_;
        ++live_;
        if (closed_) {
            --live_;
            c.refuse();
        } else {
            schedule(c, placement::spawn);
        }
    }
    bool enroll(magpie::detail::cell& c) noexcept override {
        if (closed_)
            return false;
        c.registry_next = std::exchange(idle_, &c);
        if (c.registry_next != nullptr)
            c.registry_next->registry_previous = &c;
        c.set_enrolled(true);
        return true;
    }
    void retire(magpie::detail::cell& c) noexcept override {
        --live_;
        unlink(c);
    }
    void unlink(magpie::detail::cell& c) noexcept {
        if (!c.is_enrolled())
            return;
        c.set_enrolled(false);
        if (c.registry_previous != nullptr)
            c.registry_previous->registry_next = c.registry_next;
        else
            idle_ = c.registry_next;
        if (c.registry_next != nullptr)
            c.registry_next->registry_previous = c.registry_previous;
        c.registry_previous = c.registry_next = nullptr;
    }
    void arm(magpie::detail::timer_entry& e, magpie::clock::time_point deadline) noexcept override {
        timers_.emplace(deadline, &e);
        e.wheel = this;
    }
    magpie::cancel_answer disarm(magpie::detail::timer_entry& e) noexcept override {
        if (e.wheel == nullptr)
            return magpie::cancel_answer::coming;
        for (auto i = timers_.begin(); i != timers_.end(); ++i)
            if (i->second == &e) {
                timers_.erase(i);
                break;
            }
        e.wheel = nullptr;
        return magpie::cancel_answer::quiet;
    }

    std::mutex lock_; // queue_ alone: wakes come from other threads
    std::deque<magpie::strand*> queue_;
    std::multimap<magpie::clock::time_point, magpie::detail::timer_entry*> timers_;
    magpie::clock::time_point now_{std::chrono::hours(1)};
    magpie::detail::cell* idle_ = nullptr;
    std::uint64_t last_id_ = 0;
    std::size_t turns_ = 0;
    std::size_t live_ = 0;
    bool closed_ = false;
};

} // namespace test
