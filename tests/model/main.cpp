// magpie-model: runs the scenarios, and the mistakes that they have to find. Each in a process of
// its own, for a mistake may end in a crash.

#include "child.hpp"
#include "engine.hpp"
#include "weakening.hpp"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace magpie_model {

namespace {

struct options {
    std::vector<std::string_view> names; // empty: all
    bool list = false;
    bool full = false;
    std::optional<unsigned> preemptions;
    std::optional<unsigned> mistake; // 1 is the first; 0 is none
    std::optional<std::string_view> schedule;
    bool weaken = false;
    weakening which;
};

// Of a scenario with more preemptions than CI has, if it has more steps than that: and as many at random.
constexpr std::uint64_t full_steps = 20'000'000;

constexpr const char* usage = R"(usage: magpie-model [options] [scenario...]

Runs the scenarios whose names begin as given (all, if none is given) in every interleaving with few
preemptions, and then the mistakes that each of them has to find.

  --list             the names
  --full             more preemptions, as far as 20 million steps go, and as many at random (as does
                     MAGPIE_MODEL_FULL in the environment)
  --preemptions N    so many
  --mistake N        only the scenario's mistake N; 0: no mistake
  --replay SCHEDULE  one interleaving of one scenario, step by step
  --weaken           weakens each order of the product that these scenarios meet, by one step, in turn: which of
                     them notices? What none does has to stand in explained.txt.
  --in TEXT          of those only the ones in files with this in their names
  --line N           ... and in this line
  --steps N          so many thousands of steps in each scenario, before nobody has noticed
)";

// --- in the child ---

const scenario* running = nullptr;
const mistake* seeded = nullptr;
bool replaying = false;

unsigned number_of(const mistake& m) noexcept {
    unsigned n = 1;
    for (const mistake* i = running->mistakes; i != &m; i = i->next)
        ++n;
    return n;
}

void report(const failure& f) noexcept {
    if (replaying) {
        print_trace(stdout);
        std::printf("%s: %.*s\n", f.kind, static_cast<int>(f.text.size()), f.text.data());
        leave(1);
    }
    const auto n = static_cast<unsigned long long>(f.executions);
    if (seeded != nullptr) {
        std::printf("  mistake %u, %s: caught after %llu executions: %s, schedule %s\n",
                    number_of(*seeded), seeded->what, n, f.kind, f.schedule.c_str());
        leave(0);
    }
    std::printf("%s: FAILED after %llu executions: %s: %.*s\n", running->name, n, f.kind,
                static_cast<int>(f.text.size()), f.text.data());
    print_trace(stdout);
    std::printf("again: magpie-model %s --mistake 0 --replay %s\n", running->name, f.schedule.c_str());
    leave(1);
}

[[noreturn]] void search(const scenario& s, const mistake* m, const options& o) {
    using seconds = std::chrono::duration<double>;
    running = &s;
    seeded = m;
    replaying = o.schedule.has_value();
    begin_child(&report);

    const spoiled how = m != nullptr ? m->how : spoiled{};
    void (*const body)() = m != nullptr ? m->body : s.body;
    if (replaying) {
        if (!replay(body, how, *o.schedule, s.limits)) {
            std::fputs("that is no schedule: one looks as 12.1-30.2, or is \"none\"\n", stderr);
            leave(2);
        }
        print_trace(stdout);
        std::puts("nothing failed");
        leave(0);
    }

    const unsigned sure = o.preemptions.value_or(s.limits.preemptions);
    unsigned bound = sure;
    const auto start = std::chrono::steady_clock::now();
    explored all = explore(body, how, s.limits, {.last = sure});
    if (o.full && !o.preemptions && m == nullptr && s.limits.full > sure) {
        bound = s.limits.full;
        all = explore(body, how, s.limits,
                      {.first = sure + 1, .last = bound, .most_steps = steps_made() + full_steps});
        if (!all.whole)
            explore_at_random(body, s.limits, bound, full_steps);
    }
    const auto n = static_cast<unsigned long long>(all.executions);
    if (m != nullptr) {
        std::printf("  mistake %u, %s: MISSED in %llu executions%s\n", number_of(*m), m->what, n,
                    how.function != nullptr && !met_spoiled()
                        ? ": the operation to be spoiled was never met"
                        : "");
        leave(1);
    }
    std::printf("%s: %llu executions (at most %u preemptions%s, %.1f s)\n", s.name, n, bound,
                all.whole ? "" : "; not all of those, and others at random",
                seconds(std::chrono::steady_clock::now() - start).count());
    if (s.limits.exactly != 0 && !o.preemptions && n != s.limits.exactly) {
        std::printf("%s: FAILED: there have to be %llu\n", s.name,
                    static_cast<unsigned long long>(s.limits.exactly));
        leave(1);
    }
    if (s.limits.outcomes != nullptr)
        if (const std::string others = other_outcomes(s.limits.outcomes); !others.empty()) {
            std::printf("%s: FAILED:%s\n", s.name, others.c_str());
            leave(1);
        }
    leave(0);
}

// --- in the parent ---

bool run_apart(const scenario& s, const mistake* m, const options& o) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0)
        search(s, m, o);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) {
        std::perror("magpie-model: no process for a scenario");
        std::exit(2);
    }
    if (!WIFEXITED(status))
        std::printf("%s: FAILED: ended by a signal\n", s.name);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool run_scenario(const scenario& s, const options& o) {
    bool good = true;
    if (o.mistake.value_or(0) == 0)
        good = run_apart(s, nullptr, o);
    unsigned number = 0;
    for (const mistake* m = s.mistakes; m != nullptr; m = m->next)
        if (++number == o.mistake.value_or(number))
            good = run_apart(s, m, o) && good;
    return good;
}

template <class Number>
std::optional<Number> number(std::string_view text) {
    Number n{};
    const auto r = std::from_chars(text.data(), text.data() + text.size(), n);
    return r.ec == std::errc() && r.ptr == text.data() + text.size() ? std::optional(n) : std::nullopt;
}

std::optional<options> parse(int argc, char** argv) {
    options o;
    std::optional<unsigned> line;
    o.full = std::getenv("MAGPIE_MODEL_FULL") != nullptr; // NOLINT(concurrency-mt-unsafe)
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool last = i + 1 == argc;
        if (word == "--list")
            o.list = true;
        else if (word == "--full")
            o.full = true;
        else if (word == "--weaken")
            o.weaken = true;
        else if (word == "--in" && !last)
            o.which.in = argv[++i];
        else if (word == "--line" && !last && (line = number<unsigned>(argv[++i])))
            o.which.line = *line;
        else if (word == "--steps" && !last && (line = number<unsigned>(argv[++i])))
            o.which.steps = *line * std::uint64_t{1000};
        else if (word == "--preemptions" && !last && (o.preemptions = number<unsigned>(argv[++i])))
            continue;
        else if (word == "--mistake" && !last && (o.mistake = number<unsigned>(argv[++i])))
            continue;
        else if (word == "--replay" && !last)
            o.schedule = argv[++i];
        else if (word.starts_with('-'))
            return std::nullopt;
        else
            o.names.push_back(word);
    }
    if (o.schedule && !o.mistake)
        o.mistake = 0;
    return o;
}

bool selected(const scenario& s, const options& o) {
    for (const std::string_view name : o.names)
        if (std::string_view(s.name).starts_with(name))
            return true;
    return o.names.empty();
}

int run_selected(const options& o) {
    std::size_t count = 0;
    bool good = true;
    std::vector<const scenario*> to_weaken;
    for (const scenario* s = all_scenarios(); s != nullptr; s = s->next) {
        if (!selected(*s, o))
            continue;
        ++count;
        if (o.list)
            std::puts(s->name);
        else if (o.weaken)
            to_weaken.push_back(s);
        else
            good = run_scenario(*s, o) && good;
    }
    if (count == 0) {
        std::fputs("no scenario has such a name; --list shows them\n", stderr);
        return 2;
    }
    if (o.weaken)
        good = weaken_all(to_weaken, o.which, o.names.empty());
    return good ? 0 : 1;
}

} // namespace

} // namespace magpie_model

int main(int argc, char** argv) {
    const auto options = magpie_model::parse(argc, argv);
    if (!options) {
        std::fputs(magpie_model::usage, stderr);
        return 2;
    }
    return magpie_model::run_selected(*options);
}
