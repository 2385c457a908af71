// Ships lines of a log: gathers what tasks write into batches, and sends a batch when it is full, when its
// oldest line has waited long enough, and when all is over. A receiver that is away at first is tried
// again; one that hangs in the end is given up.

#include <magpie/magpie.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

namespace mpsc = magpie::sync::mpsc;
using magpie::task;

constexpr std::size_t most_in_batch = 20;
constexpr auto longest_wait = 10ms;

/// Where the lines go: anything that takes its time.
class receiver {
public:
    /// Throws twice, then works.
    task<> connect() {
        co_await magpie::sleep_for(1ms);
        if (++attempts_ < 3)
            throw std::runtime_error("the receiver is away");
    }
    /// A batch that is dropped half-way has arrived in part.
    magpie::lossy_task<> take(const std::vector<std::string>& batch) {
        for (const std::string& line : batch) {
            bytes_ += line.size();
            ++lines_;
            co_await magpie::unconstrained(magpie::yield_now()); // a batch counts as one operation
        }
        ++batches_;
    }
    /// Does not come back.
    magpie::lossy_task<> say_goodbye() { co_await magpie::sleep_for(1h); }

    std::size_t lines() const { return lines_; }
    std::size_t batches() const { return batches_; }

private:
    int attempts_ = 0;
    std::size_t bytes_ = 0;
    std::size_t lines_ = 0;
    std::size_t batches_ = 0;
};

// `select` takes it only with the leave to lose what was sent of it.
static_assert(magpie::safety_of<magpie::lossy_task<>> == magpie::cancel_safety::lossy);

/// Sends what comes, until nobody writes any more, or `stop` says so.
task<> ship(mpsc::receiver<std::string> lines, magpie::cancellation_token stop, receiver& to) {
    enum class next { line, send, end };
    std::vector<std::string> batch;
    magpie::timer due(longest_wait); // an lvalue: it goes on when it has lost
    bool over = false;
    while (!over) {
        const bool room = batch.size() < most_in_batch;
        auto came = [&](std::optional<std::string> line) {
            if (!line)
                return next::end;
            if (batch.empty())
                due.reset(magpie::clock::now() + longest_wait);
            batch.push_back(std::move(*line));
            return next::line;
        };
        auto is_due = [] { return next::send; };
        auto stopped = [] { return next::end; };
        auto full = [] { return next::send; };
        // In order: a line that is there is taken before the stop is heard, but none without room for it.
        const next what = co_await magpie::select_biased(
            magpie::on(magpie::when(room, lines.recv()), came),
            magpie::on(magpie::when(room && !batch.empty(), due), is_due),
            magpie::on(magpie::when(room, stop.cancelled()), stopped), magpie::otherwise(full));
        over = what == next::end;
        if (what != next::line && !batch.empty()) {
            co_await to.take(batch);
            batch.clear();
        }
    }
    const auto r = co_await magpie::select(magpie::may_lose(to.say_goodbye()), magpie::sleep_for(20ms));
    std::printf("shipped %zu lines in %zu batches%s\n", to.lines(), to.batches(),
                r.index() == 0 ? "" : "; no farewell");
}

/// Writes `n` lines. Gives how many it has written.
task<std::size_t> write(std::string name, std::size_t n, mpsc::sender<std::string> to) {
    std::size_t written = 0;
    while (written < n) {
        std::string line = name + ": line " + std::to_string(written) + " of task " +
                           std::to_string(magpie::this_task::id().value());
        static_cast<void>(co_await to.send(std::move(line)));
        ++written;
        if (written % 50 == 0)
            co_await magpie::sleep_for(1ms);
        co_await magpie::consume_budget(); // making a line may take long
    }
    co_return written;
}

/// All that has to be there before the first line is shipped. What is not, is said.
task<> check_place(std::string what, magpie::clock::duration takes, bool there) {
    co_await magpie::sleep_for(takes);
    if (!there)
        throw std::runtime_error(what);
}
task<> to_its_end(task<> t) { co_await magpie::shield(std::move(t)); }

task<> check() {
    auto all = [](magpie::task_scope& s) -> task<> {
        s.spawn(check_place("no spool folder", 1ms, true));
        s.spawn(check_place("no certificate", 1ms, false));
        // It comes to its end, though the first failure drops the others.
        s.spawn(to_its_end(check_place("no clock", 20ms, false)));
        co_return;
    };
    try {
        co_await magpie::scope(all);
    } catch (const std::runtime_error& first) {
        std::printf("to be mended: %s\n", first.what());
        for (const magpie::task_failure& f : magpie::attached_failures()) // they were logged, too
            std::printf("to be mended: %s\n", std::string(magpie::describe(f.error)).c_str());
    }
}

task<int> program() {
    co_await check();

    receiver to;
    auto connect = [&to] { return to.connect(); };
    auto tell = [](const magpie::failed_run& f) {
        std::printf("attempt %zu: %s\n", f.failures, std::string(magpie::describe(f.error)).c_str());
    };
    auto policy = magpie::restart_policy().back_off(1ms, 2.0, 10ms).on_failure(tell);
    co_await magpie::supervise(connect, std::move(policy));

    auto lines = mpsc::channel<std::string>(64);
    magpie::cancellation_token stop;
    auto shipping = magpie::spawn("shipper", ship(std::move(lines.rx), stop, to));
    std::size_t written = 0;
    {
        // However this block is left, the shipper hears of it.
        const magpie::sync::cancellation_guard on_the_way_out = stop.drop_guard();

        magpie::join_set<std::size_t> writers;
        writers.spawn(write("web", 300, lines.tx));
        writers.spawn(write("mail", 200, lines.tx));
        for (const std::size_t n : co_await writers.join_all())
            written += n;

        const magpie::abort_handle endless = writers.spawn(write("debug", 1'000'000'000, lines.tx));
        const magpie::abort_handle last = writers.spawn(write("cron", 50, lines.tx));
        while (auto ended = co_await writers.join_next_with_id()) {
            if (ended->id == last.id()) {
                written += ended->result.value();
                endless.abort(); // who does not end is not waited for
            }
        }
    }
    co_await shipping;
    co_return to.lines() >= written ? 0 : 1;
}

} // namespace

int main() { return magpie::run(program()); }
