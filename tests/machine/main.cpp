#include "tables.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>

namespace magpie_machine {

namespace {

constexpr char usage[] =
    "usage: magpie-machine contention|scale [--only NAME,...] [--workers N,...] "
    "[--seed N] [--runs N]\n"
    "                      [--rounds N] [--transfer NS] [--wake-latency NS] [--interrupt NS] "
    "[--per-core]\n"
    "       magpie-machine check\n"
    "\n"
    "  contention  writes and transfers of cache lines an operation\n"
    "  scale       speed on many cores\n"
    "  check       whether both are as they have to be\n"
    "  --runs          with other seeds, for a figure of speed: 3\n"
    "  --transfer      how long a line takes from core to core: 50\n"
    "  --wake-latency  how long a thread takes to get up: 5000\n"
    "  --interrupt     how long a barrier on all processors takes who asks for it: 10000\n"
    "  --per-core      layout thread_per_core, also where workers could steal\n";

[[noreturn]] void refuse(std::string_view what) {
    std::fprintf(stderr, "magpie-machine: %.*s\n%s", static_cast<int>(what.size()), what.data(), usage);
    std::exit(2);
}

std::uint64_t number(std::string_view text) {
    std::uint64_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || end != text.data() + text.size())
        refuse("a number is expected");
    return n;
}

std::vector<std::string_view> parts(std::string_view text) {
    std::vector<std::string_view> all;
    for (std::size_t comma; (comma = text.find(',')) != std::string_view::npos;
         text.remove_prefix(comma + 1))
        all.push_back(text.substr(0, comma));
    all.push_back(text);
    return all;
}

request read(int argc, char** argv) {
    request r;
    for (int i = 2; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--per-core") {
            r.layout = magpie::layout::thread_per_core;
            continue;
        }
        if (++i == argc)
            refuse("something is missing behind the last word");
        const std::string_view value = argv[i];
        if (word == "--only")
            r.only = parts(value);
        else if (word == "--workers")
            for (const std::string_view n : parts(value))
                r.workers.push_back(std::clamp<std::size_t>(number(n), 1, 256));
        else if (word == "--seed")
            r.seed = number(value);
        else if (word == "--runs")
            r.runs = std::max<std::uint64_t>(number(value), 1);
        else if (word == "--rounds")
            r.rounds = number(value);
        else if (word == "--transfer")
            r.cost.transfer = static_cast<picoseconds>(number(value)) * nanosecond;
        else if (word == "--interrupt")
            r.cost.interrupt = static_cast<picoseconds>(number(value)) * nanosecond;
        else if (word == "--wake-latency")
            r.cost.wake_latency = static_cast<picoseconds>(number(value)) * nanosecond;
        else
            refuse("there is no such option");
    }
    for (const std::string_view name : r.only)
        if (std::none_of(workloads().begin(), workloads().end(),
                         [name](const workload& w) { return w.name == name; }))
            refuse("there is no such workload");
    return r;
}

} // namespace

bool is_asked_for(const request& r, const workload& w) {
    return r.only.empty() || std::find(r.only.begin(), r.only.end(), w.name) != r.only.end();
}

/// In a process of its own: so what is measured does not depend on what was before.
window run(const workload& w, const request& r, std::size_t workers, picoseconds work) {
    static_assert(std::is_trivially_copyable_v<window>);
    int ends[2];
    std::fflush(nullptr);
    if (::pipe(ends) != 0)
        refuse("no pipe");
    const pid_t child = ::fork();
    if (child == 0) {
        const std::uint64_t rounds = r.rounds != 0 ? r.rounds : w.rounds;
        const window result = run(w, {workers, rounds, work, r.layout}, r.cost, r.seed);
        std::_Exit(::write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
    }
    ::close(ends[1]);
    window result;
    const bool read = ::read(ends[0], &result, sizeof result) == sizeof result;
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);
    if (!read) {
        std::fprintf(stderr, "magpie-machine: %s with %zu workers has failed\n", w.name, workers);
        std::exit(1);
    }
    return result;
}

} // namespace magpie_machine

int main(int argc, char** argv) {
    using namespace magpie_machine;
    const std::string_view word = argc > 1 ? argv[1] : "";
    if (word == "contention")
        print_contention(read(argc, argv));
    else if (word == "scale")
        print_scale(read(argc, argv));
    else if (word == "check" && argc == 2) {
        const bool contention = check_contention();
        return check_scale() && contention ? 0 : 1;
    } else
        refuse(word.empty() ? "what shall it do?" : "it does not know this word");
}
