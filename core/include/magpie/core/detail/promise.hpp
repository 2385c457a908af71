#pragma once

#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/strand.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie::detail {

/// Stands in the frame of the parent and owns the frame of the child that it awaits.
struct child_link {
    promise_base* parent = nullptr;
    std::coroutine_handle<> child;
};

/// What every magpie coroutine carries. Not over-aligned, and the first base of each promise: so
/// `from_promise` of it gives the right handle (research: both compilers).
struct promise_base {
    branch* branch_ = nullptr;  ///< where the coroutine runs; set when it is started or spawned
    child_link* link = nullptr; ///< the awaiter that owns this frame; null at a branch's root

    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            promise_base& p = self.promise();
            if (p.link != nullptr && p.branch_->phase_ == branch::phase::running) [[likely]]
                return std::coroutine_handle<promise_base>::from_promise(*p.link->parent);
            return p.branch_->root_ended(p);
        }
        void await_resume() const noexcept {}
    };

    static void* operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void* block, std::size_t size) noexcept {
        deallocate_frame(block, size);
    }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }

    std::coroutine_handle<promise_base> handle() noexcept {
        return std::coroutine_handle<promise_base>::from_promise(*this);
    }

    template <class A>
    auto await_transform(A&& awaitable) {
        return detail::await_transform(*this, std::forward<A>(awaitable));
    }

protected:
    /// Where an exception goes: to the result, or, while frames are being destroyed, to the branch.
    template <class T>
    void store_exception(outcome<T>* result) noexcept {
        if (branch_->phase_ == branch::phase::unwinding) [[unlikely]]
            branch_->note(std::current_exception());
        else
            result->fail(std::current_exception());
    }
};

} // namespace magpie::detail

namespace magpie {

inline branch* leaf::where() const noexcept {
    MAGPIE_ASSERT(place_ != 0);
    return is_lone() ? reinterpret_cast<branch*>(place_ & ~lone) : at()->branch_;
}

inline strand& leaf::owner() const noexcept { return where()->owner(); }

inline bool leaf::is_alone() const noexcept { return where() == &where()->owner(); }

inline void leaf::bind(detail::promise_base& at) noexcept {
    set_place(at);
    bound_ = true;
    at.branch_->leaf_ = this; // an unwinding finds the innermost frame without a walk
}

inline std::coroutine_handle<> leaf::surface() noexcept {
    MAGPIE_ASSERT(!steps_);
    detail::this_thread().running = where(); // its branch goes on, in place of one below
    return go_on();
}

inline std::coroutine_handle<> leaf::go_on() noexcept {
    bound_ = false;
    if (std::exchange(cancelled_, false))
        return where()->surfaced_cancelled();
    if (!is_lone())
        return at()->handle();
    branch& lone_branch = *where();
    lone_branch.end_leaf();
    return lone_branch.ended();
}

inline std::coroutine_handle<> branch::root_ended(detail::promise_base& root) noexcept {
    if (phase_ == phase::unwinding) { // a destructor threw: destroy() sees to the frame
        phase_ = phase::parked;
        return std::noop_coroutine();
    }
    phase_ = phase::ended;
    root_ = &root;
    return ended();
}

// Only parameters are left: what their destructors throw comes out (R16).
inline void branch::destroy_ended_root() noexcept {
    if (detail::promise_base* const root = std::exchange(root_, nullptr)) {
        try {
            root->handle().destroy();
        } catch (...) {
            note(std::current_exception());
        }
    }
}

inline void branch::set_root(detail::promise_base& root) noexcept {
    root.branch_ = this;
    root_ = &root;
}

inline std::coroutine_handle<> branch::begin_root() noexcept {
    MAGPIE_ASSERT(phase_ == phase::unstarted);
    phase_ = phase::running;
    return std::exchange(root_, nullptr)->handle();
}

} // namespace magpie

namespace magpie::detail {

template <class T>
struct promise : promise_base {
    outcome<T>* result = nullptr; ///< where the waiter wants it: results are not kept in frames

    template <class U = T>
        requires(std::is_constructible_v<stored_t<T>, U &&> && !std::is_reference_v<T>)
    void return_value(U&& value) {
        result->emplace(std::forward<U>(value));
    }
    void return_value(T value)
        requires std::is_reference_v<T>
    {
        result->emplace(std::addressof(value));
    }
    void unhandled_exception() noexcept { this->store_exception(result); }
};

template <>
struct promise<void> : promise_base {
    outcome<void>* result = nullptr;

    void return_void() noexcept { result->emplace(); }
    void unhandled_exception() noexcept { store_exception(result); }
};

} // namespace magpie::detail
