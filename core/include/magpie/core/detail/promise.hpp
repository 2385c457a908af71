#pragma once

#include <magpie/core/detail/await_transform.hpp>
#include <magpie/core/detail/frame_allocator.hpp>
#include <magpie/core/detail/outcome.hpp>
#include <magpie/core/detail/thread_state.hpp>
#include <magpie/core/strand.hpp>

#include <algorithm>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

namespace magpie::detail {

/// Stands in the frame of the parent and owns the frame of the child that it awaits.
struct child_link {
    promise_base* parent = nullptr;
    std::coroutine_handle<> child;
};

/// The same, and where the child puts its result: results are not kept in frames.
template <class T>
struct child_slot : child_link {
    outcome<T> result_;

    /// From the slot to its result, in bytes.
    static constexpr std::size_t result_at = std::max(sizeof(child_link), alignof(outcome<T>));
};

/// What every magpie coroutine carries. Not over-aligned, and the first base of each promise: so
/// `from_promise` of it gives the right handle (research: both compilers).
struct promise_base : in_frame_memory {
    branch* branch_ = nullptr; ///< where the coroutine runs; set when it is started or spawned
#if defined(MAGPIE_LOCK_TRACE)
    const void* const frame_end = end_of_new_frame(this); ///< null: it is part of another frame
#endif

    /// The awaiter that owns this frame; null at a branch's root.
    child_link* link() const noexcept {
        return is_root() ? nullptr : reinterpret_cast<child_link*>(up_);
    }

    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            promise_base& p = self.promise();
            if (!p.is_root() && p.branch_->phase_ == branch::phase::running) [[likely]]
                return std::coroutine_handle<promise_base>::from_promise(*p.link()->parent);
            return p.branch_->root_ended(p);
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }

    std::coroutine_handle<promise_base> handle() noexcept {
        return std::coroutine_handle<promise_base>::from_promise(*this);
    }

    template <class A>
    decltype(auto) await_transform(A&& awaitable) {
        return detail::await_transform(*this, std::forward<A>(awaitable));
    }

protected:
    // One word, for there may be a million frames: a `child_slot`; or, marked, where one would be whose result
    // is the outcome that the branch keeps for its root. So a result is found without a question. It has one
    // as soon as the coroutine runs.
    static constexpr std::uintptr_t root = 1;
    std::uintptr_t up_ = 0;
    bool is_root() const noexcept { return (up_ & root) != 0; }

    /// Whether frames are being destroyed: then the branch takes note of the current exception.
    bool note_exception() const noexcept {
        if (branch_->phase_ != branch::phase::unwinding) [[likely]]
            return false;
        branch_->note(std::current_exception());
        return true;
    }
};

/// ... and what depends on the type of its result.
template <class T>
struct result_promise : promise_base {
    /// Makes it a child.
    void belong_to(child_slot<T>& slot) noexcept {
        up_ = reinterpret_cast<std::uintptr_t>(static_cast<child_link*>(&slot));
        MAGPIE_ASSERT(&result() == &slot.result_);
    }
    /// Makes it a branch's root.
    void set_result(outcome<T>& to) noexcept {
        up_ = (reinterpret_cast<std::uintptr_t>(&to) - child_slot<T>::result_at) | root;
    }

    void unhandled_exception() noexcept {
        if (!note_exception())
            result().fail(std::current_exception());
    }

protected:
    outcome<T>& result() const noexcept {
        return *reinterpret_cast<outcome<T>*>((up_ & ~root) + child_slot<T>::result_at);
    }
};

} // namespace magpie::detail

namespace magpie {

inline branch* leaf::where() const noexcept {
    MAGPIE_ASSERT(place_ != 0);
    return is_lone() ? reinterpret_cast<branch*>(place_ & ~lone) : at()->branch_;
}

inline strand& leaf::owner() const noexcept { return where()->owner(); }

#if defined(MAGPIE_LOCK_TRACE)
inline void leaf::set_place(detail::promise_base& at) noexcept {
    place_ = reinterpret_cast<std::uintptr_t>(&at);
    if (at.branch_->innermost_ != &at) // it is set twice, and looked at as soon as a branch below waits
        at.branch_->innermost_ = &at;
}
inline void leaf::set_place(branch& b) noexcept {
    place_ = reinterpret_cast<std::uintptr_t>(&b) | lone;
    b.innermost_ = nullptr;
}
#endif

inline bool leaf::is_alone() const noexcept { return where()->is_main(); }

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
    if (cancelled_) {
        cancelled_ = false;
        return where()->surfaced_cancelled();
    }
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
struct promise : result_promise<T> {
    template <class U = T>
        requires(std::is_constructible_v<stored_t<T>, U &&> && !std::is_reference_v<T>)
    void return_value(U&& value) {
        this->result().emplace(std::forward<U>(value));
    }
    void return_value(T value)
        requires std::is_reference_v<T>
    {
        this->result().emplace(std::addressof(value));
    }
};

template <>
struct promise<void> : result_promise<void> {
    void return_void() noexcept { result().emplace(); }
};

} // namespace magpie::detail
