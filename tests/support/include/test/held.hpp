#pragma once

#include <magpie/core.hpp>

#include <utility>

namespace test {

/// An operation in somebody's hand, as one is whose waker has been held up: `cancel` answers
/// `coming`, and it surfaces when `release` is called.
class held {
public:
    class [[nodiscard("co_await it")]] wait_operation;

    held() noexcept = default;
    held(const held&) = delete;
    held& operator=(const held&) = delete;

    wait_operation wait() noexcept;

    bool is_waited_for() const noexcept { return waiter_ != nullptr; }
    int cancels() const noexcept { return cancels_; }
    int resumed() const noexcept { return resumed_; } ///< waits that ended, the dropped ones aside

    /// Wakes who waits. From any thread.
    void release() noexcept { wake(*std::exchange(waiter_, nullptr)); }

private:
    magpie::leaf* waiter_ = nullptr;
    int cancels_ = 0;
    int resumed_ = 0;
};

class held::wait_operation : public magpie::operation<wait_operation> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

    explicit wait_operation(held& h) noexcept : held_(&h) {}
    wait_operation(wait_operation&&) = default;

    bool try_complete() const noexcept { return false; }
    bool publish() noexcept {
        held_->waiter_ = this;
        return true;
    }
    void await_resume() const noexcept { ++held_->resumed_; }

private:
    magpie::cancel_answer cancel() noexcept override {
        ++held_->cancels_;
        return magpie::cancel_answer::coming;
    }

    held* held_;
};

inline held::wait_operation held::wait() noexcept { return wait_operation(*this); }

} // namespace test
