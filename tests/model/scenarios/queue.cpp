// The run queues: a worker's ring against thieves, and the queue that all share.

#include "scheduler.hpp"

#include <magpie/core/detail/adaptive_mutex.hpp>

#include <algorithm>
#include <array>
#include <span>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::strand;
using magpie::detail::biased_lock;
using magpie::detail::injector;
using magpie::detail::local_queue;
using magpie::detail::recent_stack;
using magpie::detail::spinning_futex_mutex;

/// The product's ring with one line wrong.
enum class flaw : unsigned char { none, no_room_check, copies_late };

template <flaw Flaw, std::size_t Capacity>
class copied_ring {
public:
    bool push(strand& s) noexcept {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
        if (Flaw != flaw::no_room_check && tail - head_.load(std::memory_order_acquire) == Capacity)
            return false;
        slot(tail).store(&s, std::memory_order_relaxed);
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }
    strand* pop() noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        for (;;) {
            if (head == tail_.load(std::memory_order_relaxed))
                return nullptr;
            strand* const s = slot(head).load(std::memory_order_relaxed);
            if (head_.compare_exchange_weak(head, head + 1, std::memory_order_release,
                                            std::memory_order_relaxed))
                return s;
        }
    }
    strand* steal_into(copied_ring& to) noexcept {
        const std::uint64_t to_tail = to.tail_.load(std::memory_order_relaxed);
        std::uint64_t head = head_.load(std::memory_order_acquire);
        const std::uint64_t tail = tail_.load(std::memory_order_acquire);
        if (tail <= head)
            return nullptr;
        const std::uint64_t count = std::min(tail - head, std::uint64_t{Capacity});
        const std::uint64_t n = count - count / 2;
        if (Flaw == flaw::copies_late && !take(head, n))
            return nullptr;
        strand* const first = slot(head).load(std::memory_order_relaxed);
        for (std::uint64_t i = 1; i < n; ++i)
            to.slot(to_tail + i - 1)
                .store(slot(head + i).load(std::memory_order_relaxed), std::memory_order_relaxed);
        if (Flaw != flaw::copies_late && !take(head, n))
            return nullptr;
        if (n > 1)
            to.tail_.store(to_tail + n - 1, std::memory_order_release);
        return first;
    }

private:
    bool take(std::uint64_t head, std::uint64_t n) noexcept {
        return head_.compare_exchange_strong(head, head + n, std::memory_order_acq_rel,
                                             std::memory_order_relaxed);
    }
    magpie::detail::atomic<strand*>& slot(std::uint64_t i) noexcept { return slots_[i % Capacity]; }

    magpie::detail::atomic<std::uint64_t> head_{0};
    magpie::detail::atomic<std::uint64_t> tail_{0};
    std::array<magpie::detail::atomic<strand*>, Capacity> slots_{};
};

template <class Ring>
void drain(Ring& ring) {
    while (strand* const s = ring.pop())
        numbered_strands::run(s);
}

// --- the worker pushes and pops, two thieves take from its front ---

template <class Ring>
void wrap_around() {
    numbered_strands strands(4);
    Ring ring;
    std::array<Ring, 2> loot;
    int thief = 0;
    ring.push(strands[0]);
    ring.push(strands[1]);
    thread("worker", [&] {
        for (std::size_t i = 2; i < 4; ++i) {
            numbered_strands::run(ring.pop());
            if (!ring.push(strands[i]))
                numbered_strands::run(&strands[i]);
        }
    });
    threads(2, "thief", [&] {
        Ring& mine = loot[static_cast<std::size_t>(thief++)];
        numbered_strands::run(ring.steal_into(mine));
        drain(mine);
    });
    run();
    drain(ring);
    strands.check_all_run();
}

scenario steal("queue.steal", {.preemptions = 3, .full = 4}, &wrap_around<local_queue<2>>);

mistake thief_by_store(steal, "a thief takes without comparing",
                       {"steal_into", "compare_exchange", how::unconditional});
mistake pop_by_store(steal, "the worker pops without comparing",
                     {"::pop", "compare_exchange", how::unconditional});
mistake pop_in_two(steal, "the worker pops by a load and a store",
                   {"::pop", "compare_exchange", how::in_two});
mistake copies_late(steal, "a thief copies what is its own already",
                    &wrap_around<copied_ring<flaw::copies_late, 2>>);

// --- half of a full ring; the loot is stolen from as well ---

template <class Ring>
void steal_half() {
    numbered_strands strands(5);
    Ring ring;
    Ring loot;
    Ring loot_of_loot;
    for (std::size_t i = 0; i < 4; ++i)
        ring.push(strands[i]);
    thread("worker", [&] {
        if (!ring.push(strands[4]))
            numbered_strands::run(&strands[4]);
        numbered_strands::run(ring.pop());
    });
    thread("thief", [&] {
        numbered_strands::run(ring.steal_into(loot));
        drain(loot);
    });
    thread("thief's thief", [&] {
        numbered_strands::run(loot.steal_into(loot_of_loot));
        drain(loot_of_loot);
    });
    run();
    drain(ring);
    strands.check_all_run();
}

scenario half("queue.steal_half", {.preemptions = 3, .full = 4}, &steal_half<local_queue<4>>);

mistake half_by_store(half, "a thief takes without comparing",
                      {"steal_into", "compare_exchange", how::unconditional});
mistake no_tail(half, "a thief does not publish what it has put into its ring",
                {"steal_into", "store", how::left_out});
mistake no_room_check(half, "a push does not look whether there is room",
                      &steal_half<copied_ring<flaw::no_room_check, 4>>);

// --- a full ring gives its older half to all, against a thief ---

scenario overflow("queue.overflow", {.preemptions = 3, .full = 4}, [] {
    numbered_strands strands(4);
    local_queue<2> ring;
    local_queue<2> loot;
    injector injected;
    ring.push(strands[0]);
    ring.push(strands[1]);
    thread("worker", [&] {
        for (std::size_t i = 2; i < 4; ++i) { // worker::push
            while (!ring.push(strands[i])) {
                std::array<strand*, 1> older{};
                if (ring.take_half(older))
                    injected.push(older);
            }
        }
    });
    thread("thief", [&] {
        for (int i = 0; i < 2; ++i) {
            numbered_strands::run(ring.steal_into(loot));
            drain(loot);
        }
    });
    thread("other", [&] { numbered_strands::run(injected.pop()); });
    run();
    drain(ring);
    while (strand* const s = injected.pop())
        numbered_strands::run(s);
    strands.check_all_run();
});

mistake overflow_by_store(overflow, "the worker takes half without comparing",
                          {"take_half", "compare_exchange", how::unconditional});
mistake overflow_in_two(overflow, "the worker takes half by a load and a store",
                        {"take_half", "compare_exchange", how::in_two});

// --- a lock that its owner gets for nothing ---

void one_owner_and_visitors(bool with_barrier) {
    magpie::detail::has_heavy_barrier = with_barrier;
    biased_lock lock;
    magpie::detail::has_heavy_barrier = true;
    magpie_model::plain<int> guarded{0}; // an access that the lock does not order is a race
    magpie::detail::atomic<int> other{0};
    const auto add = [&](int n) {
        const int before = guarded.get();
        static_cast<void>(other.load(std::memory_order_relaxed)); // others can come in between
        guarded.set(before + n);
    };
    int visits = 0;
    thread("owner", [&] {
        for (int i = 0; i < 2; ++i) {
            lock.lock();
            add(1);
            lock.unlock();
        }
    });
    threads(2, "visitor", [&] {
        if (lock.try_visit()) {
            ++visits;
            add(10);
            lock.leave();
        }
    });
    run();
    check(guarded.get() == 2 + 10 * visits, "nobody is in there with another one");
}

scenario biased("queue.biased_lock", {.preemptions = 3, .full = 4},
                [] { one_owner_and_visitors(true); });
scenario unbiased("queue.biased_lock_without_barrier", {.preemptions = 3, .full = 4},
                  [] { one_owner_and_visitors(false); });

mistake no_barrier(biased, "the visitor looks without a barrier",
                   {"try_visit", "heavy barrier", how::left_out});
mistake owner_says_nothing(biased, "the owner does not say that it is there",
                           {"biased_lock::lock", "store", how::left_out});
mistake exchange_left_out(unbiased, "... and has no barrier either",
                          {"biased_lock::lock", "exchange", how::left_out});

// --- the lock of the shared queue: who finds it taken sleeps ---

scenario adaptive("queue.adaptive_mutex", {.preemptions = 3, .full = 4}, [] {
    spinning_futex_mutex lock;
    magpie_model::plain<int> guarded{0}; // an access that the lock does not order is a race
    magpie::detail::atomic<int> other{0};
    threads(3, "thread", [&] {
        for (int i = 0; i < 2; ++i) {
            const magpie::detail::lock_guard guard(lock);
            const int before = guarded.get();
            static_cast<void>(other.load(std::memory_order_relaxed)); // others can come in between
            guarded.set(before + 1);
        }
    });
    run();
    check(guarded.get() == 6, "nobody is in there with another one");
});

mistake no_waking(adaptive, "who unlocks wakes nobody",
                  {"spinning_futex_mutex::unlock", "futex wake", how::left_out});
mistake taken_anyway(adaptive, "the lock is taken without a look",
                     {"spinning_futex_mutex::try_lock", "compare_exchange", how::unconditional});
mistake mark_in_two(adaptive, "who goes to sleep looks, and marks the word later",
                    {"spinning_futex_mutex::wait", "exchange", how::in_two});
mistake sleeps_blindly(adaptive, "who goes to sleep does not look at the word again",
                       {"spinning_futex_mutex::wait", "futex wait", how::unconditional});

// --- the newest first: two thieves take from the other end ---

void drain_recent(recent_stack& recent) {
    while (strand* const s = recent.pop())
        numbered_strands::run(s);
}

scenario recent("queue.recent", {.preemptions = 3, .full = 4}, [] {
    numbered_strands strands(4);
    recent_stack stack;
    stack.push(strands[0]);
    stack.push(strands[1]);
    thread("worker", [&] {
        numbered_strands::run(stack.pop());
        stack.push(strands[2]);
        numbered_strands::run(stack.pop_oldest());
        stack.push(strands[3]);
    });
    thread("thief", [&] { numbered_strands::run(stack.steal()); });
    thread("watcher", [&] { numbered_strands::run(stack.steal_any()); });
    run();
    drain_recent(stack);
    strands.check_all_run();
});

mistake recent_in_two(recent, "a place is emptied by a load and a store",
                      {"recent_stack::take", "exchange", how::in_two});

// What is awaited is taken out of the middle, or by a thief, but once.
scenario removed_recent("queue.recent_remove", {.preemptions = 3, .full = 4}, [] {
    numbered_strands strands(4);
    recent_stack stack;
    for (std::size_t i = 0; i < 3; ++i)
        stack.push(strands[i]);
    thread("worker", [&] {
        if (stack.remove(strands.at(1)))
            numbered_strands::run(&strands[1]);
        stack.push(strands[3]);
        if (stack.remove(strands.at(3)))
            numbered_strands::run(&strands[3]);
        check(!stack.remove(strands.at(3)), "it is not there twice");
    });
    threads(2, "thief", [&] { numbered_strands::run(stack.steal()); });
    run();
    drain_recent(stack);
    strands.check_all_run();
});

mistake removed_in_two(removed_recent, "a place is emptied by a load and a store",
                       {"recent_stack::take", "exchange", how::in_two});

scenario full_recent("queue.recent_overflow", {.preemptions = 2, .full = 4}, [] {
    constexpr std::size_t places = recent_stack::capacity + 1; // with that of the newest
    numbered_strands strands(places + 2);
    recent_stack stack;
    for (std::size_t i = 0; i < places; ++i)
        stack.push(strands[i]);
    thread("worker", [&] {
        numbered_strands::run(stack.push(strands[places]));
        numbered_strands::run(stack.push(strands[places + 1]));
    });
    threads(2, "thief", [&] { numbered_strands::run(stack.steal()); });
    run();
    drain_recent(stack);
    strands.check_all_run();
});

mistake no_oldest(full_recent, "the place of the oldest is not given up",
                  {"recent_stack::pop_oldest_below", "store", how::left_out});
mistake full_in_two(full_recent, "a place is emptied by a load and a store",
                    {"recent_stack::take", "exchange", how::in_two});

// The same where the places begin anew: what thieves have read of the ends may be a lap old.
scenario lap("queue.recent_lap", {.preemptions = 2, .full = 4}, [] {
    constexpr std::size_t before = recent_stack::capacity - 1;
    numbered_strands strands(before + 5);
    recent_stack stack;
    stack.push(strands[0]);
    for (std::size_t i = 0; i < before; ++i) {
        stack.push(strands[i + 1]);
        numbered_strands::run(stack.pop_oldest());
    }
    stack.push(strands[before + 1]); // the one before goes to the last place
    stack.push(strands[before + 2]); // ... and this one to the first
    thread("worker", [&] {
        stack.push(strands[before + 3]);
        numbered_strands::run(stack.pop());
        numbered_strands::run(stack.pop_oldest());
        stack.push(strands[before + 4]);
    });
    thread("thief", [&] { numbered_strands::run(stack.steal()); });
    thread("watcher", [&] { numbered_strands::run(stack.steal_any()); });
    run();
    drain_recent(stack);
    check(stack.size() == 0 && !stack.has_for_thieves(), "and it is empty then");
    strands.check_all_run();
});

mistake lap_in_two(lap, "a place is emptied by a load and a store",
                   {"recent_stack::take", "exchange", how::in_two});
mistake lap_not_emptied(lap, "who takes a strand leaves it in its place",
                        {"recent_stack::take", "exchange", how::left_out});

// --- the shared queue ---

scenario injection("queue.injector", [] {
    numbered_strands strands(4);
    injector injected;
    int last = -1; // of the batch: its order is kept
    const auto take = [&](std::size_t most) {
        std::array<strand*, 2> room{};
        const std::size_t taken = injected.pop(std::span(room).first(most));
        check(taken <= most, "it gives no more than there is room for");
        for (strand* const s : std::span(room).first(taken)) {
            numbered_strands::run(s);
            if (const int n = numbered_strands::number_of(*s); n < 3)
                check(std::exchange(last, n) < n, "first in, first out");
        }
        return taken;
    };
    thread("pusher", [&] {
        const std::array<strand*, 3> batch{&strands[0], &strands[1], &strands[2]};
        injected.push(batch);
    });
    thread("other pusher", [&] { injected.push(strands[3]); });
    thread("taker", [&] {
        take(2);
        take(2);
    });
    run();
    while (take(1) > 0) {}
    check(injected.size() == 0, "it counts what is in it");
    strands.check_all_run();
});

mistake no_count(injection, "what is taken is not counted", {"injector::pop", "modify", how::left_out});
mistake no_count_either(injection, "what is pushed is not counted",
                        {"injector::push", "modify", how::left_out});

} // namespace
