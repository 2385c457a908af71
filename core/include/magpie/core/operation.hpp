#pragma once

#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/promise.hpp>
#include <magpie/core/strand.hpp>

#include <concepts>
#include <coroutine>
#include <cstdint>

namespace magpie {

/// Whether an operation may lose to a sibling in a `select`.
enum class cancel_safety : unsigned char {
    safe,    ///< dropped before its end, it has had no effect that the caller cannot see
    lossy,   ///< dropped half-way, part of its effect is lost (a half-written message)
    unknown, ///< nobody can say: a coroutine, foreign code
};

/// The base of each operation that a task can await. `Derived` has
///   bool try_complete() noexcept;   attempts it without waiting; true: done, the result is kept
///   bool publish() noexcept;        makes the leaf visible to wakers; false: done after all.
///                                   Once published, `*this` belongs to whoever wakes it.
///   cancel_answer cancel() noexcept override;
///   R await_resume();               gives the result, or throws
///   static constexpr cancel_safety safety;
/// Misuse is noticed in a constructor, or kept and thrown by `await_resume`.
///
/// An operation that completes at once takes one unit of its turn's budget; one that finds none
/// left yields before its attempt, so that a task whose channel is never empty starves nobody.
///
/// `Leaf` is `leaf`, or a class derived from it: one with a place in a list, say.
template <class Derived, class Leaf = leaf>
class operation : public Leaf {
public:
    bool await_ready() noexcept {
        const branch& at = *this->where();
        strand& task = at.owner();
        // Decided once: an attempt may start branches, which take budget.
        this->retry_ = task.budget() == 0 && !at.unconstrained;
        if (this->retry_) [[unlikely]]
            return false;
        if (!self().try_complete())
            return false;
        if (!at.unconstrained)
            task.take_budget();
        return true;
    }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> caller) noexcept {
        static_assert(std::derived_from<Promise, detail::promise_base>,
                      "a magpie operation can only be awaited in a magpie::task: wrap the caller's "
                      "code in one and spawn it, or use the blocking_ form on a plain thread");
        this->bind(static_cast<detail::promise_base&>(caller.promise()));
        return suspend();
    }

    /// Starts the operation as a branch without a frame. Returns true if it suspended.
    bool start_in(branch& b) noexcept {
        detail::leaf_access::place(*this, b);
        if (self().await_ready()) // some operations have one of their own
            return false;
        this->bind(b);
        return suspend();
    }

protected:
    operation() noexcept = default;
    operation(operation&&) noexcept = default;
    ~operation() = default;

    bool has_budget() const noexcept {
        return this->where()->owner().budget() > 0 || this->where()->unconstrained;
    }
    void take_budget() const noexcept {
        if (!this->where()->unconstrained)
            this->where()->owner().take_budget();
    }

private:
    Derived& self() noexcept { return static_cast<Derived&>(*this); }

    bool suspend() noexcept {
        if (this->retry_) [[unlikely]] {
            this->defer();
            return true;
        }
        return self().publish();
    }
    bool retry() noexcept final { return self().try_complete() || !self().publish(); }
};

} // namespace magpie
