// The timer wheel against a sorted map, and a worker's timers, some of which are not in its wheel.

#include "script.hpp"

#include <scheduler/src/timer_wheel.hpp>
#include <scheduler/src/timers.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

namespace {

using magpie::detail::timer_entry;
using magpie::detail::timer_wheel;
using magpie::detail::worker_timers;
using test::require;

constexpr std::uint64_t end_of_time = std::uint64_t{1} << 43; // milliseconds, nearly the clock's last

class both {
public:
    void insert(std::size_t i, std::uint64_t tick) {
        timer_entry& e = entries_[i];
        if (e.armed)
            return;
        tick = std::min(tick, end_of_time);
        e.armed = true;
        wheel_->insert(e, tick);
        due_.emplace(tick, i);
    }

    void remove(std::size_t i) {
        timer_entry& e = entries_[i];
        if (!e.armed)
            return;
        e.armed = false;
        const std::uint64_t before = wheel_->next_tick();
        const bool may_change = wheel_->remove(e);
        require(may_change || wheel_->next_tick() == before, "next_tick changes only if it says so");
        due_.erase({e.tick, i});
    }

    void advance(std::uint64_t to) {
        to = std::min(to, end_of_time);
        const std::uint64_t elapsed = std::max(to, wheel_->elapsed());
        std::uint64_t last = 0;
        timer_entry* fired = wheel_->advance(to);
        require(wheel_->elapsed() == elapsed, "the wheel stands where it was moved to");
        while (fired != nullptr) {
            const auto i = static_cast<std::size_t>(fired - entries_.data());
            require(!fired->armed, "what fires is disarmed");
            require(due_.erase({fired->tick, i}) == 1, "what fires was in, and fires once");
            require(fired->tick <= elapsed, "nothing fires early");
            // What was due when it came in fires with the next advance, not before others of that.
            const std::uint64_t shown = std::max(fired->tick, before_ + 1);
            require(shown >= last, "earliest first");
            last = shown;
            fired = std::exchange(fired->next, nullptr);
        }
        if (elapsed > before_)
            require(due_.empty() || due_.begin()->first > elapsed, "nothing that is due is left");
        before_ = elapsed;
        look();
    }

    void look() const {
        const std::uint64_t next = wheel_->next_tick();
        if (due_.empty())
            require(next == timer_wheel::never, "no entry, no next tick");
        else
            require(next <= std::max(due_.begin()->first, wheel_->elapsed() + 1), "never too late");
        if (next != timer_wheel::never)
            require(next > wheel_->elapsed(), "what is next is to come");
    }

    std::uint64_t now() const noexcept { return wheel_->elapsed(); }
    std::uint64_t next() const noexcept { return wheel_->next_tick(); }

private:
    std::array<timer_entry, 64> entries_{};
    std::unique_ptr<timer_wheel> wheel_ = std::make_unique<timer_wheel>();
    std::set<std::pair<std::uint64_t, std::size_t>> due_;
    std::uint64_t before_ = 0;
};

/// A worker's timers, the clock, and somebody who sleeps until the first of them.
class one_worker {
public:
    void arm(std::size_t i, std::uint64_t tick) {
        if (due_[i] || waits_[i])
            return;
        tick = std::min(tick, end_of_time);
        due_[i] = tick;
        if (timers_->arm(entries_[i], tick))
            known_ = std::min(known_, tick);
    }
    void arm_later(std::size_t i, std::uint64_t ms) {
        if (due_[i] || waits_[i])
            return;
        waits_[i] = std::min(ms, end_of_time);
        timers_->arm_later(entries_[i],
                           std::chrono::milliseconds(static_cast<std::int64_t>(*waits_[i])));
    }
    void disarm(std::size_t i) {
        const bool was_armed = due_[i].has_value() || waits_[i].has_value();
        require(timers_->disarm(entries_[i]) == was_armed, "what has not fired is taken back");
        due_[i].reset();
        waits_[i].reset();
    }
    void pass(std::uint64_t ticks) { now_ += std::min(ticks, end_of_time - now_); }

    void look(bool rest) {
        const std::uint64_t before = looked_;
        looked_ = std::max(looked_, now_);
        const auto found = timers_->look([this] { return now_; }, rest);
        known_ = std::min(known_, found.sooner);
        for (timer_entry* e = found.due; e != nullptr; e = e->next) {
            const auto i = static_cast<std::size_t>(e - entries_.data());
            require(due_[i].has_value(), "what fires was timed, and fires once");
            require(*due_[i] <= now_, "nothing fires early");
            due_[i].reset();
        }
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            // What was due when it came in fires in the next tick.
            require(now_ == before || !due_[i] || *due_[i] > now_, "nothing that is due is left");
            if (waits_[i]) // this was the first look behind it
                due_[i] = now_ + *std::exchange(waits_[i], std::nullopt) + 1;
        }
        require(!rest || !timers_->has_unstamped(), "all is timed before a rest");
        check_next();
    }

    void check_next() {
        std::uint64_t first = timer_wheel::never;
        bool untimed = false;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            if (due_[i])
                first = std::min(first, std::max(*due_[i], looked_ + 1));
            untimed = untimed || waits_[i];
        }
        require(timers_->next() <= first, "never too late");
        require(!untimed || timers_->next() <= looked_ + 1, "somebody looks in the next tick");
        require(!untimed || timers_->has_unstamped(), "the owner knows that some are not timed");
        if (!timers_->has_unstamped())
            require(known_ <= first, "who sleeps is told");
        if (now_ >= known_) // it gets up, and sleeps again
            known_ = timers_->next();
    }

    std::uint64_t now() const noexcept { return now_; }
    std::uint64_t next() const noexcept { return timers_->next(); }

private:
    std::array<timer_entry, 64> entries_{};
    std::array<std::optional<std::uint64_t>, 64> due_;   // when each is, as far as it is known
    std::array<std::optional<std::uint64_t>, 64> waits_; // for how long from the next look on
    std::unique_ptr<worker_timers> timers_ = std::make_unique<worker_timers>();
    std::uint64_t now_ = 0;
    std::uint64_t looked_ = 0;
    std::uint64_t known_ = timer_wheel::never; // until when somebody sleeps
};

void use_wheel(test::script s) {
    both b;
    while (!s.over()) {
        switch (s.below(8)) {
        case 0:
        case 1: {
            const std::size_t i = s.below(64);
            b.insert(i, b.now() + s.number());
            break;
        }
        case 2: {
            const std::size_t i = s.below(64);
            b.insert(i, s.number()); // perhaps past
            break;
        }
        case 3: {
            // At the edge of a level.
            const std::size_t i = s.below(64);
            const unsigned shift = 6 * static_cast<unsigned>(1 + s.below(8));
            b.insert(i, ((b.now() >> shift) + 1 + s.below(3)) * (std::uint64_t{1} << shift) +
                            s.below(3) - 1);
            break;
        }
        case 4: b.remove(s.below(64)); break;
        case 5: b.advance(b.now() + s.number()); break;
        case 6: b.advance(b.now() + s.below(256)); break;
        default:
            if (b.next() != timer_wheel::never)
                b.advance(b.next() - s.below(2));
        }
        b.look();
    }
    b.advance(end_of_time);
}

void use_worker(test::script s) {
    one_worker w;
    while (!s.over()) {
        switch (s.below(8)) {
        case 0:
        case 1: {
            const std::size_t i = s.below(64);
            w.arm_later(i, s.below(4) == 0 ? s.number() : s.below(256));
            break;
        }
        case 2: {
            const std::size_t i = s.below(64);
            w.arm(i, s.below(4) == 0 ? s.number() : w.now() + s.number()); // perhaps past
            break;
        }
        case 3:
        case 4: w.disarm(s.below(64)); break;
        case 5:
            w.pass(s.below(4) == 0 ? s.number() : s.below(64));
            w.look(false);
            break;
        case 6:
            w.pass(s.below(3));
            w.look(s.below(4) == 0);
            break;
        default:
            if (w.next() != timer_wheel::never && w.next() > w.now())
                w.pass(w.next() - w.now());
            w.look(s.below(4) == 0);
        }
        w.check_next();
    }
    w.look(true);
    w.pass(end_of_time);
    w.look(false);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const test::script s(data, std::min<std::size_t>(size, 4096));
    use_wheel(s);
    use_worker(s);
    return 0;
}
