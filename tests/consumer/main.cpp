// A program of somebody who uses magpie.

#include <magpie/magpie.hpp>

magpie::task<int> twice(int n) { co_return 2 * n; }

magpie::task<int> spawn_twice(int n) {
    auto spawned = magpie::spawn(twice(n));
    co_return co_await std::move(spawned);
}

int main() { return magpie::run(spawn_twice(21)) == 42 ? 0 : 1; }
