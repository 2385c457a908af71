#include "weakening.hpp"

#include "child.hpp"
#include "engine.hpp"
#include "weaken.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <poll.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace magpie_model {

namespace {

/// A process that prints into a pipe.
class child {
public:
    template <class Body>
    explicit child(const Body& body) {
        std::fflush(nullptr);
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0)
            give_up("no pipe");
        pid_ = ::fork();
        if (pid_ < 0)
            give_up("no process");
        if (pid_ == 0) {
            ::close(ends[0]);
            body(::fdopen(ends[1], "w"));
            leave(0);
        }
        ::close(ends[1]);
        from_ = ::fdopen(ends[0], "r");
    }
    child(const child&) = delete;
    child& operator=(const child&) = delete;

    ~child() {
        std::fclose(from_);
        int status = 0;
        if (::waitpid(pid_, &status, 0) != pid_)
            give_up("no end");
    }

    /// What it has printed until its end.
    std::string text() {
        std::string all;
        std::array<char, 4096> some{};
        for (std::size_t n; (n = std::fread(some.data(), 1, some.size(), from_)) > 0;)
            all.append(some.data(), n);
        return all;
    }

    int descriptor() const noexcept { return ::fileno(from_); }

    /// The next line, of those that it prints one at a time. False at its end.
    bool read_line(std::string& line) {
        line.clear();
        for (int c; (c = std::fgetc(from_)) != EOF;) {
            if (c == '\n')
                return true;
            line.push_back(static_cast<char>(c));
        }
        return false;
    }

    [[noreturn]] static void give_up(const char* what) {
        std::perror((std::string("magpie-model: ") + what + " for a scenario").c_str());
        std::exit(2); // NOLINT(concurrency-mt-unsafe)
    }

private:
    pid_t pid_ = -1;
    std::FILE* from_ = nullptr;
};

/// Calls `ask(i)` for each i, in as many processes as there are processors, and `hear(i, its line)` in order.
template <class Ask, class Hear>
void ask_all(std::size_t count, const Ask& ask, const Hear& hear) {
    std::array<int, 2> numbers{}; // who has nothing to do takes the next one out
    if (::pipe(numbers.data()) != 0)
        child::give_up("no pipe");
    for (std::size_t i = 0; i < count; ++i) // a pipe has room for some thousand
        if (::write(numbers[1], &i, sizeof i) != sizeof i)
            child::give_up("no room in a pipe");
    ::close(numbers[1]);
    std::vector<std::unique_ptr<child>> askers;
    for (unsigned n = 0; n < std::max(1U, std::thread::hardware_concurrency()); ++n)
        askers.push_back(std::make_unique<child>([&](std::FILE* out) {
            for (std::size_t i; ::read(numbers[0], &i, sizeof i) == sizeof i;) {
                std::fprintf(out, "%zu %s\n", i, ask(i).c_str());
                std::fflush(out);
            }
        }));
    ::close(numbers[0]);
    std::map<std::size_t, std::string> heard;
    std::size_t next = 0;
    const auto hear_in_order = [&] {
        for (auto first = heard.find(next); first != heard.end(); first = heard.find(next)) {
            hear(next++, first->second);
            heard.erase(first);
        }
    };
    while (!askers.empty()) {
        std::vector<pollfd> from;
        for (const auto& a : askers)
            from.push_back({a->descriptor(), POLLIN, 0});
        if (::poll(from.data(), from.size(), -1) < 0)
            child::give_up("no answer");
        for (std::size_t n = from.size(); n-- > 0;) {
            if (from[n].revents == 0)
                continue;
            std::string line;
            if (!askers[n]->read_line(line)) {
                askers.erase(askers.begin() + static_cast<std::ptrdiff_t>(n));
                continue;
            }
            const std::size_t space = line.find(' ');
            heard.emplace(std::strtoull(line.c_str(), nullptr, 10), line.substr(space + 1));
            hear_in_order();
        }
    }
}

// --- in the child ---

const scenario* running = nullptr;
std::FILE* answer = nullptr;

void notice(const failure& f) noexcept {
    std::fprintf(answer, "%s after %llu executions: %s, schedule %s", running->name,
                 static_cast<unsigned long long>(f.executions), f.kind, f.schedule.c_str());
    leave(0);
}

void begin(const scenario& s, std::FILE* out) {
    running = &s;
    answer = out;
    begin_child(&notice);
}

// --- who notices ---

/// A scenario, and how many steps its first execution has.
struct candidate {
    const scenario* body;
    std::uint64_t length;

    /// So many executions, in the order of the search, are short enough to begin with.
    std::uint64_t first_executions() const noexcept {
        return std::clamp<std::uint64_t>(first_steps / std::max<std::uint64_t>(length, 1), 20, 500);
    }

    static constexpr std::uint64_t first_steps = 50'000; // of each, before there are more of any
};

constexpr unsigned most_preemptions = 4;

/// The scenario that notices if the order is weaker. Empty: none does.
std::string who_notices(const order_site& site, std::memory_order to,
                        const std::vector<candidate>& scenarios, std::uint64_t steps) {
    const auto first = [&](const auto& look) -> std::string {
        for (const candidate& s : scenarios) {
            child c([&](std::FILE* out) {
                weaken(site, to);
                begin(*s.body, out);
                look(s);
            });
            if (std::string text = c.text(); !text.empty())
                return text;
        }
        return {};
    };
    const auto at_random = [&](std::uint64_t n) {
        return first([n](const candidate& c) {
            const scenario& s = *c.body;
            explore_at_random(s.body, s.limits, std::max(s.limits.preemptions, most_preemptions), n);
        });
    };
    std::string text = first([](const candidate& c) {
        explore(c.body->body, spoiled{}, c.body->limits, {.last = 1, .most = c.first_executions()});
    });
    // A little of each, then more of each: they are not as soon found by the one as by the other.
    for (std::uint64_t n = candidate::first_steps; text.empty() && n < steps; n *= 10)
        text = at_random(n);
    return !text.empty() ? text : at_random(steps);
}

// --- what nobody notices, and is known for it ---

/// The line of the source, without the spaces around it.
std::string line_of(const order_site& site) {
    std::ifstream file(std::string(MAGPIE_MODEL_SOURCES) + "/" + site.file);
    std::string line;
    for (unsigned i = 0; i < site.line; ++i)
        std::getline(file, line);
    const std::size_t begin = line.find_first_not_of(' ');
    return begin == line.npos ? std::string()
                              : line.substr(begin, line.find_last_not_of(' ') + 1 - begin);
}

/// An entry of explained.txt: five lines.
struct explanation {
    std::string file;
    std::string line; ///< the operation stands there
    std::string change;
    std::string reason;
    std::string test; ///< the file of the stress test that would notice
    bool met = false; ///< the order was weakened, and nobody has noticed
};

std::vector<explanation> read_explanations() {
    std::vector<explanation> all;
    std::ifstream file(MAGPIE_MODEL_SOURCES "/tests/model/explained.txt");
    std::vector<std::string> words;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line.front() == '#')
            continue;
        words.push_back(line);
        if (words.size() == 5) {
            all.push_back({words[0], words[1], words[2], words[3], words[4]});
            words.clear();
        }
    }
    if (!words.empty()) {
        std::fputs("magpie-model: explained.txt ends within an entry of five lines\n", stderr);
        std::exit(2); // NOLINT(concurrency-mt-unsafe)
    }
    return all;
}

struct weakened_order {
    order_site site;
    std::memory_order to;
    std::vector<candidate> meet; // shortest first

    std::string change() const {
        return site.what + (site.on_failure ? " that fails " : " ") +
               name_of(static_cast<std::memory_order>(site.order)) + " -> " + name_of(to);
    }
};

std::vector<weakened_order> all_orders(const std::vector<const scenario*>& scenarios,
                                       const weakening& which) {
    std::vector<candidate> candidates;
    for (const scenario* s : scenarios) {
        child c([&](std::FILE* out) {
            begin(*s, out);
            explore(s->body, spoiled{}, s->limits, {.most = 1});
            std::fprintf(out, "%llu", static_cast<unsigned long long>(steps_made()));
        });
        candidates.push_back({s, std::strtoull(c.text().c_str(), nullptr, 10)});
    }
    std::sort(candidates.begin(), candidates.end(), [](const candidate& a, const candidate& b) {
        return std::pair(a.length, std::string_view(a.body->name)) <
               std::pair(b.length, std::string_view(b.body->name));
    });
    std::map<order_site, std::vector<candidate>> sites;
    for (const candidate& s : candidates) {
        child c([&](std::FILE* out) {
            note_orders();
            begin(*s.body, out);
            explore(s.body->body, spoiled{}, s.body->limits, {.last = 1, .most = s.first_executions()});
            print_orders(out);
        });
        std::istringstream lines(c.text());
        for (std::string line; std::getline(lines, line);)
            if (const auto site = parse_order(line); site &&
                                                     site->file.find(which.in) != site->file.npos &&
                                                     (which.line == 0 || which.line == site->line))
                sites[*site].push_back(s);
    }
    std::vector<weakened_order> all;
    for (const auto& [site, meet] : sites)
        for (const std::memory_order to : weaker(site))
            all.push_back({site, to, meet});
    return all;
}

} // namespace

bool weaken_all(const std::vector<const scenario*>& scenarios, const weakening& which, bool all) {
    const std::vector<weakened_order> orders = all_orders(scenarios, which);
    std::vector<explanation> explained = read_explanations();

    unsigned caught = 0;
    unsigned known = 0;
    unsigned missed = 0;
    const auto ask = [&](std::size_t i) {
        const weakened_order& o = orders[i];
        return who_notices(o.site, o.to, o.meet, which.steps);
    };
    ask_all(orders.size(), ask, [&](std::size_t i, const std::string& text) {
        const weakened_order& o = orders[i];
        const auto why = std::find_if(explained.begin(), explained.end(), [&](const explanation& e) {
            return text.empty() && e.file == o.site.file && e.change == o.change() &&
                   e.line == line_of(o.site);
        });
        const bool is_known = why != explained.end();
        if (is_known)
            why->met = true;
        std::printf("%s:%u %s: %s\n", o.site.file.c_str(), o.site.line, o.change().c_str(),
                    !text.empty() ? ("caught by " + text).c_str()
                    : is_known    ? ("not noticed: " + why->reason).c_str()
                                  : "MISSED");
        std::fflush(stdout);
        ++(!text.empty() ? caught : is_known ? known : missed);
    });

    bool good = missed == 0;
    for (const explanation& e : explained) {
        if (!std::ifstream(std::string(MAGPIE_MODEL_SOURCES) + "/" + e.test)) {
            std::printf("explained.txt names a test that is not there: %s\n", e.test.c_str());
            good = false;
        }
        if (all && which.line == 0 && e.file.find(which.in) != e.file.npos && !e.met) {
            std::printf("explained.txt is out of date, somebody notices or it is gone: %s: %s, %s\n",
                        e.file.c_str(), e.line.c_str(), e.change.c_str());
            good = false;
        }
    }
    std::printf("%zu orders weakened: %u caught, %u not noticed and explained, %u MISSED\n",
                orders.size(), caught, known, missed);
    if (known * 10 > orders.size() && all && which.in.empty()) {
        std::puts("more than one in ten goes unnoticed");
        good = false;
    }
    return good;
}

} // namespace magpie_model
