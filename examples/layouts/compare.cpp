#include "layouts.hpp"
#include "measure.hpp"
#include "process.hpp"
#include "report.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

namespace layouts {
namespace {

using seconds = std::chrono::duration<double>;

std::chrono::nanoseconds nanoseconds_of(double s) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(seconds(s));
}

/// What the command line says.
struct request {
    std::vector<std::string> services, layouts, loads;
    load_options base;
    std::vector<double> rates; // requests/s; none: shares of what the best layout can do
    std::size_t workers = std::max(1u, std::thread::hardware_concurrency());
    std::size_t repetitions = 5;
    bool quick = false;
    std::string json, html, svg;
};

/// A load on every service: how it differs from the plain one.
struct variation {
    const char* name;
    const char* summary;
    void (*apply)(load_options&);
};

const variation variations[] = {
    {"plain", "connections that live on, all alike", [](load_options&) {}},
    {"pipelined", "16 requests at a time", [](load_options& o) { o.pipeline = 16; }},
    {"skewed", "Zipf's law over connections and keys, exponent 1",
     [](load_options& o) { o.connection_skew = o.key_skew = 1; }},
    {"short_lived", "10 requests a connection", [](load_options& o) { o.per_connection = 10; }},
};
constexpr const char* paced = "paced"; // the plain one at fixed rates

std::string in_words(const load_options& o) {
    std::string text = fmt::format("{} connection{}", o.connections, o.connections == 1 ? "" : "s");
    if (o.pipeline > 1)
        text += fmt::format(", {} requests at a time", o.pipeline);
    if (o.connection_skew > 0)
        text += fmt::format(", Zipf {:g} over connections", o.connection_skew);
    if (o.key_skew > 0)
        text += fmt::format(", Zipf {:g} over keys", o.key_skew);
    if (o.per_connection > 0)
        text += fmt::format(", {} requests a connection", o.per_connection);
    if (o.work.count() > 0)
        text += fmt::format(", {:g} us of work",
                            std::chrono::duration<double, std::micro>(o.work).count());
    return text;
}

/// Shows how far it is: over and over in one line of a terminal, else a line a workload.
class progress {
public:
    explicit progress(std::size_t runs) : left_(runs), all_(runs) {}

    void next(const std::string& what) {
        const double done = static_cast<double>(all_ - left_);
        const seconds gone = std::chrono::steady_clock::now() - begin_;
        const std::string rest = done > 0
                                     ? fmt::format(", {:.0f} s left",
                                                   gone.count() / done * static_cast<double>(left_))
                                     : "";
        const std::string text = fmt::format("run {} of {}{}: {}", all_ - left_ + 1, all_, rest, what);
        if (terminal_)
            std::cerr << "\r\033[K" << text << std::flush;
        else if (const auto workload = what.substr(0, what.find(':')); workload != shown_)
            std::cerr << text << std::endl, shown_ = workload;
        --left_;
    }
    void end() {
        if (terminal_)
            std::cerr << "\r\033[K" << std::flush;
    }

private:
    std::size_t left_, all_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
    const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    std::string shown_;
};

class comparison {
public:
    comparison(const request& asked, const std::vector<compared>& services)
        : asked_(asked), services_(services), progress_(count_runs()) {}

    report run(std::string command) {
        report_.machine = describe_machine();
        report_.command = std::move(command);
        for (const compared& s : services_)
            if (wanted(asked_.services, s.name))
                compare_service(s);
        progress_.end();
        return std::move(report_);
    }

private:
    static bool wanted(const std::vector<std::string>& names, std::string_view name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    }

    std::vector<double> shares() const {
        return asked_.quick ? std::vector{0.3, 0.6, 0.9} : std::vector{0.2, 0.4, 0.6, 0.8, 0.95, 1.1};
    }
    std::size_t count_rates() const {
        if (!wanted(asked_.loads, paced))
            return 0;
        return asked_.rates.empty() ? shares().size() : asked_.rates.size();
    }
    std::size_t count_runs() const {
        std::size_t loads = count_rates();
        for (const variation& v : variations)
            loads += wanted(asked_.loads, v.name) || needs_best(v) ? 1U : 0U;
        return asked_.services.size() * asked_.layouts.size() * asked_.repetitions * loads;
    }
    /// Rates are shares of what the plain load has reached.
    bool needs_best(const variation& v) const {
        return v.name == std::string_view("plain") && count_rates() > 0 && asked_.rates.empty();
    }

    void compare_service(const compared& s) {
        double best = 0;
        for (const variation& v : variations) {
            if (!wanted(asked_.loads, v.name) && !needs_best(v))
                continue;
            load_options o = asked_.base;
            v.apply(o);
            const workload& w = run_workload(s, o, in_words(o) + ", closed loop", 0);
            if (v.name == std::string_view("plain"))
                for (const row& r : w)
                    best = std::max(best, r.requests_per_s().median);
        }
        if (count_rates() == 0)
            return;
        std::vector<std::pair<double, double>> rates; // and their share of the best
        if (asked_.rates.empty())
            for (const double share : shares())
                rates.emplace_back(std::round(best * share), share);
        else
            for (const double rate : asked_.rates)
                rates.emplace_back(rate, best > 0 ? rate / best : 1);
        for (const auto& [rate, share] : rates) {
            load_options o = asked_.base;
            o.rate = rate;
            if (rate > 0) // else nothing was answered, which is said already
                run_workload(s, o, fmt::format("{}, {:.0f} requests/s", in_words(o), rate), share);
        }
    }

    /// The layouts take turns, so that what disturbs the machine disturbs them alike.
    const workload& run_workload(const compared& s, const load_options& o, const std::string& words,
                                 double share) {
        std::string text;
        s.says.request(text, {.work = o.work});
        if (text.size() * o.pipeline > most_under_way)
            throw std::runtime_error(fmt::format("{} requests of {} bytes at a time do not fit into "
                                                 "the socket buffers: at most {} bytes",
                                                 o.pipeline, text.size(), most_under_way));
        workload w;
        for (const std::string& l : asked_.layouts)
            w.push_back({.service = s.name,
                         .layout = l,
                         .load = words,
                         .options = o,
                         .share = share,
                         .runs = {}});
        for (std::size_t repetition = 0; repetition < asked_.repetitions; ++repetition)
            for (row& r : w) {
                progress_.next(fmt::format("{}, {}: {}, {}", s.name, words, r.layout, repetition + 1));
                r.runs.push_back(measure(s, r.layout, asked_.workers, o, ++seed_));
                if (const auto& done = r.runs.back(); done.errors > 0)
                    std::cerr << fmt::format("\n{}, {}, {}: {} errors: {}\n", s.name, words, r.layout,
                                             done.errors, done.first_error);
            }
        report_.workloads.push_back(std::move(w));
        return report_.workloads.back();
    }

    const request& asked_;
    const std::vector<compared>& services_;
    progress progress_;
    std::uint64_t seed_ = 0;
    report report_;
};

void write(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file)
        throw std::runtime_error("cannot write " + path);
}

template <class Range, class Name>
std::vector<std::string> names_of(const Range& range, Name name) {
    std::vector<std::string> names;
    for (const auto& item : range)
        names.emplace_back(name(item));
    return names;
}

std::string joined(int argc, char** argv) {
    std::string text = "magpie-layouts";
    for (int i = 1; i < argc; ++i)
        text.append(" ").append(argv[i]);
    return text;
}

} // namespace

traffic lines(std::string request) {
    return {.request = [request = std::move(request)](std::string& out,
                                                      const traffic::wish&) { out += request; },
            .find = [](std::string_view received) -> traffic::answer {
                const auto end = received.find('\n');
                if (end == std::string_view::npos)
                    return {};
                return {traffic::verdict::whole, end + 1};
            }};
}

int compare(int argc, char** argv, std::vector<compared> services) try {
    request asked;
    const auto all_services = names_of(services, [](const compared& s) { return s.name; });
    const auto all_layouts = names_of(example::layouts,
                                      [](const auto& l) { return std::string(l.name); });
    auto all_loads = names_of(variations, [](const variation& v) { return v.name; });
    all_loads.emplace_back(paced);
    asked.services = all_services;
    asked.layouts = all_layouts;
    double window = 1, work_us = 0;
    bool list = false;
    std::string served;

    CLI::App app("Runs services under each layout of the runtime with the same loads, and says which "
                 "one serves them best.");
    app.add_option("--services", asked.services, "which, separated by commas")
        ->delimiter(',')
        ->check(CLI::IsMember(all_services));
    app.add_option("--layouts", asked.layouts, "under which layouts")
        ->delimiter(',')
        ->check(CLI::IsMember(all_layouts));
    app.add_option("--loads", asked.loads, "with which loads")
        ->delimiter(',')
        ->check(CLI::IsMember(all_loads));
    app.add_flag("--list", list, "print services, layouts and loads");
    app.add_option("--workers", asked.workers,
                   "worker threads of a service; default: a worker a processor")
        ->check(CLI::Range(1, 4096));
    app.add_option("--connections", asked.base.connections, "default 50")
        ->check(CLI::Range(1, 100'000));
    app.add_option("--pipeline", asked.base.pipeline, "requests that are sent together; default 1")
        ->check(CLI::Range(1, 10'000));
    app.add_option("--key-skew", asked.base.key_skew,
                   "exponent of Zipf's law over the keys; default 0, all alike")
        ->check(CLI::Range(0.0, 5.0));
    app.add_option("--connection-skew", asked.base.connection_skew, "the same over the connections")
        ->check(CLI::Range(0.0, 5.0));
    app.add_option("--per-connection", asked.base.per_connection,
                   "requests after which a connection is made anew; default 0: never");
    app.add_option("--work", work_us,
                   "us that the service computes for a request, if it can; default 0")
        ->check(CLI::Range(0.0, 1e6));
    app.add_option("--rate", asked.rates,
                   "requests/s of the paced load, separated by commas; default: shares of the best")
        ->delimiter(',')
        ->check(CLI::PositiveNumber);
    app.add_option("--load-threads", asked.base.threads, "threads that make the load; default 1")
        ->check(CLI::Range(1, 256));
    app.add_option("--seconds", window, "of a run, after its warm-up; default 1, with --quick 0.4")
        ->check(CLI::Range(0.05, 3600.0));
    app.add_option("--repetitions", asked.repetitions, "default 5, with --quick 3")
        ->check(CLI::Range(1, 1000));
    app.add_flag("--quick", asked.quick, "a first look: short runs, few of them");
    app.add_option("--json", asked.json, "write the figures there");
    app.add_option("--html", asked.html, "write a report with charts there");
    app.add_option("--svg", asked.svg, "write each of its charts into that folder");
    app.add_option("--serve", served)->group(""); // what a service's own process is started with
    CLI11_PARSE(app, argc, argv);

    if (!served.empty()) {
        const auto found = std::find_if(services.begin(), services.end(),
                                        [&](const compared& s) { return s.name == served; });
        if (found == services.end())
            throw std::runtime_error("no service '" + served + "'");
        return serve(*found, asked.layouts.at(0), asked.workers);
    }
    if (list) {
        for (const std::string& s : all_services)
            std::cout << "service " << s << '\n';
        for (const auto& l : example::layouts)
            std::cout << "layout " << l.name << ": " << l.summary << '\n';
        for (const variation& v : variations)
            std::cout << "load " << v.name << ": " << v.summary << '\n';
        std::cout << "load " << paced
                  << ": at fixed rates, latency counted from when a request should begin\n";
        return EXIT_SUCCESS;
    }
    if (asked.base.threads > asked.base.connections)
        throw std::runtime_error("--load-threads: each needs a connection");
    if (asked.loads.empty())
        asked.loads = asked.quick ? std::vector<std::string>{"plain", "skewed", paced} : all_loads;
    if (asked.quick && app.count("--seconds") == 0)
        window = 0.4;
    if (asked.quick && app.count("--repetitions") == 0)
        asked.repetitions = 3;
    asked.base.window = nanoseconds_of(window);
    asked.base.warm_up = nanoseconds_of(asked.quick ? 0.15 : 0.3);
    asked.base.work = nanoseconds_of(work_us * 1e-6);
    rlimit descriptors{}; // a connection is one on either side
    if (::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &descriptors);
    }

    const report r = comparison(asked, services).run(joined(argc, argv));
    std::cout << r.machine << "\n" << table(r) << '\n';
    std::uint64_t errors = 0;
    for (const workload& w : r.workloads) {
        std::cout << verdict(w) << '\n';
        for (const row& one : w)
            errors += one.errors();
    }
    if (!asked.json.empty())
        write(asked.json, json(r));
    if (!asked.html.empty())
        write(asked.html, html(r));
    if (!asked.svg.empty()) {
        std::filesystem::create_directories(asked.svg);
        for (const drawing& d : drawings(r))
            write(std::filesystem::path(asked.svg) / d.name, d.svg);
    }
    return errors == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& e) {
    std::cerr << "\nmagpie-layouts: " << e.what() << '\n';
    return EXIT_FAILURE;
}

} // namespace layouts
