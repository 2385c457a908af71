#include "measure.hpp"

#include "process.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace layouts {
namespace {

using clock = load::clock;

/// The loads of a run, a thread each, all with an equal part of what is asked for.
class loads {
public:
    loads(std::uint16_t port, const traffic& what, const load_options& options, clock::time_point begin,
          std::uint64_t seed)
        : results_(options.threads), errors_(options.threads) {
        for (std::size_t i = 0; i < options.threads; ++i) {
            load_options part = options;
            part.connections = options.connections / options.threads +
                               (i < options.connections % options.threads);
            part.rate = options.rate / static_cast<double>(options.threads);
            loads_.push_back(std::make_unique<load>(port, what, part, begin, seed + i));
        }
        for (std::size_t i = 0; i < options.threads; ++i)
            threads_.emplace_back([this, i] {
                try {
                    results_[i] = loads_[i]->run();
                } catch (...) {
                    errors_[i] = std::current_exception();
                }
            });
    }
    ~loads() {
        end_window();
        join();
    }

    void begin_window() noexcept {
        for (const auto& l : loads_)
            l->begin_window();
    }
    void end_window() noexcept {
        for (const auto& l : loads_)
            l->end_window();
    }

    std::uint64_t answered() const {
        std::uint64_t sum = 0;
        for (const auto& l : loads_)
            sum += l->answered();
        return sum;
    }

    bool has_measured() const {
        return std::any_of(loads_.begin(), loads_.end(),
                           [](const auto& l) { return l->has_measured(); });
    }

    load_result result() {
        join();
        load_result sum;
        for (std::size_t i = 0; i < results_.size(); ++i) {
            if (errors_[i])
                std::rethrow_exception(errors_[i]);
            const load_result& r = results_[i];
            sum.latencies.add(r.latencies);
            if (sum.errors == 0)
                sum.first_error = r.first_error;
            sum.errors += r.errors;
            sum.unanswered += r.unanswered;
        }
        return sum;
    }

private:
    void join() {
        for (std::thread& t : threads_)
            if (t.joinable())
                t.join();
    }

    std::vector<std::unique_ptr<load>> loads_;
    std::vector<load_result> results_;
    std::vector<std::exception_ptr> errors_;
    std::vector<std::thread> threads_;
};

double imbalance_of(const usage& before, const usage& after) {
    std::vector<double> busy;
    for (std::size_t i = 0; i < after.busy_seconds.size(); ++i)
        busy.push_back(after.busy_seconds[i] - before.busy_seconds[i]);
    const double sum = std::accumulate(busy.begin(), busy.end(), 0.0);
    return sum > 0
               ? *std::max_element(busy.begin(), busy.end()) * static_cast<double>(busy.size()) / sum
               : 1;
}

} // namespace

run measure(const compared& service, const std::string& layout, std::size_t workers,
            const load_options& options, std::uint64_t seed) {
    run r;
    service_process process(service.name, layout, workers);
    const auto begin = clock::now() +
                       std::chrono::milliseconds(50); // the connections are made till then
    loads load(process.port(), service.says, options, begin, seed);

    processor_use use;
    const auto watch_until = [&](clock::time_point end) {
        constexpr auto step = std::chrono::milliseconds(100); // the system counts in steps of 10 ms
        for (auto next = clock::now() + step; clock::now() < end; next += step) {
            std::this_thread::sleep_until(std::min(next, end));
            if (clock::now() >= next)
                r.uses.push_back(
                    {std::chrono::duration<double>(clock::now() - begin).count(), use.since_last()});
        }
    };
    watch_until(begin + options.warm_up);
    const call_counter calls(process.pid());
    const usage before = process.used();
    const auto calls_before = calls.count();
    load.begin_window();
    const std::uint64_t answered_before = load.answered();
    const auto measured_from = clock::now();
    watch_until(measured_from + options.window);
    // On a machine that does much else nothing may have been done yet; a service that hangs is told from that.
    while ((load.answered() == answered_before || !load.has_measured()) &&
           clock::now() < measured_from + options.window + std::chrono::seconds(30))
        watch_until(clock::now() + std::chrono::milliseconds(100));
    const double answered = static_cast<double>(load.answered() - answered_before);
    const double seconds = std::chrono::duration<double>(clock::now() - measured_from).count();
    load.end_window();
    const auto calls_after = calls.count();
    const usage after = process.used();

    load_result made = load.result();
    r.latencies = made.latencies;
    r.errors = made.errors;
    r.unanswered = made.unanswered;
    r.first_error = made.first_error;
    if (answered == 0) { // nothing can be said a request
        if (r.errors++ == 0)
            r.first_error = "nothing was answered";
        return r;
    }
    r.requests_per_s = answered / seconds;
    r.cpu_s_per_million = (after.cpu_seconds - before.cpu_seconds) * 1e6 / answered;
    r.switches_per_request = static_cast<double>(after.switches - before.switches) / answered;
    if (calls_before && calls_after)
        r.calls_per_request = static_cast<double>(*calls_after - *calls_before) / answered;
    r.steals_per_request = static_cast<double>(after.steals - before.steals) / answered;
    r.messages_per_request = static_cast<double>(after.messages - before.messages) / answered;
    r.imbalance = imbalance_of(before, after);
    return r;
}

} // namespace layouts
