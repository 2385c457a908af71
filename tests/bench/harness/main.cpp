// DRIVER WORKLOAD [--workers N] [--n N] [--reps R] [--seconds S]  prints one JSON line
// DRIVER --list                                                   name, n, seconds, once or repeated
// DRIVER --smoke                                                  runs all, small: results are checked
// DRIVER serve NAME [--workers N] [--layout LAYOUT]               serves until standard input ends
// DRIVER serve --list                                             what it can serve

#include "harness.hpp"
#include "serve.hpp"
#include "server.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>

namespace {
using nlohmann::ordered_json;

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

template <class Field>
double median_of(const std::vector<bench::sample>& samples, Field field) {
    std::vector<double> values;
    for (const auto& s : samples)
        values.push_back(field(s));
    return median(std::move(values));
}

std::vector<bench::sample> run(const bench::workload& w, const bench::options& options) {
    const auto repeat = w.prepare(options);
    if (w.once)
        return {repeat()};
    repeat(); // to warm up
    std::vector<bench::sample> samples;
    for (unsigned i = 0; i < options.reps; ++i)
        samples.push_back(repeat());
    return samples;
}

ordered_json line(const bench::workload& w, const bench::options& options,
                  const std::vector<bench::sample>& samples) {
    const auto ops = static_cast<double>(samples.front().ops);
    const auto seconds = median_of(samples, [](const auto& s) { return s.seconds; });
    const auto cpu_seconds = median_of(samples, [](const auto& s) { return s.cpu_seconds; });
    ordered_json out{
        {"peer", bench::peer_name()},
        {"version", bench::peer_version()},
        {"workload", w.name},
        {"n", samples.front().ops},
        {"workers", options.workers},
        {"seconds", seconds},
        {"cpu_seconds", cpu_seconds},
        {"ns_per_op", seconds * 1e9 / ops},
        {"cpu_ns_per_op", cpu_seconds * 1e9 / ops},
        {"peak_rss_kb", bench::peak_rss_kb()},
    };
    for (std::size_t i = 0; i < samples.front().extra.size(); ++i)
        out[samples.front().extra[i].first] = median_of(
            samples, [&](const auto& s) { return s.extra[i].second; });
    out["figure"] = out.at(w.figure.field);
    out["unit"] = w.figure.unit;
    return out;
}

// Small enough that all of them together take seconds; each still checks its result. Servers begin and end.
int smoke(const std::vector<bench::workload>& all) {
    for (const auto& w : all) {
        std::cout << w.name << std::flush;
        bench::options options;
        options.n = std::min(w.n, std::max<std::uint64_t>(w.n / 1000, 100));
        options.seconds = w.seconds / 20;
        const auto sample = w.prepare(options)();
        std::cout << ": " << sample.ops << " operations, " << sample.seconds << " s" << std::endl;
    }
    for (const auto& s : bench::servers()) {
        std::cout << "serve " << s.name << std::flush;
        std::cout << ": port " << s.start(bench::serve_options()).port << std::endl;
    }
    return EXIT_SUCCESS;
}

int list(const std::vector<bench::workload>& all) {
    for (const auto& w : all)
        std::cout << w.name << ' ' << w.n << ' ' << w.seconds << (w.once ? " once\n" : " repeated\n");
    return EXIT_SUCCESS;
}
} // namespace

int main(int argc, char** argv) try {
    bench::options options;
    bench::serve_options serving;
    std::string name;
    bool wants_list = false;
    bool wants_smoke = false;
    CLI::App app("Runs one workload and prints one JSON line.");
    app.add_option("workload", name, "which; --list shows them");
    app.add_option("--workers", options.workers, "worker threads")->check(CLI::PositiveNumber);
    app.add_option("--n", options.n, "operations; 0: the workload's own")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--reps", options.reps, "repetitions after one warm-up")->check(CLI::PositiveNumber);
    app.add_option("--seconds", options.seconds, "length of a row that is bounded by time; 0: its own")
        ->check(CLI::NonNegativeNumber);
    app.add_flag("--list", wants_list, "print the workloads: name, n, seconds, once or repeated");
    app.add_flag("--smoke", wants_smoke, "run every workload once, small, and check the results");
    auto* server = app.add_subcommand("serve",
                                      "serve on a free port of 127.0.0.1 until standard input ends");
    server->add_option("name", name, "which; --list shows them");
    server->add_option("--workers", serving.workers, "worker threads")->check(CLI::PositiveNumber);
    server->add_option("--layout", serving.layout, "of the runtime, if the driver has several");
    server->add_flag("--list", wants_list, "print what can be served");
    CLI11_PARSE(app, argc, argv);
    if (server->parsed())
        return wants_list ? bench::list_servers() : bench::serve(name, serving);

    const auto all = bench::workloads();
    if (wants_list)
        return list(all);
    if (wants_smoke)
        return smoke(all);
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const auto& w) { return w.name == name; });
    if (found == all.end()) {
        std::cerr << "no workload '" << name << "'; --list shows them\n";
        return 2;
    }
    if (options.n == 0)
        options.n = found->n;
    if (options.seconds == 0)
        options.seconds = found->seconds;
    std::cout << line(*found, options, run(*found, options)) << std::endl;
    return EXIT_SUCCESS;
} catch (const std::exception& e) {
    std::cerr << e.what() << std::endl;
    return EXIT_FAILURE;
}
