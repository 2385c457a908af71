// bench-load --port P [--connections C] [--shards N] [--warm-up S] [--seconds S] [--rate R] [--server PID]...
//
// Loads the echo server at 127.0.0.1:P and prints one JSON line: n (requests answered in the window),
// seconds, cpu_seconds (of the server's processes), requests_per_s, load_cpu_seconds (its own), p50_us,
// p99_us, p999_us, errors.

#include "echo.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>

int main(int argc, char** argv) try {
    load::echo_options options;
    double warm_up = 0.5;
    double window = 3;
    CLI::App app("Loads an echo server at 127.0.0.1 and prints one JSON line.");
    app.add_option("--port", options.port, "the server's")->required();
    app.add_option("--connections", options.connections, "default 1")->check(CLI::PositiveNumber);
    app.add_option(
        "--shards", options.shards,
        "the server says by a first byte which of so many shards has a connection: connect again "
        "until all have as many");
    app.add_option("--warm-up", warm_up, "seconds; default 0.5")->check(CLI::NonNegativeNumber);
    app.add_option("--seconds", window, "the window that is measured; default 3")
        ->check(CLI::PositiveNumber);
    app.add_option("--rate", options.rate, "requests a second that are begun; default: all that can be")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--server", options.server, "a process whose CPU time is taken");
    CLI11_PARSE(app, argc, argv);

    using seconds = std::chrono::duration<double>;
    options.warm_up = std::chrono::duration_cast<std::chrono::nanoseconds>(seconds(warm_up));
    options.window = std::chrono::duration_cast<std::chrono::nanoseconds>(seconds(window));
    const auto [sample, errors] = load::echo(options);
    nlohmann::ordered_json line{
        {"n", sample.ops},
        {"seconds", sample.seconds},
        {"cpu_seconds", sample.cpu_seconds},
        {"requests_per_s", static_cast<double>(sample.ops) / sample.seconds},
    };
    for (const auto& [field, value] : sample.extra)
        line[field] = value;
    line["errors"] = errors;
    std::cout << line << std::endl;
    return EXIT_SUCCESS;
} catch (const std::exception& e) {
    std::cerr << "bench-load: " << e.what() << std::endl;
    return EXIT_FAILURE;
}
