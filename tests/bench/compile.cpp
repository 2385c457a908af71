// What the row `compile` measures: a small program of a user, kept current with the library.

#include <magpie/magpie.hpp>

#include <chrono>

namespace {
magpie::task<int> twice(int n) {
    co_await magpie::sleep_for(std::chrono::milliseconds(1));
    co_return 2 * n;
}

magpie::task<int> sum() {
    auto one = magpie::spawn(twice(1));
    auto two = magpie::spawn(twice(2));
    const int first = co_await one;
    co_return first + co_await two;
}
} // namespace

int main() { return magpie::run(sum()); }
