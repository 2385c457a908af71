#include "chart.hpp"
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace layouts {
namespace {

constexpr const char* head = R"html(<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>magpie-layouts</title>
<style>
)html";

constexpr const char* page_style =
    R"html(body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px; margin: 2em auto;
  padding: 0 1em; }
code { font-size: 13px; overflow-wrap: anywhere; }
h2 { margin-top: 2em; border-bottom: 1px solid var(--line); }
.facts { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.load td { font-weight: 600; padding-top: 12px; }
.best { font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr)); gap: 20px; margin-top: 1em; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: 14px; }
svg { width: 100%; height: auto; }
.legend { margin: 0; font-size: 13px; }
.legend span { margin-right: 1em; white-space: nowrap; }
.legend span::before { content: ""; display: inline-block; width: 1.4em; border-top: 2.5px solid currentColor;
  vertical-align: middle; margin-right: .4em; }
.legend .dashed::before { border-top-style: dashed; }
</style>
)html";

/// Layouts have the same colour in all charts.
class palette {
public:
    std::size_t of(const std::string& layout) {
        const auto found = std::find(names_.begin(), names_.end(), layout);
        if (found != names_.end())
            return static_cast<std::size_t>(found - names_.begin());
        names_.push_back(layout);
        return names_.size() - 1;
    }

private:
    std::vector<std::string> names_;
};

chart latency_curves(const workload& w, palette& colors) {
    chart c;
    c.title = "Latency, " + w.front().load;
    c.x_label = "percentile";
    c.y_label = "us";
    c.logarithmic = true;
    c.x_end = 3;
    // Each nine takes as much room as the one before.
    c.x_ticks = {{0, "0"},    {0.30103, "50"}, {1, "90"},    {2, "99"},
                 {3, "99.9"}, {4, "99.99"},    {5, "99.999"}};
    for (const row& one : w) {
        const example::histogram all = one.latencies();
        chart::line l{.name = one.layout, .color = colors.of(one.layout), .points = {}};
        const double last = std::log10(static_cast<double>(std::max<std::uint64_t>(all.count(), 1)));
        for (double nines = 0; nines <= std::min(last, 5.0); nines += 0.05) {
            const auto d = all.percentile(1 - std::pow(10, -nines));
            l.points.emplace_back(nines, std::chrono::duration<double, std::micro>(d).count());
        }
        c.lines.push_back(std::move(l));
    }
    return c;
}

/// Of what was offered at several rates: `figure` of each row.
template <class F>
chart over_rates(const std::vector<const workload*>& sweep, palette& colors, F figure) {
    chart c;
    c.x_label = "offered, requests/s";
    for (const workload* w : sweep)
        for (const row& one : *w) {
            const auto same = [&](const chart::line& l) { return l.name == one.layout; };
            auto l = std::find_if(c.lines.begin(), c.lines.end(), same);
            if (l == c.lines.end())
                l = c.lines.insert(l,
                                   {.name = one.layout, .color = colors.of(one.layout), .points = {}});
            l->points.emplace_back(one.options.rate, figure(one));
        }
    return c;
}

chart use_of_processors(const row& one) {
    chart c;
    c.title = "Processors, " + one.load + ": " + one.layout;
    c.x_label = "seconds; the load runs on them as well";
    c.y_label = "%";
    c.y_end = 100;
    for (const run::use& u : one.runs.back().uses)
        for (std::size_t i = 0; i < u.processors.size(); ++i) {
            if (c.lines.size() == i)
                c.lines.push_back({.name = fmt::format("cpu {}", i), .color = i, .points = {}});
            c.lines[i].points.emplace_back(u.at, 100 * u.processors[i]);
        }
    return c;
}

void add_table(std::string& text, const std::vector<const workload*>& of_service) {
    auto out = std::back_inserter(text);
    text += "<div class=\"scroll\"><table>\n<tr><th>layout<th>requests/s<th>spread<th>p50 us<th>p99 "
            "us<th>p99.9 us<th>max us"
            "<th>CPU s/million<th>errors\n";
    for (const workload* w : of_service) {
        fmt::format_to(out, "<tr class=\"load\"><td colspan=\"9\">{}\n", escaped(w->front().load));
        for (const row& one : *w) {
            const spread rate = one.requests_per_s();
            fmt::format_to(
                out,
                "<tr><td>{}<td>{:.0f}<td>{:.0f}&ndash;{:.0f}<td>{:.0f}<td>{:.0f}<td>{:.0f}<td>{:.0f}<"
                "td>{:.2f}<td>{}\n",
                escaped(one.layout), rate.median, rate.low, rate.high, one.latency_us(0.5).median,
                one.latency_us(0.99).median, one.latency_us(0.999).median, one.latency_us(1).median,
                one.over_runs([](const run& r) { return r.cpu_s_per_million; }).median, one.errors());
        }
    }
    text += "</table></div>\n";
}

std::vector<chart> charts_of(const std::vector<const workload*>& of_service, palette& colors) {
    std::vector<chart> charts;
    for (const workload* w : of_service)
        charts.push_back(latency_curves(*w, colors));
    std::vector<const workload*> sweep;
    std::copy_if(of_service.begin(), of_service.end(), std::back_inserter(sweep),
                 [](const workload* w) { return w->front().options.rate > 0; });
    if (!sweep.empty()) {
        chart done = over_rates(sweep, colors, [](const row& r) { return r.requests_per_s().median; });
        done.title = "Throughput against offered load";
        done.y_label = "answered, requests/s";
        double most = 0;
        for (const workload* w : sweep)
            most = std::max(most, w->front().options.rate);
        done.lines.push_back(
            {.name = "all answered", .color = 7, .points = {{0, 0}, {most, most}}, .dashed = true});
        charts.push_back(std::move(done));
        chart late = over_rates(sweep, colors, [](const row& r) { return r.latency_us(0.99).median; });
        late.title = "99 % latency against offered load";
        late.y_label = "us";
        late.logarithmic = true;
        charts.push_back(std::move(late));
    }
    for (const row& one : *of_service.front())
        charts.push_back(use_of_processors(one));
    return charts;
}

void add_service(std::string& text, const std::vector<const workload*>& of_service, palette& colors) {
    text += "<h2>" + escaped(of_service.front()->front().service) + "</h2>\n<ul>\n";
    for (const workload* w : of_service)
        text += "<li>" + escaped(verdict(*w)) + "\n";
    text += "</ul>\n";
    add_table(text, of_service);
    text += "<div class=\"charts\">\n";
    for (const chart& c : charts_of(of_service, colors))
        text += c.figure();
    text += "</div>\n";
}

/// What of a title may stand in a file's name.
std::string in_a_name(const std::string& title) {
    std::string name;
    for (const char c : title) {
        const bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        const bool upper = c >= 'A' && c <= 'Z';
        if (kept || upper)
            name += upper ? static_cast<char>(c + ('a' - 'A')) : c;
        else if (!name.empty() && name.back() != '-')
            name += '-';
    }
    if (name.ends_with('-'))
        name.pop_back();
    return name;
}

/// The workloads of each service.
std::vector<std::vector<const workload*>> by_service(const report& r) {
    std::vector<std::vector<const workload*>> services;
    for (const workload& w : r.workloads) {
        if (services.empty() || services.back().front()->front().service != w.front().service)
            services.emplace_back();
        services.back().push_back(&w);
    }
    return services;
}

} // namespace

std::string html(const report& r) {
    std::string text = std::string(head) + chart::style + page_style;
    fmt::format_to(std::back_inserter(text),
                   "<h1>magpie-layouts</h1>\n<p class=\"facts\">{}<br>\n<code>{}</code></p>\n",
                   escaped(r.machine), escaped(r.command));
    text += "<p>Each service ran under each layout with the same load, in turn; figures are medians of "
            "the repetitions. "
            "Latencies of a load at a fixed rate count from when a request should have begun.</p>\n";
    palette colors;
    for (const auto& of_service : by_service(r))
        add_service(text, of_service, colors);
    return text + "</html>\n";
}

std::vector<drawing> drawings(const report& r) {
    std::vector<drawing> files;
    palette colors;
    for (const auto& of_service : by_service(r))
        for (const chart& c : charts_of(of_service, colors)) {
            const std::string service = of_service.front()->front().service;
            chart named = c;
            named.title = service + ": " + c.title;
            files.push_back({.name = in_a_name(named.title) + ".svg", .svg = named.file()});
        }
    return files;
}

} // namespace layouts
