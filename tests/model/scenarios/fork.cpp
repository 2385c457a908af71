// fork_join: the deque of what was forked, and a child's end against its parent's wait, failure and abort.

#include "support.hpp"

#include <magpie/core/fork_join.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <tuple>

namespace {

using namespace model_test;
using how = spoiled::how;
using magpie::fork_join;
using magpie::detail::fork_child;
using magpie::detail::fork_lane;
using magpie::detail::fork_record;

// --- the deque ---

class fork_deque final : public magpie::detail::fork_deque {
public:
    using magpie::detail::fork_deque::fork_deque;
};

/// Records that are only counted.
class numbered_records {
public:
    fork_record& operator[](std::size_t i) { return all_[i]; }

    void run(const fork_record* r) {
        if (r == nullptr)
            return;
        const auto i = static_cast<std::size_t>(static_cast<const fork_child<int>*>(r) - all_.data());
        check(i < all_.size(), "what is taken was put in");
        check(++runs_[i] == 1, "no record is taken twice");
    }
    void check_run(std::size_t n) const {
        for (std::size_t i = 0; i < n; ++i)
            check(runs_[i] == 1, "no record is lost");
    }

private:
    std::array<fork_child<int>, 5> all_;
    std::array<int, 5> runs_{};
};

void push(fork_deque& deque, fork_record& r) {
    check(deque.reserve(1), "there is memory");
    auto out = deque.write(1);
    out.write(r);
    deque.push(out, 1);
}

void drain(fork_deque& deque, numbered_records& records) {
    while (const fork_record* const r = deque.pop())
        records.run(r);
}

scenario deque("fork.deque", {.preemptions = 3, .full = 4}, [] {
    numbered_records records;
    fork_deque deque(true, 2);
    push(deque, records[0]);
    push(deque, records[1]);
    thread("worker", [&] {
        if (deque.take_back(records[1]))
            records.run(&records[1]);
        records.run(deque.pop());
        push(deque, records[2]);
        if (deque.take_back(records[2]))
            records.run(&records[2]);
    });
    threads(2, "thief", [&] { records.run(deque.steal()); });
    run();
    drain(deque, records);
    records.check_run(3);
});

mistake steals_by_store(deque, "a thief takes without comparing",
                        {"fork_deque::steal", "compare_exchange", how::unconditional});
mistake steals_in_two(deque, "a thief takes by a load and a store",
                      {"fork_deque::steal", "compare_exchange", how::in_two});
mistake takes_last_by_store(deque, "the worker takes the last one without comparing",
                            {"fork_deque::take_open", "compare_exchange", how::unconditional});
mistake does_not_lower(deque, "the worker takes without saying so first",
                       {"fork_deque::take_open", "exchange", how::left_out});
mistake old_top(deque, "the worker does not see what was stolen",
                {"fork_deque::take_open", "load", how::outdated});

scenario grown("fork.deque_grows", {.preemptions = 3, .full = 4}, [] {
    numbered_records records;
    fork_deque deque(true, 2);
    push(deque, records[0]);
    push(deque, records[1]);
    thread("worker", [&] {
        push(deque, records[2]);
        push(deque, records[3]);
        records.run(deque.pop());
        push(deque, records[4]);
    });
    threads(2, "thief", [&] {
        records.run(deque.steal());
        records.run(deque.steal());
    });
    run();
    drain(deque, records);
    records.check_run(5);
});

scenario kept("fork.deque_private", {.preemptions = 3, .full = 4}, [] {
    numbered_records records;
    fork_deque deque(true, 4);
    deque.keep_private(true);
    push(deque, records[0]);
    push(deque, records[1]); // kept
    thread("worker", [&] {
        if (deque.take_back(records[1]))
            records.run(&records[1]);
        push(deque, records[2]);
        push(deque, records[3]);
        records.run(deque.pop());
        records.run(deque.pop());
        records.run(deque.pop());
    });
    threads(2, "thief", [&] { records.run(deque.steal()); });
    run();
    drain(deque, records);
    records.check_run(4);
});

mistake does_not_lower_open(kept, "the worker takes what is open without saying so first",
                            {"fork_deque::take_open", "exchange", how::left_out});
mistake old_top_of_open(kept, "the worker does not see what was stolen of what is open",
                        {"fork_deque::take_open", "load", how::outdated});

mistake not_published(grown, "what has grown is not published",
                      {"fork_deque::reserve_slowly", "store", how::left_out});

// --- fork_join ---

/// Workers with lanes: they run what is queued, then what they have forked, then what others have.
class forking_executor final : public executor {
public:
    void work() {
        lane mine(*this);
        std::size_t index = 0;
        magpie_model::step("enter", this, [&] {
            lanes_[index = count_++] = &mine;
            entered_.take();
            entered_.pass();
        });
        magpie::detail::this_thread().forks = &mine;
        while (!is_over()) {
            const int seen = calls_;
            const std::size_t count = count_; // what entered before the next step is seen behind it
            entered_.take();
            magpie::strand* s = try_take();
            if (s == nullptr)
                s = mine.take_newest();
            for (std::size_t i = 0; s == nullptr && i < count; ++i)
                if (i != index)
                    s = lanes_[i]->take_oldest();
            if (s != nullptr)
                s->run_turn();
            else
                sleep_until([&] { return calls_ != seen; });
        }
        magpie::detail::this_thread().forks = nullptr;
        // The others may still look into it.
        magpie_model::step("leave", this, [this] { ++left_; });
        magpie_model::step_when([this] { return left_ == count_; }, "wait for the others", this);
    }

private:
    class lane final : public fork_lane {
    public:
        explicit lane(forking_executor& e) : fork_lane(e, true), executor_(e) {}
        void call_for_help() noexcept override { ++executor_.calls_; }

    private:
        forking_executor& executor_;
    };

    std::array<lane*, 3> lanes_{};
    magpie_model::baton entered_; // the lanes were made
    std::size_t count_ = 0;
    std::size_t left_ = 0;
    int calls_ = 0;
};

magpie::task<int> give(int n, tracked) { co_return n; }

magpie::task<int> give_after(slot& s, int n, tracked) {
    co_await s.wait();
    co_return n;
}

magpie::task<> add(int& sum, int& destroyed) {
    const auto r = co_await fork_join(give(1, tracked(destroyed)), give(2, tracked(destroyed)));
    check(destroyed == 2, "the children's frames are gone");
    sum = std::get<0>(r) + std::get<1>(r);
}

scenario joined("fork.join", {.preemptions = 2, .full = 3}, [] {
    forking_executor ex;
    int sum = 0;
    int destroyed = 0;
    ex.spawn(add(sum, destroyed)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(sum == 3, "both children have given their values");
});

mistake steals_child(joined, "a thief takes a child without comparing",
                     {"fork_deque::steal", "compare_exchange", how::unconditional});
mistake wakes_by_store(joined, "a child's end is pushed by a load and a store",
                       {"strand::push", "compare_exchange", how::in_two});

magpie::task<> wait_for_two(slot& s, int& passed, int& destroyed) {
    const auto r = co_await fork_join(give(1, tracked(destroyed)),
                                      give_after(s, 2, tracked(destroyed)));
    passed = std::get<0>(r) + std::get<1>(r);
}

scenario aborted("fork.abort", {.preemptions = 2, .full = 3}, [] {
    forking_executor ex;
    slot never("slot");
    int passed = 0;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for_two(never, passed, destroyed));
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && passed == 0, "the task was dropped");
    check(destroyed == 0 || destroyed == 2, "with both children, or before they were made");
});

mistake takes_revoked(aborted, "who takes a child does not see that it is not wanted any more",
                      {"fork_cell::fork_cell", "compare_exchange", how::unconditional});
magpie::task<int> fail(tracked) {
    throw std::runtime_error("failed");
    co_return 0;
}

magpie::task<> fail_beside(slot& s, bool& failed, bool first, int& destroyed) {
    try {
        if (first)
            co_await fork_join(fail(tracked(destroyed)), give_after(s, 2, tracked(destroyed)));
        else
            co_await fork_join(give_after(s, 2, tracked(destroyed)), fail(tracked(destroyed)));
    } catch (const std::runtime_error&) {
        check(destroyed == 2, "the sibling is gone before the failure is thrown");
        failed = true;
    }
}

scenario failed_first("fork.failure", {.preemptions = 3, .full = 4}, [] {
    forking_executor ex;
    slot never("slot");
    bool failed = false;
    int destroyed = 0;
    ex.spawn(fail_beside(never, failed, true, destroyed)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(failed, "the failure is thrown");
});

mistake takes_revoked_too(failed_first, "who takes a child does not see that it is not wanted any more",
                          {"fork_cell::fork_cell", "compare_exchange", how::unconditional});

mistake revokes_in_two(failed_first,
                       "the parent asks who has a child, and then says that it is not wanted",
                       {"fork_record::request_cancel", "exchange", how::in_two});

scenario failed_last("fork.failure_elsewhere", {.preemptions = 2, .full = 3}, [] {
    forking_executor ex;
    slot never("slot");
    bool failed = false;
    int destroyed = 0;
    ex.spawn(fail_beside(never, failed, false, destroyed)).detach();
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(failed, "the failure is thrown");
});

mistake goes_idle(failed_last, "a turn goes idle by a plain store",
                  {"strand::try_idle", "compare_exchange", how::unconditional});

} // namespace
