#include <scheduler/src/topology.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <unistd.h>
#include <vector>

using magpie::detail::cpu_place;
using magpie::detail::distance;
using magpie::detail::parse_cpu_list;
using magpie::detail::read_places;
using magpie::detail::spread;

namespace {

/// A made-up machine: 2 memories with 2 caches each, 8 cores at each cache, 2 hardware threads a core; threads
/// n and n + 32 are of one core, as the kernel mostly numbers them.
class machine {
public:
    machine()
        : root_(std::filesystem::temp_directory_path() /
                ("magpie-machine-" + std::to_string(::getpid()))) {
        for (std::size_t cpu = 0; cpu < 64; ++cpu) {
            const std::string dir = "cpu/cpu" + std::to_string(cpu);
            const std::size_t core = cpu % 32;
            const std::size_t cache = core / 8 * 8;
            write(dir + "/topology/thread_siblings_list",
                  std::to_string(core) + "," + std::to_string(core + 32));
            write(dir + "/cache/index0/level", "1");
            write(dir + "/cache/index0/shared_cpu_list",
                  std::to_string(core) + "," + std::to_string(core + 32));
            write(dir + "/cache/index1/level", "3");
            write(dir + "/cache/index1/shared_cpu_list", range(cache) + "," + range(cache + 32));
        }
        write("node/online", "0-1");
        write("node/node0/cpulist", "0-15,32-47");
        write("node/node1/cpulist", "16-31,48-63");
    }
    machine(const machine&) = delete;
    ~machine() { std::filesystem::remove_all(root_); }

    std::string root() const { return root_.string(); }

private:
    static std::string range(std::size_t first) {
        return std::to_string(first) + "-" + std::to_string(first + 7);
    }
    void write(const std::string& path, const std::string& text) {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text << '\n';
    }

    std::filesystem::path root_;
};

std::vector<std::size_t> numbers(std::size_t first, std::size_t n) {
    std::vector<std::size_t> all(n);
    std::iota(all.begin(), all.end(), first);
    return all;
}

} // namespace

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
        const machine m;
        const std::vector<cpu_place> p = read_places(numbers(0, 64), m.root());
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
        const machine m;
        std::vector<std::size_t> cpus{63, 33, 1, 0, 16, 32};
        const std::vector<std::size_t> order = spread(read_places(cpus, m.root()));
        // 33 and 1 are of one core, as 0 and 32 are: the one that is named first is taken first.
        CHECK(order == std::vector<std::size_t>{33, 0, 16, 63, 1, 32});
        CHECK(spread(read_places(numbers(0, 64), m.root())) == numbers(0, 64));
    }

    TEST_CASE("what is not described shares memory and cache, and no core") {
        const std::vector<cpu_place> p = read_places({0, 1, 2}, "/nonexistent");
        REQUIRE(p.size() == 3);
        CHECK(distance(p[0], p[1]) == 1);
        CHECK(distance(p[1], p[1]) == 0);
        CHECK(spread(p) == std::vector<std::size_t>{0, 1, 2});
    }
}
