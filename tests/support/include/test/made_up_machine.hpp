#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <unistd.h>
#include <vector>

namespace test {

/// A made-up machine: 2 memories with 2 caches each, 8 cores at each cache, 2 hardware threads a core; threads
/// n and n + 32 are of one core, as the kernel mostly numbers them.
class made_up_machine {
public:
    /// Made once a program: it is some hundred files.
    static const made_up_machine& the_one() {
        static const made_up_machine m;
        return m;
    }
    made_up_machine(const made_up_machine&) = delete;
    ~made_up_machine() { std::filesystem::remove_all(root_); }

    std::string root() const { return root_.string(); }

private:
    made_up_machine()
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

    static std::string range(std::size_t first) {
        return std::to_string(first) + "-" + std::to_string(first + 7);
    }
    void write(const std::string& path, const std::string& text) {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text << '\n';
    }

    std::filesystem::path root_;
};

/// `n` numbers from `first` on.
inline std::vector<std::size_t> numbers(std::size_t first, std::size_t n) {
    std::vector<std::size_t> all(n);
    std::iota(all.begin(), all.end(), first);
    return all;
}

} // namespace test
