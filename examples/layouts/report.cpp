#include "report.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include <sys/utsname.h>

namespace layouts {
namespace {

double us(std::chrono::nanoseconds d) { return std::chrono::duration<double, std::micro>(d).count(); }

const auto cpu_of = [](const run& r) { return r.cpu_s_per_million; };
const auto switches_of = [](const run& r) { return r.switches_per_request; };
const auto steals_of = [](const run& r) { return 1000 * r.steals_per_request; };
const auto messages_of = [](const run& r) { return r.messages_per_request; };
const auto imbalance_of = [](const run& r) { return r.imbalance; };

std::optional<spread> calls_of(const row& r) {
    std::vector<double> values;
    for (const run& one : r.runs)
        if (one.calls_per_request)
            values.push_back(*one.calls_per_request);
    if (values.empty())
        return std::nullopt;
    return spread::of(std::move(values));
}

} // namespace

spread spread::of(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) { // between the two that are nearest
        const double place = share * static_cast<double>(values.size() - 1);
        const auto below = static_cast<std::size_t>(place);
        const auto above = std::min(below + 1, values.size() - 1);
        return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
    };
    const bool many = values.size() >= 5;
    return {.median = at(0.5), .low = at(many ? 0.25 : 0), .high = at(many ? 0.75 : 1)};
}

spread row::requests_per_s() const {
    return over_runs([](const run& r) { return r.requests_per_s; });
}

spread row::latency_us(double percentile) const {
    return over_runs([percentile](const run& r) {
        return us(percentile < 1 ? r.latencies.percentile(percentile) : r.latencies.max());
    });
}

example::histogram row::latencies() const {
    example::histogram sum;
    for (const run& r : runs)
        sum.add(r.latencies);
    return sum;
}

std::uint64_t row::errors() const {
    std::uint64_t sum = 0;
    for (const run& r : runs)
        sum += r.errors;
    return sum;
}

std::string describe_machine() {
    std::string model = "unknown processor";
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name")) {
            model = line.substr(line.find(": ") + 2);
            break;
        }
    utsname system{};
    ::uname(&system);
    return fmt::format("{} x {}, {} {}", std::thread::hardware_concurrency(), model, system.sysname,
                       system.release);
}

// ---- in words ----------------------------------------------------------------------------------------

std::string table(const report& r) {
    std::string text;
    auto out = std::back_inserter(text);
    for (const workload& w : r.workloads) {
        fmt::format_to(out, "\n{}, {}\n", w.front().service, w.front().load);
        fmt::format_to(
            out,
            "  {:<20}{:>12}{:>18}{:>10}{:>10}{:>10}{:>10}{:>11}{:>8}{:>10}{:>11}{:>10}{:>11}{:>8}\n",
            "layout", "requests/s", "spread", "p50 us", "p99 us", "p99.9 us", "max us", "CPU s/mio",
            "calls", "switches", "steals/k", "messages", "imbalance", "errors");
        for (const row& one : w) {
            const spread rate = one.requests_per_s();
            const auto calls = calls_of(one);
            fmt::format_to(
                out,
                "  "
                "{:<20}{:>12.0f}{:>18}{:>10.0f}{:>10.0f}{:>10.0f}{:>10.0f}{:>11.2f}{:>8}{:>10.2f}{:>11."
                "2f}{:>10.2f}{:>11.2f}{:>8}\n",
                one.layout, rate.median, fmt::format("{:.0f}-{:.0f}", rate.low, rate.high),
                one.latency_us(0.5).median, one.latency_us(0.99).median, one.latency_us(0.999).median,
                one.latency_us(1).median, one.over_runs(cpu_of).median,
                calls ? fmt::format("{:.2f}", calls->median) : "-", one.over_runs(switches_of).median,
                one.over_runs(steals_of).median, one.over_runs(messages_of).median,
                one.over_runs(imbalance_of).median, one.errors());
        }
    }
    return text;
}

std::string verdict(const workload& w) {
    const std::string what = fmt::format("{}, {}: ", w.front().service, w.front().load);
    if (w.size() < 2)
        return what + "there is only one layout to look at.";
    // A closed loop is judged by what was done; an open loop, where that is given, by how late it was.
    const bool open = w.front().share > 0;
    const auto figure = [open](const row& r) { return open ? r.latency_us(0.99) : r.requests_per_s(); };
    std::vector<const row*> ranks;
    for (const row& r : w)
        ranks.push_back(&r);
    std::sort(ranks.begin(), ranks.end(), [&](const row* a, const row* b) {
        const double x = figure(*a).median, y = figure(*b).median;
        return open ? x < y : x > y;
    });
    const row& best = *ranks[0];
    const row& next = *ranks[1];
    const spread a = figure(best), b = figure(next);
    if (a.median <= 0 || b.median <= 0)
        return what + "nothing can be said, since nothing was answered.";
    const double percent = 100 * (open ? b.median / a.median - 1 : a.median / b.median - 1);
    const bool apart = open ? a.high < b.low : a.low > b.high;
    const std::string lead = open ? fmt::format("a p99 of {:.0f} us; that of {} is {:.0f} % longer",
                                                a.median, next.layout, percent)
                                  : fmt::format("{:.0f} requests/s, {:.0f} % more than {}", a.median,
                                                percent, next.layout);
    const std::string ranges = fmt::format("{:.0f} to {:.0f} against {:.0f} to {:.0f}", a.low, a.high,
                                           b.low, b.high);
    std::string text = what;
    if (best.runs.size() < 2)
        text += fmt::format("{} is ahead with {}; one repetition does not tell the noise", best.layout,
                            lead);
    else if (apart)
        text += fmt::format("{} won with {}, which is more than the noise ({})", best.layout, lead,
                            ranges);
    else
        text += fmt::format("no layout won; {} is ahead with {}, which is within the noise ({})",
                            best.layout, lead, ranges);
    if (best.errors() + next.errors() > 0)
        text += fmt::format("; there were {} errors", best.errors() + next.errors());
    return text + ".";
}

// ---- for programs ------------------------------------------------------------------------------------

std::string json(const report& r) {
    using object = nlohmann::ordered_json;
    const auto range = [](const spread& s) { return object{s.low, s.high}; };
    object rows = object::array();
    for (const workload& w : r.workloads)
        for (const row& one : w) {
            const auto calls = calls_of(one);
            rows.push_back(object{
                {"service", one.service},
                {"layout", one.layout},
                {"load", one.load},
                {"requests_per_s", one.requests_per_s().median},
                {"p50_us", one.latency_us(0.5).median},
                {"p99_us", one.latency_us(0.99).median},
                {"p999_us", one.latency_us(0.999).median},
                {"max_us", one.latency_us(1).median},
                {"cpu_s_per_million", one.over_runs(cpu_of).median},
                {"errors", one.errors()},
                {"requests_per_s_range", range(one.requests_per_s())},
                {"p99_us_range", range(one.latency_us(0.99))},
                {"cpu_s_per_million_range", range(one.over_runs(cpu_of))},
                {"system_calls_per_request", calls ? object(calls->median) : object(nullptr)},
                {"switches_per_request", one.over_runs(switches_of).median},
                {"steals_per_1000_requests", one.over_runs(steals_of).median},
                {"cross_shard_messages_per_request", one.over_runs(messages_of).median},
                {"imbalance", one.over_runs(imbalance_of).median},
                {"unanswered",
                 one.over_runs([](const run& x) { return static_cast<double>(x.unanswered); }).median},
                {"repetitions", one.runs.size()},
                {"connections", one.options.connections},
                {"pipeline", one.options.pipeline},
                {"key_skew", one.options.key_skew},
                {"connection_skew", one.options.connection_skew},
                {"requests_per_connection", one.options.per_connection},
                {"rate", one.options.rate},
            });
        }
    return object{{"machine", r.machine}, {"command", r.command}, {"rows", rows}}.dump(1) + '\n';
}

} // namespace layouts
