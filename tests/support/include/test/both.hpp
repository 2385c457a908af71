#pragma once

#include <magpie/core.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace test {

/// Runs two tasks as branches of the one that awaits it, and ends when both have ended: the least
/// composite in which two branches are alive at a time.
class [[nodiscard("co_await it")]] both : public magpie::leaf, private magpie::detail::branch_owner {
public:
    both(magpie::task<> first, magpie::task<> second) noexcept
        : first_(std::in_place, std::move(first)), second_(std::in_place, std::move(second)) {}
    both(const both&) = delete;

    bool await_ready() noexcept {
        const bool first_ended = first_.start(*where(), *this);
        const bool second_ended = second_.start(*where(), *this);
        return first_ended && second_ended;
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> caller) noexcept {
        bind(caller.promise());
        return true;
    }
    void await_resume() {
        std::exception_ptr error;
        try {
            first_.take();
        } catch (...) {
            error = std::current_exception();
        }
        second_.take();
        if (error)
            std::rethrow_exception(std::move(error));
    }

private:
    using branch = magpie::detail::task_branch<void>;

    std::coroutine_handle<> branch_ended(magpie::branch&) noexcept override {
        const bool over = first_.has_ended() && second_.has_ended();
        return over ? surface() : std::noop_coroutine();
    }
    std::coroutine_handle<> branch_gone(magpie::branch&) noexcept override {
        return first_.is_coming() || second_.is_coming() ? std::noop_coroutine() : surface();
    }
    magpie::cancel_answer cancel() noexcept override {
        using enum magpie::cancel_answer;
        const auto first = first_.request_cancel();
        const auto second = second_.request_cancel();
        return first == coming || second == coming ? coming : quiet;
    }
    std::exception_ptr discard() noexcept override {
        std::exception_ptr first;
        for (branch* b : {&first_, &second_})
            if (std::exception_ptr error = b->discard())
                magpie::detail::keep_first(owner(), first, std::move(error));
        return first;
    }

    branch first_;
    branch second_;
};

} // namespace test
