#include <scheduler/src/topology.hpp>

#include <test/made_up_machine.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

using magpie::detail::cpu_place;
using magpie::detail::distance;
using magpie::detail::parse_cpu_list;
using magpie::detail::read_places;
using magpie::detail::spread;

TEST_SUITE("scheduler.topology") {
    TEST_CASE("lists of processors are read as the kernel writes them") {
        CHECK(parse_cpu_list("0-3,8,10-11") == std::vector<std::size_t>{0, 1, 2, 3, 8, 10, 11});
        CHECK(parse_cpu_list("5") == std::vector<std::size_t>{5});
        CHECK(parse_cpu_list("").empty());
        CHECK(parse_cpu_list("x").empty());
        CHECK(parse_cpu_list("3-1").empty());
        CHECK(parse_cpu_list("1,2-") == std::vector<std::size_t>{1});
        CHECK(parse_cpu_list("0-99999999999").empty());
    }

    TEST_CASE("cores, caches and memories of a machine with 64 processors") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        const std::vector<cpu_place> p = read_places(test::numbers(0, 64), m.root());
        REQUIRE(p.size() == 64);
        CHECK(p[37].core == 5);
        CHECK(p[37].cache == 0);
        CHECK(p[37].node == 0);
        CHECK(p[30].cache == 24);
        CHECK(p[30].node == 1);
        CHECK(distance(p[5], p[37]) == 0);
        CHECK(distance(p[5], p[6]) == 1);
        CHECK(distance(p[5], p[8]) == 2);
        CHECK(distance(p[5], p[16]) == 3);
    }

    TEST_CASE("shards take a processor of each core first, near ones first") {
        const test::made_up_machine& m = test::made_up_machine::the_one();
        std::vector<std::size_t> cpus{63, 33, 1, 0, 16, 32};
        const std::vector<std::size_t> order = spread(read_places(cpus, m.root()));
        // 33 and 1 are of one core, as 0 and 32 are: the one that is named first is taken first.
        CHECK(order == std::vector<std::size_t>{33, 0, 16, 63, 1, 32});
        CHECK(spread(read_places(test::numbers(0, 64), m.root())) == test::numbers(0, 64));
    }

    TEST_CASE("what is not described shares memory and cache, and no core") {
        const std::vector<cpu_place> p = read_places({0, 1, 2}, "/nonexistent");
        REQUIRE(p.size() == 3);
        CHECK(distance(p[0], p[1]) == 1);
        CHECK(distance(p[1], p[1]) == 0);
        CHECK(spread(p) == std::vector<std::size_t>{0, 1, 2});
    }
}
