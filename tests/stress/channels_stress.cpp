// Channels on several threads: nothing is lost, nothing comes twice, each sender's order is kept, and nothing is left.

#include <magpie/core/as_result.hpp>
#include <magpie/core/select.hpp>
#include <magpie/core/timeout.hpp>
#include <magpie/core/yield.hpp>
#include <magpie/sync/broadcast.hpp>
#include <magpie/sync/mpmc.hpp>
#include <magpie/sync/mpsc.hpp>
#include <magpie/sync/oneshot.hpp>
#include <magpie/sync/rendezvous.hpp>
#include <magpie/sync/watch.hpp>

#include <magpie/scheduler.hpp>

#include <test/counting.hpp>
#include <test/layouts.hpp>
#include <test/limits.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using magpie::task;
using magpie::sync::received;
using magpie::sync::send_result;
using magpie::sync::slow_receiver;
using test::counting;
namespace broadcast = magpie::sync::broadcast;
namespace mpmc = magpie::sync::mpmc;
namespace mpsc = magpie::sync::mpsc;
namespace oneshot = magpie::sync::oneshot;
namespace rendezvous = magpie::sync::rendezvous;
namespace watch = magpie::sync::watch;

namespace {

constexpr int senders = 4;

/// `who` sends 0 to n - 1, marked as his.
template <class Sender>
task<> produce(Sender tx, int who, int n) {
    for (int i = 0; i < n; ++i) {
        const send_result r = co_await tx.send(counting(who * n + i));
        CHECK_UNARY(static_cast<bool>(r));
    }
}
template <class Sender>
task<> produce_unbounded(Sender tx, int who, int n) {
    for (int i = 0; i < n; ++i) {
        CHECK_UNARY(static_cast<bool>(tx.send(counting(who * n + i))));
        if (i % 100 == 0)
            co_await magpie::yield_now();
    }
}

/// Counts what each sender has sent, in order.
class tally {
public:
    explicit tally(int n) : n_(n), next_(senders, 0) {}
    void add(const counting& c) {
        int& expected = next_[static_cast<std::size_t>(c.value() / n_)];
        if (c.value() % n_ != expected)
            ++wrong;
        ++expected;
        ++count;
    }
    int wrong = 0;
    int count = 0;

private:
    int n_;
    std::vector<int> next_;
};

template <class Receiver>
task<> consume(Receiver rx, tally& t) {
    for (;;) {
        std::optional<counting> c = co_await rx.recv();
        if (!c)
            co_return;
        t.add(*c);
    }
}

/// The same by selects that drop a receive every now and then.
template <class Receiver>
task<> consume_by_selects(Receiver rx, tally& t, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (;;) {
        if (random() % 2 == 0) {
            auto r = co_await magpie::select(rx.recv(), magpie::yield_now());
            if (r.index() == 1)
                continue;
            std::optional<counting> c = std::move(r).template get<0>();
            if (!c)
                co_return;
            t.add(*c);
        } else {
            std::optional<counting> c = co_await rx.recv();
            if (!c)
                co_return;
            t.add(*c);
        }
    }
}

/// Sends 0 to n - 1, some without waiting, some through permits. `received` is never ahead of what was received.
template <class T>
task<> fill(mpsc::sender<T> tx, int n, const std::atomic<int>& received, int& too_many) {
    const auto capacity = static_cast<int>(tx.max_capacity());
    for (int i = 0; i < n;) {
        if (i % 3 == 0) {
            const send_result r = tx.try_send(T(i));
            if (!r) {
                co_await magpie::yield_now();
                continue;
            }
        } else if (i % 7 == 0) {
            auto place = co_await tx.reserve();
            CHECK_UNARY(static_cast<bool>(place->send(T(i))));
        } else {
            const send_result r = co_await tx.send(T(i));
            CHECK_UNARY(static_cast<bool>(r));
        }
        ++i;
        // Acquire: pairs with drain's release. One may be received, and not counted yet.
        if (i - received.load(std::memory_order_acquire) > capacity + 1)
            ++too_many;
    }
}
template <class T>
task<> drain(mpsc::receiver<T> rx, std::atomic<int>& received, int& wrong) {
    for (int next = 0;; ++next) {
        std::optional<T> v;
        if (next % 5 == 0) {
            auto r = rx.try_recv();
            if (r)
                v = *std::move(r);
        }
        if (!v)
            v = co_await rx.recv();
        if (!v)
            co_return;
        const T expected(next);
        if (*v != expected)
            ++wrong;
        received.store(next + 1, std::memory_order_release);
    }
}
template <class T>
task<> fill_and_drain(std::size_t capacity, int n, std::atomic<int>& received, int& too_many,
                      int& wrong) {
    auto ends = mpsc::channel<T>(capacity);
    auto sends = magpie::spawn(fill(std::move(ends.tx), n, received, too_many));
    auto receives = magpie::spawn(drain(std::move(ends.rx), received, wrong));
    co_await sends;
    co_await receives;
}

/// A number whose moves are code, so that it is moved outside the locks.
class boxed {
public:
    explicit boxed(int v) : value_(std::make_unique<int>(v)) {}
    bool operator==(const boxed& other) const { return *value_ == *other.value_; }

private:
    std::unique_ptr<int> value_;
};

task<> count_values(mpmc::receiver<counting> rx, std::atomic<int>& count,
                    std::atomic<std::int64_t>& sum) {
    for (;;) {
        std::optional<counting> c = co_await rx.recv();
        if (!c)
            co_return;
        count.fetch_add(1, std::memory_order_relaxed); // read when the tasks have ended
        sum.fetch_add(c->value(), std::memory_order_relaxed);
    }
}

} // namespace

TEST_SUITE("stress.channels") {
    TEST_CASE("four senders, one receiver: each value once, each sender's in order") {
        constexpr int n = test::scaled(20'000);
        counting::reset();
        test::on_each_layout([](magpie::runtime_builder b) {
            for (const std::size_t capacity : {1u, 4u, 128u}) {
                for (const bool selects : {false, true}) {
                    tally t(n);
                    auto rt = b.build();
                    auto main = [](tally& out, std::size_t cap, bool by_selects) -> task<> {
                        auto ends = mpsc::channel<counting>(cap);
                        for (int who = 0; who < senders; ++who)
                            magpie::spawn(produce(ends.tx, who, n)).detach();
                        { const auto gone = std::move(ends.tx); }
                        if (by_selects)
                            co_await consume_by_selects(std::move(ends.rx), out, 7);
                        else
                            co_await consume(std::move(ends.rx), out);
                    };
                    rt.block_on(main(t, capacity, selects));
                    CHECK(t.count == senders * n);
                    CHECK(t.wrong == 0);
                }
            }
        });
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("the same, unbounded") {
        constexpr int n = test::scaled(50'000);
        counting::reset();
        tally t(n);
        {
            auto rt = test::multi_thread(3).build();
            auto main = [](tally& out) -> task<> {
                auto ends = mpsc::unbounded_channel<counting>();
                for (int who = 0; who < senders; ++who)
                    magpie::spawn(produce_unbounded(ends.tx, who, n)).detach();
                { const auto gone = std::move(ends.tx); }
                co_await consume(std::move(ends.rx), out);
            };
            rt.block_on(main(t));
        }
        CHECK(t.count == senders * n);
        CHECK(t.wrong == 0);
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("both ends at work: in order, never more than the capacity, and nobody waits for ever") {
        static constexpr int n = test::scaled(100'000);
        test::on_each_layout([](magpie::runtime_builder b) {
            for (const std::size_t capacity : {1u, 2u, 33u, 128u}) {
                std::atomic<int> received[2] = {0, 0};
                int too_many = 0;
                int wrong = 0;
                auto rt = b.build();
                rt.block_on(fill_and_drain<int>(capacity, n, received[0], too_many, wrong));
                rt.block_on(fill_and_drain<boxed>(capacity, n, received[1], too_many, wrong));
                CHECK(received[0] == n);
                CHECK(received[1] == n);
                CHECK(too_many == 0);
                CHECK(wrong == 0);
            }
        });
    }

    TEST_CASE("many senders and receivers") {
        constexpr int n = test::scaled(20'000);
        counting::reset();
        std::atomic<int> count = 0;
        std::atomic<std::int64_t> sum = 0;
        {
            auto rt = test::multi_thread(3).build();
            auto main = [](std::atomic<int>& c, std::atomic<std::int64_t>& s) -> task<> {
                auto ends = mpmc::channel<counting>(8);
                std::vector<magpie::join_handle<>> consumers;
                for (int i = 0; i < 3; ++i)
                    consumers.push_back(magpie::spawn(count_values(ends.rx, c, s)));
                for (int who = 0; who < senders; ++who)
                    magpie::spawn(produce(ends.tx, who, n)).detach();
                { const auto gone = std::move(ends.tx); }
                for (auto& h : consumers)
                    co_await h;
            };
            rt.block_on(main(count, sum));
        }
        constexpr std::int64_t all = std::int64_t{senders} * n;
        CHECK(count == all);
        CHECK(sum == all * (all - 1) / 2);
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("receivers that are aborted while values are handed to them lose none") {
        constexpr int n = test::scaled(20'000);
        counting::reset();
        std::atomic<int> count = 0;
        std::atomic<std::int64_t> sum = 0;
        {
            auto rt = test::multi_thread(3).build();
            auto main = [](std::atomic<int>& c, std::atomic<std::int64_t>& s) -> task<> {
                auto ends = mpmc::channel<counting>(4);
                auto producer = magpie::spawn(produce(ends.tx, 0, n));
                { const auto gone = std::move(ends.tx); }
                // One takes a value and counts it without a suspension between: an abort loses nothing.
                while (!producer.is_finished()) {
                    auto h = magpie::spawn(count_values(ends.rx, c, s));
                    co_await magpie::yield_now();
                    h.abort();
                    co_await as_result(std::move(h));
                }
                co_await count_values(ends.rx, c, s);
            };
            rt.block_on(main(count, sum));
        }
        CHECK(count == n);
        CHECK(sum == std::int64_t{n} * (n - 1) / 2);
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("SYNC-MPSC-61 SYNC-MPSC-62 the last sender goes while the receiver waits; a value that "
              "was sent before is there") {
        constexpr int rounds = test::scaled(20'000);
        for (int i = 0; i < rounds; ++i) {
            auto ends = mpsc::channel<int>(2);
            std::atomic<bool> sent = false;
            std::thread other;
            if (i % 64 == 0) // a thread costs more than a round
                other = std::thread([&, tx = std::optional(std::move(ends.tx))]() mutable {
                    CHECK_UNARY(static_cast<bool>(tx->try_send(1)));
                    sent.store(true, std::memory_order_release); // pairs with the load below
                    tx.reset();
                });
            else {
                CHECK_UNARY(static_cast<bool>(ends.tx.try_send(1)));
                sent = true;
                const auto gone = std::move(ends.tx);
            }
            if (sent.load(std::memory_order_acquire)) {
                CHECK_UNARY(ends.rx.try_recv().has_value());
            } else {
                CHECK(ends.rx.blocking_recv() == 1);
            }
            CHECK(ends.rx.blocking_recv() == std::nullopt);
            if (other.joinable())
                other.join();
        }
    }

    TEST_CASE("SYNC-MPSC-60 SYNC-MPSC-63 closed while others send: delivered or refused, and the size "
              "is right") {
        constexpr int rounds = test::scaled(3'000);
        counting::reset();
        for (int i = 0; i < rounds; ++i) {
            auto ends = mpsc::unbounded_channel<counting>();
            int sent = 0;
            int refused = 0;
            std::thread other([&, tx = ends.tx] {
                for (int k = 0; k < 70; ++k) {
                    counting c(k);
                    if (tx.send(std::move(c)))
                        ++sent;
                    else if (c.value() == k) // NOLINT: it was not moved from
                        ++refused;
                }
            });
            int got = 0;
            for (int k = 0; k < 33; ++k) {
                const std::size_t size = ends.rx.size();
                const bool has = ends.rx.try_recv().has_value();
                CHECK_UNARY(has || size == 0);
                got += has ? 1 : 0;
            }
            ends.rx.close();
            while (ends.rx.try_recv())
                ++got;
            other.join();
            while (ends.rx.try_recv())
                ++got;
            CHECK(ends.rx.empty());
            CHECK(sent + refused == 70);
            CHECK(got == sent);
        }
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("oneshots whose ends meet on two workers") {
        constexpr int n = test::scaled(50'000);
        counting::reset();
        std::int64_t sum = 0;
        int none = 0;
        {
            auto rt = test::multi_thread(2).build();
            auto main = [](std::int64_t& s, int& no) -> task<> {
                auto answer = [](oneshot::sender<counting> tx, int i) -> task<> {
                    if (i % 5 == 0)
                        co_return; // goes without a value
                    static_cast<void>(tx.send(counting(i)));
                };
                for (int i = 0; i < n; ++i) {
                    auto ends = oneshot::channel<counting>();
                    magpie::spawn(answer(std::move(ends.tx), i)).detach();
                    if (i % 7 == 0) {
                        auto r = co_await magpie::select(ends.rx.recv(), magpie::yield_now());
                        if (r.index() == 1)
                            continue; // the receiver goes, wherever the sender is
                    }
                    std::optional<counting> c = co_await ends.rx.recv();
                    if (c)
                        s += c->value();
                    else
                        ++no;
                }
            };
            rt.block_on(main(sum, none));
        }
        CHECK(sum > 0);
        CHECK(none > 0);
        CHECK(counting::alive() == 0);
    }

    TEST_CASE("SYNC-BCAST-27 broadcasts with receivers that come, lag and go") {
        constexpr int n = test::scaled(20'000);
        for (const slow_receiver policy :
             {slow_receiver::misses, slow_receiver::delays, slow_receiver::disconnected}) {
            std::atomic<int> wrong = 0;
            std::atomic<int> ended = 0;
            {
                auto rt = test::multi_thread(3).build();
                auto main = [](slow_receiver p, std::atomic<int>& bad,
                               std::atomic<int>& over) -> task<> {
                    auto receive = [](broadcast::receiver<std::shared_ptr<int>> rx, slow_receiver pol,
                                      std::atomic<int>& w, std::atomic<int>& e, int limit) -> task<> {
                        int expected = -1;
                        for (int taken = 0; taken < limit; ++taken) {
                            received<std::shared_ptr<int>> r = co_await rx.recv();
                            if (r) {
                                if (expected >= 0 && **r != expected)
                                    ++w;
                                expected = **r + 1;
                            } else if (r.missed() > 0) {
                                if (pol != slow_receiver::misses)
                                    ++w;
                                expected = expected < 0 ? -1 : expected + static_cast<int>(r.missed());
                            } else {
                                if (r.is_disconnected() && pol != slow_receiver::disconnected)
                                    ++w;
                                break;
                            }
                        }
                        ++e;
                    };
                    auto ends = broadcast::channel<std::shared_ptr<int>>(7, p);
                    magpie::spawn(receive(ends.tx.subscribe(), p, bad, over, n + 1)).detach();
                    magpie::spawn(receive(ends.tx.subscribe(), p, bad, over, n + 1)).detach();
                    { const auto gone = std::move(ends.rx); }
                    for (int i = 0; i < n; ++i) {
                        if (i % 1000 == 0)
                            magpie::spawn(receive(ends.tx.subscribe(), p, bad, over, 100)).detach();
                        const send_result r = co_await ends.tx.send(std::make_shared<int>(i));
                        if (p != slow_receiver::disconnected && !r)
                            ++bad;
                        if (i % 10 == 0)
                            co_await magpie::yield_now();
                    }
                };
                rt.block_on(main(policy, wrong, ended));
                while (ended < 2 + (n + 999) / 1000)
                    std::this_thread::yield();
            }
            CHECK(wrong == 0);
        }
    }

    TEST_CASE("a watch that is changed by several, and waited for by several") {
        constexpr int n = test::scaled(20'000);
        auto rt = test::multi_thread(3).build();
        auto main = []() -> task<int> {
            auto ends = watch::channel(std::vector<int>(3, 0));
            std::vector<magpie::join_handle<>> handles;
            for (std::size_t who = 0; who < 3; ++who) {
                auto change = [](watch::sender<std::vector<int>> tx, std::size_t me) -> task<> {
                    for (int i = 0; i < n; ++i) {
                        tx.send_modify([me](std::vector<int>& v) { ++v[me]; });
                        if (i % 50 == 0)
                            co_await magpie::yield_now();
                    }
                };
                handles.push_back(magpie::spawn(change(ends.tx, who)));
                auto wait = [](watch::receiver<std::vector<int>> rx, std::size_t me) -> task<> {
                    auto half = [me](const std::vector<int>& v) { return v[me] >= n / 2; };
                    auto found = co_await rx.wait_for(half);
                    CHECK_UNARY(found && (**found)[me] >= n / 2);
                    for (;;) {
                        const bool changed = co_await rx.changed();
                        if (!changed)
                            co_return;
                    }
                };
                handles.push_back(magpie::spawn(wait(ends.tx.subscribe(), who)));
            }
            { const auto gone = std::move(ends.tx); }
            for (auto& h : handles)
                co_await h;
            int sum = 0;
            for (const int v : *ends.rx.borrow())
                sum += v;
            co_return sum;
        };
        CHECK(rt.block_on(main()) == 3 * n);
    }

    TEST_CASE("rendezvous of several tasks") {
        constexpr int n = test::scaled(20'000);
        counting::reset();
        tally t(n);
        {
            auto rt = test::multi_thread(3).build();
            auto main = [](tally& out) -> task<> {
                auto ends = rendezvous::channel<counting>();
                for (int who = 0; who < senders; ++who)
                    magpie::spawn(produce(ends.tx, who, n)).detach();
                { const auto gone = std::move(ends.tx); }
                co_await consume_by_selects(std::move(ends.rx), out, 3);
            };
            rt.block_on(main(t));
        }
        CHECK(t.count == senders * n);
        CHECK(t.wrong == 0);
        CHECK(counting::alive() == 0);
    }
}
