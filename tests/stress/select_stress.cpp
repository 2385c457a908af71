// Selects at random over join handles, timers, tokens, events, pinned tasks and permits, on runtimes:
// what one of them loses goes to the next, nothing is lost and nothing comes twice.

#include <magpie/core.hpp>
#include <magpie/scheduler.hpp>
#include <magpie/sync.hpp>

#include <test/layouts.hpp>
#include <test/limits.hpp>
#include <test/permits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::cancellation_token;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::sync::event;
using test::permits;

namespace {

/// What has happened to one task that selects. Whatever is made is counted, and so is what comes.
struct counts {
    int permits_a = 0;
    int permits_b = 0;
    int spawned = 0;
    int joined = 0;
    int pinned = 0; // tasks, each of which takes a permit of the third kind
    int pinned_ended = 0;
    int events = 0; // one-shot: each is set once
    int events_seen = 0;
    int tokens = 0;
    int tokens_seen = 0;
    int selects = 0;

    bool each_came() const {
        return permits_a > 0 && permits_b > 0 && pinned_ended > 0 && joined > 0 && events_seen > 0 &&
               tokens_seen > 0;
    }
};

/// Where a task that selects gets its permits, and what feeds it.
struct sources {
    permits a;
    permits b;
    permits c;
    std::atomic<int> added_a{0}; // these order nothing: they are read when the feeder has ended
    std::atomic<int> added_b{0};
    std::atomic<int> added_c{0};
    std::atomic<bool> stop{false};
};

/// Adds permits while there are few: on whatever worker it runs.
task<> feed(sources& s, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!s.stop.load(std::memory_order_relaxed)) {
        const auto side = random() % 3;
        permits& p = side == 0 ? s.a : side == 1 ? s.b : s.c;
        if (p.left() < 3) {
            (side == 0   ? s.added_a
             : side == 1 ? s.added_b
                         : s.added_c)
                .fetch_add(1, std::memory_order_relaxed);
            p.add();
        }
        co_await magpie::yield_now();
    }
}

// Not coroutines that take and then wait: what is selected by value may be dropped in between.
task<int> child(unsigned yields) {
    for (unsigned i = 0; i < yields; ++i)
        co_await magpie::yield_now();
    co_return 1;
}

/// Takes and then waits: it is pinned, and so never dropped half-way.
task<int> take_slowly(permits& p, unsigned yields) {
    co_await p.take();
    co_return co_await child(yields);
}

task<> set_later(std::shared_ptr<event> e, unsigned yields) {
    co_await child(yields);
    e->set();
}
task<> cancel_later(cancellation_token t, unsigned yields) {
    co_await child(yields);
    t.cancel();
}

/// One task that selects.
class selector {
public:
    selector(sources& s, counts& c, std::uint64_t seed) : from_(s), c_(c), random_(seed) {}

    /// Longer if something has not come yet: another thread may have had the only core all the time.
    task<> run(int rounds) {
        while (c_.selects < rounds || !c_.each_came()) {
            ++c_.pinned;
            auto body = [this](magpie::pinned_task<int>& slow) -> task<> {
                const int until = c_.selects + 1 + static_cast<int>(die(40));
                bool ended = false;
                while (c_.selects < until || !ended) {
                    const bool won = co_await one(ended ? nullptr : &slow);
                    c_.pinned_ended += won ? 1 : 0;
                    ended = ended || won;
                }
            };
            co_await magpie::pinned(take_slowly(from_.c, die(6)), std::move(body));
        }
        if (handle_)
            c_.joined += co_await handle_;
        if (event_) {
            co_await event_->wait();
            ++c_.events_seen;
        }
        if (token_) {
            co_await token_->cancelled();
            ++c_.tokens_seen;
        }
    }

private:
    unsigned die(unsigned sides) { return static_cast<unsigned>(random_() % sides); }

    /// What is waited for is renewed when it has come.
    void renew() {
        if (!handle_) {
            handle_ = magpie::spawn(child(die(4)));
            ++c_.spawned;
        }
        if (!event_) {
            event_ = std::make_shared<event>();
            magpie::spawn(set_later(event_, die(8))).detach();
            ++c_.events;
        }
        if (!token_) {
            token_.emplace();
            magpie::spawn(cancel_later(*token_, die(8))).detach();
            ++c_.tokens;
        }
    }

    void took_a() { ++c_.permits_a; }
    void took_b() { ++c_.permits_b; }
    void took_handle(int n) {
        c_.joined += n;
        handle_ = {};
    }
    void took_event() {
        ++c_.events_seen;
        event_.reset();
    }
    void took_token() {
        ++c_.tokens_seen;
        token_.reset();
    }

    /// One select. Whether the pinned task has won; null: it has ended.
    task<bool> one(magpie::pinned_task<int>* slow) {
        renew();
        ++c_.selects;
        magpie::timer nothing_left(0s);
        switch (die(8)) {
        case 0: {
            auto r = co_await select(from_.a.take(), from_.b.take(), handle_, magpie::yield_now());
            if (r.index() == 0)
                took_a();
            else if (r.index() == 1)
                took_b();
            else if (r.index() == 2)
                took_handle(r.get<2>());
            co_return false;
        }
        case 1: {
            auto r = co_await select(event_->wait(), token_->cancelled(), from_.a.take(), handle_);
            if (r.index() == 0)
                took_event();
            else if (r.index() == 1)
                took_token();
            else if (r.index() == 2)
                took_a();
            else
                took_handle(r.get<3>());
            co_return false;
        }
        case 2: {
            auto r = co_await select_biased(
                magpie::select(from_.a.take(), event_->wait()), // one in another
                magpie::timeout(0s, from_.b.take()), token_->run_until_cancelled(handle_));
            if (r.index() == 0 && r.get<0>().index() == 0)
                took_a();
            else if (r.index() == 0)
                took_event();
            else if (r.index() == 1 && r.get<1>())
                took_b();
            else if (r.index() == 2 && r.get<2>())
                took_handle(*r.get<2>());
            else if (r.index() == 2)
                took_token();
            co_return false;
        }
        case 3: {
            auto r = co_await select(magpie::join(from_.a.take(), from_.b.take()), nothing_left,
                                     magpie::unconstrained(event_->wait()));
            if (r.index() == 0) {
                took_a();
                took_b();
            } else if (r.index() == 2) {
                took_event();
            }
            co_return false;
        }
        case 4: {
            const auto limit = die(64) == 0 ? 1ms : 0ms;
            const bool had = co_await magpie::timeout(limit, from_.b.take());
            if (had)
                took_b();
            co_return false;
        }
        case 5: {
            auto r = co_await select(magpie::when(die(2) == 0, from_.a.take()), magpie::yield_now(),
                                     magpie::shield(child(die(3))));
            if (r.index() == 0)
                took_a();
            co_return false;
        }
        default: break;
        }
        if (slow == nullptr) {
            auto r = co_await select(from_.b.take(), magpie::yield_now());
            if (r.index() == 0)
                took_b();
            co_return false;
        }
        auto r = co_await select(*slow, from_.a.take(), handle_, nothing_left);
        if (r.index() == 1)
            took_a();
        else if (r.index() == 2)
            took_handle(r.get<2>());
        co_return r.index() == 0;
    }

    sources& from_;
    counts& c_;
    std::mt19937_64 random_;
    magpie::join_handle<int> handle_;
    std::shared_ptr<event> event_;
    std::optional<cancellation_token> token_;
};

task<> select_for_a_while(sources& s, counts& c, std::uint64_t seed, int rounds) {
    selector all(s, c, seed);
    co_await all.run(rounds);
    s.stop.store(true, std::memory_order_relaxed);
}

/// How many selects, all in all: as many as MAGPIE_SELECTS says.
int wanted() {
    const char* const text = std::getenv("MAGPIE_SELECTS");
    return text != nullptr ? std::stoi(text) : test::scaled(600'000);
}

} // namespace

TEST_SUITE("stress.select") {
    TEST_CASE("selects at random over all that runtimes have: nothing is lost, nothing comes twice") {
        const std::uint64_t seed = std::random_device()();
        CAPTURE(seed);
        constexpr int tasks = 3;
        test::on_each_layout([&](magpie::runtime_builder builder) {
            std::vector<std::unique_ptr<sources>> from;
            std::vector<counts> seen(tasks);
            {
                magpie::runtime rt = builder.build();
                std::vector<magpie::join_handle<>> all;
                for (int i = 0; i < tasks; ++i) {
                    from.push_back(std::make_unique<sources>());
                    const auto mine = seed + static_cast<std::uint64_t>(i);
                    all.push_back(rt.spawn(feed(*from.back(), mine)));
                    all.push_back(rt.spawn(select_for_a_while(
                        *from.back(), seen[static_cast<std::size_t>(i)], mine, wanted() / 9)));
                }
                auto wait = [](std::vector<magpie::join_handle<>> handles) -> task<> {
                    for (auto& h : handles)
                        co_await h;
                };
                rt.block_on(wait(std::move(all)));
            }
            for (std::size_t i = 0; i < seen.size(); ++i) {
                const counts& c = seen[i];
                const sources& s = *from[i];
                CHECK(c.selects >= wanted() / 9);
                CHECK(c.permits_a + s.a.left() == s.added_a.load());
                CHECK(c.permits_b + s.b.left() == s.added_b.load());
                CHECK(c.pinned_ended + s.c.left() == s.added_c.load());
                CHECK(c.pinned == c.pinned_ended);
                CHECK(c.spawned == c.joined);
                CHECK(c.events == c.events_seen);
                CHECK(c.tokens == c.tokens_seen);
                CHECK(c.each_came());
            }
        });
    }
}
