// Selects over channels at random: nothing is lost, nothing comes twice, and the order is kept.

#include <magpie/core/join.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/mpmc.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/oneshot.hpp>
#include <magpie/sync/rendezvous.hpp>

#include <test/limits.hpp>
#include <test/run.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using magpie::select;
using magpie::select_biased;
using magpie::task;
using magpie::sync::send_result;
namespace mpsc = magpie::sync::mpsc;
namespace rendezvous = magpie::sync::rendezvous;

namespace {

/// What goes through the channels: its move is code of its own.
struct message {
    explicit message(int n) : number(std::make_unique<int>(n)) {}
    std::unique_ptr<int> number;
};

int number_of(int n) { return n; }
int number_of(const message& m) { return m.number != nullptr ? *m.number : -1; }

/// Sends 0 to n - 1; gives up now and then, and sends the same value again.
template <class Sender, class T>
task<> produce(Sender tx, int n, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < n; ++i) {
        T value(i);
        for (;;) {
            if (random() % 3 == 0)
                co_await magpie::yield_now();
            if (random() % 4 == 0) {
                auto r = co_await select(tx.send(std::move(value)), magpie::yield_now());
                if (r.index() == 1) {
                    CHECK(number_of(value) == i); // NOLINT: it was not moved from
                    continue;
                }
                CHECK(r.template get<0>());
            } else {
                const send_result r = co_await tx.send(std::move(value));
                CHECK(r);
            }
            break;
        }
    }
}

/// Takes what comes out of both channels, by selects of all kinds.
template <class Receiver>
task<> consume(Receiver& a, Receiver& b, int total, std::vector<int>& from_a, std::vector<int>& from_b,
               std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto keep = [](std::vector<int>& out, auto&& value) {
        if (value)
            out.push_back(number_of(*value));
    };
    while (std::cmp_less(from_a.size() + from_b.size(), total)) {
        switch (random() % 6) {
        case 0: {
            auto r = co_await select(a.recv(), b.recv());
            r.index() == 0 ? keep(from_a, r.template get<0>()) : keep(from_b, r.template get<1>());
            break;
        }
        case 1: {
            auto r = co_await select_biased(b.recv(), a.recv(), magpie::yield_now());
            if (r.index() == 0)
                keep(from_b, r.template get<0>());
            else if (r.index() == 1)
                keep(from_a, r.template get<1>());
            break;
        }
        case 2: {
            auto r = co_await select(select(a.recv(), magpie::yield_now()), b.recv());
            if (r.index() == 1)
                keep(from_b, r.template get<1>());
            else if (r.template get<0>().index() == 0)
                keep(from_a, r.template get<0>().template get<0>());
            break;
        }
        case 3: {
            auto r = co_await magpie::timeout(0s, a.recv());
            if (r)
                keep(from_a, *r);
            break;
        }
        case 4: {
            // A join that is dropped may have one of the two in hand.
            auto r = co_await select(magpie::join(a.recv(), b.recv()), magpie::yield_now());
            if (r.index() == 0) {
                keep(from_a, std::get<0>(r.template get<0>()));
                keep(from_b, std::get<1>(r.template get<0>()));
            }
            break;
        }
        default: {
            auto r = co_await select(b.recv(), magpie::yield_now());
            if (r.index() == 0)
                keep(from_b, r.template get<0>());
            break;
        }
        }
    }
}

template <class T, class Make>
void run_over(Make make, std::uint64_t seed) {
    constexpr int n = test::scaled(5000);
    CAPTURE(seed);
    std::vector<int> from_a;
    std::vector<int> from_b;
    auto a = make();
    auto b = make();
    test::manual_executor ex(16);
    using sender = decltype(a.tx);
    auto consumer = ex.spawn(consume(a.rx, b.rx, 2 * n, from_a, from_b, seed));
    auto first = ex.spawn(produce<sender, T>(a.tx, n, seed + 1));
    auto second = ex.spawn(produce<sender, T>(b.tx, n, seed + 2));
    ex.run_until_idle();
    REQUIRE(consumer.is_finished());
    consumer.blocking_join();
    first.blocking_join();
    second.blocking_join();
    for (const auto* got : {&from_a, &from_b}) {
        REQUIRE(got->size() == n);
        for (int i = 0; i < n; ++i)
            REQUIRE((*got)[static_cast<std::size_t>(i)] == i);
    }
}

} // namespace

TEST_SUITE("sync.channel_select") {
    TEST_CASE(
        "SCOPE-09 two branches that are ready together: the loser's value is still in its channel") {
        test::manual_executor ex;
        auto a = mpsc::channel<message>(1);
        auto b = mpsc::channel<message>(1);
        auto f = [](mpsc::receiver<message>& x, mpsc::receiver<message>& y) -> task<std::size_t> {
            auto r = co_await select(x.recv(), y.recv());
            co_return r.index();
        };
        SUBCASE("handed over in one batch") {
            auto h = ex.spawn(f(a.rx, b.rx));
            ex.run_until_idle();
            CHECK(a.tx.try_send(message(1)));
            CHECK(b.tx.try_send(message(2)));
            ex.run_until_idle();
            CHECK(h.blocking_join() == 0);
            CHECK(number_of(*b.rx.try_recv()) == 2);
            CHECK(a.rx.try_recv().is_empty());
        }
        SUBCASE("ready at the start") {
            CHECK(a.tx.try_send(message(1)));
            CHECK(b.tx.try_send(message(2)));
            const std::size_t won = test::run(ex, f(a.rx, b.rx));
            auto& loser = won == 0 ? b : a;
            CHECK(number_of(*loser.rx.try_recv()) == (won == 0 ? 2 : 1));
        }
    }

    TEST_CASE("SCOPE-10 selects over channels at random lose nothing, and keep the order") {
        for (std::uint64_t seed : {std::uint64_t{42}, std::uint64_t{std::random_device()()}}) {
            for (const std::size_t capacity : {1u, 2u, 40u}) {
                run_over<int>([=] { return mpsc::channel<int>(capacity); }, seed);
                run_over<message>([=] { return mpsc::channel<message>(capacity); }, seed);
                run_over<message>([=] { return magpie::sync::mpmc::channel<message>(capacity); }, seed);
            }
            run_over<message>([] { return rendezvous::channel<message>(); }, seed);
        }
    }

    TEST_CASE("a oneshot that is selected on again and again gives its value once") {
        test::manual_executor ex;
        auto [tx, rx] = magpie::sync::oneshot::channel<message>();
        auto f = [](magpie::sync::oneshot::receiver<message>& r, int& rounds) -> task<int> {
            for (;;) {
                ++rounds;
                auto won = co_await select(r.recv(), magpie::yield_now());
                if (won.index() == 0)
                    co_return number_of(*won.get<0>());
            }
        };
        int rounds = 0;
        auto h = ex.spawn(f(rx, rounds));
        for (int i = 0; i < 10; ++i)
            CHECK(ex.run_one());
        CHECK(tx.send(message(7)));
        ex.run_until_idle();
        CHECK(h.blocking_join() == 7);
        CHECK(rounds > 5);
    }
}
