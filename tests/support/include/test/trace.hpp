#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace test {

/// What happened, in order: words with a space between.
class trace {
public:
    void add(std::string_view word) {
        if (!text_.empty())
            text_ += ' ';
        text_ += word;
    }
    const std::string& text() const { return text_; }
    std::string take() { return std::exchange(text_, {}); }

private:
    std::string text_;
};

/// Says its name when it is destroyed. One that was moved from says nothing.
class noisy {
public:
    noisy(trace& t, std::string name) : trace_(&t), name_(std::move(name)) {}
    noisy(noisy&& other) noexcept
        : trace_(std::exchange(other.trace_, nullptr)), name_(std::move(other.name_)) {}
    noisy& operator=(noisy&&) = delete;
    ~noisy() {
        if (trace_ != nullptr)
            trace_->add(name_);
    }

private:
    trace* trace_;
    std::string name_;
};

/// Throws std::runtime_error when it is destroyed. One that was moved from does not.
class throws_at_end {
public:
    explicit throws_at_end(const char* what) : what_(what) {}
    throws_at_end(throws_at_end&& other) noexcept : what_(std::exchange(other.what_, nullptr)) {}
    throws_at_end& operator=(throws_at_end&&) = delete;
    ~throws_at_end() noexcept(false) {
        if (what_ != nullptr)
            throw std::runtime_error(what_);
    }

private:
    const char* what_;
};

/// Counts the objects alive, on all threads: below zero one was destroyed twice, above zero one never.
class counted {
public:
    static inline std::atomic<int> alive{0};

    explicit counted(int v = 0) noexcept : value(v) { add(1); }
    counted(counted&& other) noexcept : value(other.value) { add(1); }
    counted(const counted& other) noexcept : value(other.value) { add(1); }
    counted& operator=(const counted&) = default;
    ~counted() { add(-1); }

    int value;

private:
    static void add(int n) noexcept { alive.fetch_add(n, std::memory_order_relaxed); } // orders nothing
};

} // namespace test
