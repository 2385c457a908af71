#include <magpie/core/detail/fork.hpp>

#include <test/manual_executor.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <initializer_list>

using magpie::detail::fork_child;
using magpie::detail::fork_record;

namespace {

/// A lane that counts its calls for help.
class counting_lane final : public magpie::detail::fork_lane {
public:
    using fork_lane::fork_lane;

    /// Forks `rs`, the first of which is to be taken back first.
    void fork(std::initializer_list<fork_record*> rs) {
        REQUIRE(reserve(rs.size()));
        auto out = write(rs.size());
        for (fork_record* const r : rs)
            out.write(*r);
        offer(out, rs.size());
    }
    std::size_t calls = 0;

private:
    void call_for_help() noexcept override { ++calls; }
};

} // namespace

TEST_SUITE("core.fork_deque") {
    TEST_CASE("what is put in is open to thieves at once, and the first calls for help") {
        test::manual_executor ex;
        std::array<fork_child<int>, 3> r;
        counting_lane lane(ex, true);
        lane.fork({&r[0], &r[1]});
        lane.fork({&r[2]});
        CHECK(lane.size() == 3);
        CHECK(lane.calls == 1);
        CHECK(lane.steal() == &r[1]); // the oldest
        CHECK_FALSE(lane.take_back(r[0]));
        CHECK(lane.take_back(r[2]));
        CHECK(lane.take_back(r[0]));
        CHECK(lane.steal() == nullptr);
    }

    TEST_CASE("kept is what thieves do not want yet") {
        test::manual_executor ex;
        std::array<fork_child<int>, 5> r;
        counting_lane lane(ex, true);
        lane.keep_private(true);
        lane.fork({&r[0]});
        CHECK(lane.size() == 1);
        CHECK(lane.calls == 1);
        lane.fork({&r[1]});
        lane.fork({&r[2]});
        CHECK(lane.size() == 1); // there is one to take
        CHECK(lane.take_back(r[2]));

        SUBCASE("a fork opens it when they have taken the rest") {
            CHECK(lane.steal() == &r[0]);
            CHECK(lane.steal() == nullptr);
            lane.fork({&r[3]});
            CHECK(lane.size() == 2);
            CHECK(lane.calls == 2);
            CHECK(lane.steal() == &r[1]);
            CHECK(lane.take_back(r[3]));
        }
        SUBCASE("so does a join") {
            lane.fork({&r[3]});
            lane.fork({&r[4]});
            CHECK(lane.steal() == &r[0]);
            CHECK(lane.take_back(r[4]));
            CHECK(lane.size() == 2);
            CHECK(lane.calls == 2);
            CHECK(lane.take_back(r[3]));
            CHECK(lane.take_back(r[1]));
        }
        SUBCASE("and the end of a turn") {
            lane.share();
            CHECK(lane.size() == 2);
            CHECK(lane.calls == 1); // they had some
            CHECK(lane.take_back(r[1]));
            CHECK(lane.take_back(r[0]));
        }
        CHECK(lane.size() == 0);
    }

    TEST_CASE("where there are no thieves nothing is lost, and what a turn leaves behind is found") {
        test::manual_executor ex;
        std::array<fork_child<int>, 2> r;
        counting_lane lane(ex, false);
        lane.fork({&r[0]});
        lane.fork({&r[1]});
        CHECK(lane.take_back(r[1]));
        CHECK(lane.take_back(r[0]));
        CHECK_FALSE(lane.take_back(r[0]));
        lane.fork({&r[0]});
        lane.fork({&r[1]});
        lane.share();
        CHECK(lane.steal() == &r[0]);
        CHECK(lane.steal() == &r[1]);
        CHECK(lane.steal() == nullptr);
    }
}
