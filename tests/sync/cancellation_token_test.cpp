#include <magpie/sync/cancellation_token.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::cancellation_token;
using magpie::task;
using test::trace;

namespace {

task<> wait_for(cancellation_token t, trace& log, std::string name) {
    co_await t.cancelled();
    log.add(name);
}

task<int> give(int n) { co_return n; }

task<int> give_after(magpie::sync::event& e, int n, test::noisy) {
    co_await e.wait();
    co_return n;
}

} // namespace

TEST_SUITE("sync.cancellation_token") {
    TEST_CASE("SC-TOKEN-01 cancel wakes every waiter, and later waits are immediate") {
        test::manual_executor ex;
        const cancellation_token token;
        trace log;
        for (const char* name : {"a", "b", "c"})
            ex.spawn(wait_for(token, log, name)).detach();
        ex.run_until_idle();
        CHECK_FALSE(token.is_cancelled());
        CHECK(log.text().empty());
        SUBCASE("once") { token.cancel(); }
        SUBCASE("twice") {
            token.cancel();
            token.cancel();
        }
        SUBCASE("by a copy, on another thread") {
            std::thread([copy = token] { copy.cancel(); }).join();
        }
        CHECK(log.text().empty()); // cancel() runs nobody
        CHECK(token.is_cancelled());
        ex.run_until_idle();
        CHECK(log.text() == "a b c");
        auto later = ex.spawn(wait_for(token, log, "later"));
        CHECK(ex.run_one());
        CHECK(later.is_finished());
    }

    TEST_CASE("SC-TOKEN-02 a waiter that is dropped leaves the others waiting") {
        test::manual_executor ex;
        std::optional<cancellation_token> token(std::in_place);
        trace log;
        std::vector<magpie::join_handle<>> handles;
        for (const char* name : {"a", "b", "c"})
            handles.push_back(ex.spawn(wait_for(*token, log, name)));
        ex.run_until_idle();
        handles[1].abort();
        ex.run_until_idle();
        CHECK(handles[1].is_finished());
        SUBCASE("then it is cancelled") {
            token->cancel();
            ex.run_until_idle();
            CHECK(log.text() == "a c");
        }
        SUBCASE("all are dropped, and the token first") {
            token.reset(); // the waits hold copies
            handles.clear();
            ex.close();
            ex.run_until_idle();
            CHECK(log.text().empty());
        }
    }

    TEST_CASE("SC-TOKEN-02 a wait gives up on time, and another one sees the end") {
        test::manual_executor ex;
        const cancellation_token token;
        auto f = [](cancellation_token t) -> task<std::string> {
            [[maybe_unused]] auto never = t.cancelled(); // does nothing
            const bool first = co_await magpie::timeout(1s, t.cancelled());
            auto named = t.cancelled();
            auto moved = std::move(named);
            co_await moved;
            co_await moved; // is over
            const magpie::result<void> third = co_await as_result(t.cancelled());
            co_return std::string(first ? "in-time" : "late") + (third.has_value() ? " done" : " ?");
        };
        auto h = ex.spawn(f(token));
        ex.run_until_idle();
        ex.advance(1s);
        CHECK_FALSE(h.is_finished());
        token.cancel();
        ex.run_until_idle();
        CHECK(h.blocking_join() == "late done");
    }

    TEST_CASE("SC-TOKEN-03 cancelling reaches children and grandchildren, also past one that is gone") {
        test::manual_executor ex;
        const cancellation_token root;
        std::optional<cancellation_token> middle(root.child_token());
        const cancellation_token leaf = middle->child_token();
        std::optional<cancellation_token> sibling(middle->child_token());
        trace log;
        ex.spawn(wait_for(leaf, log, "leaf")).detach();
        ex.run_until_idle();
        SUBCASE("all there") {}
        SUBCASE("the middle one was dropped") { middle.reset(); }
        SUBCASE("... and then a sibling, so that one child is left") {
            middle.reset();
            sibling.reset();
        }
        SUBCASE("a sibling, and then the middle one") {
            sibling.reset();
            middle.reset();
        }
        CHECK_FALSE(leaf.is_cancelled());
        root.cancel();
        CHECK(leaf.is_cancelled());
        if (middle)
            CHECK(middle->is_cancelled());
        if (sibling)
            CHECK(sibling->is_cancelled());
        ex.run_until_idle();
        CHECK(log.text() == "leaf");
    }

    TEST_CASE("SC-TOKEN-04 cancelling a child leaves its parent alone") {
        const cancellation_token root;
        const cancellation_token child = root.child_token();
        child.cancel();
        CHECK(child.is_cancelled());
        CHECK_FALSE(root.is_cancelled());
        root.cancel();
        CHECK(root.is_cancelled());
    }

    TEST_CASE("SC-TOKEN-05 the child of a cancelled token is born cancelled") {
        const cancellation_token root;
        root.cancel();
        const cancellation_token child = root.child_token();
        const cancellation_token grandchild = child.child_token();
        CHECK(child.is_cancelled());
        CHECK(grandchild.is_cancelled());
        CHECK(child != root);
        child.cancel();
    }

    TEST_CASE("SC-TOKEN-06 tokens may be dropped in any order") {
        // Every order of five nodes: a root, two children, and two children of the first of them.
        std::vector<int> order{0, 1, 2, 3, 4};
        do {
            for (int kept = 0; kept < 5; ++kept) {
                std::optional<cancellation_token> t[5];
                t[0].emplace();
                t[1].emplace(t[0]->child_token());
                t[2].emplace(t[0]->child_token());
                t[3].emplace(t[1]->child_token());
                t[4].emplace(t[1]->child_token());
                for (int i = 0; i < kept; ++i)
                    t[order[static_cast<std::size_t>(i)]].reset();
                constexpr int above[] = {-1, 0, 0, 1, 1};
                const int stopped = order[static_cast<std::size_t>(kept)];
                t[stopped]->cancel();
                for (int i = 0; i < 5; ++i) {
                    bool below = false;
                    for (int n = i; n != -1; n = above[n])
                        below = below || n == stopped;
                    if (t[i])
                        CHECK(t[i]->is_cancelled() == below);
                }
            }
        } while (std::next_permutation(order.begin(), order.end()));
    }

    TEST_CASE("SC-TOKEN-07 only what is below is cancelled") {
        const cancellation_token root;
        const cancellation_token a = root.child_token();
        const cancellation_token b = root.child_token();
        const cancellation_token a1 = a.child_token();
        const cancellation_token a2 = a.child_token();
        const cancellation_token b1 = b.child_token();
        const cancellation_token stranger;
        a.cancel();
        CHECK(a.is_cancelled());
        CHECK(a1.is_cancelled());
        CHECK(a2.is_cancelled());
        CHECK_FALSE(root.is_cancelled());
        CHECK_FALSE(b.is_cancelled());
        CHECK_FALSE(b1.is_cancelled());
        root.cancel();
        CHECK(b1.is_cancelled());
        CHECK_FALSE(stranger.is_cancelled());
    }

    TEST_CASE("SC-TOKEN-08 run_until_cancelled gives the value, or nothing once it is cancelled") {
        test::manual_executor ex;
        const cancellation_token token;
        magpie::sync::event ready;
        trace log;
        auto f = [](cancellation_token t, magpie::sync::event& e, trace& l) -> task<> {
            const std::optional<int> got = co_await t.run_until_cancelled(
                give_after(e, 5, {l, "gone"}));
            l.add(got ? std::to_string(*got) : "none");
            const bool again = co_await t.run_until_cancelled(e.wait());
            l.add(again ? "true" : "false");
        };
        auto h = ex.spawn(f(token, ready, log));
        ex.run_until_idle();
        CHECK(log.text().empty());
        SUBCASE("the value") {
            ready.set();
            ex.run_until_idle();
            CHECK(log.text() == "gone 5 true");
        }
        SUBCASE("cancelled: the frames are gone before the next line") {
            token.cancel();
            ex.run_until_idle();
            CHECK(log.text() == "gone none false");
        }
        SUBCASE("both: the first one wins") {
            ready.set();
            token.cancel();
            ex.run_until_idle();
            CHECK(log.text() == "gone 5 false"); // ready too, but the token is cancelled
        }
        SUBCASE("the task is dropped") {
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "gone");
            token.cancel();
        }
        CHECK(h.is_finished());
    }

    TEST_CASE("SC-TOKEN-08 the body's exception comes out, and as_result gives an error code") {
        test::manual_executor ex;
        const cancellation_token token;
        auto fails = []() -> task<> {
            throw std::runtime_error("no");
            co_return;
        };
        auto f = [](cancellation_token t, auto body) -> task<std::string> {
            std::string text;
            try {
                co_await t.run_until_cancelled(body());
            } catch (const std::runtime_error& e) {
                text = e.what();
            }
            const magpie::result<int> value = co_await as_result(t.run_until_cancelled(give(3)));
            text += value.has_value() ? " 3" : " ?";
            t.cancel();
            const magpie::result<int> none = co_await as_result(t.run_until_cancelled(give(3)));
            text += none.error() == magpie::errc::operation_canceled ? " cancelled" : " ?";
            co_return text;
        };
        CHECK(test::run(ex, f(token, fails)) == "no 3 cancelled");
    }

    TEST_CASE("SC-TOKEN-09 copies are equal and hash alike, others do not") {
        const cancellation_token a;
        const cancellation_token copy = a; // NOLINT: that it is one is what is tested
        const cancellation_token b;
        CHECK(a == copy);
        CHECK(a != b);
        CHECK(a != a.child_token());
        const std::hash<cancellation_token> hash;
        CHECK(hash(a) == hash(copy));
        CHECK(hash(a) != hash(b));
        const std::unordered_set<cancellation_token> set{a, copy, b};
        CHECK(set.size() == 2);
    }

    TEST_CASE("SC-TOKEN-10 a ready operation gives its value, a pending one is stopped") {
        test::manual_executor ex;
        const cancellation_token token;
        magpie::sync::event never;
        auto f = [](cancellation_token t, magpie::sync::event& e) -> task<std::string> {
            const std::optional<int> ready = co_await t.run_until_cancelled(give(7));
            const bool pending = co_await t.run_until_cancelled(e.wait());
            co_return std::to_string(ready.value_or(0)) + (pending ? " done" : " stopped");
        };
        auto h = ex.spawn(f(token, never));
        ex.run_until_idle();
        CHECK_FALSE(h.is_finished());
        token.cancel();
        ex.run_until_idle();
        CHECK(h.blocking_join() == "7 stopped");
    }

    TEST_CASE("SC-TOKEN-11 a token that is cancelled wins over what is ready, which never starts") {
        test::manual_executor ex;
        const cancellation_token token;
        token.cancel();
        bool started = false;
        auto body = [](bool& s) -> task<int> {
            s = true;
            co_return 1;
        };
        auto f = [](cancellation_token t, bool& s, auto b) -> task<bool> {
            const std::optional<int> got = co_await t.run_until_cancelled(b(s));
            co_return got.has_value();
        };
        CHECK_FALSE(test::run(ex, f(token, started, body)));
        CHECK_FALSE(started);
    }

    TEST_CASE("a body that cancels its own token, and is ready, has won") {
        test::manual_executor ex;
        const cancellation_token token;
        auto body = [](cancellation_token t) -> task<int> {
            t.cancel();
            co_return 1;
        };
        auto waits = [](cancellation_token t, magpie::sync::event& e) -> task<int> {
            t.cancel();
            co_await e.wait();
            co_return 1;
        };
        magpie::sync::event never;
        auto f = [](cancellation_token t, auto b) -> task<bool> {
            const std::optional<int> got = co_await t.run_until_cancelled(b(t));
            co_return got.has_value();
        };
        CHECK(test::run(ex, f(token, body)));
        auto g = [](cancellation_token t, auto b, magpie::sync::event& e) -> task<bool> {
            const std::optional<int> got = co_await t.run_until_cancelled(b(t, e));
            co_return got.has_value();
        };
        CHECK_FALSE(test::run(ex, g(cancellation_token(), waits, never))); // cancelled before it waited
    }

    TEST_CASE("run_until_cancelled inside timeout, and the other way round") {
        test::manual_executor ex;
        const cancellation_token token;
        magpie::sync::event never;
        trace log;
        auto f = [](cancellation_token t, magpie::sync::event& e, trace& l) -> task<> {
            const auto outer = co_await magpie::timeout(
                1s, t.run_until_cancelled(give_after(e, 1, {l, "a"})));
            l.add(outer ? "ended" : "late");
            const auto inner = co_await t.run_until_cancelled(
                magpie::timeout(1s, give_after(e, 1, {l, "b"})));
            l.add(inner ? "ended" : "cancelled");
        };
        auto h = ex.spawn(f(token, never, log));
        ex.run_until_idle();
        ex.advance(1s);
        CHECK(log.text() == "a late");
        token.cancel();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "a late b cancelled");
    }

    TEST_CASE("a guard cancels its token when it goes, unless it was disarmed") {
        const cancellation_token token;
        SUBCASE("goes") {
            { const auto guard = token.drop_guard(); }
            CHECK(token.is_cancelled());
        }
        SUBCASE("disarmed") {
            {
                auto guard = token.drop_guard();
                CHECK(guard.disarm() == token);
                CHECK_THROWS_AS(guard.disarm(), std::logic_error);
            }
            CHECK_FALSE(token.is_cancelled());
        }
        SUBCASE("moved") {
            auto first = token.drop_guard();
            {
                const auto second = std::move(first);
                CHECK_FALSE(token.is_cancelled());
            }
            CHECK(token.is_cancelled());
        }
        SUBCASE("assigned: the old one's goes at once") {
            const cancellation_token other;
            auto guard = token.drop_guard();
            guard = other.drop_guard();
            CHECK(token.is_cancelled());
            CHECK_FALSE(other.is_cancelled());
        }
    }

    TEST_CASE("a token that was moved from says so") {
        cancellation_token token;
        const cancellation_token taken = std::move(token);
        // NOLINTBEGIN(bugprone-use-after-move): what is tested
        CHECK_THROWS_WITH_AS(
            token.cancel(), "this cancellation_token was moved from: keep a copy of what is still used",
            std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.is_cancelled()), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.child_token()), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.cancelled()), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.drop_guard()), std::logic_error);
        token = taken;
        CHECK(token == taken);
        // NOLINTEND(bugprone-use-after-move)
    }

    TEST_CASE("run_until_cancelled that is awaited twice throws std::logic_error") {
        auto f = [](bool cancelled) -> task<> {
            const cancellation_token token;
            if (cancelled)
                token.cancel();
            auto twice = token.run_until_cancelled(magpie::yield_now());
            const bool finished = co_await twice;
            CHECK(finished != cancelled);
            co_await twice;
        };
        for (const bool cancelled : {false, true})
            CHECK_THROWS_WITH_AS(test::run(f(cancelled)), doctest::Contains("awaited before"),
                                 std::logic_error);
    }

    TEST_CASE("two branches of one task may wait for one token") {
        test::manual_executor ex;
        const cancellation_token token;
        trace log;
        auto f = [](cancellation_token t, trace& l) -> task<> {
            test::both branches(wait_for(t, l, "first"), wait_for(t.child_token(), l, "second"));
            co_await branches;
        };
        auto h = ex.spawn(f(token, log));
        ex.run_until_idle();
        token.cancel();
        ex.run_until_idle();
        CHECK(h.is_finished());
        CHECK(log.text() == "first second");
    }

    TEST_CASE("a tree as deep as it likes takes no stack") {
        test::on_small_stack([] {
            constexpr int depth = 100'000;
            const cancellation_token root;
            std::vector<cancellation_token> chain{root};
            for (int i = 0; i < depth; ++i)
                chain.push_back(chain.back().child_token());
            SUBCASE("cancelled") {
                root.cancel();
                CHECK(chain.back().is_cancelled());
            }
            SUBCASE("dropped from above") {
                for (std::size_t i = 0; i + 1 < chain.size(); ++i)
                    chain[i] = chain.back();
                root.cancel(); // still above the last
                CHECK(chain.back().is_cancelled());
            }
            SUBCASE("dropped from below") {
                while (chain.size() > 1)
                    chain.pop_back();
                CHECK_FALSE(root.is_cancelled());
            }
        });
    }

    TEST_CASE("a token that is its own child's place keeps no memory: a million generations") {
        constexpr int generations = test::scaled(1'000'000);
        const cancellation_token root;
        cancellation_token current = root.child_token();
        for (int i = 0; i < generations; ++i)
            current = current.child_token(); // the one above it is gone, and leaves nothing
        root.cancel();                       // would take long with a million nodes between them
        CHECK(current.is_cancelled());
    }

    // --- reasons ---

    TEST_CASE("a reason goes down the tree, and the first one stays") {
        const cancellation_token root;
        const cancellation_token child = root.child_token();
        const cancellation_token grandchild = child.child_token();
        CHECK(root.reason() == nullptr);
        child.cancel("the child");
        CHECK(root.reason() == nullptr);
        REQUIRE(child.reason() != nullptr);
        CHECK(child.reason()->text() == "the child");
        CHECK(grandchild.reason() == child.reason());
        child.cancel("too late");
        root.cancel({std::make_error_code(std::errc::io_error), "the root"});
        CHECK(child.reason()->text() == "the child");
        CHECK(grandchild.reason()->text() == "the child");
        REQUIRE(root.reason() != nullptr);
        CHECK(root.reason()->code() == std::errc::io_error);
        CHECK(root.reason()->text() == "the root");
        const cancellation_token born = grandchild.child_token();
        REQUIRE(born.reason() != nullptr);
        CHECK(born.reason()->text() == "the child");
        const cancellation_token last = born.child_token();
        CHECK(last.reason() == born.reason());
    }

    TEST_CASE("without a reason there is none, also if one comes later") {
        const cancellation_token token;
        const cancellation_token child = token.child_token();
        token.cancel();
        token.cancel("too late");
        CHECK(token.is_cancelled());
        CHECK(token.reason() == nullptr);
        CHECK(child.reason() == nullptr);
        CHECK(token.child_token().reason() == nullptr);
    }

    TEST_CASE("a reason lives as long as one of the tokens that it has cancelled") {
        std::optional<cancellation_token> last;
        {
            const cancellation_token root;
            const cancellation_token between = root.child_token();
            const cancellation_token sibling = between.child_token();
            last.emplace(between.child_token());
            root.cancel(std::string(100, 'x'));
        }
        REQUIRE(last->reason() != nullptr);
        CHECK(last->reason()->text() == std::string(100, 'x'));
    }

    TEST_CASE("what a reason says") {
        const magpie::cancel_reason text("stop");
        CHECK(text.message() == "stop");
        CHECK_FALSE(text.code());
        const magpie::cancel_reason code(std::make_error_code(std::errc::timed_out));
        CHECK(code.text().empty());
        CHECK(code.message() == std::make_error_code(std::errc::timed_out).message());
        const magpie::cancel_reason both(std::make_error_code(std::errc::timed_out), "too slow");
        CHECK(both.message() == "too slow");
    }

    // --- std::stop_token ---

    TEST_CASE("a stop token is stopped with its token, whoever cancels that") {
        const cancellation_token root;
        const cancellation_token child = root.child_token();
        const std::stop_token stop = child.stop_token();
        const std::stop_token again = child.stop_token();
        CHECK(stop == again); // one state for all
        CHECK(stop.stop_possible());
        CHECK_FALSE(stop.stop_requested());
        bool called = false;
        const std::stop_callback callback(stop, [&] { called = true; });
        root.cancel();
        CHECK(stop.stop_requested());
        CHECK(called);
        CHECK(child.stop_token().stop_requested()); // of one that is cancelled already
        CHECK(child.child_token().stop_token().stop_requested());
    }

    TEST_CASE("a stop token does not keep its token") {
        std::stop_token stop;
        {
            const cancellation_token token;
            stop = token.stop_token();
        }
        CHECK_FALSE(stop.stop_possible());
        CHECK_FALSE(stop.stop_requested());
    }

    TEST_CASE("waiters and a stop token of one token, in either order") {
        test::manual_executor ex;
        const cancellation_token token;
        trace log;
        ex.spawn(wait_for(token, log, "first")).detach();
        ex.run_until_idle();
        const std::stop_token stop = token.stop_token();
        ex.spawn(wait_for(token, log, "second")).detach();
        auto dropped = ex.spawn(wait_for(token, log, "dropped"));
        ex.run_until_idle();
        dropped.abort();
        ex.run_until_idle();
        const std::stop_callback callback(stop, [&] { log.add("stopped"); });
        token.cancel("why");
        ex.run_until_idle();
        CHECK(log.text() == "stopped first second");
    }

    TEST_CASE("a callback may use the token, and let go of the last copy") {
        std::optional<cancellation_token> token(std::in_place);
        const std::stop_token stop = token->stop_token();
        bool told = false;
        const std::stop_callback callback(stop, [&] {
            told = token->is_cancelled();
            token.reset();
        });
        const cancellation_token copy = *token;
        copy.cancel();
        CHECK(told);
    }

    TEST_CASE("a token is cancelled when a stop token is stopped, for as long as they are linked") {
        std::stop_source source;
        const cancellation_token token;
        { const magpie::sync::cancel_on_stop link(source.get_token(), token.child_token()); }
        const cancellation_token linked = token.child_token();
        const magpie::sync::cancel_on_stop link(source.get_token(), linked);
        CHECK_FALSE(linked.is_cancelled());
        std::thread([&] { source.request_stop(); }).join();
        CHECK(linked.is_cancelled());
        CHECK_FALSE(token.is_cancelled());
        const magpie::sync::cancel_on_stop late(source.get_token(), token);
        CHECK(token.is_cancelled());
    }

    TEST_CASE("there and back: a stop token of a token that is linked to a stop token") {
        std::stop_source source;
        const cancellation_token token;
        const magpie::sync::cancel_on_stop link(source.get_token(), token);
        const std::stop_token out = token.stop_token();
        source.request_stop();
        CHECK(out.stop_requested());
    }

    TEST_CASE("reasons and stop tokens of a token that was moved from") {
        cancellation_token token;
        const cancellation_token other(std::move(token));
        // NOLINTBEGIN(bugprone-use-after-move)
        CHECK_THROWS_AS(token.cancel("why"), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.reason()), std::logic_error);
        CHECK_THROWS_AS(static_cast<void>(token.stop_token()), std::logic_error);
        const std::stop_source source;
        CHECK_THROWS_AS(static_cast<void>(magpie::sync::cancel_on_stop(source.get_token(), token)),
                        std::logic_error);
        // NOLINTEND(bugprone-use-after-move)
    }
}
