#pragma once

#include "../explorer.hpp"

#include <magpie/core.hpp>
#include <magpie/core/detail/thread_state.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

// What the scenarios of the task protocol share: an executor, and a leaf in a one-word slot.

namespace model_test {

using magpie_model::check;
using magpie_model::mistake;
using magpie_model::run;
using magpie_model::scenario;
using magpie_model::spoiled;
using magpie_model::thread;
using magpie_model::threads;
using magpie_model::timeouts;

/// One queue, any number of threads that run what is in it, and one timer. To queue, to take, to arm
/// and to disarm is a single step each: it is not them that is explored. The queue hands on what who queues
/// a strand knows to who takes it, and nothing else; the timer is as if under a lock.
class executor : public magpie::executor, private magpie::timer_service {
public:
    explicit executor(std::uint16_t budget = 128) : magpie::executor(budget) { set_timers(this); }

    template <class T>
    magpie::join_handle<T> spawn(magpie::task<T> t) {
        return magpie::detail::spawn_on(*this, std::move(t), std::source_location::current());
    }

    /// What a worker does: turns, until no task lives.
    void work() {
        workers_[worker_count_++] = &magpie::detail::this_thread();
        while (magpie::strand* const s = take()) {
            for (std::size_t i = 0; i < worker_count_; ++i)
                check(workers_[i]->turn != s, "a strand has one turn at a time");
            if (before_turn)
                before_turn();
            s->run_turn();
        }
    }

    /// What a clock does: lets the armed timer run out. Ends when there is none and no task lives.
    void tick() {
        magpie_model::own_step_when([this] { return armed_ != nullptr || is_over(); }, "tick", nullptr);
        if (magpie::detail::timer_entry* const e = std::exchange(armed_, nullptr))
            wake(*e->waiter);
    }

    /// Whether no task lives.
    bool is_over() const noexcept { return live_ == 0; }

    std::function<void()> before_turn; ///< called in one step with taking the strand

protected:
    /// What is queued first, null if nothing is.
    magpie::strand* try_take() {
        magpie::strand* s = nullptr;
        magpie_model::free_step("try to take", first(), [&] { s = take_first(); });
        return s;
    }
    /// Sleeps until something is queued, no task lives, or `condition()`.
    template <class Condition>
    void sleep_until(Condition condition) {
        magpie_model::free_step_when([&] { return first() != nullptr || is_over() || condition(); },
                                     "sleep", this);
    }

private:
    void schedule(magpie::strand& s, placement where) noexcept override {
        if (where == placement::yield)
            magpie_model::yield();
        magpie_model::free_step("queue", &s, [&] {
            check(queued_ - taken_ < queue_.size(), "the executor's queue has room");
            place& p = queue_[queued_++ % queue_.size()];
            p.queued = &s;
            p.handed_over.pass();
        });
    }
    magpie::strand* take() {
        magpie_model::free_step_when([this] { return first() != nullptr || is_over(); }, "take",
                                     first());
        return take_first();
    }
    magpie::strand* first() const {
        return taken_ == queued_ ? nullptr : queue_[taken_ % queue_.size()].queued;
    }
    magpie::strand* take_first() {
        magpie::strand* const s = first();
        if (s != nullptr)
            queue_[taken_++ % queue_.size()].handed_over.take();
        return s;
    }

    void adopt(magpie::detail::cell& c) noexcept override {
        c.id = ++spawned_;
        magpie_model::name(&c, sizeof c, "task " + std::to_string(spawned_));
        ++live_;
        schedule(c, placement::spawn);
    }
    bool enroll(magpie::detail::cell& c) noexcept override {
        c.set_enrolled(true);
        return true;
    }
    void retire(magpie::detail::cell&) noexcept override { --live_; }

    magpie::clock::time_point now() noexcept override { return {}; }
    void arm(magpie::detail::timer_entry& e, magpie::clock::time_point) noexcept override {
        magpie_model::step("arm", &e, [&] {
            check(armed_ == nullptr, "the executor has one timer");
            armed_ = &e;
        });
    }
    magpie::cancel_answer disarm(magpie::detail::timer_entry& e) noexcept override {
        bool was_armed = false;
        magpie_model::step("disarm", &e, [&] { was_armed = std::exchange(armed_, nullptr) == &e; });
        return was_armed ? magpie::cancel_answer::quiet : magpie::cancel_answer::coming;
    }

    struct place {
        magpie::strand* queued;
        magpie_model::baton handed_over; // with it
    };
    std::array<place, 16> queue_{};
    std::size_t queued_ = 0;
    std::size_t taken_ = 0;
    magpie::detail::timer_entry* armed_ = nullptr;
    std::uint64_t live_ = 0;
    std::uint64_t spawned_ = 0;
    std::array<const magpie::detail::thread_state*, 4> workers_{};
    std::size_t worker_count_ = 0;
};

/// A gate for one waiter, in one word: null, the leaf that waits, or `is_set`.
class slot {
public:
    class wait_operation;

    explicit slot(std::string_view name) { magpie_model::name(this, sizeof *this, name); }

    void set() noexcept {
        void* const before = word_.exchange(&is_set, std::memory_order_acq_rel);
        if (before != nullptr)
            wake(*static_cast<magpie::leaf*>(before));
    }
    wait_operation wait() noexcept;

private:
    static inline char is_set;
    magpie::detail::atomic<void*> word_{nullptr};
};

class slot::wait_operation : public magpie::operation<wait_operation> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

    explicit wait_operation(slot& s) noexcept : slot_(s) {}
    wait_operation(wait_operation&&) noexcept = default;

    bool try_complete() const noexcept {
        return slot_.word_.load(std::memory_order_acquire) == &is_set;
    }
    bool publish() noexcept {
        void* open = nullptr;
        return slot_.word_.compare_exchange_strong(
            open, static_cast<leaf*>(this), std::memory_order_release, std::memory_order_acquire);
    }
    void await_resume() const noexcept {}

private:
    magpie::cancel_answer cancel() noexcept override {
        void* self = static_cast<leaf*>(this);
        return slot_.word_.compare_exchange_strong(self, nullptr, std::memory_order_relaxed,
                                                   std::memory_order_relaxed)
                   ? magpie::cancel_answer::quiet
                   : magpie::cancel_answer::coming;
    }

    slot& slot_;
};

inline slot::wait_operation slot::wait() noexcept { return wait_operation(*this); }

/// Counts how often something of its kind was destroyed: in a frame, how often that was.
class tracked {
public:
    explicit tracked(int& destroyed) noexcept : destroyed_(&destroyed) {}
    tracked(tracked&& other) noexcept : destroyed_(std::exchange(other.destroyed_, nullptr)) {}
    ~tracked() {
        if (destroyed_ != nullptr)
            ++*destroyed_;
    }

private:
    int* destroyed_;
};

} // namespace model_test
