#pragma once

#include <magpie/core/strand.hpp>

#include <test/manual_executor.hpp>

#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>

namespace test {

/// A strand that does nothing: something to put into a queue.
class bare_strand final : public magpie::strand {
public:
    bare_strand(magpie::executor& e, std::size_t n) noexcept : strand(e), number(n) {}

    static std::size_t number_of(const magpie::strand& s) {
        return static_cast<const bare_strand&>(s).number;
    }

    std::size_t number;
    const strand* mark = nullptr; ///< for the test

private:
    std::coroutine_handle<> ended() noexcept override { return std::noop_coroutine(); }
    std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
    void note(std::exception_ptr) noexcept override {}
    void finish() noexcept override {}
};

/// That many of them, numbered from 0.
class bare_strands {
public:
    explicit bare_strands(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            all_.emplace_back(executor_, i);
    }
    bare_strand& operator[](std::size_t i) { return all_[i]; }
    std::size_t size() const { return all_.size(); }

private:
    manual_executor executor_;
    std::deque<bare_strand> all_;
};

} // namespace test
