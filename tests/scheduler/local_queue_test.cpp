#include <scheduler/src/local_queue.hpp>

#include <test/bare_strand.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <vector>

using magpie::strand;
using magpie::detail::local_queue;
using test::bare_strand;
using test::bare_strands;

namespace {

template <class Queue>
std::vector<std::size_t> drain(Queue& q) {
    std::vector<std::size_t> all;
    while (const strand* const s = q.pop())
        all.push_back(bare_strand::number_of(*s));
    return all;
}

using list = std::vector<std::size_t>;

} // namespace

TEST_SUITE("scheduler.local_queue") {
    TEST_CASE("first in, first out") {
        bare_strands s(3);
        local_queue<4> q;
        CHECK(q.pop() == nullptr);
        for (std::size_t i = 0; i < 3; ++i)
            CHECK(q.push(s[i]));
        CHECK(q.size() == 3);
        CHECK(drain(q) == list{0, 1, 2});
        CHECK(q.size() == 0);
    }

    TEST_CASE("RT-SCHED-29 it holds its whole capacity, and no more, again and again") {
        bare_strands s(257);
        local_queue<256> q;
        for (int round = 0; round < 3; ++round) {
            for (std::size_t i = 0; i < 256; ++i)
                REQUIRE(q.push(s[i]));
            CHECK_FALSE(q.push(s[256]));
            CHECK(q.size() == 256);
            CHECK(drain(q).size() == 256);
        }
    }

    TEST_CASE("RT-SCHED-29 a full one moves its older half out; nothing is lost or doubled") {
        bare_strands s(5);
        local_queue<4> q;
        std::array<strand*, 2> older{};
        for (std::size_t i = 0; i < 3; ++i)
            REQUIRE(q.push(s[i]));
        CHECK_FALSE(q.take_half(older)); // it is not full
        REQUIRE(q.push(s[3]));
        REQUIRE(q.take_half(older));
        CHECK(older[0] == &s[0]);
        CHECK(older[1] == &s[1]);
        CHECK(q.push(s[4]));
        CHECK(drain(q) == list{2, 3, 4});
    }

    TEST_CASE("RT-SCHED-30 a thief takes the older half, and runs the oldest of it") {
        bare_strands s(7);
        for (std::size_t n = 0; n <= 7; ++n) {
            local_queue<8> q;
            local_queue<8> thief;
            for (std::size_t i = 0; i < n; ++i)
                REQUIRE(q.push(s[i]));
            strand* const got = q.steal_into(thief);
            const std::size_t taken = n - n / 2;
            CHECK((got != nullptr) == (n > 0));
            if (got != nullptr) {
                CHECK(bare_strand::number_of(*got) == 0);
                CHECK(thief.size() == taken - 1);
                CHECK(q.size() == n - taken);
            }
            list all = drain(thief);
            for (const std::size_t rest : drain(q))
                all.push_back(rest);
            CHECK(all.size() == (n > 0 ? n - 1 : 0));
            for (std::size_t i = 0; i < all.size(); ++i)
                CHECK(all[i] == i + 1);
        }
    }

    TEST_CASE("RT-SCHED-31 each mixture of pushes, pops, overflows and thefts keeps each strand once") {
        // Steps of a small queue, all sequences of a given length: what one thread can do with it.
        enum step : unsigned { push, pop, steal, chained, steps };
        constexpr unsigned length = 8;
        bare_strands s(length);
        unsigned sequences = 1;
        for (unsigned i = 0; i < length; ++i)
            sequences *= steps;
        bool all_once = true;
        for (unsigned n = 0; n < sequences; ++n) {
            local_queue<2> q;
            local_queue<2> thief;
            local_queue<2> second;
            std::vector<int> seen(length, 0);
            std::size_t next = 0;
            const auto see = [&](const strand* x) {
                if (x != nullptr)
                    ++seen[bare_strand::number_of(*x)];
            };
            const auto empty = [&](local_queue<2>& from) {
                while (const strand* const x = from.pop())
                    see(x);
            };
            for (unsigned i = 0, code = n; i < length; ++i, code /= steps) {
                switch (static_cast<step>(code % steps)) {
                case push:
                    while (!q.push(s[next])) {
                        std::array<strand*, 1> older{};
                        if (q.take_half(older))
                            see(older[0]);
                    }
                    ++next;
                    break;
                case pop: see(q.pop()); break;
                case steal:
                    empty(thief); // a thief's queue is empty
                    see(q.steal_into(thief));
                    break;
                default:
                    empty(second);
                    see(thief.steal_into(second));
                    break;
                }
            }
            for (local_queue<2>* rest : {&q, &thief, &second})
                empty(*rest);
            for (std::size_t i = 0; i < length; ++i)
                all_once = all_once && seen[i] == (i < next ? 1 : 0);
        }
        CHECK(all_once);
    }
}
