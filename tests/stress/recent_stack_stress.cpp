// Thieves at a worker's newest tasks: each strand comes out exactly once.

#include <scheduler/src/recent_stack.hpp>

#include <test/bare_strand.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

using magpie::strand;
using magpie::detail::recent_stack;
using test::bare_strand;
using test::bare_strands;

namespace {

/// Counts how often each strand came out, and whether it came as its pusher left it.
class tally {
public:
    explicit tally(bare_strands& strands) : strands_(strands), seen_(strands.size()) {}

    /// What a waker does before it pushes: plain memory, which the place has to publish.
    strand& prepare(std::size_t n) {
        strands_[n].mark = &strands_[n];
        return strands_[n];
    }
    void see(strand* s) {
        if (s == nullptr)
            return;
        if (static_cast<const bare_strand&>(*s).mark != s)
            torn_.store(true, std::memory_order_relaxed);
        seen_[bare_strand::number_of(*s)].fetch_add(1, std::memory_order_relaxed);
    }
    bool each_once() const {
        for (const auto& n : seen_)
            if (n.load(std::memory_order_relaxed) != 1)
                return false;
        return !torn_.load(std::memory_order_relaxed);
    }

private:
    bare_strands& strands_;
    std::vector<std::atomic<int>> seen_;
    std::atomic<bool> torn_{false};
};

/// A worker that pushes and pops at both ends in a mixture of its own, `burst` at a time at most,
/// and thieves that leave it the newest, or take that, too.
void one_worker_and_thieves(bool all, int thieves, std::size_t burst, unsigned seed) {
    CAPTURE(all);
    CAPTURE(burst);
    CAPTURE(seed);
    constexpr std::size_t count = test::scaled(200'000);
    bare_strands strands(count);
    tally out(strands);
    recent_stack stack;
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < thieves; ++t)
        threads.emplace_back([&] {
            while (!over.load(std::memory_order_acquire)) {
                if (strand* const s = all ? stack.steal_any() : stack.steal())
                    out.see(s);
                else
                    static_cast<void>(stack.has_for_thieves());
            }
        });
    std::minstd_rand random(seed);
    std::uint32_t most = 0;
    for (std::size_t next = 0; next < count;) {
        for (auto n = random() % (burst + 1); n > 0 && next < count; --n, ++next) {
            out.see(stack.push(out.prepare(next)));
            most = std::max(most, stack.size());
        }
        for (auto n = random() % (burst + 1); n > 0; --n)
            out.see(random() % 4 == 0 ? stack.pop_oldest() : stack.pop());
    }
    over.store(true, std::memory_order_release);
    for (auto& t : threads)
        t.join();
    while (strand* const s = stack.pop())
        out.see(s);
    CHECK(out.each_once());
    CHECK(stack.size() == 0);
    CHECK(most <= recent_stack::capacity + 1); // with the newest
}

} // namespace

TEST_SUITE("stress.recent_stack") {
    TEST_CASE("one at a time, between the worker and a thief: nothing is lost in the last place") {
        constexpr std::size_t count = test::scaled(200'000);
        bare_strands strands(count);
        tally out(strands);
        recent_stack stack;
        std::atomic<bool> over{false};
        std::thread thief([&] {
            while (!over.load(std::memory_order_acquire))
                out.see(stack.steal_any());
        });
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(stack.push(out.prepare(i)) == nullptr);
            out.see(stack.pop());
            CHECK_MESSAGE(stack.size() == 0, "it was taken by one of the two");
        }
        over.store(true, std::memory_order_release);
        thief.join();
        CHECK(out.each_once());
    }

    TEST_CASE("what the worker has pushed, a thief takes in the order of the pushes") {
        constexpr std::size_t rounds = test::scaled(10'000);
        constexpr std::size_t each = recent_stack::capacity;
        bare_strands strands(rounds * each);
        tally out(strands);
        recent_stack stack;
        std::atomic<std::size_t> pushed{0};
        std::atomic<std::size_t> taken{0};
        bool in_order = true;
        std::thread thief([&] {
            for (std::size_t next = 0; next < strands.size();) {
                if (next == pushed.load(std::memory_order_acquire)) {
                    std::this_thread::yield();
                    continue;
                }
                strand* const s = stack.steal_any();
                in_order = in_order && s != nullptr && bare_strand::number_of(*s) == next;
                out.see(s);
                taken.store(++next, std::memory_order_release);
            }
        });
        for (std::size_t i = 0; i < strands.size();) {
            CHECK(stack.push(out.prepare(i++)) == nullptr);
            if (i % each != 0)
                continue;
            pushed.store(i, std::memory_order_release);
            while (taken.load(std::memory_order_acquire) < i)
                std::this_thread::yield();
            CHECK(stack.pop_oldest() == nullptr);
            CHECK(stack.size() == 0);
        }
        thief.join();
        CHECK(in_order);
        CHECK(out.each_once());
    }

    TEST_CASE("RT-SCHED-31 thieves at a stack that is mostly nearly empty: each exactly once") {
        for (unsigned seed = 1; seed <= 3; ++seed) {
            one_worker_and_thieves(true, 2, 2, seed);
            one_worker_and_thieves(false, 2, 3, seed);
        }
    }

    TEST_CASE("RT-SCHED-31 thieves at a stack that runs over: each exactly once") {
        for (unsigned seed = 11; seed <= 13; ++seed) {
            one_worker_and_thieves(false, 2, 2 * recent_stack::capacity, seed);
            one_worker_and_thieves(true, 3, recent_stack::capacity + 1, seed);
        }
    }
}
