// Five tasks at once, and one that takes too long.

#include <magpie/magpie.hpp>

#include <chrono>
#include <iostream>
#include <optional>
#include <vector>

using namespace std::chrono_literals;

magpie::task<int> measure(int sensor) {
    co_await magpie::sleep_for(sensor * 10ms);
    co_return 11 * sensor;
}

magpie::task<> program() {
    std::vector<magpie::join_handle<int>> readings;
    for (int sensor = 1; sensor <= 5; ++sensor)
        readings.push_back(magpie::spawn(measure(sensor))); // each runs on its own, on any worker
    int sum = 0;
    for (auto& reading : readings)
        sum += co_await reading; // its value, or its exception
    std::cout << "sum: " << sum << '\n';

    const std::optional<int> late = co_await magpie::timeout(20ms, measure(100));
    std::cout << (late ? "in time\n" : "too late: dropped\n");
}

int main() { magpie::run(program()); }
