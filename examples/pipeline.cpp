// A pipeline: lines of text go through stages that run at the same time, joined by channels.
//
//     reader -> (mpmc, 64) -> 3 counters -> (mpsc) -> collector -> (oneshot) -> main
//
// A full channel makes the stage before it wait, so memory stays bounded however long the input is. A watch
// carries settings that may change while it runs, a broadcast tells whoever listens how far it is, and commands go over
// a channel with priorities. The end of a stage is the end of its senders: nothing has to be stopped.
//
//     pipeline [LINES]

#include <magpie/magpie.hpp>

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace broadcast = magpie::sync::broadcast;
namespace mpmc = magpie::sync::mpmc;
namespace mpsc = magpie::sync::mpsc;
namespace oneshot = magpie::sync::oneshot;
namespace watch = magpie::sync::watch;
using magpie::task;

using counts = std::map<std::string, int>;

struct settings {
    std::size_t shortest = 3; // words below are not counted
};

enum class command { pause, resume, quit };

/// Makes the lines, one after another, unless it is told to stop.
task<> read_lines(mpmc::sender<std::string> out, mpsc::receiver<command> commands, int lines) {
    static const std::string text[] = {
        "the magpie is a bird of the crow family",
        "one of the most intelligent of all animals",
        "the tail of the magpie is as long as its body",
    };
    for (int i = 0; i < lines; ++i) {
        // Urgent commands come first, and a command before the next line.
        while (const auto c = commands.try_recv()) {
            std::optional<command> now = *c;
            while (now == command::pause)
                now = co_await commands.recv();
            if (now == command::quit)
                co_return;
        }
        const auto sent = co_await out.send(text[i % 3]);
        if (!sent)
            co_return; // nobody counts any more
    }
}

/// Counts the words of what lines it gets, and passes the result on when there are no more.
task<> count_words(mpmc::receiver<std::string> in, watch::receiver<settings> how,
                   mpsc::sender<counts> out, broadcast::sender<int> progress) {
    counts mine;
    int lines = 0;
    for (;;) {
        const std::optional<std::string> line = co_await in.recv();
        if (!line)
            break;
        const std::size_t shortest = how.borrow()->shortest; // the latest
        std::string word;
        for (const char c : *line + ' ') {
            if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
                word += c;
            } else {
                if (word.size() >= shortest)
                    ++mine[word];
                word.clear();
            }
        }
        if (++lines % 1000 == 0) {
            const auto heard = progress.try_send(1000);
            static_cast<void>(heard); // it is no matter if nobody listens
        }
    }
    // A permit first: what is expensive to make is made when there is room for it.
    auto place = co_await out.reserve();
    if (place)
        static_cast<void>(place->send(std::move(mine)));
}

task<> collect(mpsc::receiver<counts> in, oneshot::sender<counts> done) {
    counts all;
    std::vector<counts> batch;
    for (;;) {
        batch.clear();
        const std::size_t n = co_await in.recv_many(batch, 16);
        if (n == 0)
            break;
        for (const counts& part : batch)
            for (const auto& [word, count] : part)
                all[word] += count;
    }
    static_cast<void>(done.send(std::move(all)));
}

task<> report(broadcast::receiver<int> progress) {
    int lines = 0;
    for (;;) {
        const magpie::sync::received<int> more = co_await progress.recv();
        if (more.is_closed())
            break;
        lines += more ? *more : 1000 * static_cast<int>(more.missed());
    }
    std::cout << "about " << lines << " lines\n";
}

task<counts> run(int lines) {
    auto [lines_tx, lines_rx] = mpmc::channel<std::string>(64);
    auto [parts_tx, parts_rx] = mpsc::channel<counts>(2);
    auto [result_tx, result_rx] = oneshot::channel<counts>();
    auto [settings_tx, settings_rx] = watch::channel(settings());
    auto [progress_tx, progress_rx] = broadcast::channel<int>(8);
    auto [commands_tx, commands_rx] = mpsc::priority_channel<command>(8, 2);

    auto listener = magpie::spawn(report(std::move(progress_rx)));
    magpie::spawn(read_lines(std::move(lines_tx), std::move(commands_rx), lines)).detach();
    for (int i = 0; i < 3; ++i)
        magpie::spawn(count_words(lines_rx, settings_rx, parts_tx, progress_tx)).detach();
    magpie::spawn(collect(std::move(parts_rx), std::move(result_tx))).detach();

    settings_tx.send_modify([](settings& s) { s.shortest = 5; });
    for (const command c : {command::pause, command::resume}) {
        const auto told = co_await commands_tx.send(0, c); // in order; a quit would go with priority 1
        static_cast<void>(told);                           // it may have read all lines already
    }

    // A stage ends when its last sender has gone; this function keeps none.
    {
        const auto last_part = std::move(parts_tx);
        const auto last_report = std::move(progress_tx);
        const auto last_line = std::move(lines_rx);
    }
    std::optional<counts> result = co_await result_rx.recv();
    co_await listener;
    co_return *std::move(result);
}

} // namespace

int main(int argc, char** argv) {
    const int lines = argc > 1 ? std::atoi(argv[1]) : 30'000;
    magpie::runtime rt = magpie::runtime::builder().build();
    const counts result = rt.block_on(run(lines));
    for (const auto& [word, count] : result)
        std::cout << count << ' ' << word << '\n';
    return result.contains("magpie") == (lines > 0) ? EXIT_SUCCESS : EXIT_FAILURE;
}
