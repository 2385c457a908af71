// The tracker: ends of tasks and tokens against close, reopen, and those who wait.

#include "support.hpp"

#include <magpie/scheduler/task_tracker.hpp>

#include <optional>

namespace {

using namespace model_test;
using magpie::task_tracker;
using magpie::tracker_token;
using how = spoiled::how;

// --- tasks that end ---

magpie::task<> work(tracked) { co_return; }

magpie::task<> track_two(int& destroyed, int& ended) {
    const task_tracker tracker;
    tracker.spawn(work(tracked(destroyed))).detach();
    tracker.spawn(work(tracked(destroyed))).detach();
    tracker.close();
    co_await tracker.wait();
    check(destroyed == 2, "who has waited sees the frames gone");
    ++ended;
}

scenario tasks("task_tracker.tasks", [] {
    executor ex;
    int destroyed = 0;
    int ended = 0;
    ex.spawn(track_two(destroyed, ended)).detach();
    threads(3, "worker", [&] { ex.work(); });
    run();
    check(ended == 1, "the wait ends");
});

mistake drops_in_two(tasks, "a task counts itself out by a load and a store",
                     {"tracker_state::drop", "compare_exchange", how::in_two});

// --- tokens that go, and a tracker that is closed, while a task waits ---

magpie::task<> wait_for(task_tracker tracker, int& ended) {
    co_await tracker.wait();
    ++ended;
}

scenario tokens("task_tracker.tokens", [] {
    executor ex;
    std::optional<task_tracker> tracker(std::in_place);
    std::optional<tracker_token> token(tracker->token());
    int ended = 0;
    ex.spawn(wait_for(*tracker, ended)).detach();
    thread("token", [&] { token.reset(); });
    thread("closer", [&] {
        tracker->close();
        tracker.reset();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(ended == 1, "the wait ends");
});

mistake closes_by_store(tokens, "the tracker is closed without comparing",
                        {"tracker_state::close", "compare_exchange", how::unconditional});
mistake no_recheck(tokens, "a waiter enters the list without looking again whether it has ended",
                   {"tracker_state::enter", "load", how::outdated});
mistake counts_in_two(tokens, "a reference is given back by a load and a store",
                      {"tracker_state::release", "modify", how::in_two});

// --- the wait is dropped ---

scenario drop("task_tracker.drop", [] {
    executor ex;
    std::optional<task_tracker> tracker(std::in_place);
    int ended = 0;
    auto handle = ex.spawn(wait_for(*tracker, ended));
    thread("closer", [&] {
        tracker->close();
        tracker.reset();
    });
    thread("aborter", [&] { handle.abort(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(handle.is_finished(), "the task has ended");
});

mistake idle_by_store(drop, "a strand goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- closed and reopened while a token comes and goes: who came before that has been told ---

scenario reopened("task_tracker.reopened", [] {
    executor ex;
    const task_tracker tracker;
    int ended = 0;
    ex.spawn(wait_for(tracker, ended)).detach();
    thread("token", [&] { const tracker_token token = tracker.token(); });
    thread("closer", [&] {
        tracker.close();
        tracker.reopen();
        tracker.close();
    });
    thread("worker", [&] { ex.work(); });
    run();
    check(ended == 1, "the wait ends");
});

mistake reopens_in_two(reopened, "the tracker is reopened by a load and a store",
                       {"tracker_state::reopen", "modify", how::in_two});

} // namespace
