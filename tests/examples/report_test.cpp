// What examples/layouts makes of its figures.

#include <examples/layouts/report.hpp>
#include <examples/layouts/zipf.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace layouts;

row row_of(const std::string& layout, const std::vector<double>& rates) {
    row r{.service = "echo",
          .layout = layout,
          .load = "1 connection",
          .options = {},
          .share = 0,
          .runs = {}};
    for (const double rate : rates) {
        run one;
        one.requests_per_s = rate;
        one.latencies.add(std::chrono::microseconds(100));
        r.runs.push_back(one);
    }
    return r;
}

} // namespace

TEST_SUITE("examples.report") {
    TEST_CASE("a spread is the median, and quartiles or ends") {
        const spread few = spread::of({3, 1, 2});
        CHECK(few.low == 1);
        CHECK(few.median == 2);
        CHECK(few.high == 3);
        const spread many = spread::of({5, 1, 4, 2, 3});
        CHECK(many.low == 2);
        CHECK(many.median == 3);
        CHECK(many.high == 4);
    }

    TEST_CASE("a layout wins only by more than the noise") {
        const std::string clear = verdict({row_of("a", {100, 110, 120}), row_of("b", {200, 220, 240})});
        CHECK(clear == "echo, 1 connection: b won with 220 requests/s, 100 % more than a, which is "
                       "more than the noise "
                       "(200 to 240 against 100 to 120).");
        const std::string unclear = verdict(
            {row_of("a", {100, 110, 220}), row_of("b", {90, 120, 140})});
        CHECK(unclear.find("no layout won; b is ahead") != std::string::npos);
        CHECK(verdict({row_of("a", {1}), row_of("b", {2})}).find("one repetition does not tell") !=
              std::string::npos);
        CHECK(verdict({row_of("a", {1, 2})}).find("only one layout") != std::string::npos);
        CHECK(verdict({row_of("a", {0, 0}), row_of("b", {0, 0})}).find("nothing was answered") !=
              std::string::npos);
    }

    TEST_CASE("at a fixed rate the shorter latency wins") {
        workload w{row_of("a", {100, 100}), row_of("b", {100, 100})};
        for (row& r : w)
            r.share = 0.5;
        for (run& r : w[0].runs)
            r.latencies.add(std::chrono::milliseconds(100));
        CHECK(verdict(w).find("b won with a p99 of 100 us") != std::string::npos);
    }

    TEST_CASE("errors are told") {
        workload w{row_of("a", {100, 100}), row_of("b", {200, 200})};
        w[1].runs[0].errors = 3;
        CHECK(verdict(w).find("there were 3 errors") != std::string::npos);
    }

    TEST_CASE("JSON has the machine, the command and a row for each layout") {
        const report r{
            .machine = "m", .command = "c", .workloads = {{row_of("a", {100}), row_of("b", {200})}}};
        const auto read = nlohmann::json::parse(json(r));
        CHECK(read.at("machine") == "m");
        CHECK(read.at("command") == "c");
        REQUIRE(read.at("rows").size() == 2);
        const auto& first = read.at("rows").at(0);
        for (const char* const field : {"service", "layout", "load", "requests_per_s", "p50_us",
                                        "p99_us", "p999_us", "max_us", "cpu_s_per_million", "errors"})
            CHECK(first.contains(field));
        CHECK(first.at("requests_per_s") == 100);
        CHECK(first.at("system_calls_per_request").is_null()); // they could not be counted
    }

    TEST_CASE("names do not break the page") {
        report r{.machine = "<m>", .command = "a & b", .workloads = {{row_of("<script>", {100})}}};
        const std::string page = html(r);
        CHECK(page.find("<script>") == std::string::npos);
        CHECK(page.find("a &amp; b") != std::string::npos);
    }

    TEST_CASE("each chart of the page is a file of its own as well") {
        report r{
            .machine = "m", .command = "c", .workloads = {{row_of("<a>", {100}), row_of("b", {200})}}};
        r.workloads[0][0].load = "50 connections, <half> busy";
        const std::vector<drawing> files = drawings(r);
        REQUIRE(files.size() == 3); // the latencies, and the processors of each layout
        CHECK(files[0].name == "echo-latency-50-connections-half-busy.svg");
        CHECK(files[0].svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        CHECK(files[0].svg.find("echo: Latency, 50 connections, &lt;half&gt; busy") !=
              std::string::npos);
        CHECK(files[0].svg.find("&lt;a&gt;</text>") != std::string::npos); // which line it is
        CHECK(files[0].svg.ends_with("</svg>\n"));
        CHECK(files[1].name == "echo-processors-50-connections-half-busy-a.svg");
        CHECK(files[1].name != files[2].name);
    }

    TEST_CASE("Zipf's law: the second comes half as often as the first") {
        const zipf skewed(100, 1);
        std::minstd_rand random(1);
        std::vector<int> drawn(100);
        for (int i = 0; i < 100'000; ++i)
            ++drawn.at(skewed(random));
        CHECK(drawn[0] == doctest::Approx(2 * drawn[1]).epsilon(0.1));
        CHECK(drawn[0] == doctest::Approx(10 * drawn[9]).epsilon(0.15));
        const zipf even(4, 0);
        CHECK(even.is_uniform());
        std::vector<int> alike(4);
        for (int i = 0; i < 40'000; ++i)
            ++alike.at(even(random));
        for (const int n : alike)
            CHECK(n == doctest::Approx(10'000).epsilon(0.1));
    }
}
