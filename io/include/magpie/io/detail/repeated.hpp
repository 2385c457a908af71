#pragma once

#include <magpie/core/as_result.hpp>
#include <magpie/core/detail/composite.hpp>
#include <magpie/core/error.hpp>
#include <magpie/core/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <system_error>
#include <utility>

namespace magpie::io::detail {

/// Awaits one operation after another until `Loop` is complete: a composite with one branch, which
/// has no frame. `Loop` has `operation next()`, `error_code moved(size_t)` and `is_complete()`.
template <class Loop>
class [[nodiscard("co_await it")]] repeated_operation : public operation<repeated_operation<Loop>>,
                                                        private magpie::detail::branch_owner {
    using part = magpie::detail::result_operation<typename Loop::operation>;
    using base = operation<repeated_operation>;

public:
    static constexpr cancel_safety safety = cancel_safety::lossy;

    explicit repeated_operation(Loop loop) noexcept : loop_(std::move(loop)) {}
    repeated_operation(repeated_operation&& other) noexcept
        : base(static_cast<base&&>(other)), branch_owner(std::move(other)),
          loop_(std::move(other.loop_)) {}

    bool try_complete() noexcept { return run(); }
    bool publish() const noexcept { return true; } // the step waits

    void await_resume() {
        if (exception_)
            std::rethrow_exception(std::move(exception_));
        if (error_)
            throw std::system_error(error_);
    }
    result<void> take_result() {
        if (exception_)
            std::rethrow_exception(std::move(exception_));
        if (error_)
            return {boost::system::in_place_error, error_};
        return {boost::system::in_place_value};
    }

private:
    /// Makes steps until one waits (false) or all is over (true).
    bool run() noexcept {
        try {
            while (!loop_.is_complete()) {
                step_.emplace(std::in_place, part(loop_.next()));
                if (!step_->start(*this->where(), *this))
                    return false;
                if (!take_step())
                    return true;
            }
        } catch (...) {
            exception_ = std::current_exception();
        }
        return true;
    }

    /// The step is over. False if that is the end.
    bool take_step() {
        const result<std::size_t> n = step_->take();
        error_ = n.has_error() ? n.error() : loop_.moved(*n);
        return !error_;
    }

    std::coroutine_handle<> branch_ended(branch&) noexcept override {
        if constexpr (magpie::detail::is_composite<part>) {
            this->step_later(); // it may be in a final suspend, where no frame is destroyed
            return std::noop_coroutine();
        } else {
            return go_on();
        }
    }
    std::coroutine_handle<> step() noexcept override {
        return this->is_dropped() ? this->surface() : go_on();
    }
    std::coroutine_handle<> go_on() noexcept {
        try {
            if (take_step() && !run())
                return std::noop_coroutine();
        } catch (...) {
            exception_ = std::current_exception();
        }
        return this->surface();
    }
    std::coroutine_handle<> branch_gone(branch&) noexcept override { return this->surface(); }
    cancel_answer cancel() noexcept override {
        return this->is_stepping() ? cancel_answer::coming : step_->request_cancel();
    }
    std::exception_ptr discard() noexcept override {
        return step_ ? step_->discard() : std::exception_ptr();
    }

    Loop loop_;
    std::optional<magpie::detail::operation_branch<part>> step_;
    boost::system::error_code error_;
    std::exception_ptr exception_;
};

} // namespace magpie::io::detail
