// Cooperation: what a turn may do before it is split, yield_now, consume_budget, unconstrained.

#include <magpie/core/unconstrained.hpp>
#include <magpie/core/yield.hpp>

#include <magpie/core/as_result.hpp>
#include <magpie/core/this_task.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/sync/event.hpp>

#include <test/both.hpp>
#include <test/held.hpp>
#include <test/in_child.hpp>
#include <test/limits.hpp>
#include <test/run.hpp>
#include <test/trace.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::consume_budget;
using magpie::task;
using magpie::unconstrained;
using magpie::yield_now;
using magpie::sync::event;
using test::both;
using test::held;
using test::noisy;
using test::trace;

namespace {

std::uint32_t left() { return magpie::this_task::budget().value(); }

task<> work(int units) {
    for (int i = 0; i < units; ++i)
        co_await consume_budget();
}

/// Runs a task of each: one that works, and one that notes after each turn how far the first is.
template <class Worker>
std::vector<int> progress(Worker make) {
    test::manual_executor ex;
    int done = 0;
    bool over = false;
    std::vector<int> seen;
    auto watch = [](const int& n, const bool& end, std::vector<int>& into) -> task<> {
        while (!end) {
            into.push_back(n);
            co_await yield_now();
        }
        into.push_back(n);
    };
    struct at_end {
        bool& over;
        explicit at_end(bool& o) : over(o) {}
        ~at_end() { over = true; }
    };
    auto run = [](task<> t, bool& end) -> task<> {
        const at_end set(end);
        co_await std::move(t);
    };
    ex.spawn(run(make(done), over)).detach();
    ex.spawn(watch(done, over, seen)).detach();
    ex.run_until_idle();
    return seen;
}

} // namespace

TEST_SUITE("core.budget") {
    TEST_CASE("yield_now lets everything that is queued run first") {
        test::manual_executor ex;
        trace log;
        auto f = [](trace& l, std::string name) -> task<> {
            for (int i = 0; i < 3; ++i) {
                l.add(name);
                co_await yield_now();
            }
        };
        ex.spawn(f(log, "a")).detach();
        ex.spawn(f(log, "b")).detach();
        ex.spawn(f(log, "c")).detach();
        ex.run_until_idle();
        CHECK(log.text() == "a b c a b c a b c");
        CHECK(ex.turns() == 12);
    }

    TEST_CASE("RT-SCHED-12 a task over its budget of 128 is made to yield; consume_budget counts") {
        const auto seen = progress([](int& done) {
            return [](int& n) -> task<> {
                for (n = 0; n < 1000; ++n)
                    co_await consume_budget();
            }(done);
        });
        REQUIRE(seen.size() >= 7);
        for (std::size_t i = 0; i < 7; ++i)
            CHECK(seen[i] == 128 * static_cast<int>(i + 1));
    }

    TEST_CASE("RT-SCHED-12 each kind of operation that is ready takes a unit") {
        SUBCASE("an event that is set") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    event e;
                    e.set();
                    for (n = 0; n < 1000; ++n)
                        co_await e.wait();
                }(done);
            });
            CHECK(seen.at(1) == 256);
        }
        SUBCASE("a timer that has run out") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    for (n = 0; n < 1000; ++n)
                        co_await magpie::sleep_for(0s);
                }(done);
            });
            CHECK(seen.at(1) == 256);
        }
        SUBCASE("the join of a task that has ended") {
            auto nothing = []() -> task<> { co_return; };
            const auto seen = progress([&](int& done) {
                return [](int& n, auto make) -> task<> {
                    std::vector<magpie::join_handle<>> handles;
                    for (int i = 0; i < 500; ++i)
                        handles.push_back(magpie::spawn(make()));
                    co_await yield_now(); // they run
                    for (magpie::join_handle<>& h : handles) {
                        co_await h;
                        ++n;
                    }
                }(done, nothing);
            });
            CHECK(seen.at(1) == 127); // resuming after the yield took one
            CHECK(seen.at(2) == 127 + 128);
        }
        SUBCASE("a timeout takes one for its body and one for itself") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    event e;
                    e.set();
                    for (n = 0; n < 1000; ++n)
                        co_await magpie::timeout(1s, e.wait());
                }(done);
            });
            CHECK(seen.at(0) >= 64);
            CHECK(seen.at(0) <= 128);
        }
    }

    TEST_CASE("awaiting a task takes nothing by itself") {
        test::manual_executor ex;
        auto f = []() -> task<> {
            auto nothing = []() -> task<> { co_return; };
            for (int i = 0; i < 1000; ++i)
                co_await nothing();
        };
        ex.spawn(f()).detach();
        ex.run_until_idle();
        CHECK(ex.turns() == 1);
    }

    TEST_CASE(
        "RT-SCHED-25 what is left of the budget can be asked for, and agrees with what is taken") {
        test::manual_executor ex;
        CHECK_FALSE(magpie::this_task::budget().has_value());
        auto f = []() -> task<> {
            CHECK(left() == 128);
            for (std::uint32_t i = 1; i <= 128; ++i) {
                co_await consume_budget();
                CHECK(left() == 128 - i);
            }
            co_await consume_budget(); // a new turn
            CHECK(left() == 127);
            co_await yield_now();
            CHECK(left() == 127);
        };
        test::run(ex, f());
        CHECK(ex.turns() == 3);

        test::manual_executor small(3);
        auto g = []() -> task<std::uint32_t> { co_return left(); };
        CHECK(test::run(small, g()) == 3);
    }

    TEST_CASE("a batch of wakes is split by the budget as well") {
        test::manual_executor ex(2);
        held a;
        held b;
        held c;
        held d;
        trace log;
        auto hold = [](held& h, trace& l, std::string name) -> task<> {
            co_await h.wait();
            l.add(name);
        };
        auto two = [](task<> x, task<> y) -> task<> {
            both branches(std::move(x), std::move(y));
            co_await branches;
        };
        auto t = ex.spawn(
            two(two(hold(a, log, "a"), hold(b, log, "b")), two(hold(c, log, "c"), hold(d, log, "d"))));
        ex.run_until_idle();
        a.release();
        b.release();
        c.release();
        d.release();
        CHECK(ex.run_one());
        CHECK(log.text() == "a b");
        CHECK(ex.run_one());
        CHECK(log.text() == "a b c d");
        CHECK(t.is_finished());
        CHECK_FALSE(ex.run_one());
    }

    TEST_CASE("branches share the budget of their turn") {
        test::manual_executor ex;
        auto f = []() -> task<> {
            both branches(work(100), work(100));
            co_await branches;
        };
        auto t = ex.spawn(f());
        CHECK(ex.run_one());
        CHECK_FALSE(t.is_finished());
        CHECK(ex.run_one());
        CHECK(t.is_finished());
    }

    TEST_CASE("a budget of one is enough for everything") {
        test::manual_executor ex(1);
        event e;
        auto f = [](event& ev) -> task<int> {
            co_await work(5);
            co_await yield_now();
            co_await ev.wait();
            co_await magpie::sleep_for(1ms);
            co_await magpie::sleep_for(0ms);
            auto child = magpie::spawn(work(3));
            co_await child;
            both branches(work(2), work(2));
            co_await branches;
            co_return 1;
        };
        auto h = ex.spawn(f(e));
        ex.run_until_idle();
        e.set();
        ex.run_until_idle();
        ex.advance(1ms);
        CHECK(h.is_finished());
        CHECK(h.blocking_join() == 1);
    }

    TEST_CASE("a yield is one yield, also when no budget is left") {
        test::manual_executor ex(1);
        auto f = []() -> task<> {
            co_await consume_budget();
            co_await yield_now();
        };
        test::run(ex, f());
        CHECK(ex.turns() == 2);
    }

    TEST_CASE("a composite that takes the last unit leaves none, not more") {
        test::manual_executor ex;
        std::uint32_t after = 0;
        SUBCASE("a timeout whose body works") {
            auto f = [](std::uint32_t& a) -> task<> {
                co_await magpie::timeout(1s, work(128));
                a = left();
            };
            test::run(ex, f(after));
        }
        SUBCASE("a timeout that had to wait for its turn") {
            auto f = [](std::uint32_t& a) -> task<> {
                co_await work(128);
                co_await magpie::timeout(1s, work(128));
                a = left();
            };
            test::run(ex, f(after));
        }
        SUBCASE("a timeout of a timeout") {
            auto f = [](std::uint32_t& a) -> task<> {
                co_await work(126);
                event e;
                e.set();
                co_await magpie::timeout(1s, magpie::timeout(1s, e.wait()));
                a = left();
            };
            test::run(ex, f(after));
        }
        CHECK(after <= 128);
    }

    TEST_CASE("RT-SCHED-12 unconstrained takes no budget") {
        SUBCASE("a task") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    auto loop = [](int& m) -> task<> {
                        for (m = 0; m < 10'000; ++m)
                            co_await consume_budget();
                    };
                    co_await unconstrained(loop(n));
                }(done);
            });
            CHECK(seen.at(0) == 10'000);
        }
        SUBCASE("an operation, and what it leaves") {
            auto f = []() -> task<std::uint32_t> {
                event e;
                e.set();
                for (int i = 0; i < 1000; ++i)
                    co_await unconstrained(e.wait());
                co_return left();
            };
            test::manual_executor ex;
            CHECK(test::run(ex, f()) == 128);
            CHECK(ex.turns() == 1);
        }
        SUBCASE("tasks below, composites below") {
            auto f = []() -> task<std::uint32_t> {
                auto deep = []() -> task<> {
                    co_await work(1000);
                    co_await magpie::timeout(1s, work(1000));
                    both branches(work(1000), work(1000));
                    co_await branches;
                    co_await unconstrained(work(1000));
                    co_await work(1000); // still
                };
                co_await unconstrained(deep());
                co_return left();
            };
            test::manual_executor ex;
            CHECK(test::run(ex, f()) == 128);
            CHECK(ex.turns() == 1);
        }
        SUBCASE("what comes after takes budget again") {
            auto f = []() -> task<> {
                co_await unconstrained(work(1000));
                co_await work(200);
            };
            test::manual_executor ex;
            test::run(ex, f());
            CHECK(ex.turns() == 2);
        }
        SUBCASE("a sibling branch takes budget") {
            auto f = []() -> task<> {
                auto free = []() -> task<> { co_await unconstrained(work(1000)); };
                both branches(free(), work(200));
                co_await branches;
            };
            test::manual_executor ex;
            test::run(ex, f());
            CHECK(ex.turns() == 2);
        }
    }

    TEST_CASE("unconstrained stays so inside timeout and as_result") {
        SUBCASE("timeout") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    auto loop = [](int& m) -> task<> {
                        for (m = 0; m < 10'000; ++m)
                            co_await consume_budget();
                    };
                    co_await magpie::timeout(1s, unconstrained(loop(n)));
                }(done);
            });
            CHECK(seen.at(0) == 10'000);
        }
        SUBCASE("as_result") {
            const auto seen = progress([](int& done) {
                return [](int& n) -> task<> {
                    auto loop = [](int& m) -> task<> {
                        for (m = 0; m < 10'000; ++m)
                            co_await consume_budget();
                    };
                    static_cast<void>(co_await as_result(unconstrained(loop(n))));
                }(done);
            });
            CHECK(seen.at(0) == 10'000);
        }
    }

    TEST_CASE("unconstrained goes on when the budget is spent already") {
        CHECK(test::survives([] {
            test::manual_executor ex;
            event e;
            auto f = [](event& ev, bool is_task) -> task<int> {
                auto wait = [](event& v) -> task<> { co_await v.wait(); };
                co_await work(128); // nothing is left
                if (is_task)
                    co_await unconstrained(wait(ev));
                else
                    co_await unconstrained(ev.wait());
                co_return 1;
            };
            auto a = ex.spawn(f(e, true));
            auto b = ex.spawn(f(e, false));
            auto c = ex.spawn(f(e, false));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            return a.blocking_join() + b.blocking_join() + c.blocking_join() == 3;
        }));
    }

    TEST_CASE("unconstrained gives what its awaitable gives") {
        SUBCASE("a value") {
            auto f = []() -> task<int> {
                auto make = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
                const std::unique_ptr<int> p = co_await unconstrained(make());
                co_return *p;
            };
            CHECK(test::run(f()) == 3);
        }
        SUBCASE("a reference") {
            int n = 0;
            auto f = [](int& m) -> task<bool> {
                auto ref = [](int& k) -> task<int&> { co_return k; };
                int& r = co_await unconstrained(ref(m));
                co_return &r == &m;
            };
            CHECK(test::run(f(n)));
        }
        SUBCASE("an exception") {
            auto f = []() -> task<> {
                auto fails = []() -> task<> {
                    throw std::domain_error("no");
                    co_return;
                };
                co_await unconstrained(fails());
            };
            CHECK_THROWS_AS(test::run(f()), std::domain_error);
        }
        SUBCASE("a join") {
            test::manual_executor ex;
            auto number = []() -> task<int> { co_return 4; };
            auto f = [](magpie::join_handle<int> h) -> task<int> {
                const int n = co_await unconstrained(h);
                co_return n;
            };
            CHECK(test::run(ex, f(ex.spawn(number()))) == 4);
        }
    }

    TEST_CASE("unconstrained waits, and is dropped, as its awaitable is") {
        test::manual_executor ex;
        event e;
        held in_hand;
        trace log;
        auto body = [](trace& l, event& ev, held& h, bool comes) -> task<> {
            const noisy local(l, "body");
            if (comes)
                co_await h.wait();
            else
                co_await ev.wait();
            l.add("woken");
        };
        auto f = [](trace& l, task<> b) -> task<> {
            const noisy local(l, "outer");
            co_await unconstrained(std::move(b));
            l.add("on");
        };
        SUBCASE("woken") {
            auto h = ex.spawn(f(log, body(log, e, in_hand, false)));
            ex.run_until_idle();
            e.set();
            ex.run_until_idle();
            CHECK(log.text() == "woken body on outer");
        }
        SUBCASE("dropped") {
            auto h = ex.spawn(f(log, body(log, e, in_hand, false)));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text() == "body outer");
        }
        SUBCASE("dropped while coming") {
            auto h = ex.spawn(f(log, body(log, e, in_hand, true)));
            ex.run_until_idle();
            h.abort();
            ex.run_until_idle();
            CHECK(log.text().empty());
            in_hand.release();
            ex.run_until_idle();
            CHECK(log.text() == "body outer");
        }
    }

    TEST_CASE("a long loop of unconstrained awaits takes no stack") {
        constexpr int n = test::scaled(1'000'000);
        int done = 0;
        test::on_small_stack([&] {
            auto f = [](int times, int& d) -> task<> {
                auto yields = []() -> task<> { co_await yield_now(); };
                for (int i = 0; i < times; ++i, ++d)
                    co_await unconstrained(yields());
            };
            test::run(f(n, done));
        });
        CHECK(done == n);
    }

    TEST_CASE("ten million ready operations") {
        constexpr int n = test::scaled(10'000'000);
        test::manual_executor ex;
        ex.spawn(work(n)).detach();
        ex.run_until_idle();
        CHECK(ex.turns() >= n / 128);
        CHECK(ex.turns() <= n / 128 + 1);
    }
}
