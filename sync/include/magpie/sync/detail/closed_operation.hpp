#pragma once

#include <magpie/core/operation.hpp>
#include <magpie/sync/detail/wait_list.hpp>

#include <utility>

namespace magpie::sync::detail {

/// A sender's wait until nobody will receive any more. `State` is what the ends of the channel share.
template <class State>
class [[nodiscard("co_await it")]] closed_operation : public operation<closed_operation<State>> {
public:
    static constexpr cancel_safety safety = cancel_safety::safe;

    explicit closed_operation(State& s) noexcept : state_(&s), wait_(*this) {}
    closed_operation(closed_operation&& other) noexcept
        : operation<closed_operation>(std::move(other)), state_(other.state_), wait_(*this) {}
    ~closed_operation() {
        if (holds_)
            state_->release();
    }

    bool try_complete() const noexcept { return !state_->is_open(); }
    bool publish() noexcept {
        if (std::exchange(holds_, true))
            state_->release(); // of the wait before
        holds_ = state_->wait_for_close(wait_);
        return holds_;
    }
    void await_resume() const noexcept {}

private:
    cancel_answer cancel() noexcept override {
        return state_->leave_close(wait_) ? cancel_answer::quiet : cancel_answer::coming;
    }

    State* state_;
    bool holds_ = false; // a reference, since the first wait
    wait_place wait_;
};

} // namespace magpie::sync::detail
