#pragma once

#include <magpie/core.hpp>

#include <mutex>
#include <utility>

namespace test {

/// Permits for one waiter at a time: the least operation that hands something over. A waker takes
/// the leaf out under the lock and wakes it later; a leaf that is dropped with a permit gives it back.
class permits {
public:
    class [[nodiscard("co_await it")]] take_operation;

    permits() noexcept = default;
    permits(const permits&) = delete;
    permits& operator=(const permits&) = delete;

    take_operation take() noexcept;

    /// Adds one, which a waiter gets at once. From any thread.
    void add() noexcept;

    /// How many there are that nobody has.
    int left() const {
        const std::lock_guard guard(lock_);
        return count_;
    }

private:
    mutable std::mutex lock_;
    int count_ = 0;
    take_operation* waiter_ = nullptr;
};

class permits::take_operation : public magpie::operation<take_operation> {
public:
    static constexpr magpie::cancel_safety safety = magpie::cancel_safety::safe;

    explicit take_operation(permits& p) noexcept : permits_(&p) {}
    take_operation(take_operation&& other) noexcept
        : operation(std::move(other)), permits_(other.permits_) {}
    ~take_operation() {
        if (has_one_)
            permits_->add();
    }

    bool try_complete() noexcept {
        const std::lock_guard guard(permits_->lock_);
        has_one_ = permits_->count_ > 0;
        permits_->count_ -= has_one_ ? 1 : 0;
        return has_one_;
    }
    bool publish() noexcept {
        const std::lock_guard guard(permits_->lock_);
        if (permits_->count_ > 0) {
            --permits_->count_;
            has_one_ = true;
            return false;
        }
        permits_->waiter_ = this;
        return true;
    }
    void await_resume() noexcept { has_one_ = false; } // the caller has it now

private:
    friend class permits;

    magpie::cancel_answer cancel() noexcept override {
        const std::lock_guard guard(permits_->lock_);
        if (permits_->waiter_ != this)
            return magpie::cancel_answer::coming;
        permits_->waiter_ = nullptr;
        return magpie::cancel_answer::quiet;
    }

    permits* permits_;
    bool has_one_ = false;
};

inline permits::take_operation permits::take() noexcept { return take_operation(*this); }

inline void permits::add() noexcept {
    take_operation* taker;
    {
        const std::lock_guard guard(lock_);
        taker = std::exchange(waiter_, nullptr);
        if (taker == nullptr)
            ++count_;
        else
            taker->has_one_ = true;
    }
    if (taker != nullptr)
        wake(*taker); // it was in this thread's hand, where cancel answers `coming`
}

} // namespace test
