#include "chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace layouts {
namespace {

constexpr double width = 560, height = 300, left = 62, right = 14, top = 12, bottom = 44;

/// Where values stand on an axis.
class axis {
public:
    axis(double begin, double end, double from, double to, bool logarithmic) noexcept
        : begin_(place(begin, logarithmic)), end_(place(end, logarithmic)), from_(from), to_(to),
          logarithmic_(logarithmic) {}

    double at(double value) const noexcept {
        const double share = (place(value, logarithmic_) - begin_) / std::max(end_ - begin_, 1e-12);
        return from_ + std::clamp(share, 0.0, 1.0) * (to_ - from_);
    }

private:
    static double place(double value, bool logarithmic) noexcept {
        return logarithmic ? std::log10(std::max(value, 1e-9)) : value;
    }

    double begin_, end_, from_, to_;
    bool logarithmic_;
};

std::string short_number(double n) {
    if (n >= 1e6)
        return fmt::format("{:g}M", n / 1e6);
    return n >= 1000 ? fmt::format("{:g}k", n / 1000) : fmt::format("{:g}", n);
}

/// A step of 1, 2 or 5 times a power of ten that gives about five marks.
double step_of(double end) noexcept {
    const double rough = end / 5;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double times = rough / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

std::vector<double> linear_ticks(double end) {
    std::vector<double> ticks;
    const double step = step_of(end);
    for (int i = 0; i * step <= end * 1.0001; ++i)
        ticks.push_back(i * step);
    return ticks;
}

std::vector<double> logarithmic_ticks(double begin, double end) {
    std::vector<double> ticks;
    const bool wide = end / begin > 1000;
    for (double power = std::pow(10, std::floor(std::log10(begin))); power <= end; power *= 10)
        for (const double times : {1.0, 2.0, 5.0})
            if (power * times >= begin && power * times <= end && (times == 1 || !wide))
                ticks.push_back(power * times);
    return ticks;
}

} // namespace

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text)
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        default: out += c;
        }
    return out;
}

std::string chart::drawing() const {
    double most_x = x_end, most_y = y_end, least_y = std::numeric_limits<double>::max();
    for (const line& l : lines)
        for (const auto& [x, y] : l.points) {
            most_x = std::max(most_x, x);
            most_y = std::max(most_y, y);
            least_y = std::min(least_y, y);
        }
    most_x = most_x > 0 ? most_x : 1;
    most_y = most_y > 0 ? most_y : 1;
    least_y = logarithmic ? std::clamp(least_y, most_y / 1e6, most_y / 1.01) : 0;
    const axis xs(0, most_x, left, width - right, false);
    const axis ys(least_y, most_y * (logarithmic ? 1.0 : 1.05), height - bottom, top, logarithmic);

    std::string text;
    auto out = std::back_inserter(text);
    const auto y_ticks = logarithmic ? logarithmic_ticks(least_y, most_y) : linear_ticks(most_y * 1.05);
    for (const double tick : y_ticks)
        fmt::format_to(out,
                       "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
                       "<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n",
                       left, width - right, ys.at(tick), ys.at(tick), left - 6, ys.at(tick) + 4,
                       short_number(tick));
    std::vector<std::pair<double, std::string>> marks = x_ticks;
    if (marks.empty())
        for (const double tick : linear_ticks(most_x))
            marks.emplace_back(tick, short_number(tick));
    for (const auto& [tick, name] : marks)
        if (tick <= most_x)
            fmt::format_to(
                out, "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{}\">{}</text>\n",
                xs.at(tick), height - bottom + 16, escaped(name));
    fmt::format_to(out,
                   "<line class=\"axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/>"
                   "<text class=\"label\" text-anchor=\"middle\" x=\"{3}\" y=\"{4}\">{5}</text>"
                   "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(14 {6}) "
                   "rotate(-90)\">{7}</text>\n",
                   left, width - right, height - bottom, (left + width - right) / 2, height - 8,
                   escaped(x_label), (top + height - bottom) / 2, escaped(y_label));
    for (const line& l : lines) {
        fmt::format_to(out, "<path class=\"c{}{}\" d=\"", l.color % 8, l.dashed ? " dashed" : "");
        bool first = true;
        for (const auto& [x, y] : l.points) {
            fmt::format_to(out, "{}{:.1f} {:.1f}", first ? "M" : "L", xs.at(x), ys.at(y));
            first = false;
        }
        fmt::format_to(out, "\"><title>{}</title></path>\n", escaped(l.name));
        if (l.points.size() <= 12 && !l.dashed) // a few that were measured: each is to be seen
            for (const auto& [x, y] : l.points)
                fmt::format_to(out,
                               "<circle class=\"c{}\" r=\"3\" cx=\"{:.1f}\" cy=\"{:.1f}\"><title>{}: "
                               "{:.0f}, {:.0f}</title></circle>\n",
                               l.color % 8, xs.at(x), ys.at(y), escaped(l.name), x, y);
    }
    return text;
}

std::string chart::figure() const {
    std::string text = fmt::format("<figure><figcaption>{0}</figcaption>\n<svg viewBox=\"0 0 {1} {2}\" "
                                   "role=\"img\" aria-label=\"{0}\">\n",
                                   escaped(title), width, height);
    text += drawing() + "</svg>\n<p class=\"legend\">";
    for (const line& l : lines)
        fmt::format_to(std::back_inserter(text), "<span class=\"c{}{}\">{}</span> ", l.color % 8,
                       l.dashed ? " dashed" : "", escaped(l.name));
    return text + "</p></figure>\n";
}

std::string chart::file() const {
    constexpr double above = 24, below = 22; // the title, and what the lines are
    std::string text = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" role=\"img\" "
        "aria-label=\"{2}\">\n<style>\n{3}svg {{ font-family: system-ui, sans-serif; }}\n"
        ".paper {{ fill: var(--paper); }}\nsvg .title {{ fill: var(--ink); font-size: 14px; }}\n"
        "</style>\n<rect class=\"paper\" width=\"{0}\" height=\"{1}\"/>\n"
        "<text class=\"title\" x=\"14\" y=\"17\">{2}</text>\n<g transform=\"translate(0 {4})\">\n",
        width, height + above + below, escaped(title), style, above);
    text += drawing() + "</g>\n";
    double x = left;
    const double y = height + above + below / 2;
    for (const line& l : lines) {
        fmt::format_to(
            std::back_inserter(text),
            "<path class=\"c{0}{1}\" d=\"M{2} {3}h20\"/><text x=\"{4}\" y=\"{5}\">{6}</text>\n",
            l.color % 8, l.dashed ? " dashed" : "", x, y, x + 26, y + 4, escaped(l.name));
        x += 50 + 6.5 * static_cast<double>(l.name.size()); // about what the name is wide
    }
    return text + "</svg>\n";
}

const char* const chart::style =
    R"css(:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #666; --line: #ddd; --paper: #fff;
  --0: #1b6ca8; --1: #d1495b; --2: #2e933c; --3: #b07d12; --4: #7b4ea3; --5: #00798c; --6: #8d5524; --7: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a0a0a0; --line: #3a3a3a; --paper: #161616;
  --0: #6db3e8; --1: #f08a98; --2: #7fcf8a; --3: #e0b457; --4: #bb95dd; --5: #5cc4d3; --6: #c99a6b; --7: #aaa; } }
svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--soft); }
svg text { fill: var(--soft); font-size: 11px; }
svg path { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
svg circle { fill: currentColor; }
.dashed { stroke-dasharray: 5 4; }
.c0 { color: var(--0); } .c1 { color: var(--1); } .c2 { color: var(--2); } .c3 { color: var(--3); }
.c4 { color: var(--4); } .c5 { color: var(--5); } .c6 { color: var(--6); } .c7 { color: var(--7); }
)css";

} // namespace layouts
