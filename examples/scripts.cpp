// Interpreters that must not be touched by two threads, in a pool that steals: each script gets one of its own, on
// the worker that has the fewest scripts to run, and stays there with it.
//
//     scripts                     runs some sums, in reverse Polish notation
//     scripts "1 2 +" "3 4 *"     runs these; a script that is wrong fails alone

#include <magpie/magpie.hpp>

#include <cstddef>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

/// It stands for a library that knows no locks and keeps something for each thread.
class interpreter {
public:
    void step(const std::string& word) {
        if (std::this_thread::get_id() != home_)
            throw std::logic_error("an interpreter was used by another thread");
        if (word == "+" || word == "*") {
            const long b = pop();
            const long a = pop();
            stack_.push_back(word == "+" ? a + b : a * b);
        } else {
            stack_.push_back(std::stol(word));
        }
    }
    long pop() {
        if (stack_.empty())
            throw std::runtime_error("there is nothing on the stack");
        const long top = stack_.back();
        stack_.pop_back();
        return top;
    }

private:
    std::thread::id home_ = std::this_thread::get_id();
    std::vector<long> stack_;
};

magpie::task<long> run(std::string script) {
    interpreter one;
    std::istringstream words(std::move(script));
    for (std::string word; words >> word;) {
        one.step(word);
        co_await magpie::yield_now(); // others have their turn; this goes on here
    }
    co_return one.pop();
}

magpie::task<int> program(std::vector<std::string> scripts) {
    const magpie::local_pool pool;
    std::vector<magpie::join_handle<long>> results;
    for (const std::string& script : scripts) {
        auto make = [script] { return run(script); };
        results.push_back(pool.spawn(make));
    }
    const std::vector<std::size_t> loads = pool.loads();
    for (std::size_t w = 0; w < pool.workers(); ++w)
        std::cout << "worker " << w << ": " << loads[w] << " to run\n";
    int failed = 0;
    for (std::size_t i = 0; i < scripts.size(); ++i) {
        const auto result = co_await magpie::as_result(results[i]);
        std::cout << scripts[i] << ": ";
        if (result) {
            std::cout << *result << '\n';
        } else {
            std::cout << magpie::describe(result.error()) << '\n';
            ++failed;
        }
    }
    // One that has to be on a certain worker says so, and counts there.
    auto last = [] { return run("1 1 +"); };
    const long two = co_await pool.spawn_on(pool.workers() - 1, last);
    co_return two == 2 ? failed : -1;
}

} // namespace

int main(int argc, char** argv) {
    std::vector<std::string> scripts(argv + 1, argv + argc);
    if (scripts.empty())
        scripts = {"1 2 +", "3 4 * 5 +", "2 2 * 2 * 2 *", "6 7 *"};
    const magpie::runtime rt;
    return rt.block_on(program(std::move(scripts)));
}
