#pragma once

#include <magpie_model/system_thread.hpp>
#include <scheduler/src/runtime_core.hpp>
#undef thread // the explorer's own is meant from here on

#include "support.hpp"

#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>

// What the scenarios of the scheduler share.

namespace model_test {

/// A strand that does nothing: something to put into a queue.
class numbered_strand final : public magpie::strand {
public:
    numbered_strand(magpie::executor& e, int n) noexcept : strand(e), number(n) {}

    const int number;
    int runs = 0;
    magpie_model::plain<bool> handed_over; ///< written by who queues it, read by who takes it

private:
    std::coroutine_handle<> ended() noexcept override { return std::noop_coroutine(); }
    std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
    void note(std::exception_ptr) noexcept override {}
    void finish() noexcept override {}
};

/// That many of them, numbered from 0; each has to be run once.
class numbered_strands {
public:
    explicit numbered_strands(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            all_.emplace_back(executor_, static_cast<int>(i));
            magpie_model::name(&all_.back(), sizeof all_.back(), "strand " + std::to_string(i));
        }
    }
    /// For who queues it.
    magpie::strand& operator[](std::size_t i) {
        all_[i].handed_over.set(true);
        return all_[i];
    }
    /// For who names it only.
    magpie::strand& at(std::size_t i) { return all_[i]; }

    static int number_of(const magpie::strand& s) {
        return static_cast<const numbered_strand&>(s).number;
    }

    static void run(magpie::strand* s) {
        if (s == nullptr)
            return;
        auto& taken = static_cast<numbered_strand&>(*s);
        check(taken.handed_over.get(), "a strand is taken as it was queued");
        check(++taken.runs == 1, "no strand is taken twice");
    }
    void check_all_run() const {
        for (const numbered_strand& s : all_)
            check(s.runs == 1, "no strand is lost");
    }

private:
    executor executor_;
    std::deque<numbered_strand> all_;
};

} // namespace model_test
