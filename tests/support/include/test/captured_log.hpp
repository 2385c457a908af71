#pragma once

#include <magpie/core/log.hpp>

#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>

namespace test {

/// Takes what the library logs, as long as it lives. One at a time.
class captured_log {
public:
    captured_log() : before_(magpie::set_log_function(&take)) { replace({}); }
    captured_log(const captured_log&) = delete;
    ~captured_log() { magpie::set_log_function(before_); }

    /// All of it so far, a line a message.
    std::string text() const {
        const std::lock_guard guard(lock_);
        return text_;
    }

    std::size_t count(std::string_view part) const {
        const std::string all = text();
        std::size_t n = 0;
        for (std::size_t at = all.find(part); at != std::string::npos; at = all.find(part, at + 1))
            ++n;
        return n;
    }
    bool contains(std::string_view part) const { return count(part) > 0; }

private:
    static void replace(std::string t) {
        const std::lock_guard guard(lock_);
        text_ = std::move(t);
    }
    static void take(magpie::log_level, std::string_view message) noexcept {
        const std::lock_guard guard(lock_);
        text_ += message;
        text_ += '\n';
    }

    static inline std::mutex lock_;
    static inline std::string text_;
    magpie::log_function before_;
};

/// Drops what the library logs, as long as it lives: of a test that makes much of it, and counts memory.
class muted_log {
public:
    muted_log() noexcept : before_(magpie::set_log_function(nullptr)) {}
    muted_log(const muted_log&) = delete;
    ~muted_log() { magpie::set_log_function(before_); }

private:
    magpie::log_function before_;
};

} // namespace test
