// Cancellation tokens: cancel() against waits, drops of waits, new children, and tokens that go.

#include "support.hpp"

#include <magpie/sync/cancellation_token.hpp>

#include <optional>
#include <stop_token>

namespace {

using namespace model_test;
using magpie::cancellation_token;
using how = spoiled::how;

magpie::task<> wait_for(cancellation_token t, int& passed, tracked) {
    co_await t.cancelled();
    ++passed;
}

// --- two tasks wait, one of them for a child ---

scenario wait("cancellation.wait", [] {
    executor ex;
    const cancellation_token token;
    int passed = 0;
    int destroyed = 0;
    ex.spawn(wait_for(token, passed, tracked(destroyed))).detach();
    ex.spawn(wait_for(token.child_token(), passed, tracked(destroyed))).detach();
    thread("canceller", [&] { token.cancel(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(passed == 2 && destroyed == 2, "both tasks pass");
});

mistake no_recheck(wait,
                   "a waiter enters the list without looking again whether the token is cancelled",
                   {"cancellation_node::enter", "load", how::outdated});

// --- a wait is dropped ---

scenario drop("cancellation.drop", [] {
    executor ex;
    std::optional<cancellation_token> token(std::in_place);
    int passed = 0;
    int destroyed = 0;
    auto handle = ex.spawn(wait_for(token->child_token(), passed, tracked(destroyed)));
    thread("canceller", [&] {
        token->cancel();
        token.reset();
    });
    thread("aborter", [&] { handle.abort(); });
    threads(2, "worker", [&] { ex.work(); });
    run();
    check(handle.is_finished() && destroyed == 1, "the task has passed or was dropped");
});

mistake idle_by_store(drop, "a strand goes idle by a plain store",
                      {"strand::try_idle", "compare_exchange", how::unconditional});

// --- a body that ends as its token is cancelled ---

magpie::task<> run_until(cancellation_token t, slot& s, int& ended, int& won, tracked) {
    const bool done = co_await t.run_until_cancelled(s.wait());
    ++ended;
    won += done ? 1 : 0;
}

scenario race("cancellation.race", [] {
    executor ex;
    const cancellation_token token;
    slot s("slot");
    int ended = 0;
    int won = 0;
    int destroyed = 0;
    ex.spawn(run_until(token, s, ended, won, tracked(destroyed))).detach();
    thread("setter", [&] { s.set(); });
    thread("canceller", [&] { token.cancel(); });
    thread("worker", [&] { ex.work(); });
    run();
    check(ended == 1 && destroyed == 1, "it ends once");
});

mistake push_in_two(race, "a waker pushes by a load and a store",
                    {"strand::push", "compare_exchange", how::in_two});

// --- the tree: a child is made, a token between goes, the root is cancelled ---

scenario tree("cancellation.tree", [] {
    const cancellation_token root;
    std::optional<cancellation_token> middle(root.child_token());
    std::optional<cancellation_token> first(middle->child_token());
    const cancellation_token second = middle->child_token();
    std::optional<cancellation_token> third;
    thread("canceller", [&] { root.cancel(); });
    thread("dropper", [&] {
        middle.reset(); // a bridge now
        first.reset();  // and now no more
    });
    thread("parent", [&] { third.emplace(second.child_token()); });
    run();
    check(second.is_cancelled() && third->is_cancelled(), "the root's end reaches all");
});

mistake born_alive(tree, "a child is made without looking again whether its parent is cancelled",
                   {"cancellation_node::make_child", "load", how::outdated});

scenario siblings("cancellation.siblings", [] {
    std::optional<cancellation_token> root(std::in_place);
    std::optional<cancellation_token> a(root->child_token());
    std::optional<cancellation_token> b(root->child_token());
    std::optional<cancellation_token> again(*b);
    const cancellation_token child = a->child_token();
    thread("drops the root", [&] { root.reset(); });
    thread("cancels a", [&] {
        a->cancel();
        again.reset();
    });
    thread("drops b", [&] { b.reset(); });
    run();
    check(child.is_cancelled(), "a's end reaches its child");
});

mistake counts_in_two(siblings, "a reference is given back by a load and a store",
                      {"cancellation_node::release", "modify", how::in_two});

// --- a stop token is asked for as the token is cancelled, with a reason ---

/// What tokens give that are cancelled already is made once, and is no leak of the execution's.
const std::stop_token made_once = [] {
    const cancellation_token token;
    token.cancel();
    return token.stop_token();
}();

scenario relay("cancellation.relay", [] {
    const cancellation_token root;
    std::optional<cancellation_token> child(root.child_token());
    const cancellation_token same = *child;
    std::stop_token stop;
    thread("asks", [&] { stop = same.stop_token(); });
    thread("cancels", [&] { root.cancel("why"); });
    thread("drops", [&] { child.reset(); });
    run();
    check(stop.stop_requested(), "the stop token is stopped");
    check(same.reason() != nullptr && same.reason() == root.reason(), "both have the reason");
});

mistake late_relay(relay, "a stop token is entered without looking whether its token is cancelled",
                   {"cancellation_node::stop_token", "load", how::outdated});

} // namespace
