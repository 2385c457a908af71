#include <scheduler/src/strand_list.hpp>

#include <scheduler/src/inbox.hpp>

#include <test/bare_strand.hpp>
#include <test/held.hpp>

#include <magpie/core.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

using magpie::detail::strand_list;
using test::bare_strand;
using test::bare_strands;
using test::held;

namespace {

/// Runs what is queued in a list, in turns of three operations.
class listing_executor : public magpie::executor {
public:
    listing_executor() : executor(3) {}

    /// Runs until nothing is queued; gives how many turns that took.
    std::size_t run() {
        std::size_t turns = 0;
        for (; !queued_.is_empty(); ++turns)
            queued_.pop()->run_turn();
        return turns;
    }

private:
    void schedule(magpie::strand& s, placement) noexcept override { queued_.push(s); }
    void adopt(magpie::detail::cell& c) noexcept override {
        c.id = ++last_id_;
        queued_.push(c);
    }
    bool enroll(magpie::detail::cell&) noexcept override { return true; }
    void retire(magpie::detail::cell&) noexcept override {}

    strand_list queued_;
    std::uint64_t last_id_ = 0;
};

/// The same for pinned strands, which are woken through an inbox by other threads.
class pinned_listing_executor final : public listing_executor {
public:
    pinned_listing_executor() : before_(std::exchange(magpie::detail::this_thread().home, this)) {
        set_pinned();
    }
    ~pinned_listing_executor() { magpie::detail::this_thread().home = before_; }

    void run() {
        do
            receive();
        while (listing_executor::run() > 0);
    }
    void receive() {
        inbox_.take_all([](magpie::detail::parcel p) { magpie::strand::receive(p); });
    }

private:
    void send(magpie::detail::parcel p) noexcept override { static_cast<void>(inbox_.put(p)); }

    const magpie::executor* const before_;
    magpie::detail::inbox inbox_;
};

magpie::task<> log_after(test::held& h, std::vector<int>& log, int n) {
    co_await h.wait();
    log.push_back(n);
}
magpie::task<> three_of(test::held& a, test::held& b, test::held& c, std::vector<int>& log) {
    co_await magpie::join(log_after(a, log, 1), log_after(b, log, 2), log_after(c, log, 3));
}

magpie::task<int> count_yields(int n) {
    int yields = 0;
    for (; yields < n; ++yields)
        co_await magpie::yield_now();
    co_return yields;
}

} // namespace

TEST_SUITE("scheduler.strand_list") {
    TEST_CASE("first in, first out, and on from empty") {
        bare_strands s(5);
        strand_list list;
        for (int round = 0; round < 3; ++round) {
            CHECK(list.is_empty());
            for (std::size_t i = 0; i < 3; ++i)
                list.push(s[i]);
            CHECK(list.pop() == &s[0]);
            list.push(s[3]);
            list.push(s[0]);
            for (const std::size_t i : {1U, 2U, 3U, 0U})
                CHECK(list.pop() == &s[i]);
        }
    }

    TEST_CASE(
        "what is ready in a strand, one leaf or several, is ready when it comes out, in its order") {
        listing_executor e;
        std::vector<int> order;
        const auto three = [](std::vector<int>& log) -> magpie::task<int> {
            const auto part = [](int n, std::vector<int>& l) -> magpie::task<int> {
                int sum = 0;
                for (int i = 0; i < 4; ++i) {
                    l.push_back(n);
                    sum += co_await count_yields(1);
                }
                co_return sum;
            };
            const auto [a, b, c] = co_await magpie::join(part(1, log), part(2, log), part(3, log));
            co_return a + b + c;
        };
        const auto where = std::source_location::current();
        auto several = magpie::detail::spawn_on(e, three(order), where);
        auto one = magpie::detail::spawn_on(e, count_yields(7), where);
        auto none = magpie::detail::spawn_on(e, count_yields(0), where);
        CHECK(e.run() > 10);
        const auto result = [](magpie::join_handle<int>& h) {
            REQUIRE(h.is_finished());
            return h.blocking_join();
        };
        CHECK(result(several) == 12);
        CHECK(result(one) == 7);
        CHECK(result(none) == 0);
        CHECK(order == std::vector<int>{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3});
    }

    TEST_CASE("a pinned strand that is linked can be woken and aborted, at home and from elsewhere") {
        held a;
        held b;
        held c;
        held never;
        std::vector<int> order;
        pinned_listing_executor e;
        const auto where = std::source_location::current();
        auto waits = magpie::detail::spawn_on(e, three_of(a, b, c, order), where);
        auto other = magpie::detail::spawn_on(e, count_yields(5), where);
        auto dropped = magpie::detail::spawn_on(e, log_after(never, order, 4), where);
        e.run();
        CHECK(other.blocking_join() == 5);
        a.release(); // linked from now on, with one leaf ready
        b.release();
        std::thread([&] {
            c.release();
            dropped.abort();
        }).join();
        e.receive();
        CHECK(order.empty());
        e.run();
        CHECK(order == std::vector<int>{1, 2, 3});
        CHECK(waits.is_finished());
        CHECK(never.cancels() == 1);
        never.release();
        e.run();
        CHECK(dropped.is_finished());
        CHECK(order.size() == 3);
    }
}
