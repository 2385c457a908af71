#pragma once

#include <magpie/core/strand.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

// What `co_await x` means in a magpie task. There are four kinds of x:
//   an operation   a leaf by itself: told where it is awaited, and used in place
//   `x.operation()`  gives an operation (join handles)
//   `x.awaiter()`    gives an awaiter that starts a child coroutine (tasks)
//   anything else    a standard awaitable: resumed through a coroutine of ours (R6)

namespace magpie::detail {

template <class A>
concept leaf_operation = std::derived_from<std::remove_cvref_t<A>, leaf>;

template <class A>
concept gives_operation = !leaf_operation<A> && requires(A&& a) {
    { std::forward<A>(a).operation() } -> leaf_operation;
};

template <class A>
concept gives_awaiter = !leaf_operation<A> && requires(A&& a) { std::forward<A>(a).awaiter(); };

template <class A>
concept own_awaitable = leaf_operation<A> || gives_operation<A> || gives_awaiter<A>;

class leaf_access {
public:
    template <class Place>
    static void place(leaf& l, Place& p) noexcept {
        l.set_place(p);
    }
    /// For who is going to wake many that have waited long: brings a leaf's place nearer, and then,
    /// a few leaves later, the strand behind it.
    static void prefetch_place(const leaf& l) noexcept {
        const auto* const at = reinterpret_cast<const char*>(l.place_ & ~leaf::lone);
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + 128, 1); // where the compiler keeps how far a coroutine has come
    }
    static const strand& strand_of(const leaf& l) noexcept { return l.owner(); }
#if defined(MAGPIE_LOCK_TRACE)
    static const branch& branch_of(const leaf& l) noexcept { return *l.where(); }
    static promise_base* innermost(const branch& b) noexcept { return b.innermost_; }
    static const branch* parent(const branch& b) noexcept { return b.parent_; }
    /// Of a branch with a parent: whether that goes on when all its branches have ended, and not before.
    static bool parent_waits_for_all(const branch& b) noexcept;
#endif
    static void prefetch_strand(const leaf& l) noexcept {
        const auto* const at = reinterpret_cast<const char*>(l.where());
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + 64, 1);
    }
    static void note(branch& b, std::exception_ptr e) noexcept { b.note(std::move(e)); }
    static std::exception_ptr discard(leaf& l) noexcept { return l.discard(); }
};

#if !defined(__clang__)

/// An operation awaited where it stands. g++ 12 moves what await_transform gives by reference into
/// the frame, and awaits that; so it is given an object of ours. It takes a word of the frame.
template <class Operation>
class operation_reference {
public:
    explicit operation_reference(Operation& o) noexcept : operation_(o) {}

    bool await_ready() noexcept { return operation_.await_ready(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        return operation_.await_suspend(h);
    }
    decltype(auto) await_resume() { return operation_.await_resume(); }

private:
    Operation& operation_;
};

#endif

/// An operation made for one `co_await`.
template <class Operation>
class placed_operation {
public:
    template <class Source>
    placed_operation(Source&& source, promise_base& p)
        : operation_(std::forward<Source>(source).operation()) {
        leaf_access::place(operation_, p);
    }
    placed_operation(const placed_operation&) = delete;

    bool await_ready() noexcept { return operation_.await_ready(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        return operation_.await_suspend(h);
    }
    decltype(auto) await_resume() { return operation_.await_resume(); }

private:
    Operation operation_;
};

template <class A>
class foreign_awaitable; // foreign.hpp

template <class A>
decltype(auto) await_transform(promise_base& p, A&& awaitable) {
    if constexpr (leaf_operation<A>) {
        leaf_access::place(awaitable, p);
#if defined(__clang__)
        return static_cast<std::remove_reference_t<A>&>(awaitable);
#else
        return operation_reference<std::remove_reference_t<A>>(awaitable);
#endif
    } else if constexpr (gives_operation<A>) {
        return placed_operation<decltype(std::forward<A>(awaitable).operation())>(
            std::forward<A>(awaitable), p);
    } else if constexpr (gives_awaiter<A>) {
        return std::forward<A>(awaitable).awaiter();
    } else {
        using foreign = foreign_awaitable<A>;
        return placed_operation<typename foreign::operation_type>(foreign(std::forward<A>(awaitable)),
                                                                  p);
    }
}

} // namespace magpie::detail
