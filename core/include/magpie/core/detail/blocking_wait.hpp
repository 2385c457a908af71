#pragma once

#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/strand.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace magpie::detail {

/// The strand of a plain thread that waits for one leaf; stands on its stack (R34).
class waiting_thread final : private executor, public strand {
public:
    /// @throws std::logic_error when the calling thread runs a task: it would block a worker
    waiting_thread();
    ~waiting_thread() = default;

    /// Returns when the leaf, which was started in `*this`, has surfaced.
    void wait() noexcept;

private:
    void schedule(strand&, placement) noexcept override;
    void adopt(cell&) noexcept override;
    bool enroll(cell&) noexcept override { return true; }
    void retire(cell&) noexcept override {}

    std::coroutine_handle<> ended() noexcept override { return std::noop_coroutine(); }
    std::coroutine_handle<> gone() noexcept override { return std::noop_coroutine(); }
    void note(std::exception_ptr) noexcept override {}
    void finish() noexcept override {}

    futex notified_;
};

/// Waits for an operation on a plain thread.
template <class Operation>
decltype(auto) blocking_wait(Operation&& operation) {
    waiting_thread here;
    if (operation.start_in(here))
        here.wait();
    return operation.await_resume();
}

} // namespace magpie::detail
