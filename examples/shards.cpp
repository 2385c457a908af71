// A dictionary that is owned in parts, a part a core: nobody locks anything. Each word belongs to a shard, and
// who wants to know about a word asks its shard.
//
//     shards             counts some words
//     shards a b a       counts these

#include <magpie/magpie.hpp>

#include <cstddef>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

/// The words of one shard. No other one touches it.
class dictionary {
public:
    void add(const std::string& word) { ++counts_[word]; }
    std::size_t count(const std::string& word) const {
        const auto found = counts_.find(word);
        return found != counts_.end() ? found->second : 0;
    }
    std::size_t words() const { return counts_.size(); }

    /// Before it goes: flushing something to a disk would be done here.
    magpie::task<> stop() {
        counts_.clear();
        co_return;
    }

private:
    std::map<std::string, std::size_t> counts_;
};

std::size_t owner_of(const std::string& word) {
    return std::hash<std::string>()(word) % magpie::shard_count();
}

magpie::task<> add_all(magpie::sharded<dictionary>& all, std::vector<std::string> words) {
    for (const std::string& word : words) {
        auto add = [&word](dictionary& d) { d.add(word); };
        co_await all.invoke_on(owner_of(word), add);
    }
}

/// What is made on one shard, kept by another, and destroyed on its own.
struct greeting {
    std::size_t made_on = magpie::this_shard();
};

magpie::task<int> program(std::vector<std::string> words) {
    magpie::sharded<dictionary> all;
    co_await all.start();

    // One reader a shard; each has its words, and asks whoever owns them.
    std::vector<magpie::join_handle<>> readers;
    for (std::size_t s = 0; s < magpie::shard_count(); ++s) {
        std::vector<std::string> mine;
        for (std::size_t i = s; i < words.size(); i += magpie::shard_count())
            mine.push_back(words[i]);
        readers.push_back(magpie::spawn_on(s, add_all(all, std::move(mine))));
    }
    for (magpie::join_handle<>& r : readers)
        co_await r;

    const std::string& first = words.front();
    auto count = [&first](dictionary& d) { return d.count(first); };
    std::cout << first << ": " << co_await all.invoke_on(owner_of(first), count) << '\n';

    const std::size_t different = co_await all.map_reduce(&dictionary::words, std::size_t{0},
                                                          std::plus<>());
    std::cout << different << " different words\n";

    auto add_one = [](dictionary& d) { d.add("shard " + std::to_string(magpie::this_shard())); };
    co_await all.invoke_on_all(add_one);
    std::cout << "shard 0 has " << all.local().count("shard 0") << " of itself\n";

    // A function may also be submitted without a sharded object; one that gives a task may wait over there.
    const std::size_t last = magpie::shard_count() - 1;
    auto make = [] { return magpie::foreign_ptr<greeting>(std::make_unique<greeting>()); };
    const magpie::foreign_ptr<greeting> from_there = co_await magpie::submit_to(last, make);
    std::cout << "the greeting is the last shard's: " << std::boolalpha
              << (from_there->made_on == last && from_there.shard() == last) << '\n';

    co_await all.stop(); // the last shard's first
    co_return 0;
}

} // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (words.empty())
        words = {"to", "be", "or", "not", "to", "be"};
    const magpie::runtime rt =
        magpie::runtime::builder().layout(magpie::layout::thread_per_core).build();
    return magpie::spawn_on(rt.handle(), 0, program(std::move(words))).blocking_join();
}
