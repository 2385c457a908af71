#include <scheduler/src/injector.hpp>

#include <test/bare_strand.hpp>

#include <magpie/core/detail/frame_allocator.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <vector>

using magpie::strand;
using magpie::detail::injector;
using test::bare_strand;
using test::bare_strands;

namespace {

/// What a pop of at most `most` gives, in order.
std::vector<std::size_t> pop(injector& q, std::size_t most) {
    std::vector<strand*> room(most);
    room.resize(q.pop(room));
    std::vector<std::size_t> all;
    for (const strand* const s : room)
        all.push_back(bare_strand::number_of(*s));
    return all;
}

using list = std::vector<std::size_t>;

} // namespace

TEST_SUITE("scheduler.injector") {
    TEST_CASE("RT-SCHED-32 first in, first out, one at a time") {
        bare_strands s(3);
        injector q;
        CHECK(pop(q, 1).empty());
        for (std::size_t i = 0; i < 3; ++i)
            q.push(s[i]);
        CHECK(q.size() == 3);
        CHECK(pop(q, 1) == list{0});
        CHECK(pop(q, 1) == list{1});
        CHECK(pop(q, 1) == list{2});
        CHECK(pop(q, 1).empty());
        CHECK(q.size() == 0);
    }

    TEST_CASE("RT-SCHED-32 a batch goes in as a whole, and comes out in parts") {
        bare_strands s(7);
        injector q;
        q.push(s[0]);
        const std::array<strand*, 4> batch{&s[1], &s[2], &s[3], &s[4]};
        q.push(batch);
        q.push(s[5]);
        CHECK(q.size() == 6);
        CHECK(pop(q, 2) == list{0, 1});
        CHECK(pop(q, 100) == list{2, 3, 4, 5});
        CHECK(q.size() == 0);
        q.push(s[6]); // and it goes on from empty
        CHECK(pop(q, 100) == list{6});
    }

    TEST_CASE("RT-SCHED-32 what a pop gives can be pushed again at once") {
        bare_strands s(4);
        injector q;
        for (std::size_t i = 0; i < 4; ++i)
            q.push(s[i]);
        std::array<strand*, 2> some{};
        REQUIRE(q.pop(some) == 2);
        q.push(some);
        CHECK(pop(q, 100) == list{2, 3, 0, 1});
    }

    TEST_CASE(
        "RT-SCHED-32 any number of strands, in order, whatever the shares in which they are taken") {
        constexpr std::size_t n = 1000;
        for (const std::size_t share : {std::size_t{1}, std::size_t{7}, std::size_t{126}, n}) {
            bare_strands s(n);
            injector q;
            std::size_t in = 0;
            list out;
            while (out.size() < n) {
                for (std::size_t k = 0; k < 2 * share && in < n; ++k)
                    q.push(s[in++]);
                const list some = pop(q, share);
                REQUIRE(!some.empty());
                CHECK(some.size() <= share);
                out.insert(out.end(), some.begin(), some.end());
                CHECK(q.size() == in - out.size());
            }
            bool in_order = true;
            for (std::size_t i = 0; i < n; ++i)
                in_order = in_order && out[i] == i;
            CHECK(in_order);
        }
    }

    TEST_CASE("a burst takes none of the memory that is kept for frames") {
        constexpr std::size_t n = 10'000;
        bare_strands s(n);
        const std::size_t reserved = magpie::detail::reserved_frame_bytes();
        injector q;
        for (std::size_t i = 0; i < n; ++i)
            q.push(s[i]);
        while (q.size() > 0)
            CHECK(!pop(q, 128).empty());
        CHECK(magpie::detail::reserved_frame_bytes() == reserved);
    }
}
