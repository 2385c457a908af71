#pragma once

#include <atomic>
#include <utility>

namespace test {

/// A move-only value that counts how many of its kind are alive.
class counting {
public:
    explicit counting(int value) noexcept : value_(value) { ++alive_; }
    counting(counting&& other) noexcept : value_(std::exchange(other.value_, moved)) { ++alive_; }
    counting& operator=(counting&& other) noexcept {
        value_ = std::exchange(other.value_, moved);
        return *this;
    }
    ~counting() { --alive_; }

    static constexpr int moved = -1;
    int value() const noexcept { return value_; }

    static int alive() noexcept { return alive_; }
    static void reset() noexcept { alive_ = 0; }

private:
    static inline std::atomic<int> alive_{0};
    int value_;
};

} // namespace test
