#pragma once

#include <magpie/core/config.hpp>
#include <magpie/core/detail/atomic.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace magpie::detail {

/// Who sleeps and who searches: decides whether new work wakes somebody.
///
/// A worker is running, searching (awake without work, looking for some) or asleep. New work wakes
/// a sleeper only if nobody searches; a searcher that finds work, and was the last, wakes the
/// next: a chain instead of a herd. At most half of the workers search, and no more than eight: each writes
/// `word_` when it begins and when it has found something, and whoever makes work reads it.
///
/// The lost wake-up, and why there is none (R39): who makes work visible does so by a seq_cst
/// read-modify-write and then reads `word_`; who goes to sleep takes itself out of `word_` by a
/// seq_cst read-modify-write and then reads every queue. In the single order of these, one of the
/// two comes second and sees the other.
class idle_set {
public:
    explicit idle_set(std::size_t workers) : workers_(workers), word_(workers << running_shift) {
        sleepers_.reserve(workers);
    }
    idle_set(const idle_set&) = delete;
    idle_set& operator=(const idle_set&) = delete;

    static constexpr std::size_t nobody = ~std::size_t{0};

    /// For who has made work visible: a sleeper to unpark, or `nobody`. It wakes as a searcher.
    std::size_t wake_one() noexcept {
        return wake_one(state(word_.load(std::memory_order_seq_cst))); // R39, second step of the pusher
    }

    /// The same for who has made it visible by a mere store (release).
    std::size_t wake_one_after_store() noexcept {
        // A read-modify-write that changes nothing (release): who lies down later, by one in sleep(), sees what was
        // stored. If he has done so before, this reads it.
        return wake_one(state(word_.fetch_add(0, std::memory_order_release)));
    }

    /// Any sleeper, whoever searches: to look at something that only it would look at.
    std::size_t wake_any() noexcept {
        const lock_guard guard(lock_);
        if (sleepers_.empty())
            return nobody;
        return take();
    }

    /// For who has made work visible that is for this worker alone: whether it slept, and is to be unparked.
    /// It wakes as a searcher.
    bool wake_this(std::size_t worker) noexcept {
        // R39, second step of the pusher. Who does not sleep now, looks before it does.
        return awake() < workers_ && get_up(worker);
    }

    /// The sleeper who is to be woken last: it watches over those who run. `nobody` for none.
    void set_watcher(std::size_t worker) noexcept {
        watcher_.store(worker, std::memory_order_relaxed); // a preference
    }

    /// A running worker without work asks whether it may search.
    bool start_searching() noexcept {
        const state now{word_.load(std::memory_order_relaxed)}; // a limit that may be missed by one
        if (2 * now.searching() >= workers_ || now.searching() >= most_searchers)
            return false;
        word_.fetch_add(one_searching, std::memory_order_relaxed); // who misses it wakes one too many
        return true;
    }

    /// A searcher has found work. True if it was the last one: it then wakes another.
    bool stop_searching() noexcept {
        return state(word_.fetch_sub(one_searching, std::memory_order_seq_cst)).searching() == 1;
    }

    /// The worker goes to sleep; afterwards it reads every queue (R39). True if nobody is awake now.
    /// `last` runs under the lock in that case.
    template <class Last>
    bool sleep(std::size_t worker, bool searching, Last&& last) noexcept {
        const lock_guard guard(lock_);
        sleepers_.push_back(worker);
        const std::uint64_t less = one_awake + (searching ? one_searching : 0);
        const state before{word_.fetch_sub(less, std::memory_order_seq_cst)};
        if (before.awake() > 1)
            return false;
        last();
        return true;
    }

    /// A sleeper that woke by itself gets up, as a searcher. False if somebody has woken it
    /// meanwhile: it is a searcher already, and a notification is on its way.
    bool get_up(std::size_t worker) noexcept {
        const lock_guard guard(lock_);
        for (auto i = sleepers_.begin(); i != sleepers_.end(); ++i) {
            if (*i == worker) {
                sleepers_.erase(i);
                word_.fetch_add(one_awake + one_searching, std::memory_order_seq_cst); // see awake()
                return true;
            }
        }
        return false;
    }

    // For who wants nobody to get up while it looks: while the lock is held nobody does.
    void lock() noexcept { lock_.lock(); }
    void unlock() noexcept { lock_.unlock(); }
    bool all_sleep() const noexcept { // relaxed: the lock is held
        return state(word_.load(std::memory_order_relaxed)).awake() == 0;
    }
    /// `get_up` of one that is known to sleep.
    void get_up_locked(std::size_t worker) noexcept {
        std::erase(sleepers_, worker);
        word_.fetch_add(one_awake + one_searching, std::memory_order_seq_cst); // see awake()
    }

    /// How many are awake. seq_cst: who goes to sleep in the driver says until when and then reads this; who
    /// gets up has counted itself, and reads that (runtime_core::ensure_watched).
    std::size_t awake() const noexcept { return state(word_.load(std::memory_order_seq_cst)).awake(); }
    std::size_t searching() const noexcept {
        return state(word_.load(std::memory_order_relaxed)).searching(); // for tests, when all is quiet
    }

private:
    // On a simulated machine of 128 cores (docs/scale.md) eight are 2.2 times as fast as half of them where tasks
    // are short (skynet), and four or two no faster.
    static constexpr std::size_t most_searchers = 8;

    static constexpr unsigned running_shift = 32;
    static constexpr std::uint64_t one_awake = std::uint64_t{1} << running_shift;
    static constexpr std::uint64_t one_searching = 1;

    class state {
    public:
        explicit state(std::uint64_t word) noexcept : word_(word) {}
        std::size_t awake() const noexcept { return word_ >> running_shift; }
        std::size_t searching() const noexcept { return word_ & 0xffff'ffffU; }

    private:
        std::uint64_t word_;
    };

    std::size_t wake_one(state now) noexcept {
        if (now.searching() > 0 || now.awake() == workers_)
            return nobody;
        const lock_guard guard(lock_);
        if (state(word_.load(std::memory_order_relaxed)).searching() > 0 || sleepers_.empty())
            return nobody;
        return take();
    }

    /// Under the lock, not empty: the last to lie down, whose data is in the caches, unless it is
    /// on the watch.
    std::size_t take() noexcept {
        auto w = sleepers_.end() - 1;
        if (*w == watcher_.load(std::memory_order_relaxed) && w != sleepers_.begin())
            --w;
        const std::size_t taken = *w;
        sleepers_.erase(w);
        word_.fetch_add(one_awake + one_searching, std::memory_order_seq_cst); // see awake()
        return taken;
    }

    const std::size_t workers_;
    // Who is awake (running or searching), and who searches; grows under lock_. Read by whoever makes work: so it
    // shares no line with the lock.
    alignas(64) atomic<std::uint64_t> word_;
    alignas(64) mutex lock_;
    atomic<std::size_t> watcher_{nobody};
    std::vector<std::size_t> sleepers_; // guarded by lock_; the last to sleep is woken first
};

} // namespace magpie::detail
