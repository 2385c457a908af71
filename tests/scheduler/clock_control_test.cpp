#include <magpie/scheduler/clock_control.hpp>

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/eventually.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using magpie::advance;
using magpie::clock;
using magpie::join_handle;
using magpie::runtime;
using magpie::sleep_for;
using magpie::task;
using magpie::sync::event;
using test::on_each_layout;

namespace {

std::int64_t ms(clock::duration d) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

/// Notes when it woke up, in milliseconds since `start`.
class wake_times {
public:
    task<> sleep(clock::duration d) {
        co_await sleep_for(d);
        note();
    }
    void note() {
        const std::lock_guard guard(lock_);
        seen_.push_back(ms(clock::now() - start));
    }
    std::vector<std::int64_t> seen() {
        const std::lock_guard guard(lock_);
        return seen_;
    }
    clock::time_point start;

private:
    std::mutex lock_;
    std::vector<std::int64_t> seen_;
};

using list = std::vector<std::int64_t>;

template <class F>
bool is_misuse(F f) {
    try {
        f();
    } catch (const std::logic_error&) {
        return true;
    }
    return false;
}

} // namespace

TEST_SUITE("scheduler.clock_control") {
    TEST_CASE("an advance that meets the end of the pause ends, or says that it needs one") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto move = [](std::atomic<bool>& b) -> task<> {
                b = true;
                try {
                    co_await advance(1ms);
                } catch (const std::logic_error&) {}
            };
            for (int round = 0; round < test::scaled(3000) + 50; ++round) {
                std::atomic<bool> begun{false};
                const auto in = rt.enter();
                magpie::pause_clock();
                std::thread driver([&] { rt.block_on(move(begun)); });
                static_cast<void>(test::eventually([&] { return begun.load(); }));
                for (int spin = round % 64; spin > 0; --spin)
                    static_cast<void>(begun.load());
                magpie::resume_clock();
                driver.join();
                CHECK(begun);
            }
        });
    }

    TEST_CASE("a paused clock stands still when the timer that came next was cancelled") {
        on_each_layout([](auto builder) {
            event go;
            std::atomic<bool> cancelled{false};
            const runtime rt = builder.paused_clock(true).build();
            const auto parks = [&] {
                std::uint64_t n = 0;
                for (const auto& w : rt.metrics().workers)
                    n += w.parks;
                return n;
            };
            auto main = [](event& e, std::atomic<bool>& told) -> task<clock::duration> {
                auto asleep = []() -> task<> { co_await sleep_for(5s); };
                auto h = magpie::spawn(asleep());
                co_await sleep_for(1ms); // once it has fired, the next one is where the wheel is to be
                h.abort(); // looked at for the long one, which is earlier than that is due
                static_cast<void>(co_await magpie::as_result(h));
                const auto before = clock::now();
                told = true;
                co_await e.wait();
                co_return clock::now() - before;
            };
            clock::duration moved(-1);
            std::thread driver([&] { moved = rt.block_on(main(go, cancelled)); });
            CHECK(test::eventually([&] { return cancelled.load(); }));
            auto nothing = []() -> task<> { co_return; };
            for (int i = 0; i < 3; ++i) { // all have slept in between
                const auto before = parks();
                const auto poke = rt.spawn(nothing());
                CHECK(test::ends(poke));
                CHECK(test::eventually([&] { return parks() > before; }));
            }
            go.set();
            driver.join();
            CHECK(ms(moved) == 0);
        });
    }

    TEST_CASE("TIME-CORE-27 TIME-CORE-21 a runtime may start paused: sleeps take no time, and each "
              "just its own") {
        on_each_layout([](auto builder) {
            const auto really = std::chrono::steady_clock::now();
            const runtime rt = builder.paused_clock(true).build();
            wake_times times;
            auto main = [](wake_times& w) -> task<> {
                w.start = clock::now();
                std::vector<join_handle<>> all;
                for (const int d : {3000, 1000, 2000, 3'600'000})
                    all.push_back(magpie::spawn(w.sleep(1ms * d)));
                for (auto& h : all)
                    co_await h;
            };
            rt.block_on(main(times));
            CHECK(times.seen() == list{1000, 2000, 3000, 3'600'000});
            CHECK(std::chrono::steady_clock::now() - really < 1h);
        });
    }

    TEST_CASE("TIME-CORE-21 a run on the paused clock is the same each time") {
        on_each_layout([](auto builder) {
            std::vector<list> runs;
            for (int i = 0; i < 3; ++i) {
                const runtime rt = builder.paused_clock(true).seed(1).build();
                wake_times times;
                auto main = [](wake_times& w) -> task<> {
                    w.start = clock::now();
                    for (int n = 1; n < 20; ++n) {
                        co_await sleep_for(1ms * (n * n % 7));
                        w.note();
                        co_await magpie::timeout(1ms * n, sleep_for(5ms));
                        w.note();
                    }
                };
                rt.block_on(main(times));
                runs.push_back(times.seen());
            }
            CHECK(runs[0] == runs[1]);
            CHECK(runs[1] == runs[2]);
        });
    }

    TEST_CASE("TIME-CORE-21 while anything runs time stands still") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto sleeper = []() -> task<> { co_await sleep_for(1ms); };
            auto main = [](auto f) -> task<bool> {
                auto h = magpie::spawn(f());
                const auto before = clock::now();
                for (int i = 0; i < 10'000; ++i)
                    co_await magpie::yield_now();
                const bool stood = clock::now() == before && !h.is_finished();
                co_await h;
                co_return stood&& clock::now() == before + 1ms;
            };
            CHECK(rt.block_on(main(sleeper)));
        });
    }

    TEST_CASE("TIME-CORE-22 the clock may be paused and resumed by a task on each layout") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<bool> {
                magpie::pause_clock();
                const auto before = clock::now();
                co_await sleep_for(24h);
                const bool moved = clock::now() - before >= 24h && clock::now() - before <= 24h + 1ms;
                magpie::resume_clock();
                const auto resumed = clock::now();
                co_await sleep_for(2ms);
                co_return moved&& clock::now() - resumed >= 2ms && clock::now() - resumed < 1h;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-22 a runtime's clock is its own") {
        const runtime paused = test::multi_thread(1).paused_clock(true).build();
        const runtime other = test::multi_thread(1).build();
        auto now = []() -> task<clock::time_point> { co_return clock::now(); };
        auto sleep = []() -> task<> { co_await sleep_for(24h); };
        const auto before = other.block_on(now());
        paused.block_on(sleep());
        CHECK(other.block_on(now()) - before < 1h);
    }

    TEST_CASE("TIME-CORE-23 advance fires what is due, in order, each at its own time") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            wake_times times;
            auto main = [](wake_times& w) -> task<bool> {
                w.start = clock::now();
                std::vector<join_handle<>> all;
                for (const int d : {30, 10, 20, 40})
                    all.push_back(magpie::spawn(w.sleep(1ms * d)));
                co_await advance(9ms);
                const bool none = w.seen().empty() && clock::now() == w.start + 9ms;
                co_await advance(21ms); // 10, 20 and 30
                const bool three = w.seen() == list{10, 20, 30} && clock::now() == w.start + 30ms;
                co_await advance(0s);
                const bool same = clock::now() == w.start + 30ms;
                co_await advance(24h);
                co_return none&& three&& same&& w.seen().size() == 4 &&
                    clock::now() == w.start + 30ms + 24h;
            };
            CHECK(rt.block_on(main(times)));
            CHECK(times.seen() == list{10, 20, 30, 40});
        });
    }

    TEST_CASE("TIME-CORE-23 what is first awaited after the advance has passed is ready") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                magpie::timer t(clock::now() + 50ms);
                co_await advance(60ms);
                const auto before = clock::now();
                co_await t;
                co_return t.is_elapsed() && clock::now() == before;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-23 advance runs on what its timers have started") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            wake_times times;
            auto step = [](wake_times& w) -> task<> {
                for (int i = 0; i < 5; ++i) {
                    co_await sleep_for(10ms);
                    co_await magpie::yield_now();
                    w.note();
                }
            };
            auto main = [](wake_times& w, auto f) -> task<> {
                w.start = clock::now();
                auto h = magpie::spawn(f(w));
                co_await magpie::yield_now();
                co_await advance(35ms);
                w.note();
                co_await h;
            };
            rt.block_on(main(times, step));
            CHECK(times.seen() == list{10, 20, 30, 35, 40, 50});
        });
    }

    TEST_CASE("TIME-CORE-24 advance is exact below a millisecond, and in steps of one") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                const auto start = clock::now();
                bool exact = true;
                co_await advance(1ns);
                exact = exact && clock::now() == start + 1ns;
                co_await advance(999'999ns);
                exact = exact && clock::now() == start + 1ms;
                for (int i = 1; i <= 100; ++i) {
                    co_await advance(1ms);
                    exact = exact && clock::now() == start + 1ms + 1ms * i;
                }
                co_return exact;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-24 a sleep from between two ticks is never early, in steps of any size") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto sleeper = [](clock::duration d) -> task<bool> {
                const auto before = clock::now();
                co_await sleep_for(d);
                co_return clock::now() >= before + d;
            };
            auto main = [](auto f) -> task<bool> {
                bool all = true;
                for (const auto step : {250us, 333us, 999us, 1001us}) {
                    std::vector<join_handle<bool>> hs;
                    for (int i = 0; i < 20; ++i) {
                        hs.push_back(magpie::spawn(f(step * i)));
                        co_await advance(step);
                    }
                    for (auto& h : hs)
                        all = co_await h && all;
                }
                co_return all;
            };
            CHECK(rt.block_on(main(sleeper)));
        });
    }

    TEST_CASE("TIME-CORE-25 intervals tick through an advance") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            wake_times times;
            auto ticks = [](wake_times& w) -> task<> {
                magpie::interval every(300ms);
                for (;;) {
                    co_await every.tick();
                    w.note();
                }
            };
            auto main = [](wake_times& w, auto f) -> task<> {
                w.start = clock::now();
                auto h = magpie::spawn(f(w));
                co_await advance(1s);
                h.abort();
                co_await magpie::as_result(h);
            };
            rt.block_on(main(times, ticks));
            CHECK(times.seen() == list{0, 300, 600, 900});
        });
    }

    TEST_CASE(
        "TIME-CORE-26 a resumed clock goes on from where it was paused, and may be paused again") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                co_await advance(24h);
                const auto paused_at = clock::now();
                magpie::resume_clock();
                const auto resumed = clock::now();
                co_await sleep_for(1ms);
                magpie::pause_clock();
                const auto again = clock::now();
                for (int i = 0; i < 100; ++i)
                    co_await magpie::yield_now();
                const bool stands = clock::now() == again;
                co_return resumed >= paused_at&& resumed < paused_at + 1h && again >= resumed + 1ms &&
                    stands;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("TIME-CORE-26 pausing a paused clock, resuming or advancing a running one is misuse") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.build();
            auto main = []() -> task<bool> {
                bool all = is_misuse([] { magpie::resume_clock(); });
                try {
                    co_await advance(1ms);
                    all = false;
                } catch (const std::logic_error&) {}
                magpie::pause_clock();
                all = all && is_misuse([] { magpie::pause_clock(); });
                co_await advance(1ms);
                magpie::resume_clock();
                co_return all&& is_misuse([] { magpie::resume_clock(); });
            };
            CHECK(rt.block_on(main()));
        });
        CHECK(is_misuse([] { magpie::pause_clock(); }));
    }

    TEST_CASE("one advances at a time") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto other = []() -> task<bool> {
                bool refused = false;
                try {
                    co_await advance(1ms);
                } catch (const std::logic_error&) {
                    refused = true;
                }
                co_return refused;
            };
            auto first = []() -> task<> { co_await advance(1h); };
            auto main = [](auto f, auto g) -> task<bool> {
                auto a = magpie::spawn(f());
                event started;
                co_await sleep_for(30min); // it stands in the middle of the hour now
                auto b = magpie::spawn(g());
                const bool refused = co_await b;
                co_await a;
                co_return refused;
            };
            CHECK(rt.block_on(main(first, other)));
        });
    }

    TEST_CASE("an advance that is dropped leaves the clock where it has got to") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto main = []() -> task<bool> {
                const auto start = clock::now();
                const bool whole = co_await magpie::timeout(10ms, advance(1h));
                const bool there = clock::now() == start + 10ms;
                co_await advance(5ms); // and another one may follow
                co_return !whole && there && clock::now() == start + 15ms;
            };
            CHECK(rt.block_on(main()));
        });
    }

    TEST_CASE("an advance ends though the clock is resumed meanwhile") {
        on_each_layout([](auto builder) {
            const runtime rt = builder.paused_clock(true).build();
            auto resumes = []() -> task<> {
                co_await sleep_for(10ms);
                magpie::resume_clock();
            };
            auto advances = []() -> task<> {
                try {
                    co_await advance(24h);
                } catch (const std::logic_error&) { // as if it had not been paused: as good
                }
            };
            auto r = rt.spawn(resumes());
            auto a = rt.spawn(advances());
            std::thread watchdog([&] { // the clock runs: an hour is no time to wait for
                CHECK(test::ends(a));
                a.abort();
            });
            auto both = [](join_handle<>& x, join_handle<>& y) -> task<> {
                co_await magpie::as_result(x);
                co_await magpie::as_result(y);
            };
            rt.block_on(both(r, a));
            watchdog.join();
        });
    }

    TEST_CASE("a wake from outside is served though the clock is paused") {
        on_each_layout([](auto builder) {
            event go;
            const runtime rt = builder.paused_clock(true).build();
            std::thread outside([&] { go.set(); });
            auto main = [](event& e) -> task<bool> {
                co_await e.wait();
                co_return true;
            };
            CHECK(rt.block_on(main(go)));
            outside.join();
        });
    }
}
