#pragma once

#include <magpie/core/detail/atomic.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace magpie::detail {

/// Who rests for whom. While a worker rests to see what another one does without it, that one does not rest, and
/// nobody else helps it.
///
/// Relaxed throughout: the counts carry nothing, and each is changed by read-modify-writes alone. Who misses that
/// a rest has ended loses nothing: who has rested looks at all queues then.
class rests {
public:
    /// Whether the owner may rest for `other`; `end` is called behind that.
    bool try_begin(rests& other) noexcept {
        int none = 0;
        if (!count_.compare_exchange_strong(none, resting, std::memory_order_relaxed,
                                            std::memory_order_relaxed))
            return false; // somebody counts on it
        int n = other.count_.load(std::memory_order_relaxed);
        while (n != resting) {
            if (other.count_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed,
                                                   std::memory_order_relaxed))
                return true;
        }
        count_.store(0, std::memory_order_relaxed); // nobody counts on who rests
        return false;
    }
    bool is_relied_on() const noexcept { return count_.load(std::memory_order_relaxed) > 0; }
    void end(rests& other) noexcept {
        other.count_.fetch_sub(1, std::memory_order_relaxed);
        count_.store(0, std::memory_order_relaxed);
    }

private:
    static constexpr int resting = -1;
    atomic<int> count_{0}; // how many rest for it, or that it rests itself
};

/// Whether it pays that a worker runs what it has stolen. Tasks that talk to each other all the time are often
/// done sooner by one worker than by two, which wait for each other's cache lines: twice the processor time, for
/// less. A thief cannot know, so it tries: how much is done while it rests, and how much with its help?
///
/// What is done is counted in operations: turns, and what took of their budgets. Only where these are
/// short, less than a microsecond, does it ask at all; longer ones are not much dearer elsewhere.
///
/// One thread's own; times are handed in. In the manner of hill climbing over the number of threads, as thread
/// pools do it, but of one thief and its victim, so that it is the same on two cores and on many.
class company {
public:
    using time_point = futex::time_point;
    using duration = time_point::duration;

    // How long it helps before it asks: where it does not know what is done without it, and where it does.
    static constexpr duration first_trial = std::chrono::milliseconds(1);
    static constexpr duration trial = std::chrono::microseconds(100);
    static constexpr duration slice = std::chrono::microseconds(200); // of a rest
    static constexpr std::uint32_t most_slices = 64;
    // With more workers awake nobody asks: all who rest would give their tasks back through one queue. On 64
    // simulated cores short tasks were done at three quarters of the speed (docs/scale.md).
    static constexpr std::size_t most_awake = 16;

    /// How much was done up to a moment by the worker that was stolen from, and by the thief.
    struct count {
        std::uint64_t victim = 0;
        std::uint64_t own = 0;
    };

    /// It has stolen from a worker.
    void begin(std::size_t victim, count done, time_point now) noexcept {
        if (under_way_ || now < settled_until_)
            return;
        victim_ = victim;
        begin_anew(done, now);
    }
    /// It could not rest when it wanted to.
    void begin_anew(count done, time_point now) noexcept {
        under_way_ = true;
        start_ = done;
        began_ = now;
    }
    bool is_under_way() const noexcept { return under_way_; }
    std::size_t victim() const noexcept { return victim_; }

    /// Whether the thief shall give back what it has, and rest. While it is under way.
    /// @param just_two  nobody else is awake
    bool wants_rest(count done, time_point now, bool just_two) noexcept {
        const bool compares = known_victim_ == victim_ && now - known_at_ < fresh;
        if (now - began_ < (compares ? trial : first_trial))
            return false;
        under_way_ = false;
        const double time = nanoseconds(now - began_);
        const auto own = static_cast<double>(done.own - start_.own);
        const auto both = own + static_cast<double>(done.victim - start_.victim);
        if (own * shortest < time) { // it is no talk
            settle(now);
            return false;
        }
        if (both - own < own / 16) { // it has all of it now: there is no company
            begin_anew(done, now);
            return false;
        }
        if (compares && both >= (just_two ? least_of_two : least) * known_ * time) {
            settle(now);
            return false;
        }
        if (compares) // it did not help
            slices_ = std::min(2 * slices_, most_slices);
        return true;
    }

    /// How many slices to rest at most, and after each of them: whether to go on resting.
    std::uint32_t slices() const noexcept { return slices_; }
    bool rested(std::uint64_t by_victim, duration time, time_point now) noexcept {
        const double rate = static_cast<double>(by_victim) / nanoseconds(time);
        // One that sleeps would not come to what it was given; one that does far less does something else by now:
        // longer turns, perhaps.
        const bool goes_on = by_victim > 0 &&
                             (known_victim_ != victim_ || rate * 2 > known_ || now - known_at_ > fresh);
        known_ = rate;
        known_victim_ = by_victim > 0 ? victim_ : none;
        known_at_ = now;
        return goes_on;
    }

private:
    static constexpr double shortest = 1000; // nanoseconds an operation
    // How much they must do of what the victim does alone. Where others help it, too, what a single one adds is not
    // seen behind the noise: then it rests only if it does harm.
    static constexpr double least_of_two = 1.25;
    static constexpr double least = 0.9;
    static constexpr duration fresh = std::chrono::milliseconds(10);
    static constexpr duration shortest_settlement = std::chrono::milliseconds(20);
    static constexpr duration longest_settlement = std::chrono::seconds(1);

    static double nanoseconds(duration d) noexcept {
        return std::max(1.0, static_cast<double>(std::chrono::nanoseconds(d).count()));
    }
    void settle(time_point now) noexcept {
        slices_ = 1;
        settled_until_ = now + settlement_;
        settlement_ = std::min(2 * settlement_, longest_settlement);
    }

    bool under_way_ = false;
    std::size_t victim_ = 0;
    count start_;
    time_point began_;
    time_point settled_until_ = time_point::min();
    duration settlement_ = shortest_settlement;
    std::uint32_t slices_ = 1;

    static constexpr std::size_t none = ~std::size_t{0};
    std::size_t known_victim_ = none; // who did `known_` operations a nanosecond alone
    double known_ = 0;
    time_point known_at_;
};

} // namespace magpie::detail
