#pragma once

#include "futex_driver.hpp"

#include <magpie/core/detail/atomic.hpp>
#include <magpie/scheduler/detail/driver.hpp>

#include <cstdint>
#include <memory>

namespace magpie::detail {

class worker;

/// The place of a driver: one thread at a time parks or polls in it. At first there is a futex in it, which the
/// first object that does I/O replaces.
class alignas(64) driver_slot {
public:
    /// @param lone  one thread alone ever enters it
    explicit driver_slot(bool lone) : is_lone_(lone), futex_(new futex_driver), now_(futex_.get()) {}
    driver_slot(const driver_slot&) = delete;
    driver_slot& operator=(const driver_slot&) = delete;
    ~driver_slot() {
        if (has_io()) {
            get().shut_down();
            get().release();
        }
    }

    driver& get() const noexcept { return *now_.load(std::memory_order_acquire); } // see replace()
    bool has_io() const noexcept { return &get() != futex_.get(); }

    bool try_lock() noexcept {
        if (is_lone_) // there is nobody else
            return true;
        return !busy_.load(std::memory_order_relaxed) && // spare the others the line
               !busy_.exchange(true, std::memory_order_acquire);
    }
    void unlock() noexcept {
        if (!is_lone_)
            busy_.store(false, std::memory_order_release); // pairs with try_lock()
    }

    /// False if somebody else is in it.
    bool poll() noexcept {
        if (!try_lock())
            return false;
        get().poll();
        unlock();
        return true;
    }

    // --- for the one that sleeps in it ---

    /// seq_cst, then the deadlines once more: who arms a timer writes the deadline and then reads this.
    void sleep_until(std::uint64_t tick) noexcept {
        sleeps_until_.exchange(tick, std::memory_order_seq_cst);
    }
    void note_sleeper(worker& w) noexcept { // relaxed: see worker::leaves_driver
        last_sleeper_.store(&w, std::memory_order_relaxed);
        sleeps_.store(sleeps() + 1, std::memory_order_relaxed); // one writer at a time
    }
    worker* last_sleeper() const noexcept { return last_sleeper_.load(std::memory_order_relaxed); }
    std::uint32_t sleeps() const noexcept { return sleeps_.load(std::memory_order_relaxed); }

    void wake_up() noexcept {
        sleeps_until_.store(0, std::memory_order_relaxed); // a late look wakes in vain, at worst
    }

    /// Whether somebody sleeps in it beyond that tick. seq_cst: see sleep_until().
    bool sleeps_beyond(std::uint64_t tick) const noexcept {
        return tick < sleeps_until_.load(std::memory_order_seq_cst);
    }

    // --- for who installs a driver, and who ends them all ---

    /// Release: pairs with get(). seq_cst: the group sets its stop and then reads this; the caller asks for the
    /// stop next.
    void replace(driver& d) noexcept { now_.exchange(&d, std::memory_order_seq_cst); }
    driver& at_the_end() noexcept { return *now_.load(std::memory_order_seq_cst); } // see replace()
    driver& before() noexcept { return *futex_; }

    std::uint64_t looked_in_round =
        0; // the clock's round in which it was asked; under all idle sets' locks

private:
    const bool is_lone_;
    std::unique_ptr<driver> futex_; // stays: who has read the slot before may still wake it
    atomic<driver*> now_;
    atomic<bool> busy_{false};
    atomic<std::uint64_t> sleeps_until_{0}; // a tick; 0 while nobody sleeps in it
    // Who has slept in it last, and how often somebody has. The last one comes back to it when he lies down, unless
    // somebody else is there.
    atomic<worker*> last_sleeper_{nullptr};
    atomic<std::uint32_t> sleeps_{0};
};

} // namespace magpie::detail
