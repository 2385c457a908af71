// A pool whose workers steal from each other, and in it some tasks that stay where they are: each worker owns a
// part of the words, in a task that is pinned to it, and counts them without a lock. Reading and splitting the text
// is for whoever is free.
//
//     owners              counts some words
//     owners a b a        counts these

#include <magpie/magpie.hpp>

#include <cstddef>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace mpsc = magpie::sync::mpsc;

/// Everything that one worker owns. Its tasks run one at a time, so they need no lock; whoever sends to it may
/// be anywhere.
magpie::task<std::map<std::string, int>> own(mpsc::receiver<std::string> words) {
    std::map<std::string, int> counts;
    for (;;) {
        std::optional<std::string> next = co_await words.recv();
        if (!next)
            co_return counts;
        ++counts[*std::move(next)];
    }
}

magpie::task<> send_all(std::vector<std::string> words, std::vector<mpsc::sender<std::string>> to) {
    for (std::string& word : words) {
        const std::size_t owner = std::hash<std::string>()(word) % to.size();
        static_cast<void>(co_await to[owner].send(std::move(word)));
    }
}

magpie::task<int> program(std::vector<std::string> words) {
    const std::size_t workers = magpie::runtime_handle::current().worker_threads();
    std::vector<mpsc::sender<std::string>> owners;
    std::vector<magpie::join_handle<std::map<std::string, int>>> parts;
    for (std::size_t w = 0; w < workers; ++w) {
        auto [to, from] = mpsc::channel<std::string>(16);
        owners.push_back(std::move(to));
        parts.push_back(magpie::spawn_on_worker(w, "owner", own(std::move(from))));
    }
    const std::size_t half = words.size() / 2;
    const auto middle = words.begin() + static_cast<std::ptrdiff_t>(half);
    std::vector<std::string> front(words.begin(), middle);
    std::vector<std::string> back(middle, words.end());
    auto first = magpie::spawn(send_all(std::move(front), owners));
    auto second = magpie::spawn(send_all(std::move(back), std::move(owners)));
    co_await first;
    co_await second;

    int all = 0;
    for (auto& part : parts) {
        const std::map<std::string, int> counts = co_await part; // no sender is left: it has ended
        for (const auto& [word, n] : counts) {
            std::cout << word << ": " << n << '\n';
            all += n;
        }
    }
    co_return static_cast<std::size_t>(all) == words.size() ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (words.empty())
        words = {"to", "be", "or", "not", "to", "be"};
    magpie::runtime_builder builder;
    // On a machine with several cores the first one is left to the system and to other programs; where there
    // is one core, that is used.
    try {
        return builder.reserve_cores(1).build().block_on(program(words));
    } catch (const std::invalid_argument&) {
        return builder.reserve_cores(0).build().block_on(program(words));
    }
}
